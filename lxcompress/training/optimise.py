"""The training loop: `optimise` fits dense models, tickets and the pre-trained encoder.

The random numbers of an epoch (order of the questions, dropout) depend only on the seed and the index of the epoch.
After each epoch but the last a checkpoint is written. So a run that was killed and started again gives the same
results as an uninterrupted one.
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
"""The size of a bucket, in batches: the questions of a bucket are sorted by length (see `draw_batches`)."""
LOSS_READ_EVERY = 16
"""The number of steps between two readings of the loss on a GPU; each reading waits until the GPU has finished."""

Feed = Callable[[Iterable[Tensor], torch.Generator], Iterator[Any]]
"""the rows of each batch (int64 [B], on the CPU) and the generator of the epoch -> the batches, on the device"""


@dataclass(frozen=True)
class Objective:
    """The two functions of a fit: the loss that it minimises, and the one that scores an epoch."""

    loss: Callable[[Any], Tensor]
    """a batch that the BatchSource gives -> the mean loss of the batch"""
    evaluate: Callable[[int, float, float], Epoch]
    """index of an epoch, its mean training loss, its training time in seconds -> the record of the epoch"""


@dataclass(frozen=True)
class BatchSource:
    """The source of the batches of a fit."""

    feed: Feed
    rows: int
    """the number of questions in one epoch"""
    lengths: Tensor | None = None
    """int [rows], the length of each question: if given, questions of similar length share a batch"""
    is_static: bool = False
    """whether all batches have the same shape; if so, a step on a GPU may be captured as a CUDA graph"""


def optimise(
    model: nn.Module,
    objective: Objective,
    batches: BatchSource,
    spec: FitSpec,
    *,
    device: DeviceSpec,
    progress: Progress | None = None,
) -> list[Epoch]:
    """Fit `model` in place for `spec.settings.epochs` epochs; return the record of each epoch that was not skipped.

    A fit that was interrupted resumes after the last epoch in its checkpoint. Raises RunError.
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
        raise RunError(f"skip={spec.skip}: the run has only {total} steps; rewind to an earlier step")
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
    """Return whether steps are replayed as a CUDA graph. Raises RunError if train.graph=on and this is not possible."""
    possible = device.is_cuda and is_static
    if settings.graph == "on" and not possible:
        raise RunError(f"train.graph=on: works on CUDA only, but this runs on {device.torch_device}; leave it at auto")
    return possible and settings.graph != "off"


def draw_batches(rows: int, size: int, generator: torch.Generator, lengths: Tensor | None = None) -> list[Tensor]:
    """Return the rows of each batch of one epoch: every question once, in random order, `size` questions in a batch.

    With `lengths` (int [rows]), questions of similar length share a batch, which saves padding. For this the questions
    are shuffled, cut into buckets of BUCKET_BATCHES batches, and sorted by length within each bucket. So a question
    still shares its batch with other questions in every epoch.
    """
    order = torch.randperm(rows, generator=generator)
    if lengths is None:
        return list(order.split(size))
    buckets = order.split(size * BUCKET_BATCHES)
    batches = [batch for bucket in buckets for batch in bucket[lengths[bucket].argsort(stable=True)].split(size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def recent_loss(losses: Sequence[Tensor], device: DeviceSpec, before: float) -> float:
    """Return the last of `losses`; at steps where the loss of a GPU is not read, return `before`, the last one read."""
    is_read = device.torch_device.type == "cpu" or (len(losses) - 1) % LOSS_READ_EVERY == 0
    return float(losses[-1]) if is_read else before


def _micro_batches(
    drawn: list[Tensor], feed: Feed, settings: Train, generator: torch.Generator
) -> Iterator[list[tuple[Any, float]]]:
    """Yield the micro-batches of each batch, on the device: pairs (micro-batch, its fraction of the batch's rows)."""
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
    """Return the seed of an epoch's random numbers; it differs for each pair of a seed and an epoch below 10^4."""
    return 2 * (seed * 10_007 + epoch)


def _cuda_devices(device: DeviceSpec) -> list[int]:
    """Return the index of the GPU that is used, as a list; an empty list without a GPU."""
    return [torch.cuda.current_device()] if device.is_cuda else []
