"""Checkpoints of the hub, of open_clip and from disk to parameters; architectures; the embedded CLIP."""
