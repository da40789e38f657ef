"""Read a photograph as pixels that every device can repeat: decode, turn upright, flatten to RGB, resize.

The steps are in this order, on numbers of 8 bits:

1. Decode JPEG, PNG or WebP; of an animation, the first picture. Colour profiles are ignored. 16 bits keep the high
   byte.
2. Turn the picture as the EXIF orientation says.
3. Flatten to RGB: transparent parts on white; grey three times; CMYK and palettes as Pillow converts them.
4. Resize the width and then the height to `side` by Pillow's bicubic filter (docs/photos.md has its arithmetic).
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from lxcompress.data.regions.rows import RowError
from lxcompress.errors import DataError, unreadable

FORMATS = ("JPEG", "PNG", "WEBP")
PIXEL_LIMIT = 80_000_000
"""The most pixels of a photograph: more than any telephone takes. Decoded, they are 240 MB."""
LARGE_PIXELS = 16_000_000
"""Photographs of more pixels are decoded one at a time, so that memory does not grow with the number of threads."""
ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> how the picture is turned; the value 1 is upright."""
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Name -> number of Pillow's filters, as configs of transformers have it."""
WHITE = (255, 255, 255, 255)
DAMAGE = (
    OSError,  # Pillow's own: an unknown format, a file that is cut off
    SyntaxError,  # a damaged PNG
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    RuntimeError,
    AttributeError,
    MemoryError,  # from a damaged size
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""The errors that Pillow raises for damaged or hostile files."""

_large = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A photograph as a network reads it."""

    pixels: np.ndarray
    """[height, width, 3], red green blue, 0-255"""
    window: tuple[float, float, float, float] = (0, 0, 1, 1)
    """the part of the photograph that it shows: x1 y1 x2 y2 over the width and the height, 0-1"""


def read_photo(path: Path, side: int) -> np.ndarray:
    """Return the photograph as uint8 [side, side, 3], red green blue. Raises the errors of `read_prepared`."""
    return read_prepared(path, lambda image: to_pixels(resize(image, side)))


def read_prepared(path: Path, prepare: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Return what `prepare` makes of the photograph: upright, in RGB, with all its pixels.

    Raises RowError if the file is no photograph that can be used, and DataError if it cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > PIXEL_LIMIT:
                raise RowError(
                    f"it has {width:,} x {height:,} pixels, expected at most {PIXEL_LIMIT:,}; make it smaller"
                )
            with _large if width * height > LARGE_PIXELS else nullcontext():
                pixels = prepare(flatten(turn_upright(image)))
                image.close()  # before the next large photograph is decoded
                return pixels
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RowError(f"it has more than {PIXEL_LIMIT:,} pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise RowError("it is no JPEG, PNG or WebP photograph, or its first bytes are damaged") from None
    except FileNotFoundError:
        raise RowError("it is missing") from None
    except DAMAGE as problem:
        found = unreadable(path, problem, DataError)
        if found is not None:
            raise found from None
        raise RowError(f"it is damaged ({str(problem) or type(problem).__name__})") from None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Let Pillow warn of nothing inside the block, and refuse a picture whose size is suspicious."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def turn_upright(image: ImageFile.ImageFile) -> Image.Image:
    """Return the picture, turned as its EXIF orientation says; a damaged EXIF block turns nothing."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        turn = None
    image.load()
    return image if turn is None else image.transpose(turn)


def flatten(image: Image.Image) -> Image.Image:
    """Return the picture in RGB: transparent parts on white, 16 bits cut to their high byte."""
    if image.mode.startswith("I"):  # one channel of 16 bits
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, WHITE), shown).convert("RGB")
    return image.convert("RGB")


def to_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of a picture in RGB: uint8 [height, width, 3]."""
    return np.asarray(image)


def resize(image: Image.Image, side: int) -> Image.Image:
    """Return the picture with `side` x `side` pixels; its shape is not kept, so that every part of it is seen.

    The width is resized before the height. In one call, versions of Pillow differ in the order, and so in the result.
    """
    return resize_to(image, side, side, "bicubic")


def resize_to(image: Image.Image, width: int, height: int, method: str) -> Image.Image:
    """Return the picture with `width` x `height` pixels, resized by one of FILTERS: the width, then the height."""
    resampling = Image.Resampling(FILTERS[method])
    return image.resize((width, image.height), resampling).resize((width, height), resampling)
