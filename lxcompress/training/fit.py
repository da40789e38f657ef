"""Fitting a question-answering model to a Task: the loss of the published study, and its score after each epoch.

Shapes: B batch, A answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs, Task
from lxcompress.recipe import Train
from lxcompress.records import Epoch, Score
from lxcompress.training.evaluate import score_split
from lxcompress.training.optimise import Place, Tell, optimise

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
) -> list[Epoch]:
    """Fits `model` in place on the training split, scored on the validation split after each epoch."""

    def loss(rows: Tensor, _: torch.Generator) -> Tensor:
        inputs = task.train.inputs(rows).to(place.device)
        targets = task.train.targets(rows, len(task.labels)).to(place.device)
        return answer_loss(answer(model, inputs).float(), targets)

    def evaluate(epoch: int, train_loss: float, duration_s: float) -> Epoch:
        started = time.perf_counter()
        valid = score(model, task, answer=answer, settings=settings, place=place)
        scoring_s = time.perf_counter() - started
        return Epoch(epoch=epoch, train_loss=train_loss, valid=valid, duration_s=duration_s + scoring_s)

    return optimise(
        model,
        loss,
        rows=len(task.train),
        settings=settings,
        place=place,
        seed=seed,
        evaluate=evaluate,
        masks=masks,
        lengths=(task.train.input_ids != 0).sum(1),
        checkpoint=checkpoint,
        key=key,
        tell=tell,
    )


def score(model: nn.Module, task: Task, *, answer: Answer, settings: Train, place: Place) -> Score:
    """The model's Score on the validation split."""
    return score_split(lambda inputs: answer(model, inputs), task.valid, settings.eval_batch_size, place)


def answer_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with soft targets [B, A], times the number of answers (the reference implementation's)."""
    return nn.functional.binary_cross_entropy_with_logits(scores, targets) * targets.shape[1]
