"""What the benchmarks of one method's step share: the sizes on the command line, and results kept as lines of JSON."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.speed.case import METHODS, Case

DTYPES = ("float32", "bfloat16")


def of_cases(doc: str | None) -> argparse.ArgumentParser:
    """A command line with a method, sizes of its step and dtypes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="dear", choices=METHODS)
    parser.add_argument("--case", action="append", required=True, help="CLASSES,BATCH,SEEDS")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="float32 if none is given")
    parser.add_argument("--image_size", type=int, default=224)
    return parser


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every size in every dtype."""
    for text in options.case:
        for dtype in options.dtype or DTYPES[:1]:
            sizes = map(int, text.split(","))
            yield Case(*sizes, dtype=dtype, image_size=options.image_size, method=options.method)


def keep(row: Mapping[str, Any], path: Path | None) -> None:
    """Append a row to a file, where one is asked for."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
