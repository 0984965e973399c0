"""The loop, its batches, its validation and its logs."""
