"""Check whether a model can read a data set; every command that combines a model with data makes this check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

from lxcompress.catalog.data_kinds import find_data_kind
from lxcompress.data.regions.identity import ExtractorRecord, is_same_extractor, name_extractors
from lxcompress.data.regions.store import read_store_record
from lxcompress.data.split import AnswerTask
from lxcompress.errors import RecipeError
from lxcompress.recipe import AnyData
from lxcompress.text import shorten

COLOURS = 3


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model's inputs and answers. None means that a size is unknown, or that any size fits."""

    name: str
    """the beginning of an error message: the folder of the model, or the setting that names the model"""
    embeddings: int | None = None
    """the number of rows of its word embedding, which may be more than its vocabulary has tokens"""
    positions: int | None = None
    """the most tokens of a question that it can read"""
    feature_size: int | None = None
    picture_size: int | None = None
    """the side of a picture in pixels, for a family that reads pictures"""
    images: int | None = None
    answers: int | None = None
    labels: tuple[str, ...] | None = None
    """the texts of its answers, if its config has them"""
    extractor: ExtractorRecord | None = None
    """the extractor of the features that it was trained on"""


@dataclass(frozen=True)
class DataShape:
    """The sizes of a data set. None means that a size is not known yet."""

    kind: str
    pixels: int | None = None
    tokens: int | None = None
    """the number of tokens in the vocabulary with which its questions are tokenized"""
    longest: int | None = None
    """the number of tokens of its longest question"""
    feature_size: int | None = None
    regions: int | None = None
    """the most regions of an image"""
    images: int | None = None
    labels: tuple[str, ...] | None = None
    extractor: ExtractorRecord | None = None
    """the extractor of its features"""


def check_fit(model: ModelShape, data: DataShape) -> None:
    """Raise RecipeError, with the first sentence of `find_misfits`, if the model cannot read the data."""
    found = find_misfits(model, data)
    if found:
        raise RecipeError(f"{model.name}: {found[0]}")


def find_misfits(model: ModelShape, data: DataShape) -> list[str]:
    """Return the reasons why the model cannot read the data, as sentences; unknown sizes are not compared."""
    checks = (_check_seen, _check_words, _check_length, _check_images, _check_answers)
    return list(chain.from_iterable(check(model, data) for check in checks))


def foresee_data(settings: AnyData, tokens: int | None = None) -> DataShape:
    """Return the sizes of a data set that are known before it is read; `tokens` is the size of the vocabulary.

    Raises DataError if `data.features` is not a store of region features.
    """
    spec, pixels = find_data_kind(settings.kind), getattr(settings, "pixels", None)
    shape = DataShape(kind=settings.kind, pixels=pixels, tokens=tokens, images=spec.images)
    if pixels:
        return replace(shape, feature_size=COLOURS * pixels**2, regions=1)
    features = getattr(settings, "features", None)
    kept = getattr(settings, "regions", None)
    if features is None:  # blank images have as many features as the model reads
        return replace(shape, feature_size=spec.feature_size, regions=kept or getattr(settings, "objects", None))
    record = read_store_record(features)
    return replace(shape, feature_size=record.features, regions=kept or record.objects, extractor=record.made_by)


def describe_task(settings: AnyData, task: AnswerTask) -> DataShape:
    """Return the sizes of a data set that was read."""
    return DataShape(
        kind=settings.kind,
        pixels=getattr(settings, "pixels", None),
        tokens=len(task.vocabulary),
        longest=max(split.input_ids.shape[1] for split in task.splits),
        feature_size=task.feature_size,
        regions=max(split.regions.features.shape[1] for split in task.splits),
        images=task.valid.images,
        labels=task.labels,
        extractor=task.extractor,
    )


def _check_seen(model: ModelShape, data: DataShape) -> list[str]:
    """Return a sentence if the model reads other images: regions with another number of features, or pictures."""
    kind, reads, gives = f"data.kind={data.kind}", model.feature_size, data.feature_size
    if reads is None or gives is None:
        return []
    if model.picture_size is None and data.pixels:
        return [
            f"reads regions of {reads} features, but data.pixels={data.pixels} gives pictures; "
            "leave data.pixels out, or give a model that reads pictures (ViLT)"
        ]
    if model.picture_size is not None and (reads != gives or (data.regions or 1) != 1):
        size, pixels = model.picture_size, data.pixels
        given = f"pictures of {pixels} x {pixels}" if pixels else f"regions of {gives} features"
        return [
            f"reads pictures of {size} x {size} pixels, but {kind} gives {given}; "
            f"give data.kind=scenes with data.pixels={size}, photographs of lxcompress features --extractor pixels "
            f"--side {size}, or a model that reads such data"
        ]
    if model.extractor and data.extractor and not is_same_extractor(model.extractor, data.extractor):
        own, other = name_extractors(model.extractor, data.extractor)
        return [
            f"reads features of {own} ({reads:,} for a region), but {kind} gives features of {other} ({gives:,}); "
            f"give a store of {own} (lxcompress features), a model that was trained on {other}, or "
            "--set model.draw_feature_layer=true, which draws the layer that reads features"
        ]
    if reads != gives:
        return [
            f"reads regions of {reads} features, but {kind} gives {gives}; "
            "give features of the detector that it was pre-trained with, a model that reads these, or "
            "--set model.draw_feature_layer=true, which draws the layer that reads features"
        ]
    return []


def _check_words(model: ModelShape, data: DataShape) -> list[str]:
    """Return a sentence if the vocabulary has more tokens than the word embedding has rows, else nothing."""
    if model.embeddings is None or data.tokens is None or data.tokens <= model.embeddings:
        return []
    return [
        f"its vocabulary has {data.tokens} tokens, but its word embedding has {model.embeddings} rows; "
        "put the vocabulary of its pre-training into its folder"
    ]


def _check_length(model: ModelShape, data: DataShape) -> list[str]:
    """Return a sentence if the longest question has more tokens than the model has positions, else nothing."""
    if model.positions is None or data.longest is None or data.longest <= model.positions:
        return []
    return [
        f"reads at most {model.positions} tokens per question, but data.kind={data.kind} has a question of "
        f"{data.longest}; "
        "cut questions with data.tokens (if this kind has it), or give a model with more positions"
    ]


def _check_images(model: ModelShape, data: DataShape) -> list[str]:
    """Return a sentence if the model reads another number of images per question, else nothing."""
    if model.images is None or data.images is None or model.images == data.images:
        return []
    return [
        f"reads {model.images} {_plural(model.images, 'image')} per question, but data.kind={data.kind} has "
        f"{data.images}; give data of such questions, or a model of the family LXMERT that is fine-tuned on these"
    ]


def _check_answers(model: ModelShape, data: DataShape) -> list[str]:
    """Return a sentence if the model has other answers: another number, or other texts if its config has them."""
    if model.answers is None or data.labels is None:
        return []
    count = len(data.labels)
    remedy = "give the recipe that it was trained with, or a model that was fine-tuned on this data"
    if model.answers != count:
        return [
            f"gives {model.answers} {_plural(model.answers, 'answer')}, but data.kind={data.kind} has {count}; {remedy}"
        ]
    if model.labels is None or model.labels == data.labels:
        return []
    pairs = zip(model.labels, data.labels, strict=True)
    index, (own, other) = next((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
    return [
        f"its {count} answers are not those of data.kind={data.kind} (answer {index} is {shorten(own)}, not "
        f"{shorten(other)}); {remedy}"
    ]


def _plural(count: int, noun: str) -> str:
    """Return the noun, in the plural unless `count` is 1."""
    return noun if count == 1 else f"{noun}s"
