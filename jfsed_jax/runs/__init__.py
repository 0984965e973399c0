"""A run's folder: the names of its files, read and written in one place; its checkpoints."""
