"""Bitmask: a sparse checkpoint with mask bits and kept values in one safetensors file. This module needs no torch.

docs/format.md describes each byte. A tensor NAME of the model is stored as up to three tensors of the file:

- bits/NAME     uint8 [ceil(n / 8)], one bit for each weight, 1 = kept; absent if the tensor has no mask
- values/NAME   the kept weights in row-major order [k]; without bits all weights, in the tensor's shape
- scales/NAME   float32 [R], for int8 values only: the scale of each row, which multiplies its int8 values

Shapes: n weights of a tensor, k of them kept, R rows (its first dimension).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from lxcompress.errors import ExportError, TicketError, unreadable
from lxcompress.rundir import write_whole
from lxcompress.text import first_line

KIND = "lxcompress.bitmask"
VERSION = 1
PRECISIONS: Mapping[str, type[np.generic]] = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
"""Precision -> the type of the kept values."""
STEPS = 127
"""The largest int8 value; -128 is not used, so that the range is symmetric around 0."""
HALF_LIMIT = 65520.0
"""The smallest number that float16 rounds to infinity."""
MOST_DIMENSIONS, MOST_WEIGHTS = 32, 1 << 48
"""Limits of the shapes that are read: no real tensor reaches them, and within them numpy's counters do not overflow."""
UNSIGNED = "0" * 64
"""Replaces the checksum in the header while the checksum is computed."""
BITS, VALUES, SCALES = "bits/", "values/", "scales/"

_NAMES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8}
_CODES = {np.dtype(kind): code for code, kind in _NAMES.items()}
_PIECE = 1 << 20

Shapes = Mapping[str, Sequence[int]]
"""{name: shape}"""


@dataclass(frozen=True)
class PackedTensor:
    """A tensor of the model as the file stores it; the top of this module describes the fields."""

    shape: tuple[int, ...]
    values: np.ndarray
    bits: np.ndarray | None = None
    scales: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray | None:
        """Return the mask as bool of the tensor's shape, True = kept; None if the tensor has no mask."""
        if self.bits is None:
            return None
        return np.unpackbits(self.bits, count=prod(self.shape)).view(bool).reshape(self.shape)


def pack(weight: np.ndarray, kept: np.ndarray | None = None, *, precision: str) -> PackedTensor:
    """Return `weight` (float32) packed in a precision, with only the elements that are True in `kept`.

    `kept` is bool of the shape of `weight`; None keeps all. A kept element stays kept if its value is zero. An int8
    value is weight / scale, rounded half to even, so its error is at most half a scale.
    """
    scales = _scale_rows(weight) if _is_scaled(weight.shape, precision) else None
    if scales is None:
        values = weight.astype(_kind(weight.shape, precision))
    else:
        steps = np.divide(weight, _by_row(scales, weight), out=np.zeros_like(weight), where=_by_row(scales, weight) > 0)
        values = np.rint(steps, out=steps).astype(np.int8)
    if kept is None:
        return PackedTensor(weight.shape, values, None, scales)
    return PackedTensor(weight.shape, values[kept], np.packbits(kept.reshape(-1)), scales)


def unpack(packed: PackedTensor) -> np.ndarray:
    """Return a packed tensor as float32 of its shape, with zeros for the weights that are not kept."""
    values, mask = packed.values, packed.mask
    if mask is not None:
        values = np.zeros(packed.shape, packed.values.dtype)
        values[mask] = packed.values
    weight = values.astype(np.float32)
    return weight if packed.scales is None else np.multiply(weight, _by_row(packed.scales, weight), out=weight)


def write_bitmask(
    path: Path, weights: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray] | None = None, *, precision: str
) -> None:
    """Write a model's weights (float32 or float16) to `path`, without the weights that `masks` remove.

    The file is written whole or not at all. One tensor at a time is packed, so that little memory is needed besides the
    weights. Equal weights give equal bytes. Raises ExportError for weights that the precision cannot store, and for
    removed weights that are not zero.
    """
    masks = masks or {}
    _check_weights(path, weights, masks, precision)
    shapes = {name: weight.shape for name, weight in weights.items()}
    kept = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
    head, stored = _lay_out(shapes, kept, precision)
    try:
        write_whole(path, lambda part: _write(part, head, stored, weights, masks, precision))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error}); check the free space and the permissions") from None


def read_bitmask(path: Path) -> dict[str, np.ndarray]:
    """Return {name of a tensor: its weights as float32}; checksum and contents are verified. Raises TicketError."""
    return {name: unpack(packed) for name, packed in iterate_tensors(path)}


def read_masks(path: Path) -> dict[str, np.ndarray]:
    """Return {name: bool of the tensor's shape, True = kept} of all tensors that have a mask. Raises TicketError."""
    masks = {name: packed.mask for name, packed in iterate_tensors(path)}
    return {name: mask for name, mask in masks.items() if mask is not None}


def iterate_tensors(path: Path) -> Iterator[tuple[str, PackedTensor]]:
    """Yield (name, tensor) in the order of the file, with one tensor in memory at a time. Raises TicketError.

    The checksum of the whole file is verified before the first tensor.
    """
    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata() or {}
            _check_kind(path, about)
            if compute_digest(path, about["sha256"]) != about["sha256"]:
                raise ValueError("its contents do not match the SHA-256 in its header")
            precision, shapes = about["precision"], _read_shapes(about["shapes"])
            sizes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            for name in _names(sizes, precision, shapes):
                yield name, _take(file, name, sizes, precision, shapes.get(name))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        found = unreadable(path, error, TicketError)
        raise found or TicketError(
            f"{path}: cannot be read as a bitmask checkpoint ({reason}); copy it again, or export it again"
        ) from None


def bitmask_bytes(shapes: Shapes, kept: Mapping[str, int], *, precision: str) -> int:
    """Return the exact bytes of a bitmask file.

    `shapes` has every tensor of the model, and `kept` the number of kept weights of each tensor that has a mask.
    """
    head, stored = _lay_out(shapes, kept, precision)
    return len(head) + sum(prod(shape) * np.dtype(kind).itemsize for _, kind, shape in stored.values())


def compute_digest(path: Path, stated: str) -> str:
    """Return the SHA-256 of the file after the checksum in its header is replaced by 64 zeros.

    `stated` is the checksum in the header. Raises ValueError unless the header has `stated` exactly once.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
        if len(stated) != len(UNSIGNED) or header.count(stated.encode()) != 1:
            raise ValueError("its header does not have exactly one SHA-256")
        digest.update(size + header.replace(stated.encode(), UNSIGNED.encode()))
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _is_scaled(shape: Sequence[int], precision: str) -> bool:
    """Return whether a tensor of this shape is stored as int8 values with scales.

    Vectors are never stored as int8: they are 0.1 % of a model, and each affects a whole layer.
    """
    return precision == "int8" and len(shape) >= 2


def _kind(shape: Sequence[int], precision: str) -> type[np.generic]:
    """Return the type in which the values of a tensor are stored."""
    return np.float32 if precision == "int8" and not _is_scaled(shape, precision) else PRECISIONS[precision]


def _by_row(scales: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the scales [R] in a shape that multiplies the rows of `weight` [R, ...]."""
    return scales.reshape(-1, *[1] * (weight.ndim - 1))


def _scale_rows(weight: np.ndarray) -> np.ndarray:
    """Return float32 [R]: the smallest scale of each row with STEPS * scale >= the row's largest |weight|.

    The scale of a row of zeros is 0.
    """
    rows = weight.reshape(len(weight), prod(weight.shape[1:]))
    largest = np.maximum(rows.max(1, initial=0), -rows.min(1, initial=0)).astype(np.float64)
    scales = (largest / STEPS).astype(np.float32)
    is_short = scales.astype(np.float64) * STEPS < largest  # the scale was rounded down, perhaps to 0
    return np.where(is_short, np.nextafter(scales, np.float32(np.inf)), scales)


def _check_weights(
    path: Path, weights: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray], precision: str
) -> None:
    """Raise ExportError unless the weights and masks can be stored in this precision."""
    if precision not in PRECISIONS:
        raise ExportError(f"{path}: a bitmask file has no precision {precision}; give {', '.join(PRECISIONS)}")
    for name, weight in weights.items():
        if weight.dtype not in (np.float32, np.float16):
            raise ExportError(f"{path}: {name} is {weight.dtype}, expected float32; convert it first")
        largest = max(float(weight.max(initial=0)), -float(weight.min(initial=0)))  # NaN stays NaN
        if not np.isfinite(largest) or np.isnan(weight.min(initial=0)):
            raise ExportError(f"{path}: {name} has values that are NaN or infinite; train the model again")
        if precision == "fp16" and largest >= HALF_LIMIT:
            raise ExportError(
                f"{path}: {name} has the value {largest:g}, but fp16 holds at most 65504; give --precision fp32 or int8"
            )
    for name, mask in masks.items():
        if name not in weights or mask.shape != weights[name].shape or mask.dtype != bool:
            raise ExportError(f"{path}: the mask of {name} does not fit its weights; use the mask of this model")
        if np.any(weights[name][~mask]):
            raise ExportError(f"{path}: {name} has weights that its mask removed; apply the mask to it first")


StoredTensor = tuple[int, "type[np.generic]", tuple[int, ...]]
"""A tensor of the file: the offset of its first byte, its type and its shape."""


def _lay_out(shapes: Shapes, kept: Mapping[str, int], precision: str) -> tuple[bytes, dict[str, StoredTensor]]:
    """Return the header of the file, with zeros for its checksum, and {name in the file: StoredTensor}.

    `kept` has the number of kept weights of each tensor that has a mask.
    """
    parts = [part for name in shapes for part in _parts(name, shapes[name], kept.get(name), precision)]
    # Large elements come first, so that each tensor is aligned, as safetensors does.
    parts.sort(key=lambda part: (-np.dtype(part[1]).itemsize, part[0]))
    about = {
        "sha256": UNSIGNED,
        "kind": KIND,
        "version": str(VERSION),
        "precision": precision,
        "shapes": json.dumps({name: list(shapes[name]) for name in sorted(kept)}, separators=(",", ":")),
    }
    header: dict[str, object] = {"__metadata__": about}
    ends = [0]
    for key, kind, shape in parts:
        ends.append(ends[-1] + prod(shape) * np.dtype(kind).itemsize)
        header[key] = {"dtype": _CODES[np.dtype(kind)], "shape": list(shape), "data_offsets": ends[-2:]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    tensors = {key: (start + end, kind, shape) for (key, kind, shape), end in zip(parts, ends, strict=False)}
    return len(text).to_bytes(8, "little") + text, tensors


def _parts(
    name: str, shape: Sequence[int], kept: int | None, precision: str
) -> Iterator[tuple[str, type[np.generic], tuple[int, ...]]]:
    """Yield (name, type, shape) of each tensor of the file that together store the tensor `name` of the model.

    `kept` is the number of kept weights; None if the tensor has no mask.
    """
    if kept is not None:
        yield BITS + name, np.uint8, (-(-prod(shape) // 8),)
    yield VALUES + name, _kind(shape, precision), tuple(shape) if kept is None else (kept,)
    if _is_scaled(shape, precision):
        yield SCALES + name, np.float32, (shape[0],)


def _write(
    part: Path,
    head: bytes,
    stored: Mapping[str, StoredTensor],
    weights: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    precision: str,
) -> None:
    """Write the file `part`: the header, one tensor after another, and then the checksum into the header."""
    with part.open("wb") as file:
        file.write(head)
        for name, weight in weights.items():
            packed = pack(weight.astype(np.float32, copy=False), masks.get(name), precision=precision)
            for prefix, array in ((BITS, packed.bits), (VALUES, packed.values), (SCALES, packed.scales)):
                if array is not None:
                    _put(file, stored[prefix + name], array)
    digest = compute_digest(part, UNSIGNED)
    with part.open("r+b") as file:
        file.seek(head.index(UNSIGNED.encode()))
        file.write(digest.encode())


def _put(file: BinaryIO, stored: StoredTensor, array: np.ndarray) -> None:
    """Write an array at the offset of its tensor in the file."""
    start, kind, shape = stored
    assert array.dtype == kind, (array.dtype, kind)
    assert array.shape == shape, (array.shape, shape)
    file.seek(start)
    file.write(np.ascontiguousarray(array).data)


def _check_kind(path: Path, about: Mapping[str, str]) -> None:
    """Raise ValueError for a file of another kind, and TicketError for one of a newer version."""
    if about.get("kind") != KIND:
        raise ValueError(f"its metadata has the kind {about.get('kind')}, expected {KIND}")
    if not about["version"].isdecimal() or len(about["version"]) > 9:
        raise ValueError(f"its version is {about['version'][:20]!r}, expected a whole number")
    if int(about["version"]) > VERSION:
        raise TicketError(
            f"{path}: is a bitmask checkpoint of version {about['version']}, but this lxcompress reads versions up "
            f"to {VERSION}; upgrade lxcompress"
        )
    if about["precision"] not in PRECISIONS:
        raise ValueError(f"its precision is {about['precision']!r}, expected one of {', '.join(PRECISIONS)}")


def _read_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of the tensors with a mask, from the JSON in the header. Raises ValueError."""
    shapes = json.loads(text)
    if not isinstance(shapes, dict):
        raise ValueError("its list of shapes is not a JSON object")
    for name, shape in shapes.items():
        if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"the shape of {name} is not a list of whole numbers")
        if len(shape) > MOST_DIMENSIONS or prod(size or 1 for size in shape) > MOST_WEIGHTS:
            raise ValueError(f"the shape of {name} is too large")
    return {name: tuple(shape) for name, shape in shapes.items()}


def _names(sizes: Shapes, precision: str, shapes: Shapes) -> list[str]:
    """Return the names of the model's tensors.

    `sizes` has the shape of each tensor of the file, and `shapes` that of each tensor of the model with a mask. Raises
    ValueError if the file lacks a part of a tensor, or has other tensors.
    """
    names = [key.removeprefix(VALUES) for key in sizes if key.startswith(VALUES)]
    expected = {
        key
        for name in names
        for key, _, _ in _parts(name, shapes.get(name, sizes[VALUES + name]), 0 if name in shapes else None, precision)
    }
    odd = sorted((expected ^ sizes.keys()) | (shapes.keys() - set(names)))
    if odd:
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in expected or odd[0] in shapes else 'unexpected'}")
    return names


def _take(file: safe_open, name: str, sizes: Shapes, precision: str, shape: tuple[int, ...] | None) -> PackedTensor:
    """Read one tensor of the model. Raises ValueError unless its parts in the file fit together.

    `shape` is the shape of a tensor that has a mask, and None for any other.
    """
    stored = sizes[VALUES + name]
    if shape is not None and len(stored) != 1:
        raise ValueError(f"the kept values of {name} have {len(stored)} dimensions, expected 1")
    whole = tuple(stored) if shape is None else shape
    # The sizes are compared before anything is read, so that false sizes in the header cannot exhaust the memory.
    for key, _, expected in _parts(name, whole, None if shape is None else stored[0], precision):
        if tuple(sizes[key]) != expected:
            raise ValueError(f"{key} is {list(sizes[key])}, expected {list(expected)}")
    found = {key: file.get_tensor(key) for key, _, _ in _parts(name, whole, None if shape is None else 0, precision)}
    packed = PackedTensor(whole, found[VALUES + name], found.get(BITS + name), found.get(SCALES + name))
    _check_packed(name, packed, precision)
    return packed


def _check_packed(name: str, packed: PackedTensor, precision: str) -> None:
    """Raise ValueError unless types are right, values are finite, and as many bits are 1 as there are values."""
    for array, kind in (
        (packed.values, _kind(packed.shape, precision)),
        (packed.bits, np.uint8),
        (packed.scales, np.float32),
    ):
        if array is not None and array.dtype != kind:
            raise ValueError(f"{name} is stored as {array.dtype}, expected {np.dtype(kind)}")
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are NaN or infinite")
    if packed.scales is not None and (packed.scales < 0).any():
        raise ValueError(f"{name} has a negative scale")
    if packed.bits is None:
        return
    beyond = -prod(packed.shape) % 8
    if beyond and packed.bits[-1] & ((1 << beyond) - 1):
        raise ValueError(f"{name} has bits set beyond its end")
    if int(np.bitwise_count(packed.bits).sum(dtype=np.int64)) != len(packed.values):
        raise ValueError(f"{name} has {len(packed.values)} values, but its mask keeps another number of them")
