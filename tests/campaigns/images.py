"""Damaged image files of twelve formats, decoded as every job decodes them.

    python -m tests.campaigns.images --seed=0 --count=20000

The right outcomes: an image uint8 [H, W, 3], or a `UserError` that names the file, each within ten seconds. The last
line sums up; `--only=N` repeats file number N.
"""

import collections
import functools
import io
import os
import signal
import sys
import traceback
import warnings

import numpy as np
from PIL import Image

from dear_jax.data import images
from dear_jax.errors import UserError
from tests.campaigns import arguments

SECONDS = 10  # for one file, on a busy machine
SIDES = (1, 7, 40, 64)
KINDS = {  # format -> mode and options of its encoder, to choose from
    "JPEG": (("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})),
    "PNG": (("RGB", {}), ("RGBA", {}), ("P", {}), ("I;16", {}), ("1", {})),
    "GIF": (("P", {}), ("L", {})),
    "BMP": (("RGB", {}), ("P", {}), ("1", {})),
    "TIFF": (("RGB", {}), ("RGBA", {"compression": "tiff_lzw"}), ("L", {"compression": "jpeg"}), ("I;16", {})),
    "WEBP": (("RGB", {}), ("RGBA", {"lossless": True})),
    "AVIF": (("RGB", {"speed": 10}), ("RGBA", {"speed": 10})),
    "JPEG2000": (("RGB", {}), ("L", {})),
    "TGA": (("RGB", {}), ("RGBA", {"compression": "tga_rle"})),
    "PPM": (("RGB", {}), ("L", {})),
    "ICO": (("RGBA", {}),),
    "PCX": (("RGB", {}), ("P", {})),
}


class _Late(BaseException):
    """No `Exception`, which the reader would take for the image's damage."""


def main() -> int:
    """Exit code 1 where there is a fault."""
    flags = arguments.parse(__doc__, 20000, "files", single=True)
    warnings.simplefilter("ignore")
    if flags.only is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and libavif write what they think of the file
    signal.signal(signal.SIGALRM, _late)
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(flags.count) if flags.only is None else [flags.only]:
        outcome = _decode(*damaged(flags.seed, number))
        outcomes[outcome.splitlines()[0]] += 1
        if outcome not in ("read", "refused"):
            print(f"file {number}: {outcome}", flush=True)
    faults = sum(count for outcome, count in outcomes.items() if outcome not in ("read", "refused"))
    print(
        f"{sum(outcomes.values())} files of {len(KINDS)} formats, seed {flags.seed}: {outcomes['read']} read, "
        f"{outcomes['refused']} refused by name, {faults} faults."
    )
    return 1 if faults else 0


def damaged(seed: int, number: int) -> tuple[bytes, str]:
    """File `number` of a seed, and what it is called."""
    generator = np.random.default_rng((seed, number))
    kind = list(KINDS)[int(generator.integers(len(KINDS)))]
    choice = int(generator.integers(len(KINDS[kind])))
    sides = tuple(int(side) for side in generator.choice(SIDES, 2))
    data = bytearray(_whole(kind, choice, sides, bool(generator.integers(2))))
    way = generator.integers(5)
    if way == 0:  # cut
        del data[int(generator.integers(len(data))) :]
    elif way == 1:  # a part twice, or lost
        first, last = sorted(generator.integers(len(data), size=2).tolist())
        data[first:last] = data[first:last] * int(generator.integers(0, 3))
    else:  # bytes changed, anywhere or in the head
        reach = len(data) if way < 4 else min(len(data), 64)
        for place in generator.integers(reach, size=int(2 ** generator.integers(0, 7))):
            data[place] = generator.choice([0, 1, 127, 128, 255, int(generator.integers(256))])
    return bytes(data), f"file {number}.{kind.lower()}"


@functools.cache
def _whole(kind: str, choice: int, sides: tuple[int, int], tagged: bool) -> bytes:
    """An undamaged file, half of them with EXIF where the format has it."""
    mode, options = KINDS[kind][choice]
    pixels = np.random.default_rng(sides).integers(0, 256, (*sides, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L").convert(mode) if mode == "I;16" else Image.fromarray(pixels)
    image = image if mode == "I;16" else image.convert("RGB").convert(mode)
    if tagged and kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a description"
        options = {**options, "exif": exif}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decode(data: bytes, name: str) -> str:
    """What became of a file: "read", "refused", or the fault."""
    for exif in (True, False):
        signal.alarm(SECONDS)
        try:
            image = images.decode(data, name, exif)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                return f"not an image: {image.dtype} {image.shape}"
        except UserError as error:
            return "refused" if name in str(error) else f"without its name: {error}"
        except (Exception, _Late):
            return traceback.format_exc()
        finally:
            signal.alarm(0)
    return "read"


def _late(*_: object) -> None:
    raise _Late(f"more than {SECONDS} seconds")


if __name__ == "__main__":
    sys.exit(main())
