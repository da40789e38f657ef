"""Distillation: a model learns from the answers of its teacher, the dense model, with or without the labels.

Shapes: B batch, A answers, T tokens of a stream, H hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.errors import RunError
from lxcompress.training.feed import Batch
from lxcompress.training.losses import LOSSES, SOFT_TARGETS

AnswerFunction = Callable[[nn.Module, Inputs], Tensor]
"""a model and inputs -> answer scores [B, A]"""
HiddenFunction = Callable[[nn.Module, Inputs], tuple[Tensor, Sequence[Tensor]]]
"""a model and inputs -> answer scores [B, A], and the output of each layer, [B, T, H], one stream after another"""


class DistillationSettings(Protocol):
    """How much a teacher counts in the loss."""

    @property
    def weight(self) -> float:
        """The share of the teacher's answers in the loss, 0-1; the labels have the rest."""
        ...

    @property
    def temperature(self) -> float:
        """Scores are divided by it before they are compared: above 1, unlikely answers count more."""
        ...

    @property
    def hidden(self) -> float:
        """The weight of the error of the hidden states; 0 leaves them out."""
        ...


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model to learn from, on the student's device; it is put in evaluation mode and never changes."""

    module: nn.Module
    answer: AnswerFunction
    settings: DistillationSettings
    hidden: HiddenFunction | None = None
    """required if the hidden states count"""


def distillation_loss(
    student: nn.Module,
    teacher: Teacher,
    *,
    answer: AnswerFunction,
    kind: str,
    example: Inputs,
    wrap: Callable[[HiddenFunction], HiddenFunction] = lambda function: function,
) -> Callable[[Batch], Tensor]:
    """Return the loss of `student` on a Batch: (1 - weight) * loss + weight * soft loss + hidden * error.

    `answer` runs the student, `kind` names the loss in LOSSES, `example` are some inputs on the device, and `wrap` may
    compile the functions that run a model. Raises RunError if hidden states count and cannot be compared.
    """
    assert teacher.module is not student, "a model cannot be its own teacher: it would change as it learns"
    settings, loss = teacher.settings, LOSSES[kind]
    teacher.module.eval()
    pairs = _pair_states(student, teacher, example) if settings.hidden else []
    run_student = wrap(_with_states(teacher.hidden if settings.hidden else answer))
    run_teacher = wrap(_with_states(teacher.hidden if settings.hidden else teacher.answer))
    uses_teacher = bool(settings.weight or settings.hidden)

    def total(batch: Batch) -> Tensor:
        scores, states = run_student(student, batch.inputs)
        scores = scores.float()
        terms = [(1 - settings.weight) * loss(scores, batch.targets)] if settings.weight < 1 else []
        if uses_teacher:
            with torch.no_grad():
                teacher_scores, teacher_states = run_teacher(teacher.module, batch.inputs)
        if settings.weight:
            terms.append(settings.weight * soft_loss(scores, teacher_scores.float(), settings.temperature, kind))
        if settings.hidden:
            error = states_error([(states[own], teacher_states[other]) for own, other in pairs])
            terms.append(settings.hidden * error)
        return sum(terms[1:], terms[0])

    return total


def soft_loss(scores: Tensor, teacher_scores: Tensor, temperature: float, kind: str) -> Tensor:
    """Return the loss of scores [B, A] with the teacher's softened answers as targets.

    Both scores are divided by the temperature, and the loss is multiplied by its square, so that the size of the
    gradients does not depend on it. Source: Hinton et al. 2015, section 2.
    """
    return LOSSES[kind](scores / temperature, SOFT_TARGETS[kind](teacher_scores / temperature)) * temperature**2


def states_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the mean squared error of pairs of states [B, T, H], averaged over pairs; padding counts.

    Source: Jiao et al. 2020.
    """
    errors = [nn.functional.mse_loss(own.float(), other.float()) for own, other in pairs]
    return torch.stack(errors).mean()


def pair_last_states(student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Return which states are compared, as indices into the two lists of states.

    `student` and `teacher` have the number of states of each stream. Where a stream of one model has fewer, because
    layers were removed, the last states of both are compared.
    """
    pairs, student_end, teacher_end = [], 0, 0
    for own, other in zip(student, teacher, strict=True):
        student_end, teacher_end = student_end + own, teacher_end + other
        pairs += [(student_end - back, teacher_end - back) for back in range(min(own, other), 0, -1)]
    return pairs


def _with_states(function: AnswerFunction | HiddenFunction | None) -> HiddenFunction:
    """Return `function` as one that gives scores and hidden states; no states if it gives scores alone."""
    assert function is not None

    def run(module: nn.Module, inputs: Inputs) -> tuple[Tensor, Sequence[Tensor]]:
        result = function(module, inputs)
        return (result, ()) if isinstance(result, Tensor) else result

    return run


def _pair_states(student: nn.Module, teacher: Teacher, example: Inputs) -> list[tuple[int, int]]:
    """Return the pairs of states of the two models. Raises RunError if they cannot be compared."""
    if teacher.hidden is None:
        raise RunError("distill.hidden: this family of models shows no hidden states; give distill.hidden=0")
    own = _find_streams(student, teacher.hidden, example)
    other = _find_streams(teacher.module, teacher.hidden, example)
    if len(own) != len(other) or {width for _, width in own} != {width for _, width in other}:
        raise RunError(
            f"distill.hidden: the teacher's hidden states are {other[0][1]} wide in {len(other)} streams, the model's "
            f"{own[0][1]} in {len(own)}, and cannot be compared; give distill.hidden=0"
        )
    return pair_last_states([count for count, _ in own], [count for count, _ in other])


@torch.no_grad()
def _find_streams(module: nn.Module, hidden: HiddenFunction, example: Inputs) -> list[tuple[int, int]]:
    """Return for each stream of the model the number of its states, and their width.

    Streams differ by their number of tokens, so the model is run on two words and one region.
    """
    short = Inputs(*(tensor[:, :most] for tensor, most in zip(example, (2, 2, 1, 1, 1), strict=True)))
    was_training = module.training
    _, states = hidden(module.eval(), short)
    module.train(was_training)
    streams = itertools.groupby(states, key=lambda state: tuple(state.shape[1:]))
    return [(len(list(stream)), width) for (_, width), stream in streams]
