"""What a run leaves: its folder, lock, metrics, checkpoints and checksums, on a disk or in a bucket."""
