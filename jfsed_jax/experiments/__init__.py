"""The paper's tables, the benchmark, and PyTorch beside it."""
