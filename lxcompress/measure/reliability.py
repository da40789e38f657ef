"""Measure the reliability of finished models of a run that have no record of it, such as those of earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from lxcompress.confidence.record import AnswerConfidence, make_record
from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import LxError
from lxcompress.exporters.score import score_with_confidence
from lxcompress.filenames import ARTIFACT_FILE, RELIABILITY_FILE
from lxcompress.measure.plan import read_artifacts
from lxcompress.models.checkpoints import load_model
from lxcompress.models.shape import describe_folder
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.progress import Progress, no_progress
from lxcompress.recipe import Recipe, load_run_recipe
from lxcompress.records import is_whole
from lxcompress.rundir import RunDir, open_run, write_record
from lxcompress.runtimes import open_session, runtime_of
from lxcompress.tickets import is_ticket, load_ticket
from lxcompress.training.confidence import measure_model
from lxcompress.training.device import choose_device, move

Remark = Callable[[str], None]
"""Tells the user about a model that cannot be measured."""


def list_unmeasured(run: RunDir) -> list[Path]:
    """Return the folders of finished dense runs, tickets, twins and artifacts without a record of their reliability."""
    dense = sorted(path for path in run.root.glob("seeds/*/dense") if run.find_dense_seed(path) is not None)
    records = [run.dense_result(int(path.parent.name)) for path in dense]
    records += [*run.result_records(), *run.twins.result_records(), *run.artifact_records()]
    return [path.parent for path in records if is_whole(path) and not (path.parent / RELIABILITY_FILE).exists()]


def measure_run(root: Path, remark: Remark, progress: Progress = no_progress) -> list[Path]:
    """Measure every model and artifact of a run that has no record of its reliability; return their folders.

    A model that cannot be loaded is passed to `remark`. Raises LxError if the data cannot be read.
    """
    run = open_run(root)
    recipe, folders = load_run_recipe(run.recipe), list_unmeasured(run)
    if not folders:
        return []
    progress("reading the data")
    dense = str(run.dense(recipe.seeds[0]))
    task = load_fitting_task(recipe.data, load_vocabulary(dense), describe_folder(dense))
    measured = []
    for index, folder in enumerate(folders):
        progress(f"measuring {folder.name if folder.name != 'dense' else folder.parent.name}", index, len(folders))
        try:
            found = _measure(folder, recipe, task)
        except LxError as error:
            remark(f"{folder}: is not measured: {error}")
            continue
        if found:
            write_record(folder / RELIABILITY_FILE, make_record(found))
            measured.append(folder)
    return measured


def _measure(folder: Path, recipe: Recipe, task: AnswerTask) -> AnswerConfidence | None:
    """Return the confidence of the model or artifact in `folder`; None if the questions have no answers."""
    if (folder / ARTIFACT_FILE).is_file():
        (artifact,) = read_artifacts([folder])
        session = open_session(folder, threads=torch.get_num_threads(), runtime=runtime_of(artifact.record.format))
        return score_with_confidence(session, task, no_progress)[1]
    device = choose_device(recipe.device, recipe.train.precision)
    model = load_ticket(folder).model if is_ticket(folder) else load_model(folder)
    move(model.module, device)
    return measure_model(model, task.valid, recipe.train, device)
