"""The functions of the Python API. `import lxcompress` offers them; a library is imported when a function needs it.

An argument `recipe` is a Recipe, the path of a YAML file, a run folder or the name of a shipped recipe. An argument
`run` is a Run or the path of a run folder. Every error that a user can fix is an LxError.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lxcompress.errors import LxError as LxError

if TYPE_CHECKING:
    from lxcompress.analysis.choice import Choice
    from lxcompress.analysis.rule import Rule
    from lxcompress.data.check import CheckReport
    from lxcompress.measure.evaluate import Evaluation
    from lxcompress.measure.plan import BenchOptions
    from lxcompress.models.checkpoints import Model
    from lxcompress.recipe import Recipe
    from lxcompress.records import Artifact, BenchRecord, Provenance
    from lxcompress.rundir import Run
    from lxcompress.runtimes.image import ImageSession
    from lxcompress.study.reporter import StudyReporter
    from lxcompress.tickets import Ticket
    from lxcompress.workflow.answer import PhotoAnswers
    from lxcompress.workflow.budget import PruneBudget, PrunedToBudget
    from lxcompress.workflow.prune import PruneOptions
    from lxcompress.workflow.score import ScoreReport

StrPath = str | os.PathLike[str]


def load_recipe(recipe: StrPath, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a YAML file, in a run folder, or with the name of a shipped recipe such as "quickstart".

    Each of `overrides` is "key=value", as in the option `--set`. Raises RecipeError.
    """
    from lxcompress import recipe as recipes

    return recipes.load_recipe(Path(recipe), overrides)


def run_study(
    recipe: Recipe | StrPath, out: StrPath | None = None, *, only: str = "*", progress: StudyReporter | None = None
) -> Run:
    """Do the missing runs of a study in the folder `out`, and return all results in that folder.

    `out` is runs/NAME by default. `only` is a pattern of run ids, such as "*-seed0". When the study is complete and its
    recipe has `export.twins`, the picked ticket and its twins are exported too. Repeat an interrupted call to resume
    it.
    """
    from lxcompress.recipe import find_recipe
    from lxcompress.rundir import read_run as read
    from lxcompress.study.reporter import SilentReporter
    from lxcompress.study.run import run_study as do_missing_runs
    from lxcompress.workflow import study, twins
    from lxcompress.workflow.checks import check_model, check_run_folder

    known, progress = _recipe(recipe), progress or SilentReporter()
    root = study.default_run_folder(known) if out is None else Path(out)
    check_run_folder(root, known, find_recipe(Path(recipe)) if isinstance(recipe, str | os.PathLike) else None)
    check_model(known.model.start)
    do_missing_runs(known, root, only=only, progress=progress)
    found = study.pick_when_complete(root) if known.export.twins else None
    if found and found.result and found.choice.picked:
        sources = twins.TwinSources(found.choice.picked.ticket, int4=known.export.int4)
        with twins.twin_helper(sources, known) as helper:
            study.draw_structured_twin(root, found.result, progress)
            twins.check_twins(twins.export_twins(sources, formats=known.export.formats, helper=helper))
    return read(root)


def read_run(run: StrPath) -> Run:
    """Return the recipe and all finished results of a run folder. Raises RunError."""
    from lxcompress import rundir

    return rundir.read_run(Path(run))


def pick(run: Run | StrPath, rule: Rule | None = None) -> Choice:
    """Return the choice of the sparsest ticket of a run that satisfies `rule`, with the file to ship.

    `rule` is that of the run's recipe by default. `Choice.picked` is None if nothing satisfies the rule.
    """
    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise

    summary = summarise(_run(run))
    return pick_ticket(summary, rule or default_rule(summary))


def write_report(run: Run | StrPath, rule: Rule | None = None) -> list[Path]:
    """Write report.html, results.csv and results.json into a run folder; return their paths."""
    from lxcompress.report.write import write_report as write

    return write(_run(run), rule)


def load_ticket(folder: StrPath) -> Ticket:
    """Return a ticket: its model, its mask or surgery, and its provenance. Raises TicketError if a file was changed."""
    from lxcompress import tickets

    return tickets.load_ticket(Path(folder))


def load_model(source: StrPath) -> Model:
    """Return the model in a transformers folder, in a ticket, in a .pth file, or on the hub ("hub:OWNER/NAME").

    Raises ModelError.
    """
    from lxcompress.models import checkpoints
    from lxcompress.workflow.checks import check_model

    check_model(str(source))
    return checkpoints.load_model(str(source))


def prune(model: StrPath, out: StrPath, options: PruneOptions) -> Provenance:
    """Prune one model, write it as a ticket into the folder `out`, and return the record of the ticket.

    The model is a transformers folder, a ticket or the name of a model on the hub. With `options.retraining`, the
    remaining weights are trained after pruning.
    """
    from lxcompress.workflow.prune import check_options, prune_model

    check_options(str(model), Path(out), options)
    return prune_model(str(model), Path(out), options)


def prune_to_budget(model: StrPath, out: StrPath, options: PruneOptions, budget: PruneBudget) -> PrunedToBudget:
    """Prune one model to the smallest sparsity whose exported file is within `budget`; return the ticket and the file.

    The ticket is written to `out`, and the file next to it. `options` have no sparsity. Raises PruneError, with the
    smallest cost that was reached, if no sparsity is within the budget.
    """
    from lxcompress.workflow.budget import check_budget, with_valid_sparsity
    from lxcompress.workflow.budget import prune_to_budget as search
    from lxcompress.workflow.prune import check_options

    check_budget(str(model), Path(out), options, budget)
    check_options(str(model), Path(out), with_valid_sparsity(options))
    return search(str(model), Path(out), options, budget)


def export(
    source: StrPath,
    out: StrPath | None = None,
    *,
    format: str = "onnx",
    precision: str | None = None,
    recipe: Recipe | StrPath | None = None,
    fixed: str | None = None,
) -> Artifact:
    """Write a ticket or a model as a file to ship, compare its answers with those of the source; return its record.

    `out` is RUN/artifacts/NAME by default, and `precision` is the default of the format. `recipe` gives the validation
    questions for a source that is in no run folder. With `fixed`, such as "20x36", the file takes questions of 20
    tokens over 36 regions only, and the runtimes pad smaller ones. Raises ExportError.
    """
    from lxcompress.workflow.export import ExportRequest, check_request, export_file

    known = None if recipe is None else _recipe(recipe)
    request = ExportRequest(Path(source), format, precision, _path(out), known, fixed=fixed)
    check_request(request)
    return export_file(request)[1]


def evaluate(source: StrPath, recipe: Recipe | StrPath, *, split: Literal["valid", "test"] = "valid") -> Evaluation:
    """Return the accuracy of a model, a ticket or an artifact on the validation or test questions of `recipe`."""
    from lxcompress.measure import evaluate as evaluation
    from lxcompress.workflow.checks import check_scored

    known = _recipe(recipe)
    check_scored(str(source))
    return evaluation.evaluate(str(source), known, split=split)


def open_session(artifact: StrPath, *, threads: int = 1, runtime: str | None = None) -> ImageSession:
    """Return an artifact, loaded and ready to answer; `runtime` is by default the usual one of its format.

    Its functions take and return numpy arrays: `answer` for questions with their images, `see` and `ask` for several
    questions about one image. Raises MeasureError.
    """
    from lxcompress import runtimes
    from lxcompress.errors import MeasureError
    from lxcompress.measure.plan import read_artifacts
    from lxcompress.runtimes.image import ImageSession

    folder = Path(artifact)
    if runtime is None:
        (found,) = read_artifacts([folder])
        runtime = runtimes.runtime_of(found.record.format)
    elif not folder.exists():
        raise MeasureError(f"{folder}: no such file or folder; give an artifact that lxcompress export wrote")
    return ImageSession(folder, runtimes.open_session(folder, threads=threads, runtime=runtime))


def answer(
    photo: StrPath,
    questions: str | Sequence[str],
    *,
    model: StrPath,
    extractor: str | None = None,
    top: int = 5,
    threshold: float | None = None,
) -> PhotoAnswers:
    """Return the answers of a ticket, an artifact, a model or a run to questions about one photograph.

    The features are extracted once, by default with the extractor that the model was trained with. Of a run, the picked
    file answers. `top` is the number of answers to a question; below the probability `threshold` the model is not sure.
    Raises DataError for a photograph that cannot be used, and ModelError for a model that was trained on others.
    """
    from lxcompress.workflow.answer import answer_photo
    from lxcompress.workflow.answer_request import AnswerOptions

    asked = (questions,) if isinstance(questions, str) else tuple(questions)
    return answer_photo(Path(photo), asked, Path(model), AnswerOptions(extractor, top, threshold))


def bench(
    artifacts: Sequence[StrPath], options: BenchOptions | None = None, *, out: StrPath | None = None
) -> BenchRecord:
    """Measure latency, load time, memory and size of artifacts in turns; each artifact runs in its own process.

    The bench is saved in the file `out`. By default it is saved in the run folder of the artifacts, if all are in one.
    After an interrupt, the measurements so far are returned.
    """
    from lxcompress.measure.bench_paths import find_common_run, recover
    from lxcompress.workflow.bench import BenchRequest, default_file, default_options, measure, measure_and_save
    from lxcompress.writing import check_out

    folders = [Path(artifact) for artifact in artifacts]
    run = find_common_run(folders)
    request = BenchRequest(folders, options or default_options(run))
    if run:
        recover(run.measurements)
    if out is not None:
        check_out(Path(out), folders, kind="file")
    path = default_file(run, None) if out is None else Path(out)
    return measure(request) if path is None else measure_and_save(request, path)


def check_data(recipe: Recipe | StrPath, *, fast: bool = False) -> CheckReport:
    """Return the facts and problems of the data of a recipe, or of a store of region features.

    With `fast`, no features are read. No file content raises an error: problems are in `CheckReport.findings`.
    """
    from lxcompress.recipe import find_recipe
    from lxcompress.workflow.data_check import check_recipe, check_store

    if isinstance(recipe, str | os.PathLike) and find_recipe(Path(recipe)).is_dir():
        return check_store(Path(recipe), is_fast=fast)
    return check_recipe(_recipe(recipe), is_fast=fast)


def score(
    predictions: StrPath,
    *,
    questions: StrPath | None = None,
    annotations: StrPath | None = None,
    kind: str | None = None,
    recipe: StrPath | None = None,
    only_predicted: bool = False,
) -> ScoreReport:
    """Return the scores of a file of predictions, by the official measure of its data set (VQA's by default).

    Give the official `questions` (and VQA's `annotations`), or the `recipe` of generated questions. With
    `only_predicted`, only questions that have a prediction are scored.
    """
    from lxcompress.workflow.score import OfficialFiles, score_file

    files = OfficialFiles(_path(questions), _path(annotations), kind, _path(recipe))
    return score_file(Path(predictions), files, only_predicted=only_predicted)


def _path(path: StrPath | None) -> Path | None:
    """Return a Path; None for None."""
    return None if path is None else Path(path)


def _recipe(recipe: Recipe | StrPath) -> Recipe:
    """Return the recipe itself, or the recipe that a path or name stands for."""
    return load_recipe(recipe) if isinstance(recipe, str | os.PathLike) else recipe


def _run(run: Run | StrPath) -> Run:
    """Return the run itself, or the run in a run folder."""
    return read_run(run) if isinstance(run, str | os.PathLike) else run
