"""Weights and models to and from disk: transformers folders, in safetensors, and the .pth files of LXMERT's authors.

A folder is read by models/folder.py, never by transformers. A tensor that is missing or of another shape is an error,
but for the dead branch's; heads of other tasks are left over in many checkpoints, and ignored. In a .pth file every
tensor is accounted for: models/original.py.
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
from lxcompress.checksums import check_folder
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
from lxcompress.models import lxmert, vilt, visual_bert
from lxcompress.models.answers import find_rows, read_answers
from lxcompress.models.folder import check_code, read_folder_config, read_shapes, read_tensors, read_types
from lxcompress.models.original import read_original
from lxcompress.models.resize import build_resized
from lxcompress.models.source import MINI, WEIGHT_FILES, find_file, find_folder, is_original
from lxcompress.models.tensors import name_type, read_pickled
from lxcompress.rundir import write_text, write_whole
from lxcompress.text import read_text, shorten

FAMILIES = {family.MODEL_TYPE: family for family in (lxmert, visual_bert, vilt)}
"""Model type in config.json -> its adapter."""
_HEADLESS = "give a fine-tuned model, or fine-tune this one: a study with model.start set to it gives it a fresh head"

_PATH_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "special_tokens_map_file")
"""Where transformers notes the paths of files, in config.json and tokenizer_config.json; nothing reads them."""

Words = Vocabulary | Mapping[str, str]
"""A vocabulary, or the text of its files by name."""


@dataclass(frozen=True)
class Model:
    """A module that answers, with what its family's adapter knows of it."""

    module: nn.Module
    config: PreTrainedConfig
    family: Any

    @property
    def weights(self) -> dict[str, Tensor]:
        """name -> tensor, shared with the module."""
        return self.module.state_dict()

    @property
    def prunable(self) -> dict[str, Tensor]:
        """The weights that may be pruned, shared with the module."""
        return {name: tensor for name, tensor in self.weights.items() if self.family.is_prunable(name, tensor.shape)}

    @property
    def live(self) -> int:
        """The number of weights that an answer depends on."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @property
    def whole(self) -> int:
        """The number of weights of the published model, its dead branch included."""
        return self.live + self.family.count_dead(self.config)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copies `weights` into the module; every tensor must be there, and no other."""
        self.module.load_state_dict(dict(weights), strict=True)


def resolve_start(start: str) -> str:
    """The folder or hub name that a recipe's `model.start` means."""
    return str(MINI) if start == "mini" else start


def load_start(
    start: str,
    labels: Sequence[str],
    seed: int,
    *,
    pretrained_answers: Path | None = None,
    vocabulary: Path | None = None,
    last_bias: float | None = None,
    images: int = 1,
) -> tuple[Model, dict[str, Tensor]]:
    """A pre-trained encoder under an answer head for `labels`, and its weights: where a study's seed begins.

    The head is fresh, or, with `pretrained_answers` (the list of answers that the start's own head gives), copied for
    the labels that are among them. `last_bias` is the bias of all other answers. `vocabulary` replaces the start's:
    tokens of both keep their embeddings. The head reads `images` images a question. Raises LxError.
    """
    if (Path(start) / SURGERY_FILE).is_file():
        raise ModelError(
            f"{start}: is a model that was cut, and a study starts from a whole one; give the one before it"
        )
    check_folder(Path(start))
    found = _find_whole(start)
    config, family, weights = found.config, found.family, dict(found.weights)
    own_head = {name: weights.pop(name) for name in list(weights) if name.startswith(family.HEAD_PREFIX)}
    family.set_answers(config, len(labels))
    name_answers(config, labels)
    family.set_images(config, images)
    generator = torch.Generator().manual_seed(seed)
    if pretrained_answers is None:
        weights |= family.fresh_head(config, generator, last_bias=last_bias)
    else:
        rows = _rows(start, own_head, labels, found, pretrained_answers)
        weights |= family.copied_head(own_head, rows, last_bias=last_bias)
    if vocabulary is not None:
        weights[family.WORDS] = _embed(start, weights[family.WORDS], vocabulary, generator, config.initializer_range)
        config.vocab_size = len(weights[family.WORDS])
    model = Model(family.build(config), config, family)
    weights = {name: tensor for name, tensor in weights.items() if not family.is_dead(name, config)}
    model.load(weights)
    return model, {name: tensor.clone() for name, tensor in weights.items()}


def load_model(folder: str | Path) -> Model:
    """Return the fine-tuned question-answering model of a transformers folder, a ticket, a bitmask artifact, a hub name
    or a .pth file. Its files are those that its record names, if it has one.

    Raises LxError.
    """
    check_folder(Path(folder))
    return read_model(folder)


def read_model(folder: str | Path) -> Model:
    """Return the model of `load_model` without a comparison of its files with its record. Raises LxError."""
    where = str(folder)
    if not is_original(where):
        path = find_folder(where)
        if (path / SURGERY_FILE).is_file() or is_packed(path):
            return _load_stored(where, path)
    found = _find_whole(where)
    if found.headless:
        raise ModelError(f"{where}: {found.headless}, so it answers nothing; {_HEADLESS}")
    found.config.dtype = torch.float32
    with no_init_weights():  # all of them are copied below: what is not drawn takes no time
        module = found.family.build(found.config)
    model = Model(module, found.config, found.family)
    model.load({name: tensor for name, tensor in found.weights.items() if name in model.weights})
    return model


def read_stored_types(start: str) -> set[str]:
    """Return the types that the weights of a model are stored in, such as fp32, bf16 or int8; in memory all are fp32.

    Raises LxError.
    """
    if is_original(start):
        return {name_type(str(tensor.dtype)) for tensor in read_pickled(find_file(start)).values()}
    folder = find_folder(start)
    if is_packed(folder):
        return {name_type(str(packed.values.dtype)) for _, packed in iterate_tensors(folder / BITMASK_FILE)}
    return read_types(folder, start)


def is_packed(folder: Path) -> bool:
    """Whether a folder's weights are a bitmask checkpoint."""
    return (folder / BITMASK_FILE).is_file() and not (folder / WEIGHTS_FILE).is_file()


def _load_stored(where: str, folder: Path) -> Model:
    """Return the model of a folder that transformers cannot load: cut ones, and bitmask artifacts. Raises LxError."""
    config, family = identify(where)
    config.dtype = torch.float32
    if is_packed(folder):
        packed = iterate_tensors(folder / BITMASK_FILE)
        # Cloned, because torch's own memory is aligned, and the last digits of a product depend on that.
        weights = {name: torch.from_numpy(unpack(each)).clone() for name, each in packed}
    else:
        weights = load_weights(folder / WEIGHTS_FILE)
    words, wide = weights.get(family.WORDS, torch.empty(0)), (config.vocab_size, config.hidden_size)
    if words.shape != wide:  # before memory is taken for what config.json says
        raise ModelError(
            f"{where}: {family.WORDS} has the shape {list(words.shape)}, expected {list(wide)} by its config.json; "
            "copy the folder anew"
        )
    try:
        with no_init_weights():  # all of them are assigned below: what is not drawn takes neither time nor memory
            module = build_resized(config, family, {name: tensor.shape for name, tensor in weights.items()})
    except ValueError as error:
        raise ModelError(
            f"{where}: holds no model of its config.json, cut or whole ({error}); copy the folder anew, or draw the "
            "ticket again"
        ) from None
    module.load_state_dict(weights, strict=True, assign=True)
    return Model(module, config, family)


def load_vocabulary(start: str, vocabulary: Path | None = None) -> Vocabulary:
    """Return the WordPiece vocabulary in `vocabulary`, else the one beside a model.

    A `vocabulary` that has no settings of its own is used as the model's. Raises LxError.
    """
    if vocabulary is not None and not vocabulary.exists():
        return read_vocabulary(vocabulary)  # its error is said first: the start may be missing too
    check_folder(Path(start), only=WORD_FILES)
    found = _vocabulary_beside(start)
    if vocabulary is not None:
        return read_vocabulary(vocabulary, None if found is None else read_vocabulary(found))
    if found is None and is_original(start):
        raise ModelError(
            f"{start}: has no {VOCABULARY_FILE} beside it; give model.vocabulary, or copy {VOCABULARY_FILE} of "
            "bert-base-uncased there (30,522 tokens: huggingface.co/google-bert/bert-base-uncased)"
        )
    if found is None:
        raise ModelError(
            f"{start}: has no {VOCABULARY_FILE} and no {TOKENIZER_FILE}; copy the vocabulary of its pre-training there"
        )
    return read_vocabulary(found)


def read_config(start: str) -> tuple[PreTrainedConfig, Any]:
    """Return the config of a folder, hub name or .pth file, and the adapter of its family. Raises ModelError."""
    check_folder(Path(start), only=(CONFIG_FILE,))
    if not is_original(start):
        return identify(start)
    config = read_original(Path(start)).config
    return config, FAMILIES[config.model_type]


def feature_size(start: str) -> int:
    """The features of a region that the model at `start` reads. Raises ModelError."""
    config, family = read_config(start)
    return family.feature_size(config)


def save_model(folder: Path, model: Model, weights: Mapping[str, Tensor], vocabulary: Words) -> None:
    """Write a transformers folder; its dead branch is not in it."""
    save_config(folder, model)
    save_vocabulary(folder, vocabulary)
    save_weights(folder / WEIGHTS_FILE, weights)


def save_vocabulary(folder: Path, vocabulary: Words) -> None:
    """Write the files of a vocabulary, and remove those of another one that was there."""
    files = format_vocabulary(vocabulary) if isinstance(vocabulary, Vocabulary) else vocabulary
    for name in WORD_FILES:
        if name in files:
            write_text(folder / name, without_paths(files[name]))
        else:
            (folder / name).unlink(missing_ok=True)


def without_paths(text: str) -> str:
    """Return the JSON of a config or a tokenizer with the last name of each path that transformers noted in it; any
    other text as it is. A model that is shipped says nothing of the machine that it was made on."""
    if not any(f'"{key}"' in text for key in _PATH_KEYS):
        return text
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):  # its reader says what is wrong
        return text
    found = [key for key in _PATH_KEYS if isinstance(tree, dict) and _is_path(tree.get(key))]
    if not found:
        return text
    names = {key: PureWindowsPath(tree[key]).name for key in found}
    return json.dumps({**tree, **names}, indent=1, ensure_ascii=False) + "\n"


def _is_path(value: object) -> bool:
    """Whether a value is an absolute path, of any system."""
    return isinstance(value, str) and (value.startswith(("/", "~", "\\")) or PureWindowsPath(value).is_absolute())


def read_word_files(start: str) -> Mapping[str, str]:
    """Return the text of each file of a model's vocabulary, for what needs no words and only hands them on.

    Raises ModelError for one that is no text.
    """
    folder = _vocabulary_beside(start)
    found = [] if folder is None else [folder / name for name in WORD_FILES if (folder / name).is_file()]
    try:
        return {path.name: read_text(path) for path in found}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: a file of its vocabulary cannot be read ({error}); copy it anew, or remove it"
        ) from None


def save_config(folder: Path, model: Model, **fields: Any) -> Path:
    """Writes the model's config.json, with `fields` changed in it; returns its path."""
    config = {**json.loads(model.config.to_json_string(use_diff=True)), **fields}
    config["architectures"] = [type(model.module).__name__]
    write_text(folder / CONFIG_FILE, without_paths(json.dumps(config, indent=1) + "\n"))
    return folder / CONFIG_FILE


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors as safetensors, whole. With at most one key of metadata the same tensors give the same bytes:
    safetensors writes several in any order."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    try:
        write_whole(path, lambda part: save_file(tensors, part, metadata=dict(metadata or {"format": "pt"})))
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be written ({error}); check the free space and the permissions") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads tensors from safetensors. Raises ModelError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        found = unreadable(path, error, ModelError)
        raise found or ModelError(
            f"{path}: cannot be read as safetensors ({error}); make it again, or copy it anew"
        ) from None


def name_answers(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    """Writes the answers' words into the config, so that a shipped model can say them."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}


@dataclass(frozen=True)
class _Found:
    """What a checkpoint holds under the names of its family's answering model; its dead branch may be there."""

    config: PreTrainedConfig
    family: Any
    weights: Mapping[str, Tensor]
    headless: str | None
    """why it has no answer head of its family's; None if it has one"""


def _find_whole(start: str) -> _Found:
    """Return the encoder and, if there is one, the answer head of a start. Raises ModelError."""
    if is_original(start):
        original = read_original(Path(start))
        has_head = any(name.startswith(lxmert.HEAD_PREFIX) for name in original.weights)
        return _Found(original.config, lxmert, original.weights, None if has_head else "has no answer head (logit_fc)")
    folder = find_folder(start)
    config, family = identify(start)
    expected = family.shapes(config)
    shapes = read_shapes(folder, start)
    names = _match_names(start, shapes, expected, family, config)
    is_head = {name: name.startswith(family.HEAD_PREFIX) for name in expected}
    headless = _find_no_head(start, config, family, {name: shapes[own] for own, name in names.items()}, expected)
    for own, name in names.items():
        if shapes[own] != expected[name] and not is_head[name]:
            raise ModelError(
                f"{start}: {own} has the shape {list(shapes[own])}, expected {list(expected[name])} by config.json; "
                "give the two files of one model"
            )
    there = set(names.values())
    lacking = sorted(name for name in expected if not (name in there or is_head[name] or family.is_dead(name, config)))
    if lacking:
        raise ModelError(
            f"{start}: lacks {len(lacking)} tensors ({lacking[0]} is the first); give a whole checkpoint of this model"
        )
    wanted = {own: name for own, name in names.items() if not (headless and is_head[name])}
    return _Found(config, family, read_tensors(folder, start, wanted), headless)


def _match_names(
    start: str, found: Iterable[str], expected: Collection[str], family: Any, config: PreTrainedConfig
) -> dict[str, str]:
    """Return {name in the folder: name in the model}; heads of other tasks are left out.

    Raises ModelError for a tensor of the encoder that the model of the config does not have.
    """
    found, prefix = tuple(found), family.ENCODER_PREFIX
    bare = "" if any(name.startswith(prefix) for name in found) else prefix  # an encoder that was saved alone
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
            f"{start}: holds {len(unknown)} tensors that the model of its config.json has not ({unknown[0]} is the "
            "first); give the two files of one model"
        )
    return matched


def _find_no_head(
    start: str,
    config: PreTrainedConfig,
    family: Any,
    shapes: Mapping[str, torch.Size],
    expected: Mapping[str, torch.Size],
) -> str | None:
    """Return why a folder has no answer head of its family, as part of a sentence, or None if it has one."""
    head = sorted(name for name in expected if name.startswith(family.HEAD_PREFIX))
    kinds = [kind for kind in config.architectures or () if kind not in family.ANSWERING]
    lacking = [name for name in head if name not in shapes]
    other = next((name for name in head if name in shapes and shapes[name] != expected[name]), None)
    kind = f"is a {shorten(kinds[0])[1:-1]}" if kinds else None
    if kind and (lacking or other or hasattr(transformers, kinds[0])):
        return f"{kind}, which has no answer head of {family.ANSWERING[0]}"
    if lacking:
        return f"lacks {len(lacking)} tensors of its answer head ({lacking[0]} is the first)"
    if other:
        return (
            f"has another answer head than {family.ANSWERING[0]}: {other} has the shape {list(shapes[other])}, "
            f"expected {list(expected[other])}"
        )
    return None


def _rows(
    start: str, head: Mapping[str, Tensor], labels: Sequence[str], found: _Found, pretrained_answers: Path
) -> tuple[int | None, ...]:
    """The row of the start's answer head for each label. Raises ModelError if there is no such head, or no such row."""
    answers, family = read_answers(pretrained_answers), found.family
    where = f"model.pretrained_answers={pretrained_answers}"
    if not head:
        raise ModelError(
            f"{where}: {start} has no answer head to copy from; start from one that has "
            "(model_LXRT.pth, unc-nlp/lxmert-base-uncased), or leave model.pretrained_answers out"
        )
    given = len(head[f"{family.OUTPUT_LAYER}weight"])
    if given != len(answers):
        raise ModelError(
            f"{where}: lists {len(answers)} answers, but the answer head of {start} gives {given}; "
            "give the list that the head was trained with, or leave model.pretrained_answers out"
        )
    reads = head[f"{family.FIRST_LAYER}weight"].shape[1] // found.config.hidden_size
    asked = family.count_images(found.config)
    if reads != asked:
        raise ModelError(
            f"{where}: the answer head of {start} reads {reads} images a question, but the data have {asked}; "
            "leave model.pretrained_answers out, so that the head starts fresh"
        )
    rows = find_rows(labels, answers)
    if all(row is None for row in rows):
        raise ModelError(
            f"{where}: has none of the {len(labels)} answers of the data ({labels[0]!r} is the first); "
            "leave model.pretrained_answers out"
        )
    return rows


def _embed(start: str, table: Tensor, path: Path, generator: torch.Generator, deviation: float) -> Tensor:
    """Word embeddings for the vocabulary in `path`: of the start's `table` where it has the token, else drawn.

    Raises LxError.
    """
    beside = _vocabulary_beside(start)
    tokens = read_vocabulary(path).tokens
    own = tokens if beside is None else read_vocabulary(beside).tokens
    if len(own) > len(table):  # fewer are a table padded to a multiple
        where = f"model.vocabulary={path}" if beside is None else str(beside)
        raise ModelError(
            f"{where}: has {len(own)} tokens, but {start} embeds {len(table)}; "
            f"put the vocabulary of its pre-training beside it as {VOCABULARY_FILE}"
        )
    rows = {token: row for row, token in enumerate(own)}
    kept = torch.tensor([token in rows for token in tokens])
    moved = torch.empty(len(tokens), table.shape[1])
    moved[kept] = table[torch.tensor([rows[token] for token in tokens if token in rows])]
    moved[~kept] = torch.normal(0.0, deviation, (int((~kept).sum()), table.shape[1]), generator=generator)
    return moved


def _vocabulary_beside(start: str) -> Path | None:
    """Return the folder of the vocabulary beside a model, if there is one. Raises ModelError if there is no model."""
    folder = find_file(start).parent if is_original(start) else find_folder(start)
    return folder if has_vocabulary(folder) else None


def identify(where: str) -> tuple[PreTrainedConfig, Any]:
    """Return the config of a folder or hub name, and the adapter of its family.

    Its number of answers is that of the rows of the answer head in the weights, whatever config.json says. Raises
    ModelError.
    """
    folder = find_folder(where)
    check_code(folder, where)
    config, family = read_folder_config(folder, where, FAMILIES)
    if any((folder / name).exists() for name in WEIGHT_FILES):
        rows = read_shapes(folder, where).get(f"{family.OUTPUT_LAYER}weight", ())
        if len(rows) == 2 and rows[0] and rows[0] != family.count_answers(config):
            family.set_answers(config, rows[0])
    return config, family
