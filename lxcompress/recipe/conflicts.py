"""The rules for settings that a pruning method cannot combine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxcompress.recipe.methods import Method

DENSE_CONTROLS = ("dense-longer", "small-dense")
"""Controls that prune nothing."""


@dataclass(frozen=True)
class Conflict:
    """A rule for settings that a method cannot combine: the sentence for the user, and the test."""

    sentence: str
    """the sentence, in which {method...} is replaced by values of the method"""
    test: Callable[[Method], bool]
    """returns True if a method breaks the rule"""


_SELECTION = ("criterion", "scope", "least_kept", "schedule", "keep_dense")
_NO_EFFECT_ON_DENSE = (*_SELECTION, "granularity", "rewind", "ticket", "distill", "first")

CONFLICTS = (
    Conflict(
        "relative_rates needs scope: modality, and scope: modality needs relative_rates",
        lambda method: (method.relative_rates is None) != (method.scope != "modality"),
    ),
    Conflict(
        "least_kept needs scope: global or modality",
        lambda method: method.least_kept > 0 and method.scope not in ("global", "modality"),
    ),
    Conflict(
        "least_kept has no effect on granularity {method.granularity}",
        lambda method: method.least_kept > 0 and method.is_structured,
    ),
    Conflict(
        "rate needs an iterative schedule",
        lambda method: method.rate is not None and not method.schedule.startswith("iterative"),
    ),
    Conflict(
        "rewind_at needs rewind: step",
        lambda method: method.rewind_at is not None and method.rewind != "step",
    ),
    Conflict(
        "granularity {method.granularity} supports only scope layer or global",
        lambda method: method.is_structured and method.scope not in ("layer", "global"),
    ),
    Conflict(
        "scope has no effect with granularity {method.granularity}: leave scope out",
        lambda method: method.is_n_of_m and method.scope != "layer",
    ),
    Conflict(
        "granularity {method.granularity} has one sparsity, so it supports only schedule one-shot",
        lambda method: method.is_n_of_m and method.schedule != "one-shot",
    ),
    Conflict(
        "granularity {method.granularity} supports only schedule one-shot",
        lambda method: method.granularity == "layer" and method.schedule != "one-shot",
    ),
    Conflict(
        "schedule iterative prunes the same weights as one-shot, because criterion {method.criterion} ranks them once; "
        "leave it out, or give iterative-retrain",
        lambda method: (
            method.schedule == "iterative"
            and not method.criterion_spec.needs_questions
            and method.scope != "sensitivity"
        ),
    ),
    Conflict(
        "schedule gradual prunes during training, where criterion {method.criterion} cannot be computed",
        lambda method: method.schedule == "gradual" and method.criterion_spec.needs_questions,
    ),
    Conflict(
        "schedule gradual does not support scope {method.scope}",
        lambda method: method.schedule == "gradual" and method.scope in ("modality", "sensitivity"),
    ),
    Conflict(
        "the mask of a ticket is already drawn: criterion, scope, least_kept, schedule and keep_dense have no effect "
        "on it",
        lambda method: method.ticket is not None and method.differs_in(*_SELECTION),
    ),
    Conflict(
        "control shuffled needs a mask that is drawn before training",
        lambda method: method.control == "shuffled" and (method.is_structured or method.schedule == "gradual"),
    ),
    Conflict(
        "control reinitialised starts from new random weights: leave rewind and schedule gradual out",
        lambda method: method.control == "reinitialised" and (method.rewind != "start" or method.schedule == "gradual"),
    ),
    Conflict(
        "epochs_factor has no effect on control small-dense",
        lambda method: method.epochs_factor is not None and method.control == "small-dense",
    ),
    Conflict(
        "epochs_factor changes the schedule of the dense run, which rewind: step follows: leave one of them out",
        lambda method: method.epochs_factor is not None and method.rewind == "step",
    ),
    Conflict(
        "sparsities has no effect on a method whose sparsity is fixed",
        lambda method: method.sparsities is not None and (method.is_n_of_m or method.is_unpruned),
    ),
    Conflict(
        "control {method.control} is dense, so the other settings of the method have no effect: leave them out",
        lambda method: method.control in DENSE_CONTROLS and method.differs_in(*_NO_EFFECT_ON_DENSE),
    ),
    Conflict(
        "dense prunes nothing, so it needs regions: give the number of regions that the model sees",
        lambda method: method.dense and method.regions is None,
    ),
    Conflict(
        "dense prunes nothing, so the settings that choose weights have no effect: leave them out",
        lambda method: method.dense and method.differs_in(*_SELECTION, "granularity", "ticket"),
    ),
    Conflict(
        "regions cannot be combined with first, scope sensitivity or a control: what these make is shared by methods "
        "that see all regions",
        lambda method: (
            method.regions is not None
            and (method.first is not None or method.scope == "sensitivity" or method.control is not None)
        ),
    ),
    Conflict(
        "first makes a smaller model, so the method itself masks weights of it: give granularity weight, a block or "
        "N:M, not {method.granularity}",
        lambda method: method.first is not None and method.is_structured,
    ),
    Conflict(
        "control {method.control} cannot be combined with first: compare with the control of a method without first",
        lambda method: method.first is not None and method.control is not None,
    ),
    Conflict(
        "a ticket is already drawn, so first has no effect on it: leave ticket or first out",
        lambda method: method.first is not None and method.ticket is not None,
    ),
    Conflict(
        "scope sensitivity is measured on the dense model, but first makes a smaller one: give another scope",
        lambda method: method.first is not None and method.scope == "sensitivity",
    ),
    Conflict(
        "criterion {method.criterion} reads the training of the dense model, but first makes a smaller one: give "
        "another criterion, or schedule gradual",
        lambda method: (
            method.first is not None and method.schedule != "gradual" and method.criterion_spec.needs_training
        ),
    ),
    Conflict(
        "sparsities count the weights of the original model, of which first removes {method.first.sparsity:g}: give "
        "sparsities above that",
        lambda method: (
            method.first is not None
            and method.sparsities is not None
            and min(method.sparsities) <= method.first.sparsity
        ),
    ),
)
"""All rules for combinations that a method may not have; the first rule that a method breaks is reported."""


def find_conflict(method: Method) -> str | None:
    """Return the sentence of the first rule in CONFLICTS that the method breaks; None if it breaks none."""
    conflict = next((conflict for conflict in CONFLICTS if conflict.test(method)), None)
    return conflict.sentence.format(method=method) if conflict else None
