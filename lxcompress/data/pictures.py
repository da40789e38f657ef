"""Pictures of CLEVR-like scenes, for models that read pixels: flat shapes at the objects' places, the farthest first.

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
"""The grey behind the objects, and the light that metal throws back."""
CUBE_HALF, CYLINDER_HALF = 0.85, 0.6
"""Half the width of the square and of the upright bar, of an object's radius."""
GLINT_AT, GLINT_RADIUS = -0.3, 0.35
"""Where metal shines, left and above its centre, of an object's radius."""
SAMPLES = 3
"""Points of a pixel along each side, whose mean it is: so that small objects keep their shape at few pixels."""


def draw_pictures(
    values: Mapping[str, np.ndarray], places: np.ndarray, present: np.ndarray, *, side: int
) -> np.ndarray:
    """Pictures [S, 3, N, N] float32, red green blue, 0-255 brought to -1..1 as ViLT's own processor does.

    `values[attribute]` is int [S, O], an index into the attribute's names; `places` is [S, O, 3], the centre in pixels
    of CLEVR's image and its depth; `present` is bool [S, O]. The picture is that image squeezed to N x N.
    A nearer object hides what is behind it; nothing is drawn at random.
    """
    drawn = np.empty((len(present), 3, side, side), dtype=np.float32)
    canvas = np.empty((3, side * SAMPLES, side * SAMPLES), dtype=np.float32)
    farthest_first = np.argsort(-places[..., 2], axis=1, kind="stable")
    for scene, order in enumerate(farthest_first):
        canvas[:] = GROUND
        for thing in order[present[scene, order]]:
            names = {attribute: ATTRIBUTES[attribute][array[scene, thing]] for attribute, array in values.items()}
            _paint(canvas, names, *places[scene, thing])
        drawn[scene] = canvas.reshape(3, side, SAMPLES, side, SAMPLES).mean((2, 4)) / 127.5 - 1
    return drawn


def _paint(canvas: np.ndarray, names: Mapping[str, str], x: float, y: float, depth: float) -> None:
    """Paints an object of these attributes onto `canvas` [3, points, points], at its place in CLEVR's image."""
    radius, points = FOCAL_PIXELS * RADIUS[names["size"]] / depth, canvas.shape[1]
    across, left = _seen_from(x, radius, points, IMAGE_WIDTH)
    down, top = _seen_from(y, radius, points, IMAGE_HEIGHT)
    part = canvas[:, top : top + len(down), left : left + len(across)]
    covered = _covers(names["shape"], across, down[:, None])
    part[:, covered] = np.asarray(RGB[names["color"]], dtype=np.float32)[:, None]
    if names["material"] == "metal":
        part[:, covered & ((across - GLINT_AT) ** 2 + (down[:, None] - GLINT_AT) ** 2 <= GLINT_RADIUS**2)] = GLINT


def _seen_from(centre: float, radius: float, points: int, size: int) -> tuple[np.ndarray, int]:
    """Where the points along one side of the picture lie from `centre`, in radii, as far as one; and the first's place.

    `centre` and `radius` are in pixels of an image of `size`.
    """
    scale = points / size
    edges = np.floor((centre - radius) * scale), np.ceil((centre + radius) * scale)
    first, last = (int(edge) for edge in np.clip(edges, 0, points))
    return ((np.arange(first, last) + 0.5) / scale - centre) / radius, first


def _covers(shape: str, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """bool [points, points]: whether a point lies on an object of `shape` around the origin."""
    if shape == "sphere":
        return right**2 + below**2 <= 1
    width, height = (CUBE_HALF, CUBE_HALF) if shape == "cube" else (CYLINDER_HALF, 1)
    return (np.abs(right) <= width) & (np.abs(below) <= height)
