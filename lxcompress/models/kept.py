"""Save and load the weights that a study keeps between its runs, with a digest over their purpose and values.

The digest is stored in the file of the weights, so that both are written at the same moment. Files of earlier versions
have no digest. In every file the names, shapes, types and values are checked too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lxcompress.errors import LxError, RunError
from lxcompress.models.checkpoints import save_weights

DIGEST = "sha256"
"""The only key in the metadata of a file: safetensors writes several keys in any order."""
MAKE_AGAIN = "delete it, and the same command makes it again"


def digest_tensors(tensors: Mapping[str, Tensor], what: str) -> str:
    """Return the SHA-256 of the text `what` and of the names, types, shapes and values of `tensors`."""
    digest = hashlib.sha256(what.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_kept(path: Path, tensors: Mapping[str, Tensor], what: str) -> None:
    """Write `tensors` with their digest; `what` states their purpose, such as "start 0"."""
    save_weights(path, tensors, {DIGEST: digest_tensors(tensors, what)})


def load_kept(path: Path, what: str, *, like: Mapping[str, Tensor], remedy: str = MAKE_AGAIN) -> dict[str, Tensor]:
    """Return the tensors that `save_kept` wrote for the purpose `what`.

    Raises RunError unless the tensors have the names, shapes and types of `like`, only finite values, and the stored
    digest.
    """
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(DIGEST)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({str(error)[:120]}); {remedy}") from None
    check_like(path, tensors, like, remedy=remedy)
    if digest is not None and digest != digest_tensors(tensors, what):
        raise RunError(f"{path}: was changed after it was written, or is not {what}; {remedy}")
    return tensors


def check_like(
    path: Path,
    tensors: Mapping[str, Tensor],
    like: Mapping[str, Tensor],
    *,
    remedy: str,
    error: type[LxError] = RunError,
) -> None:
    """Raise `error` unless `tensors` have the names, shapes and types of `like`, and only finite values."""
    for name in sorted(tensors.keys() ^ like.keys()):
        lacks = "lacks" if name in like else "has the unknown"
        raise error(f"{path}: {lacks} tensor {name}; {remedy}")
    for name, expected in like.items():
        tensor = tensors[name]
        if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
            raise error(
                f"{path}: {name} is {list(tensor.shape)} {tensor.dtype}, expected {list(expected.shape)} "
                f"{expected.dtype}; {remedy}"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise error(f"{path}: {name} holds values that are not finite; {remedy}")
