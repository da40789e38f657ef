"""Objects of CLEVR-like scenes: their attributes, the answers about them, and the features and boxes for LXMERT.

Shapes: S scenes, O objects (padded), F = 18 features.
Two kinds of data have descriptions of scenes: scenes and clevr. Both use these features, so a model that is pre-trained
on one can read the other.
"""

from __future__ import annotations

import numpy as np

COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "sphere", "cylinder")
SIZES = ("small", "large")
MATERIALS = ("rubber", "metal")
ATTRIBUTES: dict[str, tuple[str, ...]] = {"color": COLORS, "shape": SHAPES, "size": SIZES, "material": MATERIALS}

COUNTS = tuple(str(number) for number in range(11))
ANSWERS: tuple[str, ...] = ("yes", "no", *COUNTS, *COLORS, *SHAPES, *SIZES, *MATERIALS)
"""The 28 answers of CLEVR v1.0 (Johnson et al. 2017); the label of an answer is its index."""

FEATURES = sum(len(values) for values in ATTRIBUTES.values()) + 3
IMAGE_WIDTH, IMAGE_HEIGHT = 480, 320
FOCAL_PIXELS = 520.0
RADIUS = {"small": 0.35, "large": 0.7}


def answer_type(answer: str) -> str:
    """Return the answer type (as in VQA) of one of ANSWERS: yes/no, number or other."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer in COUNTS else "other"


def object_features(values: dict[str, np.ndarray], coordinates: np.ndarray) -> np.ndarray:
    """Return features [S, O, F] float32: one-hot attributes, then the 3-D position divided by 3, mostly in -1..1.

    `values[attribute]` is int [S, O], an index into ATTRIBUTES[attribute]; `coordinates` is float [S, O, 3].
    """
    one_hot = [np.eye(len(names), dtype=np.float32)[values[name]] for name, names in ATTRIBUTES.items()]
    return np.concatenate([*one_hot, coordinates.astype(np.float32) / 3], axis=-1)


def object_boxes(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return boxes [S, O, 4] float32, x1 y1 x2 y2 over image width and height, 0-1.

    `pixels` is [S, O, 3]: x and y of the centre in pixels, and its depth. `size` is int [S, O], an index into SIZES.
    CLEVR has no boxes. The rule is our own: a box is a square around the centre, clipped at the edge of the image. Half
    its side is the radius of the object as CLEVR's camera shows it (focal length 520 pixels, fitted to published pixel
    and 3-D coordinates).
    """
    radius = np.asarray([RADIUS[name] for name in SIZES])[size]
    half = FOCAL_PIXELS * radius / pixels[..., 2]
    x, y = pixels[..., 0], pixels[..., 1]
    corners = np.stack([x - half, y - half, x + half, y + half], axis=-1)
    scale = np.asarray([IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_HEIGHT], dtype=np.float32)
    return np.clip(corners / scale, 0, 1).astype(np.float32)


def project(right: np.ndarray, front: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the pixel coordinates and the depth [..., 3] of points, as a camera like CLEVR's shows them.

    `right` and `front` are positions on the ground along the axes of the camera, `height` is above the ground; all have
    one shape [...].
    """
    depth = 10.6 - 0.85 * front
    x = IMAGE_WIDTH / 2 + FOCAL_PIXELS * right / depth
    y = IMAGE_HEIGHT / 2 + FOCAL_PIXELS * (0.477 * front - 0.870 * height) / depth
    return np.stack([x, y, depth], axis=-1)
