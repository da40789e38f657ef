"""Distillation: a model learns from what its teacher, the dense model, says, beside the labels or in their place.

Shapes: B batch, A answers, T tokens of a stream, H hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.errors import RunError
from lxcompress.training.feed import Batch

Answer = Callable[[nn.Module, Inputs], Tensor]
"""a model and inputs -> answer scores [B, A]"""
Hidden = Callable[[nn.Module, Inputs], tuple[Tensor, Sequence[Tensor]]]
"""a model and inputs -> answer scores [B, A], and what each layer hands on, [B, T, H], stream after stream"""
Loss = Callable[[Tensor, Tensor], Tensor]
"""scores and targets, both [B, A] -> the mean loss"""

SOFTEN: Mapping[str, Callable[[Tensor], Tensor]] = {"binary": torch.sigmoid, "categorical": lambda z: z.softmax(1)}
"""train.loss -> how scores [B, A] become soft targets for it."""


class Distill(Protocol):
    """How much a teacher counts."""

    @property
    def weight(self) -> float:
        """The share of the teacher's answers in the loss, 0-1; the labels have the rest."""
        ...

    @property
    def temperature(self) -> float:
        """What scores are divided by before they are compared: above 1, unlikely answers tell more."""
        ...

    @property
    def hidden(self) -> float:
        """The weight of the error of the hidden states; 0 leaves them out."""
        ...


@dataclass(frozen=True)
class Teacher:
    """A fitted model on the device where it is learnt from; it is put in evaluation mode, and never changed."""

    module: nn.Module
    answer: Answer
    settings: Distill
    hidden: Hidden | None = None
    """needed where the hidden states count"""


def taught_loss(
    student: nn.Module,
    teacher: Teacher,
    *,
    answer: Answer,
    loss: Loss,
    kind: str,
    example: Inputs,
    wrap: Callable[[Callable], Callable] = lambda function: function,
) -> Callable[[Batch], Tensor]:
    """The loss of a Batch for `student` beside `teacher`: (1 - weight) * loss + weight * soft loss + hidden * error.

    `answer` is the student's; `loss` is that of the labels, of this `kind` in SOFTEN; `wrap` may compile what runs a
    model; `example` are some inputs on the device. Raises RunError if hidden states are wanted that cannot be compared.
    """
    assert teacher.module is not student, "a model cannot be its own teacher: it would move as it learns"
    settings = teacher.settings
    teacher.module.eval()
    pairs = _pair_states(student, teacher, example) if settings.hidden else []
    ask, tell = (wrap(_look(teacher.hidden if settings.hidden else each)) for each in (answer, teacher.answer))
    is_heard = bool(settings.weight or settings.hidden)

    def total(batch: Batch) -> Tensor:
        scores, states = ask(student, batch.inputs)
        scores = scores.float()
        parts = [(1 - settings.weight) * loss(scores, batch.targets)] if settings.weight < 1 else []
        if is_heard:
            with torch.no_grad():
                taught, examples = tell(teacher.module, batch.inputs)
        if settings.weight:
            parts.append(
                settings.weight * soft_loss(scores, taught.float(), settings.temperature, loss=loss, kind=kind)
            )
        if settings.hidden:
            parts.append(settings.hidden * states_error([(states[mine], examples[its]) for mine, its in pairs]))
        return sum(parts[1:], parts[0])

    return total


def soft_loss(scores: Tensor, taught: Tensor, temperature: float, *, loss: Loss, kind: str) -> Tensor:
    """`loss` of scores [B, A] where the teacher's, softened, are the targets; both divided by the temperature.

    Times its square, so that gradients keep their size whatever the temperature. Source: Hinton et al. 2015, section 2.
    """
    return loss(scores / temperature, SOFTEN[kind](taught / temperature)) * temperature**2


def states_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean over pairs of states [B, T, H] of their mean squared error, padding included (Jiao et al. 2020)."""
    errors = [nn.functional.mse_loss(mine.float(), its.float()) for mine, its in pairs]
    return torch.stack(errors).mean()


def pair_last(mine: Sequence[int], its: Sequence[int]) -> list[tuple[int, int]]:
    """Which states are compared, as places in the two lists; `mine` and `its` say how many each stream has.

    Where layers were left out and a stream has fewer, the last ones of both are compared.
    """
    pairs, after_mine, after_its = [], 0, 0
    for few, many in zip(mine, its, strict=True):
        after_mine, after_its = after_mine + few, after_its + many
        pairs += [(after_mine - back, after_its - back) for back in range(min(few, many), 0, -1)]
    return pairs


def _look(function: Answer | Hidden) -> Hidden:
    """`function` with hidden states beside its scores: none, where it gives scores alone."""

    def look(module: nn.Module, inputs: Inputs) -> tuple[Tensor, Sequence[Tensor]]:
        found = function(module, inputs)
        return (found, ()) if isinstance(found, Tensor) else found

    return look


def _pair_states(student: nn.Module, teacher: Teacher, example: Inputs) -> list[tuple[int, int]]:
    """The pairs of states of the two models. Raises RunError."""
    if teacher.hidden is None:
        raise RunError("distill.hidden: this family of models shows no hidden states; give distill.hidden=0")
    mine, its = (_streams(module, teacher.hidden, example) for module in (student, teacher.module))
    if len(mine) != len(its) or {width for _, width in mine} != {width for _, width in its}:
        raise RunError(
            f"distill.hidden: the teacher's hidden states are {its[0][1]} wide in {len(its)} streams, the model's "
            f"{mine[0][1]} in {len(mine)}, and cannot be compared; give distill.hidden=0"
        )
    return pair_last([count for count, _ in mine], [count for count, _ in its])


@torch.no_grad()
def _streams(module: nn.Module, hidden: Hidden, example: Inputs) -> list[tuple[int, int]]:
    """Of each stream, how many states it has, and their width.

    Streams are told apart by their numbers of tokens, so this looks at two words and one region.
    """
    short = Inputs(*(tensor[:, :most] for tensor, most in zip(example, (2, 2, 1, 1, 1), strict=True)))
    was_training = module.training
    _, states = hidden(module.eval(), short)
    module.train(was_training)
    runs = itertools.groupby(states, key=lambda state: tuple(state.shape[1:]))
    return [(len(list(run)), width) for (_, width), run in runs]
