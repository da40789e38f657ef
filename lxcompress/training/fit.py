"""Fitting a question-answering model to a Task: the loss of the published study, and its score after each epoch.

Shapes: B batch, A answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs, Task
from lxcompress.recipe import Train
from lxcompress.records import Epoch, Score
from lxcompress.training.evaluate import score_split
from lxcompress.training.feed import Batch, feed
from lxcompress.training.optimise import Tell, optimise
from lxcompress.training.place import Place, naming_the_knob
from lxcompress.training.step import Hook

Answer = Callable[[nn.Module, Inputs], Tensor]
"""a model and inputs -> answer scores [B, A]"""


def fit(
    model: nn.Module,
    task: Task,
    *,
    answer: Answer,
    settings: Train,
    place: Place,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    tell: Tell | None = None,
    hooks: Sequence[Hook] = (),
    skip: int = 0,
    constant_rate: float | None = None,
) -> list[Epoch]:
    """Fits `model` in place on the training split, scored on the validation split after each epoch.

    The task may be on the device already (`settle`). A GPU gets batches of one shape, the CPU batches of questions of
    like length. `hooks`, `skip` and `constant_rate` are as in `optimise`.
    """
    answers = len(task.labels)
    loss_of = LOSSES[settings.loss]
    is_static = place.is_cuda
    reply = compiled(answer, is_static=is_static) if compiles(settings, place) else answer

    def loss(batch: Batch) -> Tensor:
        return loss_of(reply(model, batch.inputs).float(), batch.targets)

    def batches(rows: Iterable[Tensor], _: torch.Generator) -> Iterator[Batch]:
        return feed(task.train, rows, answers, place, padded=is_static)

    def evaluate(epoch: int, train_loss: float, duration_s: float) -> Epoch:
        started = time.perf_counter()
        valid = score(model, task, answer=answer, settings=settings, place=place)
        scoring_s = time.perf_counter() - started
        return Epoch(epoch=epoch, train_loss=train_loss, valid=valid, duration_s=duration_s + scoring_s)

    return optimise(
        model,
        loss,
        feed=batches,
        rows=len(task.train),
        settings=settings,
        place=place,
        seed=seed,
        evaluate=evaluate,
        masks=masks,
        lengths=None if is_static else (task.train.input_ids != 0).sum(1),
        is_static=is_static,
        checkpoint=checkpoint,
        key=key,
        tell=tell,
        hooks=hooks,
        skip=skip,
        constant_rate=constant_rate,
    )


def compiles(settings: Train, place: Place) -> bool:
    """Whether the model goes through torch.compile: if asked for, and by itself on CUDA."""
    return settings.compile == "on" or (settings.compile == "auto" and place.is_cuda)


def compiled(answer: Answer, *, is_static: bool) -> Answer:
    """`answer`, compiled at its first call; static shapes each get kernels of their own, whatever ran before."""
    return torch.compile(answer, dynamic=False if is_static else None)


def score(model: nn.Module, task: Task, *, answer: Answer, settings: Train, place: Place) -> Score:
    """The model's Score on the validation split."""
    with naming_the_knob(f"lower train.eval_batch_size (it is {settings.eval_batch_size})"):
        return score_split(lambda inputs: answer(model, inputs), task.valid, settings.eval_batch_size, place)


def answer_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with soft targets [B, A], times the number of answers (the reference implementation's)."""
    return nn.functional.binary_cross_entropy_with_logits(scores, targets) * targets.shape[1]


def categorical_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one answer among all; soft targets [B, A] are shares (the reference's loss for NLVR2)."""
    return nn.functional.cross_entropy(scores, targets)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"binary": answer_loss, "categorical": categorical_loss}
"""train.loss -> the loss of scores and targets, both [B, A]."""
