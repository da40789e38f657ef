"""How much the validation figures of a study flatter: accuracies on the validation split minus those on the test split.

    lxcompress study recipes/quickstart.yaml --set data.test=4000 --no-twins --out RUN
    python bench/validation_gap.py RUN

The first part compares both splits for the picked group, for the seed that ships and for all cells. The second part
picks many times: a random part of the test questions, as many as validate, stands for validation, and the rest tests.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from lxcompress.analysis.groups import SeedGroup
from lxcompress.analysis.held_out import held_out_words
from lxcompress.analysis.pick import STEP, pick_ticket
from lxcompress.analysis.rule import default_rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.rundir import read_run

PICKS = 2000

# Shapes: G groups, S seeds, Q test questions.


def main() -> None:
    """Print both parts for the run folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    summary = summarise(read_run(parser.parse_args().run))
    choice = pick_ticket(summary, default_rule(summary))
    if choice.picked is None or not choice.held_out:
        raise SystemExit("nothing is picked, or the study has no test split")
    print(held_out_words(choice.held_out))
    groups = [group for group in summary.groups if not group.key.method.is_control]
    credits, dense = _credits(summary, groups), _dense_credits(summary)
    _compare_splits(summary, groups, groups.index(choice.picked.group), credits, dense)
    _pick_often(summary, groups, credits, dense)


def _credits(summary: RunSummary, groups: list[SeedGroup]) -> np.ndarray:
    """Return the credit of each test question, [G, S, Q]."""
    tests = {result.cell: result.test for result in summary.results}
    return np.array(
        [[tests[group.key.cell(seed).id].credit_of_each() for seed in summary.recipe.seeds] for group in groups]
    )


def _dense_credits(summary: RunSummary) -> np.ndarray:
    """Return the credit of each test question of the dense models, [S, Q]."""
    return np.array([run.test.credit_of_each() for run in summary.dense_runs if run.test])


def _compare_splits(
    summary: RunSummary, groups: list[SeedGroup], picked: int, credits: np.ndarray, dense: np.ndarray
) -> None:
    """Print validation minus test, with intervals that count the questions of both splits."""
    seeds = summary.recipe.seeds
    questions = summary.dense_runs[0].trained.questions
    valid = np.array([[group.retrained.overall.by_seed[seed] for seed in seeds] for group in groups])
    gaps = valid - credits.mean(2)
    dense_gaps = np.array([run.trained.accuracy for run in summary.dense_runs]) - dense.mean(1)
    best = seeds.index(groups[picked].best_seed)
    rows = {
        "all cells": (gaps.mean(), credits.mean((0, 1))),
        "dense": (dense_gaps.mean(), dense.mean(0)),
        "picked": (gaps[picked].mean(), credits[picked].mean(0)),
        "picked minus dense": (gaps[picked].mean() - dense_gaps.mean(), credits[picked].mean(0) - dense.mean(0)),
        "the seed that ships": (gaps[picked, best], credits[picked, best]),
        "that seed minus its dense": (gaps[picked, best] - dense_gaps[best], credits[picked, best] - dense[best]),
    }
    for name, (gap, values) in rows.items():
        reach = 1.96 * values.std(ddof=1) * math.sqrt(1 / questions + 1 / len(values))
        print(f"{name:28} {100 * gap:+.2f} points ({100 * (gap - reach):+.2f} to {100 * (gap + reach):+.2f})")


def _pick_often(summary: RunSummary, groups: list[SeedGroup], credits: np.ndarray, dense: np.ndarray) -> None:
    """Print by how much picks on random validation questions flatter, on average."""
    draw, questions = np.random.default_rng(0), summary.dense_runs[0].trained.questions
    steps = [round(group.achieved.mean / STEP) for group in groups]
    found = []
    for _ in range(PICKS):
        order = draw.permutation(credits.shape[2])
        valid, test = (credits[:, :, part].mean(2) for part in (order[:questions], order[questions:]))
        dense_valid, dense_test = (dense[:, part].mean(1) for part in (order[:questions], order[questions:]))
        threshold = summary.recipe.pick.retain * dense_valid.mean()
        keeping = [index for index, mean in enumerate(valid.mean(1)) if mean >= threshold]
        if not keeping:
            continue
        picked = max(keeping, key=lambda index: (steps[index], valid[index].mean()))
        best = valid[picked].argmax()
        found.append(
            (
                valid[picked].mean() - test[picked].mean(),
                valid[picked, best] - test[picked, best],
                test[picked].mean() >= summary.recipe.pick.retain * dense_test.mean(),
            )
        )
    mean, shipped, holds = np.array(found, dtype=float).T
    print(f"{len(found)} of {PICKS} draws pick something; on the other questions the rule holds for {holds.mean():.0%}")
    for name, gaps in (("mean over seeds", mean), ("the seed that ships", shipped)):
        error = gaps.std(ddof=1) / math.sqrt(len(gaps))
        print(f"{name:28} flattered by {100 * gaps.mean():+.2f} points on average (standard error {100 * error:.2f})")


if __name__ == "__main__":
    main()
