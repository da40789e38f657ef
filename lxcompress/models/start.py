"""The start of a study: a pre-trained encoder with an answer head, and a vocabulary, for the data of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lxcompress.checksums import check_folder
from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.tokens import VOCABULARY_FILE, read_translations, read_vocabulary
from lxcompress.errors import ModelError
from lxcompress.filenames import SURGERY_FILE
from lxcompress.models.answers import find_rows, read_answers
from lxcompress.models.checkpoints import FullCheckpoint, Model, name_answers, read_full_checkpoint
from lxcompress.models.source import MINI
from lxcompress.models.vocabulary import find_vocabulary_folder


@dataclass(frozen=True)
class NewLayers:
    """The settings for the layers of a start model that are new: the answer head, and the layer that reads regions."""

    pretrained_answers: Path | None = None
    """the file that lists the answers of the start's own head, from which rows are copied; None draws a new head"""
    last_bias: float | None = None
    """the bias of an answer whose row is not copied; None is the default of heads.draw_head or heads.copy_head"""
    features: int | None = None
    """the number of features of a region, for which the layer that reads regions is drawn; None keeps the layer"""
    draws_words: bool = False
    """whether the embeddings of all words are drawn; if not, only those of words that the start lacks"""


def resolve_start(start: str) -> str:
    """Return the folder or hub name for a recipe's `model.start`: `mini` is a folder of this package."""
    return str(MINI) if start == "mini" else start


def load_start(
    start: str,
    labels: Sequence[str],
    seed: int,
    *,
    layers: NewLayers = NewLayers(),
    vocabulary: Path | None = None,
    images: int = 1,
) -> tuple[Model, dict[str, Tensor]]:
    """Return the start of a study's seed: a pre-trained encoder with an answer head for `labels`, and its weights.

    `layers` has the settings of new layers. `vocabulary` replaces the vocabulary of the start; tokens that are in both
    keep their embeddings. The answer head reads `images` images for each question. Raises LxError.
    """
    if (Path(start) / SURGERY_FILE).is_file():
        raise ModelError(
            f"{start}: is a smaller model made by pruning, and a study needs a whole one; give the model that it was "
            "made from"
        )
    check_folder(Path(start))
    found = read_full_checkpoint(start)
    config, family, weights = found.config, found.family, dict(found.weights)
    if not family.anatomy.head:
        raise ModelError(
            f"{start}: is a {family.title}, an encoder without a classifier, for which a study draws no head yet; save "
            "it as a classifier of transformers, such as BertForSequenceClassification"
        )
    own_head = {name: weights.pop(name) for name in list(weights) if name.startswith(family.anatomy.head)}
    family.set_answers(config, len(labels))
    name_answers(config, labels)
    family.set_images(config, images)
    generator = torch.Generator().manual_seed(seed)
    if layers.pretrained_answers is None:
        weights |= family.fresh_head(config, generator, last_bias=layers.last_bias)
    else:
        rows = _find_head_rows(start, own_head, labels, found, layers.pretrained_answers)
        weights |= family.copied_head(own_head, rows, last_bias=layers.last_bias)
    if vocabulary is not None or layers.draws_words:
        table = weights[family.anatomy.words]
        kept = _kept_rows(start, len(table), vocabulary, draws_all=layers.draws_words)
        # Trained rows are far longer than rows of the initializer's range, beside which drawn words would be alike.
        deviation = float(table.float().std()) if layers.draws_words else config.initializer_range
        weights[family.anatomy.words] = _embed(table, kept, generator, deviation)
        config.vocab_size = len(kept)
    if layers.features is not None:
        weights |= family.draw_feature_layer(config, layers.features, generator)
    model = Model(family.build(config), config, family)
    weights = {name: tensor for name, tensor in weights.items() if not family.is_dead(name, config)}
    model.load(weights)
    return model, {name: tensor.clone() for name, tensor in weights.items()}


def _find_head_rows(
    start: str, head: Mapping[str, Tensor], labels: Sequence[str], found: FullCheckpoint, pretrained_answers: Path
) -> tuple[int | None, ...]:
    """Return for each label the row of the start's answer head to copy; None for a label that the head lacks.

    Raises ModelError if the start has no such head, or if it has no row for any label.
    """
    answers, family = read_answers(pretrained_answers), found.family
    where = f"model.pretrained_answers={pretrained_answers}"
    if not head:
        raise ModelError(
            f"{where}: {start} has no answer head to copy from; start from one that has "
            "(model_LXRT.pth, unc-nlp/lxmert-base-uncased), or leave model.pretrained_answers out"
        )
    given = len(head[f"{family.anatomy.output_layer}weight"])
    if given != len(answers):
        raise ModelError(
            f"{where}: lists {len(answers)} answers, but the answer head of {start} gives {given}; "
            "give the list that the head was trained with, or leave model.pretrained_answers out"
        )
    reads = head[f"{family.anatomy.first_layer}weight"].shape[1] // found.config.hidden_size
    images = family.count_images(found.config)
    if reads != images:
        raise ModelError(
            f"{where}: the answer head of {start} reads {reads} images per question, but the data have {images}; "
            "leave model.pretrained_answers out, so that a new head is drawn"
        )
    rows = find_rows(labels, answers)
    if all(row is None for row in rows):
        raise ModelError(
            f"{where}: has none of the {len(labels)} answers of the data ({labels[0]!r} is the first); "
            "leave model.pretrained_answers out"
        )
    return rows


def _kept_rows(start: str, embedded: int, path: Path | None, *, draws_all: bool) -> list[int | None]:
    """Return for each token of the vocabulary in `path` the row of its embedding in the start; None if it is drawn.

    The start embeds `embedded` tokens. A token that the start has too keeps its row, and a token with a translation
    gets the row of that word (Minixhofer et al. 2022); with `draws_all` only the special tokens keep theirs. Without
    `path` the vocabulary is that of the start. Raises LxError.
    """
    folder = find_vocabulary_folder(start)
    source = path or folder
    if source is None:
        raise ModelError(f"{start}: has no {VOCABULARY_FILE}, whose words could be drawn; give model.vocabulary")
    tokens = read_vocabulary(source).tokens
    own = tokens if folder is None else read_vocabulary(folder).tokens
    if len(own) > embedded:  # fewer tokens are allowed: some tables are padded to a multiple
        where = f"model.vocabulary={path}" if folder is None else str(folder)
        raise ModelError(
            f"{where}: has {len(own)} tokens, but {start} embeds {embedded}; "
            f"put the vocabulary of its pre-training into its folder as {VOCABULARY_FILE}"
        )
    rows = {token: row for row, token in enumerate(own)}
    if draws_all:
        return [rows[token] if token in SPECIAL else None for token in tokens]
    translations = {} if path is None else read_translations(path)
    return [rows.get(token, rows.get(translations.get(token, ""))) for token in tokens]


def _embed(table: Tensor, rows: Sequence[int | None], generator: torch.Generator, deviation: float) -> Tensor:
    """Return word embeddings: the given rows of `table`, and a drawn row for each None."""
    kept = torch.tensor([row is not None for row in rows])
    moved = torch.empty(len(rows), table.shape[1])
    moved[kept] = table[torch.tensor([row for row in rows if row is not None])]
    moved[~kept] = torch.normal(0.0, deviation, (int((~kept).sum()), table.shape[1]), generator=generator)
    return moved
