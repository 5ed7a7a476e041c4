"""The command line that all campaigns share."""

import argparse


def parse(doc: str | None, count: int, of: str, *, single: bool = False) -> argparse.Namespace:
    """Seed and count, and with `single` the number of one input alone.

    Args:
        doc: the campaign's own description.
        count: by default.
        of: what is counted.
        single: whether an input can be repeated by its number.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=count, help=of)
    if single:
        parser.add_argument("--only", type=int, help="one alone, by its number")
    return parser.parse_args()
