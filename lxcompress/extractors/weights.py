"""Read files of weights, without running any code in them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lxcompress.errors import DataError, unreadable
from lxcompress.rundir import sha256

VERSION_LENGTH = 12
"""The hexadecimal digits of a SHA-256 that are the version of an extractor."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return {name: tensor} of a safetensors file, or of a file that torch.save wrote. Raises DataError."""
    try:
        found = load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, EOFError, SafetensorError) as problem:
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        raise unreadable(path, problem, DataError) or DataError(
            f"{path}: cannot be read as weights ({reason}); give a .safetensors file, or a file of torch.save that "
            "holds only tensors"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise DataError(f"{path}: holds other things than named tensors; save the state_dict of the model alone")
    return {str(name): tensor for name, tensor in found.items()}


def hash_version(paths: Sequence[Path], settings: str = "") -> str:
    """Return the version of an extractor: digits of the SHA-256 over its files and the text of its settings."""
    digest = hashlib.sha256(settings.encode())
    for path in paths:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:VERSION_LENGTH]


def _load_pickled(path: Path) -> object:
    """Return what torch.save wrote into the file, if it is only tensors and plain values."""
    return torch.load(path, map_location="cpu", weights_only=True)
