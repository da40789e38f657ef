"""The kinds of data sets, and the functions that read, check and score each kind. A recipe names one as `data.kind`."""

from __future__ import annotations

from dataclasses import dataclass

from lxcompress.catalog.extensions import added_names, load_added
from lxcompress.errors import RecipeError

SCENE_FEATURES = 18
"""The number of features of an object in generated or described scenes, as data/objects.py computes them."""


@dataclass(frozen=True)
class DataKindSpec:
    """One kind of data set. A function or class is named as "module:attribute", and imported when it is needed."""

    name: str
    settings: str
    """the class of the recipe's data section, a RecipeSection whose `kind` is this name"""
    read: str
    """(settings, Problems) -> QuestionSet"""
    check: str | None = None
    """(CheckContext) -> None: adds the facts and warnings of this kind to the report of `lxcompress data check`"""
    score: str | None = None
    """(ScoreFiles) -> ScoreReport, with the official measure; None if the data set has no official files of answers"""
    write_predictions: str = "lxcompress.data.predictions:vqa_predictions"
    """(AnswerList) -> the text of a predictions file"""
    unanswerable: str | None = None
    """the answers that say that a question cannot be answered, a tuple of texts; None if the data set has none. With
    them, the function of `write_predictions` gets (AnswerList, the probability that each question is answerable)"""
    has_annotations: bool = False
    """whether the official answers are in a second file, which the score needs"""
    images: int = 1
    """how many images a question is about"""
    test_settings: frozenset[str] = frozenset()
    """the settings that decide the test split and nothing else; they may be added to a study that has finished runs"""
    feature_size: int | None = None
    """the number of features of a region; None if it depends on the store of region features or on the data"""


DATA_KINDS: dict[str, DataKindSpec] = {
    spec.name: spec
    for spec in (
        DataKindSpec(
            name="scenes",
            settings="lxcompress.recipe.data:ScenesData",
            read="lxcompress.data.scenes:read_scenes",
            check="lxcompress.data.scenes:check_scenes",
            test_settings=frozenset({"test"}),
            feature_size=SCENE_FEATURES,
        ),
        DataKindSpec(
            name="clevr",
            settings="lxcompress.recipe.data:ClevrData",
            read="lxcompress.data.clevr:read_clevr",
            check="lxcompress.data.clevr:check_clevr",
            feature_size=SCENE_FEATURES,
        ),
        DataKindSpec(
            name="vqa",
            settings="lxcompress.recipe.data:VqaData",
            read="lxcompress.data.vqa:read_vqa",
            score="lxcompress.data.vqa_score:score_vqa_files",
            has_annotations=True,
            test_settings=frozenset({"test", "test_annotations", "max_test"}),
        ),
        DataKindSpec(
            name="vizwiz",
            settings="lxcompress.recipe.data:VizwizData",
            read="lxcompress.data.vizwiz:read_vizwiz",
            check="lxcompress.data.vizwiz:check_vizwiz",
            score="lxcompress.data.vizwiz_score:score_vizwiz_files",
            write_predictions="lxcompress.data.predictions:vizwiz_predictions",
            unanswerable="lxcompress.data.vizwiz:UNANSWERABLE",
            test_settings=frozenset({"test", "max_test"}),
        ),
        DataKindSpec(
            name="gqa",
            settings="lxcompress.recipe.data:GqaData",
            read="lxcompress.data.gqa:read_gqa",
            score="lxcompress.data.gqa_score:score_gqa_files",
            write_predictions="lxcompress.data.predictions:gqa_predictions",
            test_settings=frozenset({"test", "max_test"}),
        ),
        DataKindSpec(
            name="nlvr2",
            settings="lxcompress.recipe.data:Nlvr2Data",
            read="lxcompress.data.nlvr2:read_nlvr2",
            score="lxcompress.data.nlvr2_score:score_nlvr2_files",
            write_predictions="lxcompress.data.predictions:sentence_predictions",
            images=2,
            test_settings=frozenset({"test", "max_test"}),
        ),
        DataKindSpec(
            name="nlvr",
            settings="lxcompress.recipe.data:NlvrData",
            read="lxcompress.data.nlvr:read_nlvr",
            check="lxcompress.data.nlvr:check_nlvr",
            score="lxcompress.data.nlvr2_score:score_nlvr_files",
            write_predictions="lxcompress.data.predictions:sentence_predictions",
            feature_size=SCENE_FEATURES,
        ),
        DataKindSpec(
            name="examples",
            settings="lxcompress.recipe.data:ExamplesData",
            read="lxcompress.data.examples:read_examples",
            test_settings=frozenset({"test", "max_test"}),
        ),
    )
}
"""The built-in kinds; other packages add theirs as entry points of the group lxcompress.data."""


def data_kind_names() -> tuple[str, ...]:
    """Return the names of the built-in kinds, then the names of the kinds that other packages add."""
    return (*DATA_KINDS, *(name for name in added_names("data") if name not in DATA_KINDS))


def find_data_kind(name: str) -> DataKindSpec:
    """Return the spec of the data kind `name`, built-in or added by a package. Raises RecipeError if there is none."""
    if name in DATA_KINDS:
        return DATA_KINDS[name]
    if name not in added_names("data"):
        raise RecipeError(f"data.kind={name}: is unknown, expected one of {', '.join(data_kind_names())}")
    spec: DataKindSpec = load_added("data", name)
    return spec
