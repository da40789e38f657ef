"""Score a model, a ticket or an artifact on the validation or the test questions of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import RecipeError
from lxcompress.exporters.score import score_session
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.measure.plan import read_artifacts
from lxcompress.models.checkpoints import load_model
from lxcompress.models.shape import describe_folder
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.progress import Progress, no_progress
from lxcompress.recipe import Recipe
from lxcompress.records import Score
from lxcompress.runtimes import open_session, runtime_of
from lxcompress.tickets import is_ticket, load_ticket
from lxcompress.training import fit as fitting
from lxcompress.training.device import choose_device, move
from lxcompress.training.feed import move_to_device_if_it_fits

SplitName = Literal["valid", "test"]
SPLIT_WORDS: dict[SplitName, str] = {"valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Evaluation:
    """The score of a model, a ticket or an artifact."""

    source: str
    kind: str
    """model, ticket or artifact"""
    runtime: str
    """torch, or the runtime that serves an artifact"""
    recipe: str
    score: Score
    split: SplitName = "valid"


def evaluate(
    source: str, recipe: Recipe, progress: Progress = no_progress, *, split: SplitName = "valid"
) -> Evaluation:
    """Score the model, ticket or artifact at `source` on the split `split` of the data of `recipe`.

    An artifact runs in the runtime that will serve it. Raises LxError.
    """
    progress("reading the data")
    if (Path(source) / ARTIFACT_FILE).is_file():
        return _evaluate_artifact(source, recipe, split, progress)
    device = choose_device(recipe.device, recipe.train.precision)
    task = _load_task(source, recipe, split)
    is_drawn = is_ticket(Path(source))
    model = load_ticket(Path(source)).model if is_drawn else load_model(source)
    move(model.module, device)
    task = move_to_device_if_it_fits(task, device, recipe.train.data_on_device)
    progress(f"answering the {SPLIT_WORDS[split]} questions")
    score = fitting.score(model.module.eval(), task, answer=model.family.answer, settings=recipe.train, device=device)
    return Evaluation(source, "ticket" if is_drawn else "model", "torch", recipe.name, score, split)


def _evaluate_artifact(source: str, recipe: Recipe, split: SplitName, progress: Progress) -> Evaluation:
    """Score an artifact, after its files were compared with their checksums."""
    (artifact,) = read_artifacts([Path(source)])
    runtime = runtime_of(artifact.record.format)
    task = _load_task(source, recipe, split, images=artifact.record.images, answers=artifact.record.answers)
    session = open_session(Path(source), threads=torch.get_num_threads(), runtime=runtime)
    return Evaluation(source, "artifact", runtime, recipe.name, score_session(session, task.valid, progress), split)


def _load_task(source: str, recipe: Recipe, split: SplitName, **shape: Any) -> AnswerTask:
    """Return the recipe's data, after checking that the model at `source` can answer them. Raises LxError.

    With the split `test`, the test questions replace the validation questions. `shape` has the fields of an artifact's
    record that are compared with the data.
    """
    task = load_fitting_task(recipe.data, load_vocabulary(source), replace(describe_folder(source), **shape))
    if split == "test":
        if task.test is None:
            raise RecipeError(
                f"{recipe.name}: has no test split; give it one as data.test (docs/data.md), or evaluate on the "
                "validation questions with --split valid"
            )
        task = replace(task, valid=task.test)
    if not task.valid.credits.any():
        raise RecipeError(
            f"{recipe.name}: its validation questions have no answers, so nothing can be scored; give them "
            "(data.valid_annotations), or write predictions with: lxcompress predict"
        )
    return task
