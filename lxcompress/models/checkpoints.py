"""Weights and models to and from disk: transformers folders, in safetensors, and the .pth files of LXMERT's authors.

A folder is read by transformers itself (sharded ones and old .bin files through its weights-only loader). A tensor
that is missing is an error, but for the dead branch's; heads of other tasks are left over in many checkpoints, and
ignored. In a .pth file every tensor is accounted for: models/original.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.initialization import no_init_weights
from transformers.utils import cached_file

from lxcompress.bitmask import BITMASK_FILE, each_packed, unpack
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
from lxcompress.errors import ModelError
from lxcompress.models import lxmert, vilt, visual_bert
from lxcompress.models.answers import find_rows, read_answers
from lxcompress.models.original import is_original, read_original
from lxcompress.models.resize import SURGERY_FILE, build_resized
from lxcompress.rundir import write_text, write_whole

FAMILIES = {family.MODEL_TYPE: family for family in (lxmert, visual_bert, vilt)}
"""Model type in config.json -> its adapter."""
MINI = Path(__file__).parent / "mini"
_WANTED = "give a transformers folder (config.json and model.safetensors), a ticket, a .pth file, or mini"

Loaded = TypeVar("Loaded")
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
    found = _find_encoder(start) if pretrained_answers is None else _find_whole(start)
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
    """The fine-tuned question-answering model of a transformers folder, a ticket, a bitmask artifact, a hub name or a
    .pth file. Its files are those that its record names, if it has one.

    Raises LxError.
    """
    check_folder(Path(folder))
    return read_model(folder)


def read_model(folder: str | Path) -> Model:
    """Return the model of `load_model` without a comparison of its files with its record. Raises LxError."""
    where = str(folder)
    if (Path(where) / SURGERY_FILE).is_file() or is_packed(Path(where)):
        return _load_stored(where)
    if not is_original(where):
        config, family = identify(where)
        module, account = _load(where, lambda name: family.load_whole(name, config))
        _account(where, account["missing_keys"], lambda name: family.is_dead(name, config))
        return Model(family.without_dead_branch(module), module.config, family)
    found = _find_whole(where)
    if not any(name.startswith(found.family.HEAD_PREFIX) for name in found.weights):
        raise ModelError(f"{where}: has no answer head, so it answers nothing; fine-tune it first, or give BEST.pth")
    model = Model(found.family.build(found.config), found.config, found.family)
    model.load({name: tensor for name, tensor in found.weights.items() if name in model.weights})
    return model


def is_packed(folder: Path) -> bool:
    """Whether a folder's weights are a bitmask checkpoint."""
    return (folder / BITMASK_FILE).is_file() and not (folder / "model.safetensors").is_file()


def _load_stored(where: str) -> Model:
    """The model of a folder that transformers cannot load: cut ones, and bitmask artifacts. Raises LxError."""
    config, family = identify(where)
    if is_packed(Path(where)):
        packed = each_packed(Path(where) / BITMASK_FILE)
        # Cloned, because torch's own memory is aligned, and the last digits of a product depend on that.
        weights = {name: torch.from_numpy(unpack(each)).clone() for name, each in packed}
    else:
        weights = load_weights(Path(where) / "model.safetensors")
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
    check_folder(Path(start), only=("config.json",))
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
    save_weights(folder / "model.safetensors", weights)


def save_vocabulary(folder: Path, vocabulary: Words) -> None:
    """Write the files of a vocabulary, and remove those of another one that was there."""
    files = format_vocabulary(vocabulary) if isinstance(vocabulary, Vocabulary) else vocabulary
    for name in WORD_FILES:
        if name in files:
            write_text(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)


def read_word_files(start: str) -> Mapping[str, str]:
    """Return the text of each file of a model's vocabulary, for what needs no words and only hands them on.

    Raises ModelError for one that is no text.
    """
    folder = _vocabulary_beside(start)
    found = [] if folder is None else [folder / name for name in WORD_FILES if (folder / name).is_file()]
    try:
        return {path.name: path.read_bytes().decode("utf-8") for path in found}
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{folder}: a file of its vocabulary cannot be read ({error}); copy it anew, or remove it"
        ) from None


def save_config(folder: Path, model: Model, **fields: Any) -> Path:
    """Writes the model's config.json, with `fields` changed in it; returns its path."""
    config = {**json.loads(model.config.to_json_string(use_diff=True)), **fields}
    config["architectures"] = [type(model.module).__name__]
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return folder / "config.json"


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
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); make it again, or copy it anew") from None


def name_answers(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    """Writes the answers' words into the config, so that a shipped model can say them."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}


@dataclass(frozen=True)
class _Found:
    """What a checkpoint holds, under the names of its family's question-answering model."""

    config: PreTrainedConfig
    family: Any
    weights: Mapping[str, Tensor]


def _find_encoder(start: str) -> _Found:
    """The encoder of a start; its dead branch may be there, and for a .pth file its answer head."""
    if is_original(start):
        return _find_whole(start)
    config, family = identify(start)
    encoder, account = _load(start, family.load_encoder)
    _account(start, account["missing_keys"], lambda name: family.is_dead(f"{family.ENCODER_PREFIX}{name}", config))
    return _Found(
        config, family, {f"{family.ENCODER_PREFIX}{name}": tensor for name, tensor in encoder.state_dict().items()}
    )


def _find_whole(start: str) -> _Found:
    """The encoder and the answer head of a start; the head may be absent, the dead branch may be there."""
    if is_original(start):
        original = read_original(Path(start))
        return _Found(original.config, lxmert, original.weights)
    config, family = identify(start)
    module, account = _load(start, lambda name: family.load_whole(name, config))
    missing = set(account["missing_keys"])
    weights = module.state_dict()
    heads = {name for name in weights if name.startswith(family.HEAD_PREFIX)}
    absent = heads if heads <= missing else set()
    _account(start, sorted(missing - absent), lambda name: family.is_dead(name, config))
    return _Found(config, family, {name: tensor for name, tensor in weights.items() if name not in absent})


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
    if is_original(start):
        folder = Path(start).parent
        return folder if has_vocabulary(folder) else None
    _check_there(start)
    if Path(start).is_dir():
        return Path(start) if has_vocabulary(Path(start)) else None
    found = [cached_file(start, name, _raise_exceptions_for_missing_entries=False) for name in WORD_FILES]
    folders = {Path(path).parent for path in found if path is not None}
    return next((folder for folder in folders if has_vocabulary(folder)), None)


def identify(where: str) -> tuple[PreTrainedConfig, Any]:
    """The config of a folder or hub name, and the adapter of its family."""
    config = _load(where, lambda name: transformers.AutoConfig.from_pretrained(name))
    if config.model_type not in FAMILIES:
        raise ModelError(f"{where}: is a {config.model_type} model; lxcompress knows {', '.join(FAMILIES)}")
    family = FAMILIES[config.model_type]
    _load(where, lambda _: family.check_config(config))
    return config, family


def _load(where: str, load: Callable[[str], Loaded]) -> Loaded:
    """`load(where)`, quietly, and with one sentence for what is wrong.

    transformers draws the tensors that a checkpoint lacks (the dead branch) from the global generator: it gets a copy.
    """
    _check_there(where)
    try:
        with _quiet(), torch.random.fork_rng(devices=()):
            return load(where)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{where}: cannot be loaded as a model ({lines[0]}); {_WANTED}") from None


def _check_there(where: str) -> None:
    """Raises ModelError for a path that is no folder; a hub name (owner/name) passes."""
    looks_like_hub_name = where.count("/") == 1 and not where.startswith((".", "~", "/")) and not where.endswith("/")
    if not Path(where).is_dir() and not looks_like_hub_name:
        raise ModelError(f"{where}: no such folder; {_WANTED}")


def _account(where: str, missing: Sequence[str], is_expected: Callable[[str], bool]) -> None:
    lacking = sorted(name for name in missing if not is_expected(name))
    if lacking:
        raise ModelError(
            f"{where}: lacks {len(lacking)} tensors ({lacking[0]} is the first); give a whole checkpoint of this model"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and remarks: what matters of them becomes an error above."""
    logging = transformers.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
