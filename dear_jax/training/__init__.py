"""The loop, the step, its program, the optimizer, progress, interruption. Knows the contract of a method alone."""
