"""From a data set's name to batches: datasets -> splits -> prompts; transforms -> pipeline.

Everything here is strings and NumPy arrays; nothing needs JAX's devices.
"""
