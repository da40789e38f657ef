"""Distillation: a model learns from the answers of its teacher, the dense model, with or without the labels.

LXMERT processes words and image regions in two streams of layers. The hidden states of a stream are the outputs of its
layers.

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
"""a model and inputs -> answer scores [B, A], and the output [B, T, H] of each layer: first all layers of one stream,
then all layers of the next"""


class DistillationSettings(Protocol):
    """How much a teacher counts in the loss."""

    @property
    def weight(self) -> float:
        """The weight of the teacher's answers in the loss, 0-1; the weight of the labels is 1 minus it."""
        ...

    @property
    def temperature(self) -> float:
        """The number by which scores are divided before they are compared; above 1, unlikely answers count more."""
        ...

    @property
    def hidden(self) -> float:
        """The weight in the loss of the error between the hidden states of both models; 0 leaves this error out."""
        ...


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model that a student learns from: on the student's device, in evaluation mode, never changed."""

    module: nn.Module
    answer: AnswerFunction
    settings: DistillationSettings
    hidden: HiddenFunction | None = None
    """runs the teacher, and the student, for their hidden states; required if settings.hidden is not 0"""


def distillation_loss(
    student: nn.Module,
    teacher: Teacher,
    *,
    answer: AnswerFunction,
    kind: str,
    example: Inputs,
    wrap: Callable[[HiddenFunction], HiddenFunction] = lambda function: function,
) -> Callable[[Batch], Tensor]:
    """Return the function that gives the loss of `student` on a Batch.

    The loss is (1 - weight) * loss + weight * soft loss + hidden * error, with `weight` and `hidden` of the teacher's
    settings. `answer` runs the student; `kind` names the loss in LOSSES. `example` are some inputs on the device, with
    which the layers of both models are counted. `wrap` may compile the functions that run a model. Raises RunError if
    hidden states are asked for, and those of the two models cannot be compared.
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
    """Return the loss of the student's scores [B, A]; its targets are the teacher's answers, softened.

    The scores of both models are divided by the temperature. The loss is multiplied by the square of the temperature,
    so that the temperature does not change the size of the gradients. Source: Hinton et al. 2015, section 2.
    """
    return LOSSES[kind](scores / temperature, SOFT_TARGETS[kind](teacher_scores / temperature)) * temperature**2


def states_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the mean squared error of each pair of states [B, T, H], averaged over the pairs; padding counts too.

    Source: Jiao et al. 2020.
    """
    errors = [nn.functional.mse_loss(own.float(), other.float()) for own, other in pairs]
    return torch.stack(errors).mean()


def pair_last_states(student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of states that are compared: (index of a student's state, index of a teacher's state).

    `student` and `teacher` give the number of states in each stream. If layers were removed, a stream has fewer states
    in one model than in the other; then the last states of the stream are compared.
    """
    pairs, student_end, teacher_end = [], 0, 0
    for own, other in zip(student, teacher, strict=True):
        student_end, teacher_end = student_end + own, teacher_end + other
        pairs += [(student_end - back, teacher_end - back) for back in range(min(own, other), 0, -1)]
    return pairs


def _with_states(function: AnswerFunction | HiddenFunction | None) -> HiddenFunction:
    """Return a function that gives scores and hidden states; there are no states if `function` gives scores alone."""
    assert function is not None

    def run(module: nn.Module, inputs: Inputs) -> tuple[Tensor, Sequence[Tensor]]:
        result = function(module, inputs)
        return (result, ()) if isinstance(result, Tensor) else result

    return run


def _pair_states(student: nn.Module, teacher: Teacher, example: Inputs) -> list[tuple[int, int]]:
    """Return the pairs of states that are compared, as indices. Raises RunError if the models cannot be compared."""
    if teacher.hidden is None:
        raise RunError("distill.hidden: this family of models gives no hidden states to compare; give distill.hidden=0")
    own = _find_streams(student, teacher.hidden, example)
    other = _find_streams(teacher.module, teacher.hidden, example)
    if len(own) != len(other) or {width for _, width in own} != {width for _, width in other}:
        raise RunError(
            f"distill.hidden: the teacher has {len(other)} streams of hidden size {other[0][1]}, but the model has "
            f"{len(own)} of {own[0][1]}, so they cannot be compared; give distill.hidden=0"
        )
    return pair_last_states([count for count, _ in own], [count for count, _ in other])


@torch.no_grad()
def _find_streams(module: nn.Module, hidden: HiddenFunction, example: Inputs) -> list[tuple[int, int]]:
    """Return (number of states, width of a state) for each stream of the model.

    The model is run on two words and one region. The number of tokens of a state then tells which stream it is from.
    """
    short = Inputs(*(tensor[:, :most] for tensor, most in zip(example, (2, 2, 1, 1, 1), strict=True)))
    was_training = module.training
    _, states = hidden(module.eval(), short)
    module.train(was_training)
    streams = itertools.groupby(states, key=lambda state: tuple(state.shape[1:]))
    return [(len(list(stream)), width) for (_, width), stream in streams]
