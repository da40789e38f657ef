"""Checkpoints: the state of a fit after an epoch. A fit that resumes from it gives the result of an unbroken one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lxcompress.errors import RunError, unreadable
from lxcompress.models.kept import digest_tensors
from lxcompress.records import Epoch
from lxcompress.rundir import write_whole
from lxcompress.training.step import Hook

OPTIMIZER_TENSORS = ("step", "exp_avg", "exp_avg_sq")
"""The names of the tensors that torch's optimizers keep for each weight."""
REMEDY = "delete it, and its run starts over"


@dataclass(frozen=True)
class FitState:
    """The objects that change during a fit; a checkpoint stores their state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    hooks: Sequence[Hook]

    def tensors(self) -> dict[str, Tensor]:
        """Return the model's parameters and buffers: name -> tensor. A tensor that has several names comes once."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}


def save_checkpoint(path: Path, key: str, state: FitState, epochs: Sequence[Epoch]) -> None:
    """Write the weights, the state of the optimizer and of the hooks, and the records `epochs` to `path`, atomically.

    `key` names the fit: `load_checkpoint` ignores the file if it is given another key.
    """
    tensors = {f"weight/{name}": _to_cpu(tensor) for name, tensor in state.tensors().items()}
    for name, weight in state.model.named_parameters():
        for part, tensor in state.optimizer.state.get(weight, {}).items():
            tensors[f"{part}/{name}"] = _to_cpu(tensor)
    for index, hook in enumerate(state.hooks):
        for name, tensor in hook.state().items():
            tensors[f"hook{index}/{name}"] = _to_cpu(tensor)
    log = json.dumps([epoch.model_dump(mode="json") for epoch in epochs])
    digest = digest_tensors(tensors, f"{key} {log}")
    write_whole(path, lambda part: save_file(tensors, part, metadata={"key": key, "epochs": log, "sha256": digest}))


def load_checkpoint(path: Path, key: str, state: FitState) -> list[Epoch]:
    """Restore `state` from the checkpoint at `path`; return the records of the epochs that are done.

    If there is no checkpoint, or the checkpoint was written with another key, change nothing and return an empty list.
    Raises RunError for a damaged checkpoint.
    """
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        found = unreadable(path, error, RunError)
        raise found or RunError(f"{path}: the checkpoint is damaged ({error}); {REMEDY}") from None
    digest = metadata.get("sha256")  # None in a checkpoint of version 0.1
    if digest is not None and digest != digest_tensors(tensors, f"{key} {metadata.get('epochs')}"):
        raise RunError(f"{path}: the checkpoint is damaged (it was changed since it was written); {REMEDY}")
    try:
        return _restore(tensors, metadata["epochs"], state)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise RunError(f"{path}: the checkpoint is damaged ({reason}); {REMEDY}") from None


def _restore(tensors: Mapping[str, Tensor], epochs: str, state: FitState) -> list[Epoch]:
    """Copy the tensors of a checkpoint into `state`; return the records in `epochs`, which is JSON.

    Raises KeyError, ValueError or RuntimeError if the checkpoint is of another model.
    """
    done = [Epoch.model_validate(epoch) for epoch in json.loads(epochs)]
    with torch.no_grad():
        for name, tensor in state.tensors().items():
            if tensor.shape != tensors[f"weight/{name}"].shape:
                raise ValueError(f"{name} has another shape")
            tensor.copy_(tensors[f"weight/{name}"])
    for name, weight in state.model.named_parameters():
        saved = {part: tensors[f"{part}/{name}"] for part in OPTIMIZER_TENSORS if f"{part}/{name}" in tensors}
        if saved:
            state.optimizer.state[weight] = {part: tensor.to(weight.device) for part, tensor in saved.items()}
    for index, hook in enumerate(state.hooks):
        prefix = f"hook{index}/"
        hook.restore({name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)})
    return done


def _to_cpu(tensor: Tensor) -> Tensor:
    """Return `tensor` on the CPU, without its gradient, in one piece of memory."""
    return tensor.detach().cpu().contiguous()
