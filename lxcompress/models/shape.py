"""Describe what a model reads and answers, from its config alone; data/fit.py compares it with the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedConfig

from lxcompress.data.fit import ModelShape
from lxcompress.data.regions.identity import extractor_of_reading
from lxcompress.models.checkpoints import read_config
from lxcompress.models.family import Family
from lxcompress.models.origin import get_origin

UNNAMED = "LABEL_"
"""The prefix of the labels that transformers makes up for answers without text."""


def describe_model(name: str, config: PreTrainedConfig, family: Family) -> ModelShape:
    """Return what a fine-tuned model reads and answers, with the answers of its own head."""
    answers, origin = family.count_answers(config), get_origin(config)
    return ModelShape(
        name=name,
        embeddings=family.count_words(config) if family.reads_words else None,
        positions=family.count_positions(config) if family.reads_words else None,
        feature_size=family.feature_size(config) if family.reads_images else None,
        picture_size=family.picture_size(config),
        images=family.count_images(config),
        answers=answers,
        labels=_labels(config, answers),
        extractor=extractor_of_reading(origin.made_with, origin.version) if origin else None,
    )


def describe_start(
    name: str, start: str, vocabulary: Path | None = None, *, draws_feature_layer: bool = False
) -> ModelShape:
    """Return what a start model reads. It gets a new answer head, and with `vocabulary` also new embeddings.

    A value that the study will choose (answers, images, size of the vocabulary, features) is None. Raises ModelError.
    """
    config, family = read_config(start)
    shape = replace(describe_model(name, config, family), answers=None, labels=None)
    shape = replace(shape, images=None) if family.images_field is not None else shape
    if draws_feature_layer and shape.picture_size is None:
        shape = replace(shape, feature_size=None, extractor=None)
    return replace(shape, embeddings=None) if vocabulary else shape


def describe_folder(folder: str) -> ModelShape:
    """Return what a fine-tuned model reads and answers. Raises ModelError.

    `folder` is a transformers folder, a hub name or a .pth file.
    """
    return describe_model(folder, *read_config(folder))


def _labels(config: PreTrainedConfig, answers: int) -> tuple[str, ...] | None:
    """Return the texts of the answers; None unless the config has one for each row of the answer head."""
    named = tuple(str(text) for _, text in sorted((config.id2label or {}).items()))
    return named if len(named) == answers and not named[0].startswith(UNNAMED) else None
