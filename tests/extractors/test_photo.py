"""Laws of photographs: the pixels are those that docs/photos.md describes, and a file that is no photograph says so."""

from __future__ import annotations

import math
import random
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxcompress.data.regions.rows import RowError
from lxcompress.extractors.photo import ORIENTATION, PIXEL_LIMIT, TURNS, quiet_pillow, read_photo

SIDE = 24


def picture(width: int = 40, height: int = 30, channels: int = 3) -> np.ndarray:
    """Return random pixels, larger than one pixel so that JPEG keeps them."""
    drawn = np.random.default_rng(width * height).integers(0, 256, (height // 5 + 1, width // 5 + 1, channels))
    return np.kron(drawn, np.ones((5, 5, 1)))[:height, :width].astype(np.uint8)


def save(folder: Path, image: Image.Image, name: str = "photo.png", **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def bicubic(distance: float) -> float:
    """Return the weight of a pixel at this distance (Keys 1981, a = -0.5)."""
    x, a = abs(distance), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def resize_rows(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize the width of uint8 [H, W, C] to `side`, by the arithmetic in docs/photos.md."""
    width = pixels.shape[1]
    scale = width / side
    spread = max(scale, 1.0)
    result = np.empty((len(pixels), side, pixels.shape[2]), np.uint8)
    for column in range(side):
        centre = (column + 0.5) * scale
        first = max(0, int(centre - 2 * spread + 0.5))
        end = min(width, int(centre + 2 * spread + 0.5))
        weights = np.array([bicubic((index - centre + 0.5) / spread) for index in range(first, end)])
        weights = weights / sum(weights.tolist())
        whole = [
            math.floor(weight * (1 << 22) + 0.5) if weight >= 0 else math.ceil(weight * (1 << 22) - 0.5)
            for weight in weights
        ]
        total = (pixels[:, first:end].astype(np.int64) * np.array(whole)[:, None]).sum(1) + (1 << 21)
        result[:, column] = (total >> 22).clip(0, 255)
    return result


@pytest.mark.parametrize("size", [(40, 30), (24, 24), (7, 90), (1, 1), (300, 2), (25, 23)])
def test_resizing_is_the_arithmetic_that_is_written_down(size, tmp_path) -> None:
    pixels = picture(*size)
    across = resize_rows(pixels, SIDE) if size[0] != SIDE else pixels
    down = resize_rows(across.transpose(1, 0, 2), SIDE).transpose(1, 0, 2) if size[1] != SIDE else across
    assert np.array_equal(read_photo(save(tmp_path, Image.fromarray(pixels)), SIDE), down)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation, tmp_path) -> None:
    upright = Image.fromarray(picture())
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turn = undo.get(orientation, TURNS.get(orientation))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    held = save(tmp_path, upright if turn is None else upright.transpose(turn), "held.png", exif=exif)
    assert np.array_equal(read_photo(held, SIDE), read_photo(save(tmp_path, upright), SIDE))


def test_every_kind_of_pixels_becomes_rgb(tmp_path) -> None:
    pixels = picture()
    grey = pixels[..., 0]
    expected = read_photo(save(tmp_path, Image.fromarray(np.stack([grey] * 3, -1))), SIDE)
    high = grey.astype(np.uint16) * 256 + 201
    for image in (Image.fromarray(grey), Image.fromarray(high), Image.fromarray(grey).convert("LA")):
        assert np.array_equal(read_photo(save(tmp_path, image), SIDE), expected), image.mode
    colour = read_photo(save(tmp_path, Image.fromarray(pixels)), SIDE)
    for image, name, options in (
        (Image.fromarray(pixels), "photo.webp", {"lossless": True}),
        (Image.fromarray(pixels).convert("RGBA"), "photo.png", {}),
        (Image.fromarray(pixels), "photo.png", {"save_all": True, "append_images": [Image.new("RGB", (40, 30))]}),
    ):
        assert np.array_equal(read_photo(save(tmp_path, image, name, **options), SIDE), colour), (name, options)
    near = read_photo(save(tmp_path, Image.fromarray(pixels), "photo.jpg", quality=95, subsampling=0), SIDE)
    assert np.abs(near.astype(int) - colour).mean() < 8
    assert read_photo(save(tmp_path, Image.fromarray(pixels).convert("CMYK"), "ink.jpg"), SIDE).shape == (SIDE, SIDE, 3)


def test_what_is_transparent_is_white(tmp_path) -> None:
    clear = np.concatenate([picture(), np.zeros((30, 40, 1), np.uint8)], -1)
    assert (read_photo(save(tmp_path, Image.fromarray(clear)), SIDE) == 255).all()
    palette = Image.new("P", (40, 30), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert (read_photo(save(tmp_path, palette, transparency=0), SIDE) == 255).all()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that says it has many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9_000, 9_000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size, tmp_path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    started = time.process_time()
    with quiet_pillow(), pytest.raises(RowError, match=rf"pixels.*{PIXEL_LIMIT:,}|more than {PIXEL_LIMIT:,} pixels"):
        read_photo(tmp_path / "bomb.png", SIDE)
    assert time.process_time() - started < 1


def test_what_is_no_photograph_says_so(tmp_path) -> None:
    for name, data in (("text.jpg", b"what is on the table?"), ("empty.png", b""), ("gif.png", b"GIF89a" + bytes(50))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RowError, match="no JPEG, PNG or WebP photograph"):
            read_photo(tmp_path / name, SIDE)
    for name in ("photo.jpg", "photo.png", "photo.webp"):
        path = save(tmp_path, Image.fromarray(picture(200, 200)), name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(RowError, match="damaged"):
            read_photo(path, SIDE)
    with pytest.raises(RowError, match="it is missing"):
        read_photo(tmp_path / "absent.jpg", SIDE)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp"])
def test_a_changed_file_is_read_or_refused(name, tmp_path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = save(tmp_path, Image.fromarray(picture()), name, exif=exif).read_bytes()
    draw = random.Random(name)
    with quiet_pillow():
        for _ in range(60):
            changed = bytearray(data)
            for _ in range(draw.randint(1, 4)):
                changed[draw.randrange(len(data))] = draw.randrange(256)
            (tmp_path / name).write_bytes(changed)
            with suppress(RowError):
                assert read_photo(tmp_path / name, SIDE).shape == (SIDE, SIDE, 3)
