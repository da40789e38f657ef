"""Read and write models and weights: transformers folders with safetensors, and files of the models' authors.

models/folder.py reads a folder; transformers never does. It is an error if a tensor is missing or has another shape
than the model needs, except in the dead branch. Many checkpoints have heads for other tasks; these are ignored. In a
.pth or .pt file every tensor must be known (models/original.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from lxcompress.errors import ModelError, unreadable
from lxcompress.filenames import BITMASK_FILE, CONFIG_FILE, SURGERY_FILE, WEIGHTS_FILE
from lxcompress.models.auto import is_in_catalog
from lxcompress.models.encoder_weights import read_encoder_weights
from lxcompress.models.family import Family, find_family
from lxcompress.models.folder import check_code, read_folder_config, read_shapes, read_tensors, read_types
from lxcompress.models.original import read_original
from lxcompress.models.paths import without_paths
from lxcompress.models.resize import build_resized
from lxcompress.models.source import WEIGHT_FILES, find_file, find_folder, is_original
from lxcompress.models.tensors import name_type, read_pickled
from lxcompress.models.vocabulary import Words, save_vocabulary
from lxcompress.rundir import write_text, write_whole
from lxcompress.text import shorten

_ANSWERS_WANTED = "give a fine-tuned model, or fine-tune this one: a study with model.start set to it draws a new head"


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
    found = read_full_checkpoint(where)
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
    words, expected = weights.get(family.anatomy.words, torch.empty(0)), _word_shape(config, family)
    if family.reads_words and words.shape != expected:  # before a model of the size in config.json is allocated
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


def _word_shape(config: PreTrainedConfig, family: Family) -> tuple[int, ...]:
    """Return the shape of the word embeddings that a config states."""
    if is_in_catalog(family):
        return (config.vocab_size, config.hidden_size)
    return tuple(family.shapes(config).get(family.anatomy.words, ()))  # some have a width of their own


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
class FullCheckpoint:
    """A checkpoint that was read: its config, family and tensors.

    The tensors have the names that the family's question-answering model uses.
    """

    config: PreTrainedConfig
    family: Family
    weights: Mapping[str, Tensor]
    """{name: tensor}; tensors of the dead branch may be among them"""
    headless: str | None
    """why the checkpoint has no answer head of its family, as part of a sentence; None if it has one"""


def read_full_checkpoint(start: str) -> FullCheckpoint:
    """Return the checkpoint of a model of full size: its encoder and, if it has one, its answer head.

    Raises ModelError.
    """
    if is_original(start):
        original = read_original(Path(start))
        release = original.release
        has_head = any(name.startswith(release.family.anatomy.head) for name in original.weights)
        headless = None if has_head else f"has no answer head ({release.head})"
        return FullCheckpoint(original.config, release.family, original.weights, headless)
    folder = find_folder(start)
    config, family = identify(start)
    if not is_in_catalog(family):
        weights, headless = read_encoder_weights(folder, start, config, family)
        return FullCheckpoint(config, family, weights, headless)
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
    return FullCheckpoint(config, family, read_tensors(folder, start, wanted), headless)


def _match_names(
    start: str, found: Iterable[str], expected: Collection[str], family: Family, config: PreTrainedConfig
) -> dict[str, str]:
    """Return {name in the folder: name in the model} of the tensors, without the heads of other tasks.

    Raises ModelError if the folder has an encoder tensor that is not in the model of its config.
    """
    prefix = family.anatomy.encoder
    renamed = {own: family.rename_published(own) for own in found}
    bare = "" if any(name.startswith(prefix) for name in renamed.values()) else prefix  # only the encoder was saved
    names = {own: name if name in expected else f"{bare}{name}" for own, name in renamed.items()}
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


def identify(where: str) -> tuple[PreTrainedConfig, Family]:
    """Return the config of a model and its family, for a folder or a hub name.

    The number of answers in the config is set to the number of rows of the answer head in the weights. Raises
    ModelError.
    """
    folder = find_folder(where)
    check_code(folder, where)
    config, family = read_folder_config(folder, where)
    if any((folder / name).exists() for name in WEIGHT_FILES):
        shapes = read_shapes(folder, where) if family.anatomy.head else {}
        rows = shapes.get(f"{family.anatomy.output_layer}weight", ())
        if len(rows) == 2 and rows[0] and rows[0] != family.count_answers(config):
            family.set_answers(config, rows[0])
    return config, family
