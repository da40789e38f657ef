"""Describe what a model reads and answers, from its config only, for the check in data/fit.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedConfig

from lxcompress.data.fit import ModelShape
from lxcompress.models.checkpoints import read_config
from lxcompress.models.family import Family

UNNAMED = "LABEL_"
"""The prefix of the names that transformers gives to answers without names."""


def describe_model(name: str, config: PreTrainedConfig, family: Family) -> ModelShape:
    """Return the shape of a fine-tuned model, with the answers of its own head."""
    answers = family.count_answers(config)
    return ModelShape(
        name=name,
        embeddings=config.vocab_size,
        positions=config.max_position_embeddings,
        feature_size=family.feature_size(config),
        picture_size=family.picture_size(config),
        images=family.count_images(config),
        answers=answers,
        labels=_labels(config, answers),
    )


def describe_start(name: str, start: str, vocabulary: Path | None = None) -> ModelShape:
    """Return the shape of a model that gets a new answer head; with `vocabulary` it also gets new embeddings.

    Raises ModelError.
    """
    config, family = read_config(start)
    shape = replace(describe_model(name, config, family), answers=None, labels=None)
    shape = replace(shape, images=None) if family.images_field is not None else shape
    return replace(shape, embeddings=None) if vocabulary else shape


def describe_folder(folder: str) -> ModelShape:
    """Return the shape of the fine-tuned model in a folder, of a hub name or in a .pth file. Raises ModelError."""
    return describe_model(folder, *read_config(folder))


def _labels(config: PreTrainedConfig, answers: int) -> tuple[str, ...] | None:
    """Return the texts of the answers; None if the config does not have one for each row of the head."""
    named = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    return named if len(named) == answers and not named[0].startswith(UNNAMED) else None
