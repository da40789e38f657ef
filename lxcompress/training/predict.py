"""What a fine-tuned model answers to every question of a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.data.predictions import Given, format_predictions
from lxcompress.data.tasks import load_task
from lxcompress.errors import ModelError, RecipeError
from lxcompress.models.checkpoints import Model, feature_size, load_model, load_vocabulary
from lxcompress.recipe import QuestionsData, Recipe
from lxcompress.rundir import write_text
from lxcompress.training.evaluate import best_answers
from lxcompress.training.feed import settle
from lxcompress.training.place import choose_place, move, naming_the_knob


def predict(folder: str, recipe: Recipe, out: Path, questions: Sequence[Path] = ()) -> int:
    """Writes the answers of the model at `folder` to the validation questions of `recipe`, or to those of the files
    `questions`, in the format of the data set's evaluation; returns how many. Raises LxError.
    """
    data = recipe.data.model_copy(update={"max_valid": None})
    format_predictions(data.kind, [])
    if questions:
        if not isinstance(data, QuestionsData):
            raise RecipeError(f"--questions: data.kind={data.kind} has no question files; leave it out")
        other = {"valid": tuple(questions), "valid_annotations": None}
        data = data.model_copy(update={name: value for name, value in other.items() if hasattr(data, name)})
    model = load_model(folder)
    task = load_task(data, load_vocabulary(folder), feature_size(folder))
    _check_answers(folder, model, task.labels)
    place = choose_place(recipe.device, recipe.train.precision)
    move(model.module, place)
    task = settle(task, place, recipe.train.resident)
    with naming_the_knob(f"lower train.eval_batch_size (it is {recipe.train.eval_batch_size})"):
        labels = best_answers(
            lambda inputs: model.family.answer(model.module, inputs), task.valid, recipe.train.eval_batch_size, place
        )
    given: Given = [(number, task.labels[label]) for number, label in zip(task.valid.ids, labels.tolist(), strict=True)]
    write_text(out, format_predictions(data.kind, given))
    return len(given)


def _check_answers(folder: str, model: Model, labels: Sequence[str]) -> None:
    """Raises ModelError if the model's answers are not those of the data."""
    names = [model.config.id2label[number] for number in sorted(model.config.id2label)]
    if len(names) != len(labels) or (not names[0].startswith("LABEL_") and names != list(labels)):
        raise ModelError(
            f"{folder}: gives {len(names)} answers that are not the {len(labels)} of this data; "
            "give the recipe that it was trained with"
        )
