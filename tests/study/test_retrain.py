"""Retraining one pruned model: its own head, masks that hold, and a training that a kill does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import PruneError, RecipeError
from lxcompress.models.checkpoints import load_model, load_weights
from lxcompress.progress import no_progress
from lxcompress.recipe import Recipe
from lxcompress.records import Provenance
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.study.retrain import work_path
from lxcompress.tickets import load_ticket
from lxcompress.training import optimise as optimising
from lxcompress.writing import exclusive
from tests.progress import KeptProgress


@pytest.fixture(scope="module")
def dense(toy_run, tmp_path_factory) -> Path:
    """Return a fine-tuned model: a transformers folder outside of any run."""
    folder = tmp_path_factory.mktemp("mine") / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (folder / name).write_bytes((toy_run / "seeds/0/dense" / name).read_bytes())
    return folder


WIDE = ("2:4", "block-1x4")
"""Granularities that do not divide the toy's projection of its 18 features."""


def remade(dense: Path, out: Path, recipe: Recipe | None, granularity: str = "weight", **fields: Any) -> Provenance:
    """Prune the model, and retrain it if there is a recipe."""
    wish = {"granularity": granularity, "sparsity": {"2:4": 0.5, "weight": 0.4, "block-1x4": 0.4}.get(granularity, 0.2)}
    kept = ["lxmert.encoder.visn_fc.visn_fc.weight"] if granularity in WIDE else []
    progress = fields.pop("progress", no_progress)
    options = PruneOptions(**wish, keep_dense=tuple(kept), **fields, retraining=recipe)
    return prune_model(str(dense), out, options, progress=progress)


@pytest.mark.parametrize("granularity", ["weight", "block-1x4", "2:4", "neuron", "head", "layer", "neuron+head"])
def test_what_is_removed_stays_removed_and_what_is_left_learns(granularity, dense, toy_recipe, tmp_path) -> None:
    made = remade(dense, tmp_path / "out", toy_recipe, granularity)
    plain = remade(dense, tmp_path / "plain", None, granularity)
    ticket = load_ticket(tmp_path / "out")  # which raises unless its mask or surgery holds in its weights
    assert made.sparsity == plain.sparsity
    record = ticket.provenance.retraining
    assert record is not None
    assert record.retrained == ticket.provenance.accuracy == record.epochs[-1].valid
    assert len(record.epochs) == toy_recipe.train.epochs
    assert record.train == toy_recipe.train.model_dump(mode="json")
    assert record.dense.questions == record.pruned.questions == 64
    first, last = (load_weights(tmp_path / name / "model.safetensors") for name in ("plain", "out"))
    assert any(not torch.equal(first[name], last[name]) for name in last)
    if granularity == "weight":
        for name, kept in ticket.mask.kept.items():
            assert not last[name][~kept].any()
    assert load_model(tmp_path / "out").config.id2label == load_model(dense).config.id2label
    assert not work_path(tmp_path / "out").exists()


def test_a_killed_retraining_resumed_is_one_that_was_not_killed(dense, toy_recipe, tmp_path, monkeypatch) -> None:
    whole = remade(dense, tmp_path / "whole", toy_recipe)

    class Killed(BaseException):
        """A process that ends at once."""

    save = optimising.save_checkpoint

    def kill(*arguments: object) -> None:
        save(*arguments)
        raise Killed

    monkeypatch.setattr(optimising, "save_checkpoint", kill)
    with pytest.raises(Killed):
        remade(dense, tmp_path / "cut", toy_recipe)
    monkeypatch.undo()
    assert not (tmp_path / "cut").exists()
    assert (work_path(tmp_path / "cut") / "checkpoint.safetensors").is_file()
    kept = KeptProgress()
    resumed = remade(dense, tmp_path / "cut", toy_recipe, progress=kept)
    steps = [done for what, done, _ in kept.calls if what == "retraining"]
    assert min(steps) > len(steps)  # it did not begin at the beginning
    assert resumed.retraining.retrained == whole.retraining.retrained
    first, second = (load_weights(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not work_path(tmp_path / "cut").exists()


def test_two_processes_do_not_retrain_one_ticket(dense, toy_recipe, tmp_path) -> None:
    folder = work_path(tmp_path / "out")
    folder.mkdir()
    with exclusive(folder / "lock"), pytest.raises(PruneError, match="another process retrains this ticket"):
        remade(dense, tmp_path / "out", toy_recipe)
    assert not (tmp_path / "out").exists()


def test_data_of_other_answers_leave_nothing_behind(dense, toy_recipe, tmp_path) -> None:
    other = toy_recipe.model_copy(update={"data": toy_recipe.data.model_copy(update={"pixels": 16})})
    with pytest.raises(RecipeError, match="gives pictures"):
        remade(dense, tmp_path / "deep" / "out", other)
    assert not list(tmp_path.iterdir())


def test_prune_says_the_accuracy_at_every_stage(dense, toy_recipe_file, tmp_path) -> None:
    arguments = ["prune", dense, "--criterion", "taylor", "--sparsity", 0.5, "--retrain", toy_recipe_file]
    arguments += ["--set", "train.epochs=1", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    record = load_ticket(tmp_path / "out").provenance.retraining
    assert len(record.epochs) == 1
    assert "% before" in result.output
    assert "% pruned" in result.output
    assert "% retrained; on 64 validation questions" in result.output
