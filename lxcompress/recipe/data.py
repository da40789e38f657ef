"""The data section of a recipe: one class of settings for each kind of data set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, create_model, model_validator

from lxcompress.catalog.extensions import added_names, load_added, resolve
from lxcompress.recipe.settings import Count, Files, Fraction, RecipeSection, Seed, check_distinct
from lxcompress.unset import leave_out_unset

MOST_SCENES = 10_000_000

TEST_KEYS = ("test", "max_test", "test_annotations")
"""Keys of the test split, which are not written without a value, so that recipes of before stay as they are."""
ADDED_KEYS = (*TEST_KEYS, "language", "objects", "regions")
"""All keys that earlier versions did not have; they are not written without a value either."""

Language = Annotated[
    Literal["fa"] | None,
    BeforeValidator(lambda value: None if value == "en" else value, json_schema_input_type=Literal["en", "fa"] | None),
]
"""The language of the questions: `fa` is Persian, and `en` is the same as no value."""


class ScenesData(RecipeSection):
    """The settings of the built-in data set: scenes and questions, which are generated from `seed` at each start.

    `train`, `valid` and `test` are the numbers of questions; without `test` there is no test split. With `pixels` each
    scene is drawn as a square picture of this width, for models that read pictures (ViLT). A scene has at most
    `objects` objects, 7 by default; the model sees the first `regions` of them. With `language` fa the same questions
    are asked in Persian.
    """

    _write = leave_out_unset(*ADDED_KEYS)

    kind: Literal["scenes"]
    train: Annotated[int, Field(gt=0, le=MOST_SCENES)] = 6000
    valid: Annotated[int, Field(gt=0, le=MOST_SCENES)] = 1500
    test: Annotated[int, Field(gt=0, le=MOST_SCENES)] | None = None
    seed: Seed = 0
    pixels: Annotated[int, Field(ge=8, le=512)] | None = None
    objects: Annotated[int, Field(ge=4, le=36)] | None = None
    regions: Count | None = None
    language: Language = None

    @model_validator(mode="after")
    def _check_regions_have_an_effect(self) -> ScenesData:
        if self.regions is not None and self.pixels is not None:
            raise ValueError("regions has no effect with pixels: a picture is one region; leave one of them out")
        return self


class ClevrData(RecipeSection):
    """The settings of CLEVR v1.0 as its authors publish it: scenes and questions as JSON, plain or in gzip.

    `scenes` and `questions` are the training files, `valid_scenes` and `valid_questions` those of validation. `holdout`
    is the number of training scenes that validate if there are no validation files. `test` is the number of
    questions of the test split. They are about the last validation scenes, which then do not validate. At most
    `max_train` and `max_valid` questions are used. The model sees the first `regions` objects of a scene.
    """

    _write = leave_out_unset(*ADDED_KEYS)

    kind: Literal["clevr"]
    scenes: Path
    questions: Path
    valid_scenes: Path | None = None
    valid_questions: Path | None = None
    holdout: Count | None = None
    test: Count | None = None
    max_train: Count | None = None
    max_valid: Count | None = None
    regions: Count | None = None

    @model_validator(mode="after")
    def _check_one_source_of_validation(self) -> ClevrData:
        if (self.valid_scenes is None) != (self.valid_questions is None):
            raise ValueError(
                "valid_scenes and valid_questions go together: give both, or leave both out; then some of the training "
                "scenes are used for validation"
            )
        if self.valid_scenes is not None and self.holdout is not None:
            raise ValueError("holdout has no effect when there are validation files: give one or the other")
        return self


class QuestionsData(RecipeSection):
    """The settings that all data sets of questions about region features have in common.

    `train`, `valid` and `test` are files of questions; without `test` there is no test split. At most `max_train`,
    `max_valid` and `max_test` questions of them are used. `features` is a store of
    region features, of which `regions` for each image are used, and longer questions are cut to `tokens` tokens. With
    `language` fa the words of questions are normalised by the rules of Persian.
    """

    _write = leave_out_unset(*ADDED_KEYS)

    train: Files
    valid: Files
    test: Files | None = None
    features: Path | None = None
    tokens: Annotated[int, Field(ge=4, le=512)] = 20
    max_train: Count | None = None
    max_valid: Count | None = None
    max_test: Count | None = None
    regions: Count | None = None
    language: Language = None

    @model_validator(mode="after")
    def _check_regions_have_an_effect(self) -> QuestionsData:
        if self.regions is not None and self.features is None:
            raise ValueError("regions and features, the store, go together: give both, or leave regions out")
        return self

    @model_validator(mode="after")
    def _check_test_files(self) -> QuestionsData:
        _check_test(self.test, self.max_test, {"train": self.train, "valid": self.valid})
        return self


class VqaData(QuestionsData):
    """The settings of VQA v1.0 or v2.0: the official questions and annotations, or LXMERT's JSON, which holds both.

    Without `features` (a store that `lxcompress data prepare` writes) the model reads the question and no image.
    `train_annotations`, `valid_annotations` and `test_annotations` are the official answers. `answers` is the file of
    the answer vocabulary. Without the file, the vocabulary has the answers that are the most frequent answer of at
    least `least_answers` training questions.
    """

    kind: Literal["vqa"]
    train_annotations: Files | None = None
    valid_annotations: Files | None = None
    test_annotations: Files | None = None
    answers: Path | None = None
    least_answers: Count | None = None

    @model_validator(mode="after")
    def _check_one_answer_vocabulary(self) -> VqaData:
        _check_answers(self.answers, self.least_answers)
        return self

    @model_validator(mode="after")
    def _check_annotations_have_questions(self) -> VqaData:
        if self.test_annotations is not None and self.test is None:
            raise ValueError("test_annotations and test, the questions, go together: give both, or leave both out")
        return self


class VizwizData(QuestionsData):
    """The settings of VizWiz-VQA: the official annotations JSON, a list of questions about named photographs.

    `answers` is the file of the answer vocabulary. Without the file, the vocabulary has the answers that are the most
    frequent answer of at least `least_answers` training questions.
    """

    kind: Literal["vizwiz"]
    answers: Path | None = None
    least_answers: Count | None = None

    @model_validator(mode="after")
    def _check_one_answer_vocabulary(self) -> VizwizData:
        _check_answers(self.answers, self.least_answers)
        return self


class GqaData(QuestionsData):
    """The settings of GQA: the official questions JSON, or LXMERT's.

    `answers` is the file of the answer vocabulary. Without the file, the vocabulary is built from the training set.
    """

    kind: Literal["gqa"]
    answers: Path | None = None


class Nlvr2Data(QuestionsData):
    """The settings of NLVR2: sentences about pairs of photographs, as the official JSON lines or LXMERT's JSON."""

    kind: Literal["nlvr2"]


class ExampleColumns(RecipeSection):
    """The names of a table's columns.

    `label` has one label, or {label: credit} with credits of 0 to 1. `second_text` is read after `text`. `image` is the
    path of an image in the folder `data.images`, or its id in the store `data.features`. Without `id` a row is known by
    its number. The values of `split` are train, valid and test.
    """

    label: str = "label"
    text: str | None = None
    second_text: str | None = None
    image: str | None = None
    id: str | None = None
    split: str | None = None

    @model_validator(mode="after")
    def _check_something_is_read(self) -> ExampleColumns:
        if self.text is None and self.image is None:
            raise ValueError("there is nothing to read: give text, image or both")
        if self.text is None and self.second_text is not None:
            raise ValueError("second_text and text go together: give both, or name the only text as text")
        check_distinct(tuple(name for _, name in self if name is not None))
        return self


class ExamplesData(QuestionsData):
    """The settings of tables of your own: JSON lines, CSV or Parquet, a row for each example.

    `columns` names the columns. An image is a file in the folder `images`, resized to `pixels` x `pixels`, or an image
    of the store `features`. `answers` is a file of the labels. Without the file, a label is one that at least
    `least_answers` training rows have, 1 by default. With `columns.split` the splits may name the same file.
    """

    _write = leave_out_unset(*ADDED_KEYS)

    kind: Literal["examples"]
    columns: ExampleColumns
    images: Path | None = None
    pixels: Annotated[int, Field(ge=8, le=512)] | None = None
    answers: Path | None = None
    least_answers: Count | None = None

    @property
    def has_texts(self) -> bool:
        """Whether the examples have texts, not only images."""
        return self.columns.text is not None

    @model_validator(mode="after")
    def _check_test_files(self) -> ExamplesData:
        others = {} if self.columns.split else {"train": self.train, "valid": self.valid}
        _check_test(self.test, self.max_test, others)
        return self

    @model_validator(mode="after")
    def _check_one_source_of_images(self) -> ExamplesData:
        if (self.images is None) != (self.pixels is None):
            raise ValueError("images, a folder, and pixels, the side of an image, go together: give both or neither")
        if self.images is not None and self.features is not None:
            raise ValueError("images has no effect when there is a store, features: give one or the other")
        if self.columns.image is None and (self.images or self.features) is not None:
            raise ValueError("images and features have no effect without columns.image, which names the images")
        return self

    @model_validator(mode="after")
    def _check_one_answer_vocabulary(self) -> ExamplesData:
        _check_answers(self.answers, self.least_answers)
        return self


class NlvrData(RecipeSection):
    """The settings of NLVR v1: sentences about structured scenes, as JSON lines.

    Without `valid`, the fraction `holdout` of the groups of sentences in `train` is used for validation. `test` has the
    files of a test split. At most `max_train`, `max_valid` and `max_test` sentences are used. The labels in
    `weak` files may be wrong, so these files are used for training and never for a score.
    """

    _write = leave_out_unset(*TEST_KEYS)

    kind: Literal["nlvr"]
    train: Files
    valid: Files | None = None
    test: Files | None = None
    weak: Files | None = None
    holdout: Fraction | None = None
    max_train: Count | None = None
    max_valid: Count | None = None
    max_test: Count | None = None

    @model_validator(mode="after")
    def _check_one_source_of_validation(self) -> NlvrData:
        if self.valid is not None and self.holdout is not None:
            raise ValueError("holdout has no effect when there are validation files: give one or the other")
        return self

    @model_validator(mode="after")
    def _check_test_files(self) -> NlvrData:
        _check_test(self.test, self.max_test, {"train": self.train, "valid": self.valid, "weak": self.weak})
        return self


def _check_answers(answers: Path | None, least_answers: int | None) -> None:
    """Raise ValueError if both a file of answers and the least number of questions of an answer are given."""
    if answers is not None and least_answers is not None:
        raise ValueError("least_answers has no effect when there is a file of answers: give one or the other")


def _check_test(test: Files | None, most: int | None, others: Mapping[str, Files | None]) -> None:
    """Raise ValueError if a test file is also a file of another split, or if `most` limits a split that is not there.

    `others` maps the names of the other splits to their files.
    """
    if test is None and most is not None:
        raise ValueError("max_test and test go together: give both, or leave max_test out")
    for name, files in others.items():
        shared = next((path for path in test or () if path in (files or ())), None)
        if shared is not None:
            raise ValueError(
                f"test and {name} both name {shared}: what is picked would be tested on questions that it was made or "
                "picked with; give other files as test, or leave it out"
            )


AnyData = ScenesData | ClevrData | VqaData | VizwizData | GqaData | Nlvr2Data | NlvrData | ExamplesData
Data = Annotated[AnyData, Field(discriminator="kind")]
DATA_KINDS: dict[str, type[RecipeSection]] = {
    get_args(section.model_fields["kind"].annotation)[0]: section for section in get_args(AnyData)
}


def with_added_data(section: type[RecipeSection], tree: Mapping[str, Any]) -> type[RecipeSection]:
    """Return `section`, or a subclass that takes the data kind in `tree` if another package adds that kind.

    `tree` has the values of a recipe. Raises ExtensionError if the package cannot be loaded.
    """
    data = tree.get("data")
    name = data.get("kind") if isinstance(data, Mapping) else None
    if "data" not in section.model_fields or name in DATA_KINDS or name not in added_names("data"):
        return section
    return _replace_data(section, resolve(load_added("data", name).settings))


@cache
def _replace_data(section: type[RecipeSection], settings: type[RecipeSection]) -> type[RecipeSection]:
    """Return a subclass of `section` whose field `data` has the class `settings`."""
    return create_model(section.__name__, __base__=section, __doc__=section.__doc__, data=(settings, ...))
