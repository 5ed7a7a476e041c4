"""Images of every kind: read right, or refused by name."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from dear_jax.data import images, transforms
from dear_jax.errors import UserError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(width: int = 40, height: int = 20, mode: str = "RGB") -> Image.Image:
    """Left blue, right red."""
    image = Image.new(mode, (width, height), RED if mode == "RGB" else "red")
    image.paste(BLUE if mode == "RGB" else "blue", (0, 0, width // 2, height))
    return image


def assert_close(pixel: np.ndarray, color: tuple[int, ...]) -> None:
    assert np.abs(pixel.astype(int) - np.array(color)).max() <= 3, pixel  # JPEG's rounding


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    decoded = images.decode(encoded(halves(), kind, **options), "x")
    assert decoded.shape == (20, 40, 3)
    assert decoded.dtype == np.uint8
    assert_close(decoded[10, 5], BLUE)
    assert_close(decoded[10, 35], RED)


def test_cmyk():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert_close(images.decode(encoded(image, "JPEG", quality=95), "x")[4, 4], RED)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = images.decode(encoded(Image.fromarray(ramp), kind), "x")
    np.testing.assert_array_equal(decoded, np.round(ramp / 257)[..., None].repeat(3, axis=2))


def test_sixteen_bit_color():
    """Pillow writes none; this is a PNG of one pixel, 0xff80, 0x0000, 0x0000."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", 0xFF80, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert_close(images.decode(data, "x")[0, 0], RED)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_and_what_is_transparent_in_them(kind, transparent):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *BLUE])
    image.putpixel((0, 0), 0)
    decoded = images.decode(encoded(image, kind, **({"transparency": 0} if transparent else {})), "x")
    assert_close(decoded[0, 0], WHITE if transparent else RED)
    assert_close(decoded[3, 3], BLUE)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("LA", (0, 0), WHITE),
        ("L", 77, (77, 77, 77)),
        ("1", 1, WHITE),
    ],
)
def test_other_modes(mode, color, expected):
    assert_close(images.decode(encoded(Image.new(mode, (3, 3), color)), "x")[1, 1], expected)


@pytest.mark.parametrize("size", [(40, 20), (6000, 3000)])  # the large one is shrunk, and turned all the same
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation(kind, size):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn by 90 degrees, clockwise: what was left comes on top
    data = encoded(halves(*size), kind, exif=exif)
    decoded = images.decode(data, "x")
    height, width = decoded.shape[:2]
    assert height == 2 * width
    assert_close(decoded[height // 10, width // 2], BLUE)
    assert_close(decoded[-height // 10, width // 2], RED)
    as_stored = images.decode(data, "x", exif=False)
    assert as_stored.shape[1] == 2 * as_stored.shape[0]


def test_an_animation_gives_its_first_picture():
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert_close(images.decode(data, "x")[0, 0], RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_hundred_megapixels_are_shrunk(kind):
    decoded = images.decode(encoded(halves(10000, 10000), kind), "x")
    assert 1000 < decoded.shape[0] == decoded.shape[1]
    assert decoded[..., 0].size <= images.LARGE_PIXELS
    small = transforms.resize_and_crop(decoded, 224)
    assert_close(small[112, 50], BLUE)
    assert_close(small[112, 174], RED)


def test_more_is_refused():
    data = encoded(Image.new("1", (20000, 20000)))
    with pytest.raises(UserError, match=r"huge\.png has 20000 x 20000 pixels; at most"):
        images.decode(data, "huge.png")


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1)])
def test_one_pixel_wide(shape):
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2, shape[1] // 2] = 255
    decoded = images.decode(encoded(Image.fromarray(image)), "x")
    np.testing.assert_array_equal(decoded, image)
    evaluated = transforms.resize_and_crop(decoded, 224)
    assert evaluated.shape == (224, 224, 3)
    assert evaluated.max() > 200  # the bright pixel in the middle is in the cut
    augmented = transforms.augment(decoded, 224, np.random.default_rng(0), scale=(0.5, 1.0), flip=True)
    assert augmented.shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"pictures/a\.jpg is empty: 0 bytes"),
        (b"hello" * 10, r"pictures/a\.jpg \(50 bytes\) is no image that Pillow knows"),
        (encoded(halves(400, 400), "JPEG")[:2000], r"pictures/a\.jpg cannot be read whole: .*truncated"),
        (encoded(halves(400, 400), "PNG")[:300], r"pictures/a\.jpg cannot be read whole"),
        (encoded(halves(400, 400), "TIFF")[:-5000], r"pictures/a\.jpg cannot be read whole"),
        (encoded(Image.new("F", (3, 3), 0.5), "TIFF"), "its values go from 0.5 to 0.5"),
        (encoded(Image.new("I", (3, 3), 70000), "TIFF"), "its values go from 70000 to 70000"),
    ],
)
def test_what_is_damaged_is_refused_by_name(data, message):
    with pytest.raises(UserError, match=message) as caught:
        images.decode(data, "pictures/a.jpg")
    assert "--config.data.skip_bad=true" in str(caught.value)


def test_files(tmp_path):
    (tmp_path / "red.png").write_bytes(encoded(Image.new("RGB", (2, 3), RED)))
    load = images.FileLoader(tmp_path, ("red.png", "absent.png"))
    assert load(0).shape == (3, 2, 3)
    with pytest.raises(UserError, match=r"absent\.png cannot be read: No such file"):
        load(1)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it can do without
@pytest.mark.parametrize("count", range(1, 60, 7))
def test_any_cut_is_read_or_refused(count):
    """No damage raises anything but the user's error."""
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encoded(halves(60, 60), kind)
        generator = np.random.default_rng(count)
        damaged = bytearray(whole)
        for position in generator.integers(len(whole), size=count):
            damaged[position] = generator.integers(256)
        for data in (whole[: len(whole) * count // 60], bytes(damaged)):
            with contextlib.suppress(UserError):
                assert images.decode(data, "x").dtype == np.uint8
