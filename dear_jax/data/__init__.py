"""Data sets to batches, in NumPy alone."""
