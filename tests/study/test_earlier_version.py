"""Law: a run folder that version 0.1 left half done is resumed, and nothing in it is done again.

`data/run-of-an-earlier-version.tar.xz` was written by version 0.1 before records named the checksums of their files: a
study of the toy with its dense run, one ticket of four, and a snapshot for late rewinding.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from lxcompress.errors import LxError
from lxcompress.models.checkpoints import load_model
from lxcompress.recipe import Recipe, load_recipe
from lxcompress.rundir import read_run
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket

ARCHIVE = Path(__file__).parent / "data" / "run-of-an-earlier-version.tar.xz"
DONE = "low-magnitude-weight-50-seed0"


@pytest.fixture
def run(toy_start, tmp_path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("START", str(toy_start)), encoding="utf-8")
    return tmp_path / "run"


def recipe_of(run: Path) -> Recipe:
    shutil.copyfile(run / "recipe.yaml", run.parent / "recipe.yaml")
    return load_recipe(run.parent / "recipe.yaml")


def test_it_goes_on_and_makes_nothing_again(run) -> None:
    old = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "recipe.yaml"}
    assert not any(b'"seal"' in data for data in old.values())
    assert run_study(recipe_of(run), run) == 3
    assert all(path.read_bytes() == data for path, data in old.items())
    found = read_run(run)
    assert len(found.results) == 4
    for cell in found.results:
        ticket = load_ticket(run / "tickets" / cell)
        assert bool(ticket.provenance.files) == (cell != DONE)
    assert load_model(run / "seeds" / "0" / "dense").live


@pytest.mark.parametrize("name", ["model.safetensors", "mask.safetensors"])
def test_what_it_checked_is_checked_still(run, name) -> None:
    path = run / "tickets" / DONE / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for read in (load_ticket, load_model):
        with pytest.raises(LxError, match="was changed after the ticket was made"):
            read(run / "tickets" / DONE)


def test_its_start_weights_are_known_by_its_ticket(run) -> None:
    path = run / "seeds" / "0" / "start.safetensors"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[-1] ^= 1
    path.write_bytes(data)
    try:
        assert run_study(recipe_of(run), run, only="low-magnitude-weight-90-seed0") == 1
        assert path.read_bytes() == whole
    except LxError as error:  # another machine draws another head
        assert "this machine would make a different one" in str(error)  # noqa: PT017
