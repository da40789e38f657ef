"""The one training loop: everything that is fitted here (dense runs, tickets, pre-training) is fitted by `optimise`.

An epoch draws all of its randomness (order, dropout) from the seed and its own number, and a checkpoint is left after
each epoch; so a run that was killed and started again ends with the numbers of one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lxcompress.errors import RunError
from lxcompress.recipe import Train
from lxcompress.records import Epoch
from lxcompress.rundir import write_whole

BETAS, EPSILON = (0.9, 0.999), 1e-6
"""BERT's (Devlin et al. 2019)."""
BUCKET_BATCHES = 16


class Tell(Protocol):
    """Hears of each optimizer step: how many are done of how many, and the loss."""

    def __call__(self, done: int, total: int, loss: float) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where a fit runs, and in which arithmetic."""

    device: torch.device
    precision: str

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def choose_place(device: str, precision: str) -> Place:
    """`auto` is CUDA, then MPS, then CPU; and bf16 on CUDA, fp32 elsewhere. Raises RunError if the device is absent."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(each for each in available if available[each]) if device == "auto" else device
    if not available[name]:
        raise RunError(
            f"device {name}: not available on this machine; use --set device=auto (lxcompress doctor shows what is)"
        )
    chosen = ("bf16" if name == "cuda" else "fp32") if precision == "auto" else precision
    return Place(torch.device(name), chosen)


def optimise(
    model: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    *,
    rows: int,
    settings: Train,
    place: Place,
    seed: int,
    evaluate: Callable[[int, float, float], Epoch],
    masks: Mapping[str, Tensor] | None = None,
    lengths: Tensor | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    tell: Tell | None = None,
) -> list[Epoch]:
    """Fits `model` in place, `settings.epochs` passes of `rows` samples; one Epoch a pass, as `evaluate` makes it.

    `loss(chosen, generator)` is the mean loss of the chosen rows (int64 [B], on the CPU). `masks` (True = kept) hold
    after every step. With `checkpoint`, a run that was cut off goes on behind its last whole
    epoch if `key` is the same.
    """
    names = dict(model.named_parameters())
    optimizer = _optimizer(names, settings)
    kept = [(names[name], mask.to(names[name].dtype)) for name, mask in (masks or {}).items()]
    batches = max(1, -(-rows // settings.batch_size))
    total = batches * settings.epochs
    epochs = _resume(checkpoint, key, model, optimizer) if checkpoint else []
    for epoch in range(len(epochs), settings.epochs):
        started = time.perf_counter()
        with torch.random.fork_rng(devices=_cuda_devices(place)):
            torch.manual_seed(_derive(seed, epoch))
            generator = torch.Generator().manual_seed(_derive(seed, epoch) + 1)
            model.train()
            losses = []
            for batch, chosen in enumerate(draw_batches(rows, settings.batch_size, generator, lengths)):
                step = epoch * batches + batch
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * schedule(step, total, settings.warmup)
                optimizer.zero_grad(set_to_none=True)
                with place.autocast():
                    value = loss(chosen, generator)
                value.backward()
                blind(kept)
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
                optimizer.step()
                hold(kept)
                losses.append(value.detach())
                if tell:
                    tell(step + 1, total, float(value.detach()))
        model.eval()
        mean_loss = float(torch.stack(losses).float().mean())
        if not math.isfinite(mean_loss):
            raise RunError(
                f"training diverged in epoch {epoch + 1} (its loss is not a number); lower train.learning_rate "
                f"(it is {settings.learning_rate:g}), or raise train.warmup"
            )
        epochs.append(evaluate(epoch, mean_loss, time.perf_counter() - started))
        if checkpoint and epoch + 1 < settings.epochs:
            _leave(checkpoint, key, model, optimizer, epochs)
    model.eval()
    return epochs


def draw_batches(rows: int, size: int, generator: torch.Generator, lengths: Tensor | None = None) -> list[Tensor]:
    """One epoch: every row once, in batches of `size` in random order.

    With `lengths` (int [rows]), rows of like length share a batch, among each BUCKET_BATCHES batches' worth of a random
    order: less padding, and still other company in every epoch.
    """
    order = torch.randperm(rows, generator=generator)
    if lengths is None:
        return list(order.split(size))
    buckets = order.split(size * BUCKET_BATCHES)
    batches = [batch for bucket in buckets for batch in bucket[lengths[bucket].argsort(stable=True)].split(size)]
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def schedule(step: int, total: int, warmup: float) -> float:
    """The share of the learning rate at `step` of `total`: linear up over `warmup`, then linear down to 0."""
    done = step / total
    if done < warmup:
        return (step + 1) / (total * warmup + 1)
    return max(0.0, (1 - done) / (1 - warmup))


@torch.no_grad()
def blind(kept: list[tuple[Tensor, Tensor]]) -> None:
    """Zeroes the gradients of what the masks removed, which must not count in the clipping of the others."""
    seen = [(weight.grad, mask) for weight, mask in kept if weight.grad is not None]
    if seen:
        torch._foreach_mul_([gradient for gradient, _ in seen], [mask for _, mask in seen])


@torch.no_grad()
def hold(kept: list[tuple[Tensor, Tensor]]) -> None:
    """Zeroes what the masks removed."""
    if kept:
        torch._foreach_mul_([weight.data for weight, _ in kept], [mask for _, mask in kept])


def _optimizer(names: Mapping[str, nn.Parameter], settings: Train) -> torch.optim.AdamW:
    """AdamW as BERT's: weight decay on matrices alone, never on biases and LayerNorm gains."""
    groups = [
        {"params": [weight for weight in names.values() if weight.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in names.values() if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, eps=EPSILON, fused=True)


def _derive(seed: int, epoch: int) -> int:
    """A generator's seed for one epoch: distinct for every (seed, epoch) below 10^9 and 10^4."""
    return 2 * (seed * 10_007 + epoch)


def _cuda_devices(place: Place) -> list[int]:
    return [torch.cuda.current_device()] if place.device.type == "cuda" else []


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; of tied tensors, one."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _leave(path: Path, key: str, model: nn.Module, optimizer: torch.optim.AdamW, epochs: list[Epoch]) -> None:
    """Writes weights, optimizer state and the epochs so far, whole."""
    tensors = {f"weight/{name}": tensor.detach().cpu().contiguous() for name, tensor in _state(model).items()}
    for name, weight in model.named_parameters():
        for part, tensor in optimizer.state.get(weight, {}).items():
            tensors[f"{part}/{name}"] = tensor.detach().cpu().contiguous()
    log = json.dumps([epoch.model_dump(mode="json") for epoch in epochs])
    write_whole(path, lambda part: save_file(tensors, part, metadata={"key": key, "epochs": log}))


def _resume(path: Path, key: str, model: nn.Module, optimizer: torch.optim.AdamW) -> list[Epoch]:
    """Restores what `_leave` wrote, if it is there and of this `key`; otherwise changes nothing and returns none."""
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RunError(f"{path}: the checkpoint is damaged ({error}); delete it, and its run starts over") from None
    with torch.no_grad():
        for name, tensor in _state(model).items():
            tensor.copy_(tensors[f"weight/{name}"])
    for name, weight in model.named_parameters():
        state = {
            part: tensors[f"{part}/{name}"] for part in ("step", "exp_avg", "exp_avg_sq") if f"{part}/{name}" in tensors
        }
        if state:
            optimizer.state[weight] = {part: tensor.to(weight.device) for part, tensor in state.items()}
    return [Epoch.model_validate(epoch) for epoch in json.loads(metadata["epochs"])]
