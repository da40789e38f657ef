"""Laws of trackers: they get every finished run once, change no result, and never stop a study."""

from __future__ import annotations

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lxcompress.errors import RecipeError
from lxcompress.rundir import RunDir, read_run
from lxcompress.study import tracked as tracking
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import run_study
from lxcompress.study.tracked import list_finished, tracked
from lxcompress.trackers import TRACKERS, RunCurves, compose_table, open_tracker
from tests.conftest import TOY_CELL


class Remarks(SilentReporter):
    """A reporter that keeps the remarks."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def remark(self, what: str) -> None:
        self.said.append(what)


class Kept:
    """A tracker that keeps what it gets, and can fail."""

    def __init__(self, fails: bool = False) -> None:
        self.runs: list[RunCurves] = []
        self.tables: list[list[str]] = []
        self.fails = fails

    def send_run(self, run: RunCurves) -> None:
        if self.fails:
            raise ConnectionError("no tracker there")
        self.runs.append(run)

    def send_table(self, runs: Any) -> None:
        self.tables.append([run.run for run in runs])

    def close(self) -> None:
        """Keep nothing."""


@pytest.fixture
def study(tiny_run, tmp_path):
    """A recipe that names a tracker, and a copy of a finished run folder."""
    shutil.copytree(tiny_run, tmp_path / "run")
    run = read_run(tmp_path / "run")
    return run.recipe.model_copy(update={"track": "tensorboard"}), run


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "tracking" not in path.parts
    }


def test_each_finished_run_is_sent_once_with_its_curves(study, monkeypatch) -> None:
    recipe, run = study
    before, kept = hashes(run.dir.root), Kept()
    monkeypatch.setattr(tracking, "open_tracker", lambda *_: kept)
    for _ in range(2):  # the second time as a study that is resumed
        with tracked(recipe, run.dir, SilentReporter()) as reporter:
            reporter.end("dense", 0.5, 1.0)
    assert [sent.run for sent in kept.runs] == ["dense-seed0", TOY_CELL]
    assert kept.tables == [["dense-seed0", TOY_CELL]] * 2
    result = run.results[TOY_CELL]
    assert kept.runs[1].figures["accuracy"] == result.retrained.accuracy
    assert list(kept.runs[1].curves["train_loss"]) == [epoch.train_loss for epoch in result.epochs]
    assert kept.runs[1].tags["seed"] == "0"
    assert hashes(run.dir.root) == before


def test_a_tracker_that_fails_is_one_warning(study, monkeypatch) -> None:
    recipe, run = study
    remarks = Remarks()
    monkeypatch.setattr(tracking, "open_tracker", lambda *_: Kept(fails=True))
    with tracked(recipe, run.dir, remarks) as reporter:
        reporter.end("dense", 0.5, 1.0)
        reporter.end("ticket", 0.5, 1.0)
    assert remarks.said == [
        "track=tensorboard: failed (ConnectionError: no tracker there); the study goes on without it"
    ]


def test_no_tracker_is_opened_unless_it_is_named(study, monkeypatch) -> None:
    recipe, run = study
    monkeypatch.setattr(tracking, "open_tracker", lambda *_: pytest.fail("was opened"))
    reporter = SilentReporter()
    with tracked(recipe.model_copy(update={"track": "none"}), run.dir, reporter) as same:
        assert same is reporter
    assert not run.dir.tracking.exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_missing_is_one_sentence(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda library: None)
    with pytest.raises(RecipeError, match=rf"track={name}: needs .*; install it with: pip install 'lxcompress\[{name}"):
        open_tracker(name, "study", tmp_path / "tracking")
    assert not (tmp_path / "tracking").exists()


def test_a_table_has_a_row_for_each_run() -> None:
    runs = [RunCurves("a", {}, {}, {"accuracy": 0.5}), RunCurves("b", {}, {}, {"sparsity": 0.25})]
    assert compose_table(runs).splitlines() == [
        "| run | accuracy | sparsity |",
        "|---|---|---|",
        "| a | 0.5 |  |",
        "| b |  | 0.25 |",
    ]


def test_shared_calls_of_trackio_and_wandb_are_in_order() -> None:
    from lxcompress.trackers import WandbLike

    library, calls = ModuleType("double"), []
    library.init = lambda **settings: calls.append(("init", settings["name"], settings["config"]))
    library.log = lambda values: calls.append(("log", values))
    library.finish = lambda: calls.append(("finish",))
    WandbLike(library, "study").send_run(RunCurves("a", {"seed": "0"}, {"loss": [2.0, 1.0]}, {"accuracy": 0.5}))
    assert calls == [
        ("init", "a", {"seed": "0"}),
        ("log", {"loss": 2.0}),
        ("log", {"loss": 1.0}),
        ("log", {"final/accuracy": 0.5}),
        ("finish",),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["tensorboard", "trackio", "mlflow"])
def test_a_real_tracker_keeps_a_study(name, tiny_recipe, tiny_run, tmp_path) -> None:
    if find_spec(name) is None:  # it must not be imported here: trackio reads its folder when it is imported
        pytest.skip(f"{name} is not installed")
    recipe, root = tiny_recipe.model_copy(update={"track": name}), tmp_path / "run"
    remarks = Remarks()
    run_study(recipe, root, only=TOY_CELL, progress=remarks)
    assert not remarks.said
    plain, with_tracker = read_run(tiny_run), read_run(root)
    assert with_tracker.recipe == plain.recipe
    assert {name for name in hashes(root) if "machine" not in name} == {
        name for name in hashes(tiny_run) if "machine" not in name
    }
    for weights in ("model.safetensors", "mask.safetensors"):
        ticket = Path("tickets") / TOY_CELL / weights
        assert (root / ticket).read_bytes() == (tiny_run / ticket).read_bytes()
    finished = list(list_finished(recipe, RunDir(root)))
    assert READERS[name](root / "tracking" / name, recipe.name) == {
        run.run: pytest.approx(list(run.curves["train_loss"]), rel=1e-5) for run in finished
    }


def read_tensorboard(folder: Path, study: str) -> dict[str, list[float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for path in sorted(folder.iterdir()):
        events = EventAccumulator(str(path)).Reload()
        if "train_loss" in events.Tags()["scalars"]:
            found[path.name] = [event.value for event in events.Scalars("train_loss")]
    assert (folder / "table").is_dir()
    return found


def read_mlflow(folder: Path, study: str) -> dict[str, list[float]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(study).experiment_id])
    curves = {
        run.info.run_name: [point.value for point in client.get_metric_history(run.info.run_id, "train_loss")]
        for run in runs
    }
    assert curves.pop("table") == []
    return curves


def read_trackio(folder: Path, study: str) -> dict[str, list[float]]:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    names = [run.name for run in trackio.Api().runs(study)]
    logs = {name: SQLiteStorage.get_logs(study, name) for name in names}
    assert logs.pop("table")
    assert next(folder.glob("*.db"))
    return {name: [log["train_loss"] for log in found if "train_loss" in log] for name, found in logs.items()}


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "trackio": read_trackio}
