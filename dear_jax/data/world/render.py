"""The painter of the embedded world: scenes in, uint8 pictures out, whole batches at once.

Every form is an implicit function over a pixel grid [N, H, W]: negative inside, about the distance to the
outline elsewhere, so that coverage = clip(1/2 - distance in pixels, 0, 1) draws it with soft edges. A body
has its own frame: u to the right and v down, in units of its radius. Each pixel of a picture depends on
its own scene alone, so a scene looks the same in any batch.

`Shift` holds what downstream tasks change and pretraining never sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dear_jax.data.world import writing
from dear_jax.data.world.forms import ACCESSORIES, DARK, LIGHT, SHAPES, TEXTURES, Color, sharpen, triangle_wave
from dear_jax.data.world.scenes import ATTRIBUTES, Scenes, hash_numbers, random_numbers

SIZE = 48  # width and height of a picture, pixels
RADIUS = (10.5, 12.5)  # of a body, pixels
SPREAD = 9.0  # distance of a corner position from the center, per axis, pixels

COLORS = np.array(
    [(222, 38, 38), (250, 138, 20), (245, 220, 40), (45, 165, 60),
     (40, 205, 215), (40, 70, 220), (140, 50, 185), (250, 130, 190)], np.float32,
)  # fmt: skip
SECOND = np.array(
    [(255, 205, 195), (110, 45, 0), (120, 95, 0), (190, 250, 190),
     (0, 70, 80), (185, 205, 255), (235, 195, 255), (130, 15, 75)], np.float32,
)  # fmt: skip
POSITIONS = np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)], np.float32)
STICKER = 6.5  # radius of a sticker's body, pixels
LAMP = (255, 190, 120)  # the light of a full tint


@dataclass(frozen=True)
class Shift:
    """How the pictures of a task differ from those of pretraining; the default changes nothing.

    Attributes:
        rotation: turn of every body with its accessories, degrees.
        hue_mix: share in [0, 1] of the next color of the vocabulary mixed into every body's color.
        tint: share in [0, 1] of warm lamp light over the whole picture.
        noise: standard deviation of noise per pixel and channel, in units of full brightness.
        clutter: number of small discs of random colors behind the body.
        outline: bodies are drawn as a thick outline, the background shows inside.
        darkness: share in [0, 1] of brightness taken from the whole picture.
    """

    rotation: float = 0.0
    hue_mix: float = 0.0
    tint: float = 0.0
    noise: float = 0.0
    clutter: int = 0
    outline: bool = False
    darkness: float = 0.0


NO_SHIFT = Shift()


def render(
    scenes: Scenes, shift: Shift = NO_SHIFT, words: Sequence[str] = (), stickers: Scenes | None = None
) -> np.ndarray:
    """The pictures of the scenes, uint8 [N, SIZE, SIZE, 3]; see `render_with_coverage`."""
    return render_with_coverage(scenes, shift, words, stickers)[0]


def render_with_coverage(
    scenes: Scenes, shift: Shift = NO_SHIFT, words: Sequence[str] = (), stickers: Scenes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, and how much of each pixel the body covers: float32 [N, SIZE, SIZE] in [0, 1].

    Args:
        scenes: N scenes.
        shift: how the pictures differ from those of pretraining.
        words: N texts, one written on each picture, away from the body; none: nothing is written.
        stickers: N scenes, the body of one drawn small on each picture, in a corner away from the body.

    Raises:
        ValueError: a text that cannot be written (`writing.place`).
    """
    picture = _background(scenes)
    _clutter(picture, scenes, shift.clutter)
    across, down = _center(scenes)
    radius = scenes.between("radius", *RADIUS)
    u, v = _body_frame(across, down, radius, scenes, shift.rotation)
    _accessories(picture, scenes, u, v, radius)
    coverage = _body(picture, scenes, u, v, radius, shift)
    if stickers is not None:
        _stick(picture, scenes, stickers, shift)
    if words:
        ink, paper = writing.place(words, POSITIONS[scenes.label("position"), 1] <= 0, SIZE)
        _paint(picture, np.arange(len(scenes)), paper, LIGHT)
        _paint(picture, np.arange(len(scenes)), ink, DARK)
    return _finish(picture, scenes, shift), coverage


def accessory_coverage(scenes: Scenes, shift: Shift = NO_SHIFT) -> np.ndarray:
    """How much of each pixel shows what makes the body an object (wheels, a sail, ...): float32 [N, SIZE, SIZE].

    Painted on black and on white: what the two pictures differ by shows through.
    """
    across, down = _center(scenes)
    radius = scenes.between("radius", *RADIUS)
    u, v = _body_frame(across, down, radius, scenes, shift.rotation)
    black, white = (np.full((len(scenes), SIZE, SIZE, 3), value, np.float32) for value in (0, 255))
    for picture in (black, white):
        _accessories(picture, scenes, u, v, radius)
    body = _body(black.copy(), scenes, u, v, radius, shift)
    return (1 - (white - black).mean(-1) / 255) * (1 - body)


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    return axis[None, None, :], axis[None, :, None]


def _center(scenes: Scenes) -> tuple[np.ndarray, np.ndarray]:
    corner = POSITIONS[scenes.label("position")][:, :, None, None] * SPREAD
    return (
        SIZE / 2 + corner[:, 0] + scenes.between("across", -1.8, 1.8),
        SIZE / 2 + corner[:, 1] + scenes.between("down", -1.8, 1.8),
    )


def _body_frame(
    across: np.ndarray, down: np.ndarray, radius: np.ndarray, scenes: Scenes, rotation: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels' coordinates u and v, float32 [N, H, W] each."""
    x, y = _pixels()
    angle = scenes.between("tilt", -4, 4) * np.float32(np.pi / 180) + np.float32(rotation * np.pi / 180)
    cosine, sine = np.cos(angle) / radius, np.sin(angle) / radius
    x, y = x - across, y - down
    return x * cosine + y * sine, y * cosine - x * sine


def _paint(picture: np.ndarray, rows: np.ndarray, coverage: np.ndarray, color: ArrayLike) -> None:
    """Lay one color, [3] or [n, 1, 1, 3] or [n, H, W, 3], over some rows of the pictures, in place."""
    part = picture[rows]
    part += coverage[..., None] * (np.asarray(color, np.float32) - part)
    picture[rows] = part


def _cover(distance: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - distance * radius, 0, 1)


def _accessories(picture: np.ndarray, scenes: Scenes, u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> None:
    u = u * np.where(scenes.between("mirror", 0, 1) < 0.5, np.float32(-1), np.float32(1))
    for value, name in enumerate(ATTRIBUTES["object"]):
        rows = np.flatnonzero(scenes.label("object") == value)
        for color, form in ACCESSORIES[name] if len(rows) else ():
            _paint(picture, rows, _cover(form(u[rows], v[rows]), radius[rows]), color)


def _body(
    picture: np.ndarray, scenes: Scenes, u: np.ndarray, v: np.ndarray, radius: np.ndarray, shift: Shift
) -> np.ndarray:
    """Paint the bodies and their dark edges; returns the coverage."""
    coverage = np.empty_like(u)
    fill = _texture(scenes, u, v)[..., None]
    first, second = _tones(scenes, shift.hue_mix)
    for value, name in enumerate(ATTRIBUTES["shape"]):
        rows = np.flatnonzero(scenes.label("shape") == value)
        if not len(rows):
            continue
        distance = SHAPES[name](u[rows], v[rows])
        covered = coverage[rows] = _cover(distance, radius[rows])
        if shift.outline:
            covered = covered * (1 - _cover(distance + np.float32(0.35), radius[rows]))
        _paint(picture, rows, covered, first[rows] + fill[rows] * (second[rows] - first[rows]))
        edge = np.clip(1.1 - np.abs(distance * radius[rows]), 0, 1) * np.float32(0.8)
        _paint(picture, rows, edge, DARK)
    return coverage


def _stick(picture: np.ndarray, scenes: Scenes, stickers: Scenes, shift: Shift) -> None:
    """Paint small bodies with their accessories in the corner across from the large ones."""
    away = -POSITIONS[scenes.label("position")]
    away[scenes.label("position") == ATTRIBUTES["position"].index("center")] = 1
    across, down = np.moveaxis(SIZE / 2 + away * np.float32(SIZE / 2 - 1.7 * STICKER), 1, 0)[:, :, None, None]
    radius = np.full_like(across, STICKER)
    u, v = _body_frame(across, down, radius, stickers, shift.rotation)
    _accessories(picture, stickers, u, v, radius)
    _body(picture, stickers, u, v, radius, shift)


def _tones(scenes: Scenes, hue_mix: float) -> tuple[np.ndarray, np.ndarray]:
    """The two colors of each body, float32 [N, 1, 1, 3] each."""
    label, light = scenes.label("color"), scenes.between("light", 0.88, 1.0)[..., None]
    first, second = COLORS[label][:, None, None], SECOND[label][:, None, None]
    neighbour = COLORS[(label + 1) % len(COLORS)][:, None, None]
    return (first + np.float32(hue_mix) * (neighbour - first)) * light, second * light


def _texture(scenes: Scenes, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Share of the second tone in each pixel of the body, float32 [N, H, W] in [0, 1]."""
    fill = np.zeros_like(u)
    across, down = (
        scenes.between("phase_across", -0.15, 0.15),
        scenes.between("phase_down", -0.15, 0.15),
    )
    for value, name in enumerate(ATTRIBUTES["texture"]):
        rows = np.flatnonzero(scenes.label("texture") == value)
        if len(rows):
            fill[rows] = TEXTURES[name](u[rows] + across[rows], v[rows] + down[rows])
    return fill


def _background(scenes: Scenes) -> np.ndarray:
    """float32 [N, H, W, 3]: each scenery goes from one color to another by its own pattern."""
    x, y = _pixels()
    height = y / SIZE
    x, y = np.broadcast_arrays(
        x + scenes.between("scenery_across", 0, SIZE), y + scenes.between("scenery_down", 0, SIZE)
    )
    picture = np.empty((len(scenes), SIZE, SIZE, 3), np.float32)
    for value, name in enumerate(ATTRIBUTES["background"]):
        rows = np.flatnonzero(scenes.label("background") == value)
        first, second, pattern = SCENERY[name]
        share = pattern(x[rows], y[rows], height)[..., None].astype(np.float32)
        picture[rows] = np.array(first, np.float32) + share * np.subtract(second, first).astype(np.float32)
    return picture * scenes.between("scenery_light", 0.9, 1.0)[..., None]


def _speckle(x: np.ndarray, y: np.ndarray, cell: int) -> np.ndarray:
    """One random number in [0, 1) per cell of `cell` pixels."""
    column, row = (x // cell).astype(np.uint64), (y // cell).astype(np.uint64)
    numbers = hash_numbers(column * np.uint64(7919) + row * np.uint64(104729))
    return (numbers >> np.uint64(40)).astype(np.float32) / 2**24


def _waves(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    return sharpen(triangle_wave(across + triangle_wave(along)), 2)


def _mortar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y / 6)
    return ((np.mod(y, 6) < 1.2) | (np.mod(x + 6 * np.mod(row, 2), 12) < 1.2)).astype(np.float32)


# Two colors, and the share of the second in [0, 1] by the pixel (shifted at random) and its height in the picture.
SCENERY: dict[str, tuple[Color, Color, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]]] = {
    "sky": ((120, 175, 235), (225, 238, 250), lambda x, y, height: np.broadcast_to(height, x.shape)),
    "night": ((58, 62, 122), (225, 225, 200), lambda x, y, _: sharpen(_speckle(x, y, 3) - 0.93, 8)),
    "grass": ((92, 140, 66), (150, 190, 105), lambda x, y, _: _waves(x / 5, y / 9)),
    "sand": ((208, 184, 132), (232, 214, 172), lambda x, y, _: _waves(y / 8, x / 24)),
    "snow": ((246, 249, 252), (205, 218, 232), lambda x, y, _: sharpen(_speckle(x, y, 4) - 0.7, 3)),
    "brick": ((148, 96, 80), (200, 184, 170), lambda x, y, _: _mortar(x, y)),
}


def _clutter(picture: np.ndarray, scenes: Scenes, count: int) -> None:
    numbers = random_numbers(scenes.keys ^ np.uint64(0xC1), 4 * count).astype(np.float32)
    x, y = _pixels()
    for disc_numbers in np.split(numbers, max(count, 1), axis=1)[:count]:
        across, down, size, color = disc_numbers.T[:, :, None, None]
        distance = np.hypot(x - across * SIZE, y - down * SIZE) - (2 + 2 * size)
        drawn = COLORS[(color * len(COLORS)).astype(np.int32)]
        _paint(picture, np.arange(len(scenes)), np.clip(0.5 - distance, 0, 1), drawn)


def _finish(picture: np.ndarray, scenes: Scenes, shift: Shift) -> np.ndarray:
    if shift.tint or shift.darkness:
        lamp = 1 - shift.tint * (1 - np.array(LAMP, np.float32) / 255)
        picture = picture * (lamp * (1 - shift.darkness)).astype(np.float32)
    if shift.noise:
        picture = picture + np.float32(255 * shift.noise) * _gaussian_noise(scenes)
    return np.clip(picture + np.float32(0.5), 0, 255).astype(np.uint8)


def _gaussian_noise(scenes: Scenes) -> np.ndarray:
    """About standard normal, float32 [N, SIZE, SIZE, 3]: the sum of four 16-bit parts of one hash."""
    values = SIZE * SIZE * 3
    counters = scenes.keys[:, None] + np.arange(values, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
    parts = hash_numbers(counters).view(np.uint16).reshape(len(scenes), values, 4)
    total = parts.astype(np.float32).sum(-1) / np.float32(2**16)
    return ((total - 2) * np.float32(np.sqrt(3))).reshape(len(scenes), SIZE, SIZE, 3)
