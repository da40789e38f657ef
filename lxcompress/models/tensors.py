"""Read tensors by name from files that torch.save wrote; other objects are never unpickled.

DataParallel and torch.compile add parts to the names of tensors; these parts are removed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # the error alone: torch raises it for a file of more than tensors

import psutil
import torch
from torch import Tensor

from lxcompress.errors import ModelError
from lxcompress.text import shorten

WRAPPERS = ("module", "_orig_mod")
"""The parts that DataParallel and torch.compile add to the names of tensors."""
_LEGACY = {"gamma": "weight", "beta": "bias"}
"""The names that BERT's first releases gave to the parameters of a LayerNorm -> the names of today."""


_NOT_TENSORS = (
    "holds other objects than tensors, and reading these could run any code; save it again with "
    "torch.save(model.state_dict(), PATH), or copy it again if it was cut off"
)


def unwrap(written: str) -> str:
    """Return the name of a tensor without the parts that DataParallel and torch.compile add to it.

    The old names of LayerNorm parameters (gamma, beta) become weight and bias.
    """
    steps = [step for step in written.split(".") if step not in WRAPPERS]
    if len(steps) > 1 and "LayerNorm" in steps[-2]:
        steps[-1] = _LEGACY.get(steps[-1], steps[-1])
    return ".".join(steps)


def read_pickled(path: Path, *, ignored: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return {name: tensor} of a file that torch.save wrote, without names that end in one of `ignored`.

    Raises ModelError for a file that contains anything other than tensors.
    """
    try:
        # Files of torch before 1.6, such as LXMERT's release of 2019, are no zip archives and cannot be memory-mapped.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError:
        raise ModelError(f"{path}: {_NOT_TENSORS}") from None
    except Exception as error:  # for a damaged file torch may raise any exception, even AssertionError
        if "pickle" in str(error):
            raise ModelError(f"{path}: {_NOT_TENSORS}") from None
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{path}: cannot be read as tensors by torch ({first}); copy it again") from None
    if not isinstance(found, Mapping) or not found:
        raise ModelError(f"{path}: expected tensors by name, got {_describe(found)}; save a model.state_dict()")
    found = {name: tensor for name, tensor in found.items() if not (ignored and str(name).endswith(ignored))}
    for name, tensor in found.items():
        is_weight = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.is_floating_point()
        if not isinstance(name, str) or not is_weight:
            raise ModelError(
                f"{path}: under {shorten(name)} expected a dense tensor of floats, got {_describe(tensor)}; "
                "save a model.state_dict()"
            )
    # A tensor can be a view of fewer values than its shape has, so a small file can need much memory.
    size, there = sum(tensor.numel() for tensor in found.values()) * 4, psutil.virtual_memory().total
    if size > there:
        raise ModelError(
            f"{path}: holds {size / 1e9:,.0f} GB of weights, and this machine has {there / 1e9:,.0f} GB "
            "of memory; use a machine with more"
        )
    return {name: tensor.detach() for name, tensor in found.items()}


def name_type(written: str) -> str:
    """Return the type of a tensor as --precision writes it, such as bf16.

    `written` is the name of that type in torch or safetensors.
    """
    return _TYPES.get(written.removeprefix("torch."), written.removeprefix("torch."))


_TYPES = {
    **{"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"},
    **{"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"},
}


def _describe(value: object) -> str:
    """Return in words what a file contains if it contains no tensors by name."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} ({str(value.layout).removeprefix('torch.')})"
    return "nothing" if isinstance(value, Mapping) and not value else type(value).__name__
