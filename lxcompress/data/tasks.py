"""Load the AnswerTask that the `data` section of a recipe describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.catalog.extensions import resolve
from lxcompress.data.fit import ModelShape, check_fit, describe_task, foresee_data
from lxcompress.data.images import BlankImages, StoreImages
from lxcompress.data.problems import Problems
from lxcompress.data.questions import ImageSource, QuestionSet, build_split
from lxcompress.data.regions.fewer import keep_regions
from lxcompress.data.regions.store import open_store, read_store_record
from lxcompress.data.split import AnswerTask
from lxcompress.data.tokens import Vocabulary, shipped_vocabulary
from lxcompress.errors import DataError
from lxcompress.recipe import AnyData
from lxcompress.records import FeatureOrigin

FEATURE_SIZE = 2048
"""The number of Faster R-CNN features of a region that LXMERT reads (Anderson et al. 2018)."""


def load_task(settings: AnyData, vocabulary: Vocabulary | None = None, feature_size: int = FEATURE_SIZE) -> AnswerTask:
    """Return the task that `settings` describes, tokenized with `vocabulary` (by default the shipped one).

    If the data have no images, blank images with `feature_size` features are used. The rules of the data's language are
    applied to the words, whatever the vocabulary. With `data.regions` an image has no more regions. Raises DataError.
    """
    vocabulary = apply_language(vocabulary or shipped_vocabulary(getattr(settings, "language", None)), settings)
    question_set = read_question_set(settings, Problems.strict())
    questions, shared = question_set.first(settings), _open_images(settings, feature_size)
    splits = {
        name: build_split(questions.get(name, ()), split, split.images or shared, question_set, vocabulary)
        for name, split in question_set.splits.items()
    }
    extractor = foresee_data(settings).extractor
    task = AnswerTask(labels=question_set.labels or (), vocabulary=vocabulary, extractor=extractor, **splits)
    count = getattr(settings, "regions", None)
    return keep_regions(task, count) if isinstance(count, int) else task  # an added kind may have another `regions`


def apply_language(vocabulary: Vocabulary, settings: AnyData) -> Vocabulary:
    """Return the vocabulary with the rules of the language of the data, if the data name one."""
    language = getattr(settings, "language", None)
    return vocabulary if language is None else replace(vocabulary, language=language)


def read_question_set(settings: AnyData, problems: Problems) -> QuestionSet:
    """Return the questions of all splits; the reader of the kind of data (`settings.kind`) reads them."""
    found: QuestionSet = resolve(find_data_kind(settings.kind).read)(settings, problems)
    if getattr(settings, "test", None) is not None and found.test is None:
        problems.add(DataError(f"data.test: data.kind={settings.kind} has no test split; leave data.test out"))
    return found


def load_fitting_task(settings: AnyData, vocabulary: Vocabulary, model: ModelShape) -> AnswerTask:
    """Return the task of `settings`; check before and after reading the data that a model of the shape `model` fits.

    Raises RecipeError if the model cannot read such data, and DataError if the data cannot be read.
    """
    check_fit(model, foresee_data(settings, len(vocabulary)))
    task = load_task(settings, vocabulary, model.feature_size or FEATURE_SIZE)
    check_fit(model, describe_task(settings, task))
    return task


def data_files(settings: AnyData) -> dict[str, tuple[Path, ...]]:
    """Return the files and folders that `settings` name: name of the setting -> paths."""
    files: dict[str, tuple[Path, ...]] = {}
    for name, value in settings:
        paths = value if isinstance(value, tuple) else (value,)
        if paths and all(isinstance(path, Path) for path in paths):
            files[name] = paths
    return files


def find_origin(settings: AnyData) -> FeatureOrigin | None:
    """Return how the features of the data were made from photographs; None if they were not. Raises DataError."""
    features = getattr(settings, "features", None)
    origin = None if features is None else read_store_record(features).origin
    kept = getattr(settings, "regions", None)
    return origin and origin.model_copy(update={"kept_regions": kept})


def _open_images(settings: AnyData, feature_size: int) -> ImageSource:
    """Return the images of the store that `settings` name; blank images if they name none."""
    features = getattr(settings, "features", None)
    return BlankImages(feature_size) if features is None else StoreImages(open_store(features))
