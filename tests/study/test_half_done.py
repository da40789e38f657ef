"""Law: a study that an older commit left half done is resumed, and ends with the numbers that the older commit gives.

`fixtures/run-half-done.tar.xz` is a run folder of commit fff31c5: a study of the toy with a dense run and 2 of 4 cells.
Its recipe has the old names of keys. `fixtures/numbers-half-done.json` has the numbers of fff31c5 for all 4 cells.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lxcompress.machine import describe_machine
from lxcompress.recipe import Recipe, load_run_recipe
from lxcompress.rundir import RunDir
from lxcompress.study.cell import CellRun, TicketCost, make_cell_spec
from lxcompress.study.context import StudyContext, make_spec
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import choose_cells, missing_runs, run_study
from lxcompress.training.device import DeviceSpec
from tests.study.numbers import FIXTURES, assert_recorded, read_numbers

DONE = ("low-magnitude-weight-30-seed0", "low-magnitude-weight-50-seed0")
KEYS = {
    "dense": "396e2dfd6d3060294f309156c85add7a5d6adf84964d47ad1e21a5d2124f1548",
    "dense-longer3-0-seed3": "9b3cf5210723d99364856e321d999ea9caf206385c51da738a83408fab3f2930",
    "random-weight-50-seed3": "3b60bedea0225a53542e7c62823e5984c9ba782cc98e2a0d542fe032d9215869",
    "low-magnitude-weight-modality-spared-distilled-50-seed3": (
        "7bf3bd36821e51baa2e22d45dcd1dbc6b9f0319cfbf15c9f050bc31e4e606663"
    ),
}
"""The keys of checkpoints that commit fff31c5 wrote for the recipe of `context`."""


@pytest.fixture
def run(toy_start, tmp_path) -> Path:
    """The half-done run folder, whose recipe starts from the toy."""
    with tarfile.open(FIXTURES / "run-half-done.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("START", str(toy_start)), encoding="utf-8")
    return tmp_path / "run"


def test_a_half_done_study_is_resumed_with_the_numbers_of_the_older_commit(run) -> None:
    recipe = load_run_recipe(run / "recipe.yaml")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "recipe.yaml"}
    missing = missing_runs(recipe, choose_cells(recipe, "*"), RunDir(run))
    assert len(missing) == 2
    assert not set(DONE) & {cell.id for cell in missing}
    assert run_study(recipe, run) == 2
    assert all(path.read_bytes() == data for path, data in before.items())
    assert_recorded(read_numbers(run), json.loads((FIXTURES / "numbers-half-done.json").read_text("utf-8")))


@pytest.fixture
def context(tmp_path) -> StudyContext:
    """The context of a study whose recipe has old keys, and renamed ones."""
    methods = [
        {"criterion": "random"},
        {
            "scope": "modality",
            "rates": {"vision": 1.5, "head": 0},
            "spared": ["a.weight"],
            "distill": {"weight": 0.25},
        },
        {"control": "dense-longer", "times": 3},
    ]
    recipe = Recipe.model_validate(
        {
            "name": "keys",
            "seeds": [3],
            "device": "cpu",
            "data": {"kind": "scenes", "train": 96, "valid": 64},
            "model": {"start": "a-model"},
            "train": {"epochs": 2, "batch_size": 16, "resident": "auto"},
            "prune": {"methods": methods, "sparsities": [0.5]},
        }
    )
    task = SimpleNamespace(train=range(96), extractor=None)
    return StudyContext(recipe, RunDir(tmp_path), task, DeviceSpec(torch.device("cpu"), "fp32"), describe_machine())


def test_keys_of_checkpoints_are_those_of_the_older_commit(context, monkeypatch) -> None:
    """So an interrupted run resumes from the checkpoint that the older commit left."""
    monkeypatch.setattr("lxcompress.study.cell._make_teacher", lambda run: None)
    keys = {"dense": make_spec(context, "dense 3, keeping [1]", 3, context.run.root).key}
    for cell in context.recipe.cells():
        run = CellRun(context, SimpleNamespace(), cell, TicketCost(), SilentReporter(), context.run.ticket(cell))
        keys[cell.id] = make_cell_spec(run, None).key
    assert keys == KEYS
