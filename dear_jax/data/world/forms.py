"""The forms of the embedded world: silhouettes, accessories and fills, as functions of the body frame.

A `Form` takes the pixels' coordinates in the body frame, u to the right and v down in units of the body's
radius, float32 arrays of one shape. For a silhouette or an accessory it gives about the signed distance to
its outline in the same unit, negative inside; for a fill the share of the second tone in [0, 1].
"""

from collections.abc import Callable

import numpy as np

Form = Callable[[np.ndarray, np.ndarray], np.ndarray]
Color = tuple[int, int, int]

DARK, LIGHT, WOOD = (38, 38, 44), (242, 242, 236), (100, 56, 26)
LEAF, FLAME, STEEL = (30, 110, 50), (255, 150, 30), (150, 156, 168)


def disc(across: float, down: float, radius: float) -> Form:
    """A disc around the point (across, down)."""
    return lambda u, v: np.hypot(u - np.float32(across), v - np.float32(down)) - np.float32(radius)


def box(across: float, down: float, half_width: float, half_height: float) -> Form:
    """An upright rectangle around the point (across, down)."""
    return lambda u, v: np.maximum(
        np.abs(u - np.float32(across)) - np.float32(half_width),
        np.abs(v - np.float32(down)) - np.float32(half_height),
    )


def polygon(*corners: tuple[float, float]) -> Form:
    """A convex polygon, corners clockwise as seen on the picture."""

    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        result = np.full_like(u, -np.inf)
        for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
            length = float(np.hypot(u1 - u0, v1 - v0))
            outward = (np.float32((v1 - v0) / length), np.float32((u0 - u1) / length))
            np.maximum(
                result,
                (u - np.float32(u0)) * outward[0] + (v - np.float32(v0)) * outward[1],
                out=result,
            )
        return result

    return distance


def both_sides(form: Form) -> Form:
    """A form on the right, and its mirror image on the left."""
    return lambda u, v: form(np.abs(u), v)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points, by folding the plane onto one half of one point."""
    u, v = np.abs(u), -v
    for side in (1, -1):
        normal = np.float32(side * 0.80901699), np.float32(-0.58778525)
        fold = 2 * np.maximum(u * normal[0] + v * normal[1], 0)
        u, v = u - fold * normal[0], v - fold * normal[1]
    u, v = np.abs(u), v - np.float32(1.1)
    edge = np.float32(0.45 * 0.58778525), np.float32(0.45 * 0.80901699 - 1.0)
    along = np.clip((u * edge[0] + v * edge[1]) / (edge[0] ** 2 + edge[1] ** 2), 0, 1.1)
    return np.hypot(u - edge[0] * along, v - edge[1] * along) * np.sign(v * edge[0] - u * edge[1])


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    scale = np.float32(1.72)
    u, v = np.abs(u) / scale, np.float32(0.54) - v / scale
    lobe = np.hypot(u - np.float32(0.25), v - np.float32(0.75)) - np.float32(0.35355)
    half = np.maximum(u + v, 0) / 2
    lower = np.minimum(np.hypot(u, v - 1), np.hypot(u - half, v - half)) * np.sign(u - v)
    return np.where(u + v > 1, lobe, lower) * scale


SHAPES: dict[str, Form] = {
    "circle": disc(0, 0, 0.95),
    "square": box(0, 0, 0.84, 0.84),
    "triangle": polygon((0, -1.1), (1.1, 0.8), (-1.1, 0.8)),
    "star": _star,
    "heart": _heart,
    "cross": lambda u, v: np.minimum(box(0, 0, 0.36, 1.0)(u, v), box(0, 0, 1.0, 0.36)(u, v)),
    "diamond": polygon((0, -1.12), (0.95, 0), (0, 1.12), (-0.95, 0)),
}

# What makes a body an object: parts of fixed color behind the body, later ones over earlier ones.
ACCESSORIES: dict[str, tuple[tuple[tuple[int, int, int], Form], ...]] = {
    "car": (
        (DARK, both_sides(disc(0.62, 0.98, 0.46))),
        (LIGHT, both_sides(disc(0.62, 1.05, 0.2))),
    ),
    "boat": (
        (WOOD, polygon((-1.45, 0.72), (1.45, 0.72), (1.0, 1.3), (-1.0, 1.3))),
        (WOOD, box(0.0, -1.2, 0.07, 0.5)),
        (LIGHT, polygon((0.1, -1.7), (0.95, -0.85), (0.1, -0.85))),
    ),
    "house": (
        (DARK, box(0.8, -1.25, 0.16, 0.35)),
        (WOOD, polygon((0, -1.6), (1.35, -0.62), (-1.35, -0.62))),
    ),
    "bird": (
        (DARK, both_sides(polygon((0.5, -0.3), (1.65, -0.85), (1.45, 0.45)))),
        (FLAME, polygon((-0.25, 0.8), (0.25, 0.8), (0.45, 1.5), (-0.45, 1.5))),
    ),
    "robot": (
        (STEEL, box(0, -1.2, 0.08, 0.35)),
        (FLAME, disc(0, -1.5, 0.2)),
        (STEEL, both_sides(box(0.45, 1.1, 0.2, 0.4))),
        (STEEL, both_sides(box(1.15, 0.0, 0.3, 0.16))),
    ),
    "fish": (
        (STEEL, polygon((0.6, 0.0), (1.65, -0.8), (1.65, 0.8))),
        (STEEL, polygon((-0.2, -1.4), (0.7, -0.6), (-0.6, -0.6))),
    ),
    "flower": (
        (LEAF, box(0, 1.2, 0.1, 0.6)),
        (LEAF, both_sides(polygon((0.0, 1.5), (0.75, 0.8), (0.85, 1.25)))),
        (LIGHT, both_sides(disc(0.85, -0.75, 0.36))),
    ),
    "cat": (
        (DARK, both_sides(polygon((0.85, -1.5), (1.05, -0.35), (0.2, -0.75)))),
        (DARK, box(1.3, 0.2, 0.12, 0.75)),
        (DARK, box(1.0, 0.85, 0.4, 0.12)),
    ),
    "spider": (
        (DARK, both_sides(polygon((0.4, -0.5), (1.55, -1.3), (1.6, -1.1)))),
        (DARK, both_sides(polygon((0.4, -0.1), (1.65, -0.45), (1.65, -0.2)))),
        (DARK, both_sides(polygon((0.4, 0.1), (1.65, 0.2), (1.65, 0.45)))),
        (DARK, both_sides(polygon((0.4, 0.5), (1.6, 1.1), (1.55, 1.3)))),
    ),
    "rocket": (
        (STEEL, both_sides(polygon((0.5, 0.2), (1.3, 1.2), (0.5, 1.0)))),
        (FLAME, polygon((-0.42, 0.7), (0.42, 0.7), (0, 1.75))),
        (STEEL, polygon((0, -1.6), (0.45, -0.7), (-0.45, -0.7))),
    ),
}


def triangle_wave(phase: np.ndarray) -> np.ndarray:
    """Period 1, from -1/4 to 1/4: positive on the first half of each period."""
    return np.float32(0.25) - np.abs(np.mod(phase, 1) - np.float32(0.5))


def sharpen(wave: np.ndarray, slope: float) -> np.ndarray:
    """A wave around 0 to a share in [0, 1]: soft steps, the steeper the larger the slope."""
    return np.clip(wave * np.float32(slope) + np.float32(0.5), 0, 1)


TEXTURES: dict[str, Form] = {
    "plain": lambda u, v: np.zeros_like(u),
    "striped": lambda u, v: sharpen(triangle_wave(v / np.float32(0.6)), 7),
    "dotted": lambda u, v: sharpen(
        np.float32(0.27)
        - np.hypot(triangle_wave(u / np.float32(0.62)) - 0.25, triangle_wave(v / np.float32(0.62)) - 0.25),
        7,
    ),
    "checkered": lambda u, v: sharpen(
        np.float32(4) * triangle_wave(u / np.float32(1.05)) * triangle_wave(v / np.float32(1.05)),
        14,
    ),
    "ringed": lambda u, v: sharpen(-triangle_wave(np.hypot(u, v) / np.float32(0.6) + np.float32(0.25)), 7),
    "faded": lambda u, v: np.clip((v + np.float32(0.75)) / np.float32(1.5), 0, 1),
}
