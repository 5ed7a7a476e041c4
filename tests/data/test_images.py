"""Images of every kind: read right, or refused by name."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import BmpImagePlugin, Image, PngImagePlugin

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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_formats(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "AVIF", "HEIF") else {}
    decoded = images.decode(encoded(halves(), kind, **options), "x")
    assert decoded.shape == (20, 40, 3)
    assert decoded.dtype == np.uint8
    assert_close(decoded[10, 5], BLUE)
    assert_close(decoded[10, 35], RED)


def test_heic_without_its_package_is_told_what_it_needs(monkeypatch):
    monkeypatch.setattr(images, "HAS_HEIC", False)
    content = b"\0\0\0\x18ftypheic" + bytes(40)
    monkeypatch.setattr(Image, "open", lambda file: (_ for _ in ()).throw(images.UnidentifiedImageError("?")))
    with pytest.raises(UserError, match=r"x \(52 bytes\) is no image that Pillow knows. HEIC is read where .*\[heic\]"):
        images.decode(content, "x")
    with pytest.raises(UserError, match=r"knows. Replace it"):
        images.decode(bytes(40), "x")


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


def every_mode() -> dict[str, tuple[Image.Image, str, dict]]:
    """What people have: name -> image, format, options of its encoder."""
    generator = np.random.default_rng(0)
    rgba = Image.fromarray(generator.integers(0, 256, (30, 41, 4), dtype=np.uint8), "RGBA")
    rgb, palette = rgba.convert("RGB"), rgba.convert("RGB").convert("P")
    wide = generator.integers(0, 65536, (30, 41)).astype(np.uint16)
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    return {
        "RGB": (rgb, "PNG", {}),
        "RGBA": (rgba, "PNG", {}),
        "RGBA WebP": (rgba, "WEBP", {"lossless": True}),
        "RGBA TIFF": (rgba, "TIFF", {}),
        "LA": (rgba.convert("LA"), "PNG", {}),
        "L": (rgba.convert("L"), "JPEG", {}),
        "1": (rgba.convert("1"), "PNG", {}),
        "P": (palette, "PNG", {}),
        "P with a transparent color": (palette, "PNG", {"transparency": 3}),
        "P with transparencies": (palette, "PNG", {"transparency": bytes(range(256))}),
        "RGB with a transparent color": (rgb, "PNG", {"transparency": (1, 2, 3)}),
        "P GIF": (palette, "GIF", {"transparency": 3}),
        "CMYK": (rgb.convert("CMYK"), "JPEG", {}),
        "YCbCr": (rgb.convert("YCbCr"), "JPEG", {}),
        "LAB": (rgb, "TIFF", {}),
        "16 bits PNG": (Image.fromarray(wide), "PNG", {}),
        "16 bits TIFF": (Image.fromarray(wide), "TIFF", {}),
        "32 bits": (Image.fromarray(wide.astype(np.int32) * 3 - 9000), "TIFF", {}),
        "float": (Image.fromarray((wide / 300 - 5).astype(np.float32)), "TIFF", {}),
        "turned": (rgb, "JPEG", {"exif": turned}),
        "17 megapixels": (rgb.resize((6000, 3000)), "JPEG", {}),
    }


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", every_mode())
def test_without_exif_the_pixels_are_those_of_the_older_tools(name):
    """Dassl reads by `Image.open(path).convert("RGB")`; so do CoOp, CoCoOp, MaPLe, PromptSRC and MMRL."""
    image, kind, options = every_mode()[name]
    data = encoded(image, kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(images.decode(data, "x", exif=False), expected)
    np.testing.assert_array_equal(images.to_array(Image.open(io.BytesIO(data)), "x", exif=False), expected)


def test_large_texts_and_profiles_of_a_png():
    text = PngImagePlugin.PngInfo()
    text.add_text("XML", "layer " * 2_000_000, zip=True)
    data = encoded(halves(), pnginfo=text, icc_profile=bytes(3_000_000))
    np.testing.assert_array_equal(images.decode(data, "x"), np.asarray(halves()))


@pytest.mark.parametrize("error", [AttributeError("name"), RuntimeError(), OverflowError("too large"), MemoryError()])
def test_whatever_a_decoder_raises_is_the_image_s_damage(monkeypatch, error):
    def fail(self):
        raise error

    data = encoded(halves(), "BMP")
    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", fail)
    with pytest.raises(UserError, match=rf"image x cannot be read whole: {str(error) or type(error).__name__}\. "):
        images.decode(data, "x")


@pytest.mark.parametrize("special", ["pipe", "device"])
def test_a_file_that_never_ends_is_refused(tmp_path, special):
    os.mkfifo(tmp_path / "pipe.png")
    path = tmp_path / "pipe.png" if special == "pipe" else Path("/dev/zero")
    with pytest.raises(UserError, match="cannot be read: it is a pipe or a device, no file"):
        images.read(path)


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
