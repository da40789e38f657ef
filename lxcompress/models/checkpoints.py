"""Read and write models and weights: transformers folders with safetensors, and the .pth files of LXMERT's authors.

models/folder.py reads a folder; transformers never does. It is an error if a tensor is missing or has another shape
than the model needs, except in the dead branch. Many checkpoints have heads for other tasks; these are ignored. In a
.pth file every tensor must be known (models/original.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.initialization import no_init_weights

from lxcompress.bitmask import iterate_tensors, unpack
from lxcompress.checksums import check_folder, is_packed
from lxcompress.data.tokens import (
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    WORD_FILES,
    Vocabulary,
    format_vocabulary,
    has_vocabulary,
    read_vocabulary,
)
from lxcompress.errors import ModelError, unreadable
from lxcompress.filenames import BITMASK_FILE, CONFIG_FILE, SURGERY_FILE, WEIGHTS_FILE
from lxcompress.models import lxmert
from lxcompress.models.answers import find_rows, read_answers
from lxcompress.models.family import Family, find_family
from lxcompress.models.folder import check_code, read_folder_config, read_shapes, read_tensors, read_types
from lxcompress.models.original import read_original
from lxcompress.models.resize import build_resized
from lxcompress.models.source import MINI, WEIGHT_FILES, find_file, find_folder, is_original
from lxcompress.models.tensors import name_type, read_pickled
from lxcompress.rundir import write_text, write_whole
from lxcompress.text import read_text, shorten

_ANSWERS_WANTED = "give a fine-tuned model, or fine-tune this one: a study with model.start set to it draws a new head"

_PATH_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "special_tokens_map_file")
"""Keys of config.json and tokenizer_config.json that transformers fills with paths; no code reads these paths."""

Words = Vocabulary | Mapping[str, str]
"""A vocabulary, or the text of each of its files by file name."""


@dataclass(frozen=True)
class Model:
    """A question-answering module with its config and its family."""

    module: nn.Module
    config: PreTrainedConfig
    family: Family

    @property
    def weights(self) -> dict[str, Tensor]:
        """Return {name: tensor}; the tensors are shared with the module."""
        return self.module.state_dict()

    @property
    def prunable(self) -> dict[str, Tensor]:
        """Return {name: tensor} of the weights that may be pruned; the tensors are shared with the module."""
        return {name: tensor for name, tensor in self.weights.items() if self.family.is_prunable(name, tensor.shape)}

    @property
    def live(self) -> int:
        """Return the number of weights that an answer depends on."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @property
    def whole(self) -> int:
        """Return the number of weights of the published model, including those that no answer depends on."""
        return self.live + self.family.count_dead(self.config)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy `weights` into the module. They must be exactly the tensors of the module, by name."""
        self.module.load_state_dict(dict(weights), strict=True)


@dataclass(frozen=True)
class HeadInit:
    """The settings for a new answer head of a start model."""

    pretrained_answers: Path | None = None
    """the file that lists the answers of the start's own head, from which rows are copied; None draws a new head"""
    last_bias: float | None = None
    """the bias of an answer whose row is not copied; None is the default of heads.draw_head or heads.copy_head"""


def resolve_start(start: str) -> str:
    """Return the folder or hub name for a recipe's `model.start`: `mini` is a folder of this package."""
    return str(MINI) if start == "mini" else start


def load_start(
    start: str,
    labels: Sequence[str],
    seed: int,
    *,
    head: HeadInit = HeadInit(),
    vocabulary: Path | None = None,
    images: int = 1,
) -> tuple[Model, dict[str, Tensor]]:
    """Return the start of a study's seed: a pre-trained encoder with an answer head for `labels`, and its weights.

    `vocabulary` replaces the vocabulary of the start; tokens that are in both keep their embeddings. The answer head
    reads `images` images for each question. Raises LxError.
    """
    if (Path(start) / SURGERY_FILE).is_file():
        raise ModelError(
            f"{start}: is a smaller model made by pruning, and a study needs a whole one; give the model that it was "
            "made from"
        )
    check_folder(Path(start))
    found = _find_whole(start)
    config, family, weights = found.config, found.family, dict(found.weights)
    own_head = {name: weights.pop(name) for name in list(weights) if name.startswith(family.anatomy.head)}
    family.set_answers(config, len(labels))
    name_answers(config, labels)
    family.set_images(config, images)
    generator = torch.Generator().manual_seed(seed)
    if head.pretrained_answers is None:
        weights |= family.fresh_head(config, generator, last_bias=head.last_bias)
    else:
        rows = _find_head_rows(start, own_head, labels, found, head.pretrained_answers)
        weights |= family.copied_head(own_head, rows, last_bias=head.last_bias)
    if vocabulary is not None:
        weights[family.anatomy.words] = _embed(
            start, weights[family.anatomy.words], vocabulary, generator, config.initializer_range
        )
        config.vocab_size = len(weights[family.anatomy.words])
    model = Model(family.build(config), config, family)
    weights = {name: tensor for name, tensor in weights.items() if not family.is_dead(name, config)}
    model.load(weights)
    return model, {name: tensor.clone() for name, tensor in weights.items()}


def load_model(folder: str | Path) -> Model:
    """Return the fine-tuned question-answering model in `folder`.

    `folder` is a transformers folder, a ticket, a bitmask artifact, a hub name or a .pth file. If the folder has a
    record, its files are compared with the checksums in the record. Raises LxError.
    """
    check_folder(Path(folder))
    return read_model(folder)


def read_model(folder: str | Path) -> Model:
    """Return the same model as `load_model`, but do not compare its files with the record. Raises LxError."""
    where = str(folder)
    if not is_original(where):
        path = find_folder(where)
        if (path / SURGERY_FILE).is_file() or is_packed(path):
            return _load_stored(where, path)
    found = _find_whole(where)
    if found.headless:
        raise ModelError(f"{where}: {found.headless}, so it cannot answer questions; {_ANSWERS_WANTED}")
    found.config.dtype = torch.float32
    with no_init_weights():  # all weights are copied below, so drawing them would waste time
        module = found.family.build(found.config)
    model = Model(module, found.config, found.family)
    model.load({name: tensor for name, tensor in found.weights.items() if name in model.weights})
    return model


def read_stored_types(start: str) -> set[str]:
    """Return the types in which the weights of a model are stored, such as fp32, bf16 or int8.

    In memory all weights are fp32. Raises LxError.
    """
    if is_original(start):
        return {name_type(str(tensor.dtype)) for tensor in read_pickled(find_file(start)).values()}
    folder = find_folder(start)
    if is_packed(folder):
        return {name_type(str(packed.values.dtype)) for _, packed in iterate_tensors(folder / BITMASK_FILE)}
    return read_types(folder, start)


def _load_stored(where: str, folder: Path) -> Model:
    """Return the model in a folder that transformers cannot load: a smaller model, or bitmask weights.

    Raises LxError.
    """
    config, family = identify(where)
    config.dtype = torch.float32
    if is_packed(folder):
        packed = iterate_tensors(folder / BITMASK_FILE)
        # Cloned, because torch aligns its own memory, and the last digits of a product depend on the alignment.
        weights = {name: torch.from_numpy(unpack(tensor)).clone() for name, tensor in packed}
    else:
        weights = load_weights(folder / WEIGHTS_FILE)
    words, expected = weights.get(family.anatomy.words, torch.empty(0)), (config.vocab_size, config.hidden_size)
    if words.shape != expected:  # before a model of the size in config.json is allocated
        raise ModelError(
            f"{where}: {family.anatomy.words} has the shape {list(words.shape)}, expected {list(expected)} by "
            "its config.json; copy the folder again"
        )
    try:
        with no_init_weights():  # all weights are assigned below, so drawing them would waste time and memory
            module = build_resized(config, family, {name: tensor.shape for name, tensor in weights.items()})
    except ValueError as error:
        raise ModelError(
            f"{where}: its tensors do not fit its config.json, neither whole nor pruned ({error}); copy the folder "
            "again, "
            "or draw the ticket again"
        ) from None
    module.load_state_dict(weights, strict=True, assign=True)
    return Model(module, config, family)


def load_vocabulary(start: str, vocabulary: Path | None = None) -> Vocabulary:
    """Return the WordPiece vocabulary in `vocabulary`; if that is None, return the one in the model's folder.

    If `vocabulary` has no tokenizer settings, those of the model are used. Raises LxError.
    """
    if vocabulary is not None and not vocabulary.exists():
        return read_vocabulary(vocabulary)  # raises an error; it is reported first even if the start is missing too
    check_folder(Path(start), only=WORD_FILES)
    found = _vocabulary_folder(start)
    if vocabulary is not None:
        return read_vocabulary(vocabulary, None if found is None else read_vocabulary(found))
    if found is None and is_original(start):
        raise ModelError(
            f"{start}: its folder has no {VOCABULARY_FILE}; give model.vocabulary, or copy {VOCABULARY_FILE} of "
            "bert-base-uncased there (30,522 tokens: huggingface.co/google-bert/bert-base-uncased)"
        )
    if found is None:
        raise ModelError(
            f"{start}: has no {VOCABULARY_FILE} and no {TOKENIZER_FILE}; copy the vocabulary of its pre-training there"
        )
    return read_vocabulary(found)


def read_config(start: str) -> tuple[PreTrainedConfig, Family]:
    """Return the config of a model and its family. Raises ModelError.

    `start` is a folder, a hub name or a .pth file.
    """
    check_folder(Path(start), only=(CONFIG_FILE,))
    if not is_original(start):
        return identify(start)
    config = read_original(Path(start)).config
    return config, find_family(config.model_type)


def feature_size(start: str) -> int:
    """Return how many features of each region the model at `start` reads. Raises ModelError."""
    config, family = read_config(start)
    return family.feature_size(config)


def save_model(folder: Path, model: Model, weights: Mapping[str, Tensor], vocabulary: Words) -> None:
    """Write a model, its weights and its vocabulary as a transformers folder, without the dead branch."""
    save_config(folder, model)
    save_vocabulary(folder, vocabulary)
    save_weights(folder / WEIGHTS_FILE, weights)


def save_vocabulary(folder: Path, vocabulary: Words) -> None:
    """Write the files of a vocabulary into a folder, and remove those of an earlier vocabulary."""
    files = format_vocabulary(vocabulary) if isinstance(vocabulary, Vocabulary) else vocabulary
    for name in WORD_FILES:
        if name in files:
            write_text(folder / name, without_paths(files[name]))
        else:
            (folder / name).unlink(missing_ok=True)


def without_paths(text: str) -> str:
    """Return the JSON of a config or tokenizer, with each path that transformers wrote shortened to its last name.

    Any other text is returned unchanged. So a model that is shipped tells nothing about the machine that made it.
    """
    if not any(f'"{key}"' in text for key in _PATH_KEYS):
        return text
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):  # the function that reads this file reports what is wrong
        return text
    found = [key for key in _PATH_KEYS if isinstance(tree, dict) and _is_path(tree.get(key))]
    if not found:
        return text
    names = {key: PureWindowsPath(tree[key]).name for key in found}
    return json.dumps({**tree, **names}, indent=1, ensure_ascii=False) + "\n"


def _is_path(value: object) -> bool:
    """Return whether a value is an absolute path on any operating system."""
    return isinstance(value, str) and (value.startswith(("/", "~", "\\")) or PureWindowsPath(value).is_absolute())


def read_word_files(start: str) -> Mapping[str, str]:
    """Return {name: text} of a model's vocabulary files, for code that only copies the files.

    Raises ModelError for a file that is not text.
    """
    folder = _vocabulary_folder(start)
    found = [] if folder is None else [folder / name for name in WORD_FILES if (folder / name).is_file()]
    try:
        return {path.name: read_text(path) for path in found}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: a file of its vocabulary cannot be read ({error}); copy it again, or remove it"
        ) from None


def save_config(folder: Path, model: Model, **fields: Any) -> Path:
    """Write the model's config.json, with `fields` added or replaced; return the path of the file."""
    config = {**json.loads(model.config.to_json_string(use_diff=True)), **fields}
    config["architectures"] = [type(model.module).__name__]
    write_text(folder / CONFIG_FILE, without_paths(json.dumps(config, indent=1) + "\n"))
    return folder / CONFIG_FILE


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as a safetensors file. If writing fails, no incomplete file is left.

    With at most one key of metadata, equal tensors give equal bytes; safetensors writes several keys in any order.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    try:
        write_whole(path, lambda part: save_file(tensors, part, metadata=dict(metadata or {"format": "pt"})))
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be written ({error}); check the free space and the permissions") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return {name: tensor} of a safetensors file. Raises ModelError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        found = unreadable(path, error, ModelError)
        raise found or ModelError(
            f"{path}: cannot be read as safetensors ({error}); make it again, or copy it again"
        ) from None


def name_answers(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    """Write the answers as text into the config, so that a shipped model can return its answer as text."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}


@dataclass(frozen=True)
class _Checkpoint:
    """A checkpoint that was read: its config, family and tensors.

    The tensors have the names that the family's question-answering model uses.
    """

    config: PreTrainedConfig
    family: Family
    weights: Mapping[str, Tensor]
    """{name: tensor}; tensors of the dead branch may be among them"""
    headless: str | None
    """why the checkpoint has no answer head of its family, as part of a sentence; None if it has one"""


def _find_whole(start: str) -> _Checkpoint:
    """Return the checkpoint of a model of full size: its encoder and, if it has one, its answer head.

    Raises ModelError.
    """
    if is_original(start):
        original = read_original(Path(start))
        has_head = any(name.startswith(lxmert.FAMILY.anatomy.head) for name in original.weights)
        return _Checkpoint(
            original.config, lxmert.FAMILY, original.weights, None if has_head else "has no answer head (logit_fc)"
        )
    folder = find_folder(start)
    config, family = identify(start)
    expected = family.shapes(config)
    shapes = read_shapes(folder, start)
    names = _match_names(start, shapes, expected, family, config)
    is_head = {name: name.startswith(family.anatomy.head) for name in expected}
    headless = _explain_no_head(start, config, family, {name: shapes[own] for own, name in names.items()}, expected)
    for own, name in names.items():
        if shapes[own] != expected[name] and not is_head[name]:
            raise ModelError(
                f"{start}: {own} has the shape {list(shapes[own])}, expected {list(expected[name])} by config.json; "
                "give the two files of one model"
            )
    present = set(names.values())
    lacking = sorted(
        name for name in expected if not (name in present or is_head[name] or family.is_dead(name, config))
    )
    if lacking:
        raise ModelError(
            f"{start}: lacks {len(lacking)} tensors ({lacking[0]} is the first); give a whole checkpoint of this model"
        )
    wanted = {own: name for own, name in names.items() if not (headless and is_head[name])}
    return _Checkpoint(config, family, read_tensors(folder, start, wanted), headless)


def _match_names(
    start: str, found: Iterable[str], expected: Collection[str], family: Family, config: PreTrainedConfig
) -> dict[str, str]:
    """Return {name in the folder: name in the model} of the tensors, without the heads of other tasks.

    Raises ModelError if the folder has an encoder tensor that is not in the model of its config.
    """
    found, prefix = tuple(found), family.anatomy.encoder
    bare = "" if any(name.startswith(prefix) for name in found) else prefix  # only the encoder was saved
    names = {own: own if own in expected else f"{bare}{own}" for own in found}
    matched = {own: name for own, name in names.items() if name in expected}
    parts = {name.removeprefix(prefix).partition(".")[0] for name in expected if name.startswith(prefix)}
    unknown = sorted(
        own
        for own, name in names.items()
        if name not in expected
        and name.startswith(prefix)
        and name.removeprefix(prefix).partition(".")[0] in parts
        and not family.is_dead(name, config)
    )
    if unknown:
        raise ModelError(
            f"{start}: has {len(unknown)} tensors that the model of its config.json does not have ({unknown[0]} is the "
            "first); give the two files of one model"
        )
    return matched


def _explain_no_head(
    start: str,
    config: PreTrainedConfig,
    family: Family,
    shapes: Mapping[str, torch.Size],
    expected: Mapping[str, torch.Size],
) -> str | None:
    """Return why a folder has no answer head of its family, as part of a sentence; None if it has one."""
    head = sorted(name for name in expected if name.startswith(family.anatomy.head))
    kinds = [kind for kind in config.architectures or () if kind not in family.answering]
    lacking = [name for name in head if name not in shapes]
    other = next((name for name in head if name in shapes and shapes[name] != expected[name]), None)
    kind = f"is a {shorten(kinds[0])[1:-1]}" if kinds else None
    if kind and (lacking or other or hasattr(transformers, kinds[0])):
        return f"{kind}, which has no answer head of {family.answering[0]}"
    if lacking:
        return f"lacks {len(lacking)} tensors of its answer head ({lacking[0]} is the first)"
    if other:
        return (
            f"has another answer head than {family.answering[0]}: {other} has the shape {list(shapes[other])}, "
            f"expected {list(expected[other])}"
        )
    return None


def _find_head_rows(
    start: str, head: Mapping[str, Tensor], labels: Sequence[str], found: _Checkpoint, pretrained_answers: Path
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


def _embed(start: str, table: Tensor, path: Path, generator: torch.Generator, deviation: float) -> Tensor:
    """Return the word embeddings for the vocabulary in `path`.

    `table` holds the word embeddings of the start. A token that the start has too keeps its row of `table`; the rows of
    the other tokens are drawn. Raises LxError.
    """
    folder = _vocabulary_folder(start)
    tokens = read_vocabulary(path).tokens
    own = tokens if folder is None else read_vocabulary(folder).tokens
    if len(own) > len(table):  # fewer tokens are allowed: some tables are padded to a multiple
        where = f"model.vocabulary={path}" if folder is None else str(folder)
        raise ModelError(
            f"{where}: has {len(own)} tokens, but {start} embeds {len(table)}; "
            f"put the vocabulary of its pre-training into its folder as {VOCABULARY_FILE}"
        )
    rows = {token: row for row, token in enumerate(own)}
    kept = torch.tensor([token in rows for token in tokens])
    moved = torch.empty(len(tokens), table.shape[1])
    moved[kept] = table[torch.tensor([rows[token] for token in tokens if token in rows])]
    moved[~kept] = torch.normal(0.0, deviation, (int((~kept).sum()), table.shape[1]), generator=generator)
    return moved


def _vocabulary_folder(start: str) -> Path | None:
    """Return the folder of a model if it has a vocabulary, else None. Raises ModelError if there is no model."""
    folder = find_file(start).parent if is_original(start) else find_folder(start)
    return folder if has_vocabulary(folder) else None


def identify(where: str) -> tuple[PreTrainedConfig, Family]:
    """Return the config of a model and its family, for a folder or a hub name.

    The number of answers in the config is set to the number of rows of the answer head in the weights. Raises
    ModelError.
    """
    folder = find_folder(where)
    check_code(folder, where)
    config, family = read_folder_config(folder, where)
    if any((folder / name).exists() for name in WEIGHT_FILES):
        rows = read_shapes(folder, where).get(f"{family.anatomy.output_layer}weight", ())
        if len(rows) == 2 and rows[0] and rows[0] != family.count_answers(config):
            family.set_answers(config, rows[0])
    return config, family
