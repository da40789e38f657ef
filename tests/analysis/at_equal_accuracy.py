"""Dense int8 files and tickets of a run made by hand, and their comparison at equal accuracy."""

from __future__ import annotations

from lxcompress.analysis.equal_accuracy import EqualAccuracy, compare_at_equal_accuracy
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.records import Parity, ScoreByQuestion, pack_credits
from tests.analysis.handmade import exported, group, measured, score, summary

RULE = Rule(retain=0.99)
CELL = "low-magnitude-weight-50-seed0"
AGREES = Parity(questions=64, inputs="validation", max_abs_difference=0.01, changed_answers=1, tolerance=None)


def dense(ms=2.0, mb=2.0, *, name="dense-int8", accuracy=0.8, precision="int8", **given):
    """The dense model in int8; `ms` is None for a file that is not measured."""
    times = () if ms is None else (measured(name, ms),)
    kept = None if accuracy is None else score(accuracy)
    return exported(name, *times, precision=precision, size_bytes=round(mb * 1e6), accuracy=kept, **given)


def ticket(ms=1.0, mb=1.0, *, cell=CELL, name="ticket-int8", accuracy=0.8, **given):
    """The ticket of seed 0 in int8, with a dense accuracy of 0.8."""
    return dense(ms, mb, name=name, accuracy=accuracy, cell=cell, **given)


def compared(*files, rule=RULE, groups=None, accuracies=(0.8,), **given) -> EqualAccuracy:
    """The comparison of a run whose ticket has these accuracies by seed; the dense model has 0.8."""
    groups = (group(*accuracies),) if groups is None else groups
    run = summary(*groups, dense=(0.8,) * len(accuracies), artifacts=tuple(files), **given)
    found = compare_at_equal_accuracy(run, rule)
    assert found is not None
    assert pick_ticket(run, rule).equal == found
    return found


def on_test(accuracy):
    """A score of 1,000 questions of a test split."""
    return ScoreByQuestion(accuracy=accuracy, by_type={}, questions=1000, credits=pack_credits([accuracy] * 1000))
