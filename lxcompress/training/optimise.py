"""The one training loop: everything that is fitted here (dense runs, tickets, pre-training) is fitted by `optimise`.

An epoch draws all of its randomness (order, dropout) from the seed and its own number, and a checkpoint is left after
each epoch; so a run that was killed and started again ends with the numbers of one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lxcompress.errors import RunError, unreadable
from lxcompress.models.kept import digest_tensors
from lxcompress.progress import Progress
from lxcompress.recipe import Train
from lxcompress.records import Epoch
from lxcompress.rundir import write_whole
from lxcompress.training.device import DeviceSpec, deterministic_algorithms, explain_out_of_memory
from lxcompress.training.optimizers import SCHEDULES, make_optimizer, set_rate
from lxcompress.training.step import EagerStep, GraphStep, Hook, Step

BUCKET_BATCHES = 16
TELL_EVERY = 16
"""Steps from one look at the loss to the next on a GPU: each look waits for it."""

Feed = Callable[[Iterable[Tensor], torch.Generator], Iterator[Any]]
"""lists of rows (int64 [B], on the CPU) and a generator -> their batches, on the device"""


def optimise(
    model: nn.Module,
    loss: Callable[[Any], Tensor],
    *,
    feed: Feed,
    rows: int,
    settings: Train,
    device: DeviceSpec,
    seed: int,
    evaluate: Callable[[int, float, float], Epoch],
    masks: Mapping[str, Tensor] | None = None,
    lengths: Tensor | None = None,
    is_static: bool = False,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
    hooks: Sequence[Hook] = (),
    skip: int = 0,
    constant_rate: float | None = None,
) -> list[Epoch]:
    """Fits `model` in place, `settings.epochs` passes of `rows` samples; one Epoch a pass, as `evaluate` makes it.

    `loss(batch)` is the mean loss of one batch of `feed`. `masks` (True = kept) hold after every step. Where
    batches are static (all of one shape) and on a GPU, a step is captured as a CUDA graph. With `checkpoint`, a run
    that was cut off goes on behind its last whole epoch if `key` is the same. Raises RunError.

    `skip` leaves out the first steps of the schedule (late rewinding, Frankle et al. 2020): from there on batches and
    rates are those of a run that began at the beginning, while the optimizer starts anew; passes left out whole have
    no Epoch. `constant_rate` stands in place of the schedule's rates.
    """
    names = dict(model.named_parameters())
    captured = uses_graph(settings, device, is_static=is_static)
    optimizer = make_optimizer(names, settings, captured=captured)
    share_of = SCHEDULES[settings.optimizer]
    with explain_out_of_memory(_smaller(settings)):
        eager = EagerStep(loss, names, optimizer, masks or {}, settings, device, hooks)
    step: Step = GraphStep(eager) if captured else eager
    batches = max(1, -(-rows // settings.batch_size))
    total = batches * settings.epochs
    if not 0 <= skip < total:
        raise RunError(f"skip={skip}: leaves nothing of a schedule of {total} steps; rewind to an earlier step")
    epochs = _resume(checkpoint, key, model, optimizer, hooks) if checkpoint else []
    recent = math.nan
    for epoch in range(skip // batches + len(epochs), settings.epochs):
        started = time.perf_counter()
        with (
            torch.random.fork_rng(devices=_cuda_devices(device)),
            deterministic_algorithms(wanted=settings.deterministic),
            explain_out_of_memory(_smaller(settings)),
        ):
            torch.manual_seed(_derive(seed, epoch))
            generator = torch.Generator().manual_seed(_derive(seed, epoch) + 1)
            model.train()
            losses: list[Tensor] = []
            drawn = draw_batches(rows, settings.batch_size, generator, lengths)
            first = max(0, skip - epoch * batches)
            parts_of = _parts(drawn[first:], feed, settings, generator)
            for done, parts in enumerate(parts_of, start=epoch * batches + first):
                rate = settings.learning_rate * share_of(done, total, settings.warmup)
                set_rate(optimizer, rate if constant_rate is None else constant_rate)
                losses.append(step(parts))
                for hook in hooks:
                    hook.after_step(done + 1)
                if progress:
                    recent = recent_loss(losses, device, recent)
                    progress(done + 1, total, recent)
            mean_loss = float(torch.stack(losses).float().mean())
        model.eval()
        if not math.isfinite(mean_loss):
            raise RunError(
                f"training diverged in epoch {epoch + 1} (its loss is not a number); lower train.learning_rate "
                f"(it is {settings.learning_rate:g}), or raise train.warmup"
            )
        epochs.append(evaluate(epoch, mean_loss, time.perf_counter() - started))
        if checkpoint and epoch + 1 < settings.epochs:
            _leave(checkpoint, key, model, optimizer, hooks, epochs)
    model.eval()
    return epochs


def uses_graph(settings: Train, device: DeviceSpec, *, is_static: bool) -> bool:
    """Whether steps are replayed as a CUDA graph. Raises RunError where they cannot be and were asked for."""
    possible = device.is_cuda and is_static
    if settings.graph == "on" and not possible:
        raise RunError(
            f"train.graph=on: a step is captured on CUDA alone, and this runs on {device.torch_device}; "
            "leave it at auto"
        )
    return possible and settings.graph != "off"


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
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def recent_loss(losses: Sequence[Tensor], device: DeviceSpec, before: float) -> float:
    """The last of `losses`; on a GPU every TELL_EVERY-th is read, and in between `before`, the last read, stands."""
    is_read = device.torch_device.type == "cpu" or (len(losses) - 1) % TELL_EVERY == 0
    return float(losses[-1]) if is_read else before


def _parts(
    drawn: list[Tensor], feed: Feed, settings: Train, generator: torch.Generator
) -> Iterator[list[tuple[Any, float]]]:
    """For each drawn batch, its micro-batches on the device, each with its share of the batch's rows."""
    size = settings.batch_size // settings.accumulate
    pieces = [rows.split(size) for rows in drawn]
    fed = feed((rows for batch in pieces for rows in batch), generator)
    for rows, batch in zip(drawn, pieces, strict=True):
        yield [(next(fed), len(piece) / len(rows)) for piece in batch]


def _smaller(settings: Train) -> str:
    """What to set where the memory is too small for training."""
    finer = range(settings.accumulate + 1, settings.batch_size + 1)
    next_finer = next((parts for parts in finer if settings.batch_size % parts == 0), None)
    more = f"raise train.accumulate to {next_finer} (batches stay the same), " if next_finer else ""
    return f"{more}lower train.batch_size (it is {settings.batch_size}), or give train.data_on_device=off"


def _derive(seed: int, epoch: int) -> int:
    """A generator's seed for one epoch: distinct for every (seed, epoch) below 10^9 and 10^4."""
    return 2 * (seed * 10_007 + epoch)


def _cuda_devices(device: DeviceSpec) -> list[int]:
    return [torch.cuda.current_device()] if device.torch_device.type == "cuda" else []


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; of tied tensors, one."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _leave(
    path: Path,
    key: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: Sequence[Hook],
    epochs: list[Epoch],
) -> None:
    """Writes weights, optimizer state, the hooks' states and the epochs so far, whole."""
    tensors = {f"weight/{name}": tensor.detach().cpu().contiguous() for name, tensor in _state(model).items()}
    for name, weight in model.named_parameters():
        for part, tensor in optimizer.state.get(weight, {}).items():
            tensors[f"{part}/{name}"] = tensor.detach().cpu().contiguous()
    for number, hook in enumerate(hooks):
        for name, tensor in hook.state().items():
            tensors[f"hook{number}/{name}"] = tensor.detach().cpu().contiguous()
    log = json.dumps([epoch.model_dump(mode="json") for epoch in epochs])
    digest = digest_tensors(tensors, f"{key} {log}")
    write_whole(path, lambda part: save_file(tensors, part, metadata={"key": key, "epochs": log, "sha256": digest}))


def _resume(
    path: Path, key: str, model: nn.Module, optimizer: torch.optim.Optimizer, hooks: Sequence[Hook]
) -> list[Epoch]:
    """Restores what `_leave` wrote, if it is there and of this `key`; otherwise changes nothing and returns none."""
    if not path.exists():
        return []
    remedy = "delete it, and its run starts over"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        found = unreadable(path, error, RunError)
        raise found or RunError(f"{path}: the checkpoint is damaged ({error}); {remedy}") from None
    digest = metadata.get("sha256")  # of an earlier version: none
    if digest is not None and digest != digest_tensors(tensors, f"{key} {metadata.get('epochs')}"):
        raise RunError(f"{path}: the checkpoint is damaged (it was changed since it was written); {remedy}")
    try:
        return _restore(tensors, metadata["epochs"], model, optimizer, hooks)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise RunError(f"{path}: the checkpoint is damaged ({reason}); {remedy}") from None


def _restore(
    tensors: Mapping[str, Tensor],
    epochs: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: Sequence[Hook],
) -> list[Epoch]:
    """Put the tensors of a checkpoint back where they came from; returns its epochs. Raises KeyError, ValueError or
    RuntimeError for a checkpoint of another model."""
    read = [Epoch.model_validate(epoch) for epoch in json.loads(epochs)]
    with torch.no_grad():
        for name, tensor in _state(model).items():
            if tensor.shape != tensors[f"weight/{name}"].shape:
                raise ValueError(f"{name} is of another shape")
            tensor.copy_(tensors[f"weight/{name}"])
    for name, weight in model.named_parameters():
        state = {
            part: tensors[f"{part}/{name}"] for part in ("step", "exp_avg", "exp_avg_sq") if f"{part}/{name}" in tensors
        }
        if state:
            optimizer.state[weight] = {part: tensor.to(weight.device) for part, tensor in state.items()}
    for number, hook in enumerate(hooks):
        mine = f"hook{number}/"
        hook.restore({name.removeprefix(mine): each for name, each in tensors.items() if name.startswith(mine)})
    return read
