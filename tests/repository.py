"""Where the tests find what is not code."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"  # published splits and golden outputs, where they are at hand
