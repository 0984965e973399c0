"""Joint framework for weakly supervised audio tagging and acoustic event detection, in JAX."""

__version__ = "0.1.0"
