"""`python tests/jobs/measured.py FOLDER COMMAND ...` runs a command and says beside the folder what it took.

What it prints is shown and kept in FOLDER.txt; FOLDER.json has the seconds of its processors and its peak of memory. A
process counts the memory of the one that started it as its own peak: this one is small. It needs Python alone.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path


def run(folder: str, *command: str) -> int:
    printed = []
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(f"{folder}.txt").write_text("".join(printed))
    Path(f"{folder}.json").write_text(
        json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss})
    )
    return process.returncode


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
