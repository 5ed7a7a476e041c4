"""Frozen CLIP: parameters in, arrays out. Knows nothing of the adaptation method."""
