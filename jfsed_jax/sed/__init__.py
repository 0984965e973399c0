"""Events, tables, windows, post-processing and scores: NumPy, no JAX."""
