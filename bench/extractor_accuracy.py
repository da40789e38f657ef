"""Measure what the files of an extractor change for a trained model: its accuracy, and its answers.

    python bench/extractor_accuracy.py RUN --model TICKET --photos 'daquar/images/*' --out STORES FOLDER...

The features of all photographs of the run are extracted again with each exported extractor FOLDER, and the model
answers the validation questions with them. It is compared with itself on the run's own store, whose grid must be of the
same size. STORES gets a store for each extractor.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import lxcompress as lx
from lxcompress.data.regions.convert import StoreOptions, make_store
from lxcompress.extractors.find import NUMBERS, find_photos
from lxcompress.extractors.source import PhotoSource
from lxcompress.recipe import Recipe, load_run_recipe
from lxcompress.recipe.data import VqaData
from lxcompress.runtimes.extractor import open_file_extractor
from lxcompress.training.predict import predict


def main() -> None:
    """Print a line for each extractor of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("extractors", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    recipe = load_run_recipe(given.run / "recipe.yaml")
    images = _find_images(recipe)
    given.out.mkdir(parents=True, exist_ok=True)
    whole = _answer(given.model, recipe, given.out / "whole.json")
    print(f"the run's own store: accuracy {lx.evaluate(given.model, recipe).score.accuracy:.2%}")
    for folder in given.extractors:
        store = _extract(folder, given.photos, images, given.out / folder.name)
        own = recipe.model_copy(update={"data": recipe.data.model_copy(update={"features": store})})
        accuracy = lx.evaluate(given.model, own).score.accuracy
        answers = _answer(given.model, own, given.out / f"{folder.name}.json")
        same = sum(answers[question] == whole[question] for question in whole) / len(whole)
        print(
            f"{folder.name}: accuracy {accuracy:.2%} of {len(answers)} questions, {same:.1%} of the answers unchanged"
        )


def _find_images(recipe: Recipe) -> set[str]:
    """Return the ids of the photographs of all questions."""
    data = recipe.data
    assert isinstance(data, VqaData), "photographs are asked about in VQA's JSON"
    documents = [json.loads(Path(path).read_text()) for path in (*data.train, *data.valid)]
    return {str(question["image_id"]) for document in documents for question in document["questions"]}


def _extract(folder: Path, photos: Path, images: set[str], out: Path) -> Path:
    """Write the store of the features of `images` with the exported extractor in `folder`; return its path."""
    found = find_photos([photos], NUMBERS)
    chosen = [(path, image) for path, image in zip(found.paths, found.ids, strict=True) if image in images]
    paths, ids = zip(*chosen, strict=True)
    extractor = open_file_extractor(folder, threads=1)
    options = StoreOptions(extractor.objects, False, f"--extractor {extractor.record.name}", extractor.record)
    make_store([PhotoSource(paths, ids, extractor, 1)], [paths], out, options)
    return out


def _answer(model: Path, recipe: Recipe, out: Path) -> dict[str, str]:
    """Return the model's answer to each validation question."""
    predict(str(model), recipe, out)
    return {str(record["question_id"]): record["answer"] for record in json.loads(out.read_text())}


if __name__ == "__main__":
    main()
