"""Trackers of experiments: TensorBoard, Trackio, MLflow and Weights & Biases, as a recipe names them in `track`.

Each writes into one folder, RUN/tracking. Only wandb sends anything over the network, as its own settings say.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lxcompress.catalog.libraries import describe_missing
from lxcompress.errors import RecipeError


@dataclass(frozen=True)
class RunCurves:
    """The tags, the curves (a value for each epoch) and the final figures of a finished run."""

    run: str
    tags: Mapping[str, str]
    curves: Mapping[str, Sequence[float]]
    figures: Mapping[str, float]

    def steps(self) -> list[dict[str, float]]:
        """Return {name: value} for each epoch."""
        return [dict(zip(self.curves, values, strict=True)) for values in zip(*self.curves.values(), strict=True)]


class Tracker(Protocol):
    """A tracker of one study."""

    def send_run(self, run: RunCurves) -> None:
        """Keep the curves, figures and tags of a run."""

    def send_table(self, runs: Sequence[RunCurves]) -> None:
        """Keep a table with the figures of all runs."""

    def close(self) -> None:
        """Write what is not written yet."""


def open_tracker(name: str, study: str, folder: Path) -> Tracker:
    """Return the tracker `name` for the study; its files are in `folder`. Raises RecipeError without its library."""
    library, extra, make = TRACKERS[name]
    missing = describe_missing((library,), extra)
    if missing:
        raise RecipeError(f"track={name}: {missing}")
    folder.mkdir(parents=True, exist_ok=True)
    return make(study, folder / name)


def compose_table(runs: Sequence[RunCurves]) -> str:
    """Return the figures of the runs as a Markdown table."""
    names = list(dict.fromkeys(name for run in runs for name in run.figures))
    lines = [f"| run | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for run in runs:
        values = (f"{run.figures[name]:.6g}" if name in run.figures else "" for name in names)
        lines.append(f"| {run.run} | {' | '.join(values)} |")
    return "\n".join(lines)


class TensorBoard:
    """A folder of event files for each run, and one, `table`, for the table."""

    def __init__(self, study: str, folder: Path) -> None:
        self.folder = folder

    def send_run(self, run: RunCurves) -> None:
        """Write the event file of a run."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder / run.run)) as writer:
            for name, values in run.curves.items():
                for epoch, value in enumerate(values, 1):
                    writer.add_scalar(name, value, epoch)
            for name, value in run.figures.items():
                writer.add_scalar(f"final/{name}", value, 0)
            writer.add_text("tags", "\n".join(f"- {name}: {value}" for name, value in run.tags.items()))

    def send_table(self, runs: Sequence[RunCurves]) -> None:
        """Write the table as text."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder / "table")) as writer:
            writer.add_text("runs", compose_table(runs))

    def close(self) -> None:
        """Do nothing: every file is closed."""


class MlFlow:
    """An experiment with a run for each run of the study, and one, `table`, for the table; in one SQLite file."""

    def __init__(self, study: str, folder: Path) -> None:
        from mlflow import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=f"sqlite:///{folder.absolute().as_posix()}/mlflow.db")
        found = self.client.get_experiment_by_name(study)
        files = (folder.absolute() / "files").as_uri()
        self.experiment = found.experiment_id if found else self.client.create_experiment(study, files)

    def send_run(self, run: RunCurves) -> None:
        """Make a finished run."""
        run_id = self._begin(run.run, run.tags)
        for epoch, values in enumerate(run.steps(), 1):
            for name, value in values.items():
                self.client.log_metric(run_id, name, value, step=epoch)
        for name, value in run.figures.items():
            self.client.log_metric(run_id, f"final_{name}", value)
        self.client.set_terminated(run_id)

    def send_table(self, runs: Sequence[RunCurves]) -> None:
        """Make a run with the table as a Markdown file."""
        run_id = self._begin("table", {"kind": "table"})
        self.client.log_text(run_id, compose_table(runs), "table.md")
        self.client.set_terminated(run_id)

    def close(self) -> None:
        """Do nothing: every run is finished."""

    def _begin(self, name: str, tags: Mapping[str, str]) -> str:
        run_id: str = self.client.create_run(self.experiment, run_name=name, tags=dict(tags)).info.run_id
        return run_id


class WandbLike:
    """Trackio and Weights & Biases, which share their calls: init, log, finish."""

    def __init__(self, library: Any, study: str, **settings: Any) -> None:
        self.library, self.study, self.settings = library, study, settings

    def send_run(self, run: RunCurves) -> None:
        """Make a run with the tags as its config."""
        self._log(run.run, dict(run.tags), [*run.steps(), {f"final/{name}": v for name, v in run.figures.items()}])

    def send_table(self, runs: Sequence[RunCurves]) -> None:
        """Make a run with the table as Markdown in its config."""
        self._log("table", {"kind": "table", "table": compose_table(runs)}, [{"runs": float(len(runs))}])

    def close(self) -> None:
        """Do nothing: every run is finished."""

    def _log(self, name: str, config: dict[str, str], steps: Sequence[Mapping[str, float]]) -> None:
        with redirect_stdout(io.StringIO()):  # trackio prints where its dashboard is
            self.library.init(project=self.study, name=name, config=config, **self.settings)
            try:
                for values in steps:
                    self.library.log(dict(values))
            finally:
                self.library.finish()


def _make_trackio(study: str, folder: Path) -> Tracker:
    os.environ["TRACKIO_DIR"] = str(folder.absolute())  # read when trackio is imported
    import trackio
    from trackio.utils import TRACKIO_DIR

    if folder.absolute() != TRACKIO_DIR:
        raise RecipeError(
            f"track=trackio: trackio is in use in this process already, with the folder {TRACKIO_DIR}; run the study "
            "in a process of its own"
        )
    return WandbLike(trackio, study, embed=False, auto_log_cpu=False, auto_log_gpu=False)


def _make_wandb(study: str, folder: Path) -> Tracker:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    return WandbLike(wandb, study, dir=str(folder), reinit=True)


TRACKERS: Mapping[str, tuple[str, str, Callable[[str, Path], Tracker]]] = {
    "tensorboard": ("tensorboard", "tensorboard", TensorBoard),
    "trackio": ("trackio", "trackio", _make_trackio),
    "mlflow": ("mlflow", "mlflow", MlFlow),
    "wandb": ("wandb", "wandb", _make_wandb),
}
"""value of `track` in a recipe -> the library, the extra of lxcompress that installs it, and what makes the tracker"""
