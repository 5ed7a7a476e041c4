"""Devices and processes: where arrays lie, what runs in turn or side by side, and whether all hosts agree."""
