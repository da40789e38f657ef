"""Load the AnswerTask that a recipe's `data` section describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lxcompress.data.clevr import load_clevr
from lxcompress.data.fit import ModelShape, check_fit, describe_task, foresee_data
from lxcompress.data.gqa import read_gqa
from lxcompress.data.nlvr import load_nlvr
from lxcompress.data.nlvr2 import read_nlvr2
from lxcompress.data.questions import Question, QuestionSet, blind_regions, build_split, find_images, stored_regions
from lxcompress.data.regions.store import RegionStore, open_store
from lxcompress.data.scenes import load_scenes
from lxcompress.data.split import AnswerTask, Regions, Split
from lxcompress.data.tokens import Vocabulary, shipped_vocabulary
from lxcompress.data.vqa import read_vqa
from lxcompress.recipe import AnyData, QuestionsData

SCENE_LOADERS: Mapping[str, Callable[[Any, Vocabulary], AnswerTask]] = {
    "scenes": load_scenes,
    "clevr": load_clevr,
    "nlvr": load_nlvr,
}
"""data.kind -> what makes its AnswerTask, for data sets that know their scenes."""
QUESTION_READERS: Mapping[str, Callable[[Any], QuestionSet]] = {"vqa": read_vqa, "gqa": read_gqa, "nlvr2": read_nlvr2}
"""data.kind -> what reads its questions, for data sets over region features."""
FEATURE_SIZE = 2048
"""Of the Faster R-CNN features that LXMERT reads (Anderson et al. 2018)."""


def load_task(settings: AnyData, vocabulary: Vocabulary | None = None, feature_size: int = FEATURE_SIZE) -> AnswerTask:
    """Return the task that `settings` describes, tokenized with `vocabulary` (by default the shipped one).

    `feature_size` is that of a blind task, which has no features of its own. Raises DataError.
    """
    vocabulary = vocabulary or shipped_vocabulary()
    if not isinstance(settings, QuestionsData):
        return SCENE_LOADERS[settings.kind](settings, vocabulary)
    asked = QUESTION_READERS[settings.kind](settings)
    store = open_store(settings.features) if settings.features else None
    regions = stored_regions(store) if store else blind_regions(feature_size)

    def split(questions: Sequence[Question], files: Sequence[Path]) -> Split:
        return _split(questions, files, settings, asked.labels, vocabulary, regions, store)

    return AnswerTask(
        train=split(asked.train[: settings.max_train], settings.train),
        valid=split(asked.valid[: settings.max_valid], settings.valid),
        labels=asked.labels,
        vocabulary=vocabulary,
    )


def load_fitting_task(settings: AnyData, vocabulary: Vocabulary, model: ModelShape) -> AnswerTask:
    """Return the task of `settings` for a model of that shape, and check the fit before and after reading the data.

    Raises RecipeError if the model does not read such data, DataError if they cannot be read.
    """
    check_fit(model, foresee_data(settings, len(vocabulary)))
    task = load_task(settings, vocabulary, model.feature_size or FEATURE_SIZE)
    check_fit(model, describe_task(settings, task))
    return task


def data_files(settings: AnyData) -> dict[str, tuple[Path, ...]]:
    """The files and folders that `settings` names, by field."""
    files: dict[str, tuple[Path, ...]] = {}
    for name, value in settings:
        paths = value if isinstance(value, tuple) else (value,)
        if paths and all(isinstance(each, Path) for each in paths):
            files[name] = paths
    return files


def _split(
    questions: Sequence[Question],
    files: Sequence[Path],
    settings: QuestionsData,
    labels: Sequence[str],
    vocabulary: Vocabulary,
    regions: Regions,
    store: RegionStore | None,
) -> Split:
    """The Split of `questions`, which came from `files`; without a store each looks at the one blank image."""
    if store and settings.features:
        rows = find_images(questions, store, files[0], settings.features)
    else:
        rows = [[0] * len(question.images) for question in questions]
    return build_split(
        questions,
        regions=regions,
        rows=rows,
        labels=labels,
        vocabulary=vocabulary,
        limit=settings.tokens,
        where=str(files[0]),
    )
