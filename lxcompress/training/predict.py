"""Predictions: the answers of a fine-tuned model to every question of a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.catalog.extensions import resolve
from lxcompress.confidence.record import find_scale
from lxcompress.data.predictions import AnswerList, format_predictions, whole_split
from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import RecipeError
from lxcompress.models.checkpoints import load_model
from lxcompress.models.shape import describe_folder
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.recipe import QuestionsData, Recipe
from lxcompress.rundir import write_text
from lxcompress.training.confidence import share_of_labels
from lxcompress.training.device import choose_device, explain_out_of_memory, move
from lxcompress.training.evaluate import best_answers
from lxcompress.training.feed import move_to_device_if_it_fits


def predict(folder: str, recipe: Recipe, out: Path, questions: Sequence[Path] = ()) -> int:
    """Write the answers of the model in `folder` to the file `out`; return the number of answers.

    The format is that of the data set. The questions are all validation questions of `recipe`, or those in the files
    `questions` if given. If the format has answerability, the probability that a question can be answered is 1 minus
    that of the answers which say that it cannot, at the model's temperature. Raises LxError.
    """
    data = whole_split(recipe.data)
    if questions:
        if not isinstance(data, QuestionsData):
            raise RecipeError(f"--questions: data.kind={data.kind} has no question files; leave it out")
        other = {"valid": tuple(questions), "valid_annotations": None}
        other |= {"test": None, "test_annotations": None}  # the files may be those of the test split
        data = data.model_copy(update={name: value for name, value in other.items() if hasattr(data, name)})
    task = load_fitting_task(data, load_vocabulary(folder), describe_folder(folder))
    model = load_model(folder)
    device = choose_device(recipe.device, recipe.train.precision)
    move(model.module, device)
    task = move_to_device_if_it_fits(task, device, recipe.train.data_on_device)
    spec, answerable = find_data_kind(data.kind), None
    scale = find_scale(Path(folder))
    with explain_out_of_memory(f"lower train.eval_batch_size (it is {recipe.train.eval_batch_size})"):
        labels = best_answers(
            lambda inputs: model.family.answer(model.module, inputs), task.valid, recipe.train.eval_batch_size, device
        )
        if spec.unanswerable:
            rows = [row for row, label in enumerate(task.labels) if label in resolve(spec.unanswerable)]
            temperature = scale.temperature if scale else 1.0
            share = share_of_labels(model, task.valid, recipe.train, device, temperature=temperature, labels=rows)
            answerable = (1 - share).tolist()
    ids = task.valid.ids or range(len(labels))  # without ids of its own, a question's id is its index
    given: AnswerList = [(number, task.labels[label]) for number, label in zip(ids, labels.tolist(), strict=True)]
    write_text(out, format_predictions(data.kind, given, answerable))
    return len(given)
