"""Draw pictures of CLEVR-like scenes for models that read pixels: a flat shape for each object, the farthest first.

Shapes: S scenes, O objects (padded), N pixels a side.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lxcompress.data.objects import ATTRIBUTES, FOCAL_PIXELS, IMAGE_HEIGHT, IMAGE_WIDTH, RADIUS

RGB: Mapping[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""The colours of CLEVR's objects, 0-255 (properties.json of the code of Johnson et al. 2017)."""
GROUND, GLINT = 200, 255
"""The grey of the background, and the light that metal reflects."""
CUBE_HALF, CYLINDER_HALF = 0.85, 0.6
"""Half the width of the square that shows a cube, and of the upright bar that shows a cylinder, in radii."""
GLINT_AT, GLINT_RADIUS = -0.3, 0.35
"""The position of the reflection, left of and above the centre, and its radius, both in radii of the object."""
SAMPLES = 3
"""The colour of a pixel is the mean of SAMPLES x SAMPLES points, so that small objects keep their shape."""


def draw_pictures(
    values: Mapping[str, np.ndarray], positions: np.ndarray, present: np.ndarray, *, side: int
) -> np.ndarray:
    """Return pictures [S, 3, N, N] float32, red green blue, scaled from 0-255 to -1..1 as ViLT's processor does.

    `values[attribute]` is int [S, O], an index into the attribute's names. `positions` is [S, O, 3]: the centre of an
    object in pixels of CLEVR's image, and its depth. `present` is bool [S, O], false for padding. The picture shows
    CLEVR's image, resized to N x N (`side`). A nearer object hides what is behind it. Nothing is random.
    """
    drawn = np.empty((len(present), 3, side, side), dtype=np.float32)
    canvas = np.empty((3, side * SAMPLES, side * SAMPLES), dtype=np.float32)
    farthest_first = np.argsort(-positions[..., 2], axis=1, kind="stable")
    for scene, order in enumerate(farthest_first):
        canvas[:] = GROUND
        for thing in order[present[scene, order]]:
            names = {attribute: ATTRIBUTES[attribute][array[scene, thing]] for attribute, array in values.items()}
            _paint(canvas, names, *positions[scene, thing])
        drawn[scene] = canvas.reshape(3, side, SAMPLES, side, SAMPLES).mean((2, 4)) / 127.5 - 1
    return drawn


def _paint(canvas: np.ndarray, names: Mapping[str, str], x: float, y: float, depth: float) -> None:
    """Paint one object onto `canvas` [3, points, points]; `names` has its attributes, x and y are CLEVR's pixels."""
    radius, points = FOCAL_PIXELS * RADIUS[names["size"]] / depth, canvas.shape[1]
    across, left = _seen_from(x, radius, points, IMAGE_WIDTH)
    down, top = _seen_from(y, radius, points, IMAGE_HEIGHT)
    part = canvas[:, top : top + len(down), left : left + len(across)]
    covered = _covers(names["shape"], across, down[:, None])
    part[:, covered] = np.asarray(RGB[names["color"]], dtype=np.float32)[:, None]
    if names["material"] == "metal":
        part[:, covered & ((across - GLINT_AT) ** 2 + (down[:, None] - GLINT_AT) ** 2 <= GLINT_RADIUS**2)] = GLINT


def _seen_from(centre: float, radius: float, points: int, size: int) -> tuple[np.ndarray, int]:
    """Return the distances from `centre`, in radii, of the points within one radius, and the index of the first one.

    The `points` lie along one side of the picture. `centre` and `radius` are in pixels of an image with `size` pixels
    along this side.
    """
    scale = points / size
    edges = np.floor((centre - radius) * scale), np.ceil((centre + radius) * scale)
    first, last = (int(edge) for edge in np.clip(edges, 0, points))
    return ((np.arange(first, last) + 0.5) / scale - centre) / radius, first


def _covers(shape: str, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return for each point whether it lies on an object of `shape` around the origin: bool [points, points]."""
    if shape == "sphere":
        return right**2 + below**2 <= 1
    width, height = (CUBE_HALF, CUBE_HALF) if shape == "cube" else (CYLINDER_HALF, 1)
    return (np.abs(right) <= width) & (np.abs(below) <= height)
