"""Kills a training run by SIGKILL at random moments and starts it again, until it ends: the results must be the same.

    python -m tests.campaigns.kills --seed=0 --count=10

The moments are drawn evenly over the time that an undisturbed start takes. Compared are results.json, results.md and
adapter.safetensors, byte by byte, and that the folder holds what an undisturbed run's does.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns import arguments, small_run

COMPARED = ("results.json", "results.md", "adapter.safetensors")


def main() -> int:
    """Run the campaign; 0 if every run ended as an undisturbed one."""
    options = arguments.parse(__doc__, 10, "kills")
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        small_run.finish(small_run.start(root / "first", root / "cache"))  # compiles
        start = time.monotonic()
        small_run.finish(small_run.start(root / "whole", root / "cache"))
        seconds = time.monotonic() - start
        kills, runs, different = 0, 0, []
        while kills < options.count:
            killed_at = []
            while kills < options.count and (moment := _kill(root, generator.uniform(0, seconds))) is not None:
                kills += 1
                killed_at.append(round(moment, 1))
            small_run.finish(small_run.start(root / "broken", root / "cache"))
            runs += 1
            found = _differences(root / "whole", root / "broken")
            if found:
                different.append(f"after kills at {killed_at} s: {', '.join(found)}")
                print(different[-1], flush=True)
            shutil.rmtree(root / "broken")
    print(
        f"kills: seed {options.seed}, {kills} kills in {runs} runs of {seconds:.0f} s: {runs - len(different)} runs "
        f"ended as the undisturbed one, {len(different)} otherwise."
    )
    return 1 if different else 0


def _kill(root: Path, seconds: float) -> float | None:
    """Start, and kill after some seconds; None where the run ended before."""
    process = small_run.start(root / "broken", root / "cache")
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return seconds
    if process.returncode:
        raise RuntimeError(f"a start after a kill ended with exit code {process.returncode}")
    return None


def _differences(whole: Path, broken: Path) -> list[str]:
    """Which files are not as they should be."""
    differ = [name for name in COMPARED if (whole / name).read_bytes() != (broken / name).read_bytes()]
    names = [sorted(path.name for path in folder.iterdir()) for folder in (whole, broken)]
    return differ + sorted(set(names[0]) ^ set(names[1]))


if __name__ == "__main__":
    sys.exit(main())
