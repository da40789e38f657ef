"""The one training loop: dense runs, tickets and pre-training are all fitted by `optimise`.

Each epoch takes its randomness (order, dropout) from the seed and the index of the epoch alone, and leaves a
checkpoint. So a run that was killed and started again gives the numbers of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lxcompress.errors import RunError
from lxcompress.progress import Progress
from lxcompress.recipe import Train
from lxcompress.records import Epoch
from lxcompress.training.checkpoint import FitState, load_checkpoint, save_checkpoint
from lxcompress.training.device import DeviceSpec, deterministic_algorithms, explain_out_of_memory
from lxcompress.training.optimizers import SCHEDULES, make_optimizer, set_rate
from lxcompress.training.spec import FitSpec
from lxcompress.training.step import EagerStep, GraphStep, TrainingStep

BUCKET_BATCHES = 16
"""How many batches of a random order are sorted by length together."""
LOSS_READ_EVERY = 16
"""On a GPU, how many steps lie between two readings of the loss, since each reading waits for the GPU."""

Feed = Callable[[Iterable[Tensor], torch.Generator], Iterator[Any]]
"""lists of rows (int64 [B], on the CPU) and a generator -> their batches, on the device"""


@dataclass(frozen=True)
class Objective:
    """What a fit minimises, and how its epochs are scored."""

    loss: Callable[[Any], Tensor]
    """a batch of the BatchSource -> its mean loss"""
    evaluate: Callable[[int, float, float], Epoch]
    """index of an epoch, its mean training loss, its seconds of training -> its Epoch"""


@dataclass(frozen=True)
class BatchSource:
    """Where the batches of a fit come from."""

    feed: Feed
    rows: int
    """the number of samples in one epoch"""
    lengths: Tensor | None = None
    """int [rows]: if given, rows of similar length share a batch"""
    is_static: bool = False
    """whether all batches have the same shape; on a GPU a step is then captured as a CUDA graph"""


def optimise(
    model: nn.Module,
    objective: Objective,
    batches: BatchSource,
    spec: FitSpec,
    *,
    device: DeviceSpec,
    progress: Progress | None = None,
) -> list[Epoch]:
    """Fit `model` in place for `spec.settings.epochs` epochs; return one Epoch for each epoch that was not skipped.

    A run that was interrupted resumes after the last whole epoch in its checkpoint. Raises RunError.
    """
    settings = spec.settings
    weights = dict(model.named_parameters())
    is_captured = uses_graph(settings, device, is_static=batches.is_static)
    optimizer = make_optimizer(weights, settings, captured=is_captured)
    share_of = SCHEDULES[settings.optimizer]
    with explain_out_of_memory(_memory_remedy(settings)):
        eager = EagerStep(objective.loss, weights, optimizer, spec, device)
    step: TrainingStep = GraphStep(eager) if is_captured else eager
    per_epoch = max(1, -(-batches.rows // settings.batch_size))
    total = per_epoch * settings.epochs
    if not 0 <= spec.skip < total:
        raise RunError(f"skip={spec.skip}: leaves nothing of a schedule of {total} steps; rewind to an earlier step")
    state = FitState(model, optimizer, spec.hooks)
    epochs = load_checkpoint(spec.checkpoint, spec.key, state) if spec.checkpoint else []
    recent = math.nan
    for epoch in range(spec.skip // per_epoch + len(epochs), settings.epochs):
        started = time.perf_counter()
        with (
            torch.random.fork_rng(devices=_cuda_devices(device)),
            deterministic_algorithms(wanted=settings.deterministic),
            explain_out_of_memory(_memory_remedy(settings)),
        ):
            torch.manual_seed(_epoch_seed(spec.seed, epoch))
            generator = torch.Generator().manual_seed(_epoch_seed(spec.seed, epoch) + 1)
            model.train()
            losses: list[Tensor] = []
            drawn = draw_batches(batches.rows, settings.batch_size, generator, batches.lengths)
            first = max(0, spec.skip - epoch * per_epoch)
            steps = _micro_batches(drawn[first:], batches.feed, settings, generator)
            for done, parts in enumerate(steps, start=epoch * per_epoch + first):
                rate = settings.learning_rate * share_of(done, total, settings.warmup)
                set_rate(optimizer, rate if spec.constant_rate is None else spec.constant_rate)
                losses.append(step(parts))
                for hook in spec.hooks:
                    hook.after_step(done + 1)
                if progress:
                    recent = recent_loss(losses, device, recent)
                    progress("training", done + 1, total, value=recent)
            mean_loss = float(torch.stack(losses).float().mean())
        model.eval()
        if not math.isfinite(mean_loss):
            raise RunError(
                f"training diverged in epoch {epoch + 1} (its loss is not a number); lower train.learning_rate "
                f"(it is {settings.learning_rate:g}), or raise train.warmup"
            )
        epochs.append(objective.evaluate(epoch, mean_loss, time.perf_counter() - started))
        if spec.checkpoint and epoch + 1 < settings.epochs:
            save_checkpoint(spec.checkpoint, spec.key, state, epochs)
    model.eval()
    return epochs


def uses_graph(settings: Train, device: DeviceSpec, *, is_static: bool) -> bool:
    """Return whether steps are replayed as a CUDA graph. Raises RunError if train.graph=on and they cannot be."""
    possible = device.is_cuda and is_static
    if settings.graph == "on" and not possible:
        raise RunError(
            f"train.graph=on: a step is captured on CUDA alone, and this runs on {device.torch_device}; "
            "leave it at auto"
        )
    return possible and settings.graph != "off"


def draw_batches(rows: int, size: int, generator: torch.Generator, lengths: Tensor | None = None) -> list[Tensor]:
    """Return the batches of one epoch: every row once, in random order, `size` rows in a batch.

    With `lengths` (int [rows]), rows of similar length share a batch. The rows are shuffled, cut into buckets of
    BUCKET_BATCHES batches, and sorted by length within each bucket. This saves padding, and a row still meets other
    rows in every epoch.
    """
    order = torch.randperm(rows, generator=generator)
    if lengths is None:
        return list(order.split(size))
    buckets = order.split(size * BUCKET_BATCHES)
    batches = [batch for bucket in buckets for batch in bucket[lengths[bucket].argsort(stable=True)].split(size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def recent_loss(losses: Sequence[Tensor], device: DeviceSpec, before: float) -> float:
    """Return the last of `losses`, or `before` (the last one read) at steps where a GPU's loss is not read."""
    is_read = device.torch_device.type == "cpu" or (len(losses) - 1) % LOSS_READ_EVERY == 0
    return float(losses[-1]) if is_read else before


def _micro_batches(
    drawn: list[Tensor], feed: Feed, settings: Train, generator: torch.Generator
) -> Iterator[list[tuple[Any, float]]]:
    """Yield for each drawn batch its micro-batches on the device, each with its share of the batch's rows."""
    size = settings.batch_size // settings.accumulate
    pieces = [rows.split(size) for rows in drawn]
    fed = feed((rows for batch in pieces for rows in batch), generator)
    for rows, batch in zip(drawn, pieces, strict=True):
        yield [(next(fed), len(piece) / len(rows)) for piece in batch]


def _memory_remedy(settings: Train) -> str:
    """Return what a user can change if the memory is too small for training."""
    finer = range(settings.accumulate + 1, settings.batch_size + 1)
    next_finer = next((parts for parts in finer if settings.batch_size % parts == 0), None)
    accumulate = f"raise train.accumulate to {next_finer} (batches stay the same), " if next_finer else ""
    return f"{accumulate}lower train.batch_size (it is {settings.batch_size}), or give train.data_on_device=off"


def _epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of one epoch's generators: different for every (seed, epoch) below 10^9 and 10^4."""
    return 2 * (seed * 10_007 + epoch)


def _cuda_devices(device: DeviceSpec) -> list[int]:
    return [torch.cuda.current_device()] if device.is_cuda else []
