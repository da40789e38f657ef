"""Read checkpoints of LXMERT's authors: one .pth file of tensors, with the names of their code.

- model_LXRT.pth, the pre-trained release: the encoder under `bert.`, and the heads of the pre-training tasks.
- BEST.pth, a fine-tuned model: the encoder under `lxrt_encoder.model.bert.`, the answer head under `logit_fc.`.

DataParallel and torch.compile add `module.` and `_orig_mod.` to names. Every tensor is accounted for, and only
tensors are unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import LxmertConfig

from lxcompress.errors import ModelError
from lxcompress.models import lxmert
from lxcompress.models.source import find_file
from lxcompress.models.tensors import read_pickled, unwrap

HEAD_WIDTH = 64
"""The width of BERT's attention heads, which no tensor's shape shows."""

_PARTS = ("weight", "bias")
_TRANSFORM = tuple(f"transform.{layer}.{part}" for layer in ("dense", "LayerNorm") for part in _PARTS)
ASIDE = {
    "masked words": ("cls.predictions.bias", *(f"cls.predictions.{name}" for name in _TRANSFORM)),
    "masked words: the word embeddings again": ("cls.predictions.decoder.weight",),
    "sentence and image match": tuple(f"cls.seq_relationship.{part}" for part in _PARTS),
    "masked objects": (
        *(f"obj_predict_head.{name}" for name in _TRANSFORM),
        *(f"obj_predict_head.decoder_dict.{task}.{part}" for task in ("obj", "attr", "feat") for part in _PARTS),
    ),
}
"""Group -> tensors of the heads of pre-training tasks, which question answering does not use."""
DEAD_BRANCH = "vision side of the last cross layer"
_SIZED = {
    "vocab_size": ("lxmert.embeddings.word_embeddings.weight", 0),
    "hidden_size": ("lxmert.embeddings.word_embeddings.weight", 1),
    "max_position_embeddings": ("lxmert.embeddings.position_embeddings.weight", 0),
    "type_vocab_size": ("lxmert.embeddings.token_type_embeddings.weight", 0),
    "visual_feat_dim": ("lxmert.encoder.visn_fc.visn_fc.weight", 1),
    "visual_pos_dim": ("lxmert.encoder.visn_fc.box_fc.weight", 1),
    "intermediate_size": ("lxmert.encoder.layer.0.intermediate.dense.weight", 0),
}
"""Field of the config -> the tensor and the axis that have its value."""
_STACKS = {"l_layers": "layer", "r_layers": "r_layers", "x_layers": "x_layers"}


@dataclass(frozen=True)
class Original:
    """A checkpoint of the authors' code under transformers' names, dead branch included."""

    config: LxmertConfig
    weights: Mapping[str, Tensor]
    """the tensors of `lxmert.` and, if the file has them, of `answer_head.`"""
    aside: Mapping[str, int]
    """number of parameters in each group that is not used"""


@dataclass(frozen=True)
class Account:
    """For what every parameter of a checkpoint is used."""

    path: str
    encoder: int
    """used as the start of a study"""
    answer_head: int
    """used with `model.pretrained_answers`, and in a fine-tuned model that is pruned"""
    aside: Mapping[str, int]
    """not used, by group"""

    @property
    def used(self) -> int:
        """Return the number of used parameters."""
        return self.encoder + self.answer_head

    @property
    def total(self) -> int:
        """Return the number of all parameters."""
        return self.used + sum(self.aside.values())


def account(path: Path) -> Account:
    """Return for what every parameter in a .pth file is used. Raises ModelError for an unknown or missing tensor."""
    original = read_original(path)
    counts = {"encoder": 0, "head": 0, "dead": 0}
    for name, tensor in original.weights.items():
        dead = lxmert.FAMILY.is_dead(name, original.config)
        counts["dead" if dead else "head" if name.startswith(lxmert.FAMILY.anatomy.head) else "encoder"] += (
            tensor.numel()
        )
    aside = {DEAD_BRANCH: counts["dead"], **original.aside}
    return Account(str(path), counts["encoder"], counts["head"], aside)


def read_original(path: Path) -> Original:
    """Return the checkpoint in a .pth file, with transformers' names.

    Tensors stay on disk until they are read. Raises ModelError for a tensor that is unknown, missing, there twice, or
    of another shape than its model has.
    """
    groups = {name: group for group, names in ASIDE.items() for name in names}
    weights: dict[str, Tensor] = {}
    aside = dict.fromkeys(ASIDE, 0)
    written: dict[str, str] = {}
    for own, tensor in read_pickled(find_file(str(path))).items():
        name = rename(own)
        if name in written:
            raise ModelError(f"{path}: holds one tensor as {written[name]} and as {own}; save the model again")
        written[name] = own
        if name in groups:
            aside[groups[name]] += tensor.numel()
        else:
            weights[name] = tensor.float()
    config = read_config(path, weights)
    _check_shapes(path, weights, config, written)
    return Original(config, weights, {group: count for group, count in aside.items() if count})


def rename(written: str) -> str:
    """Return transformers' name of a tensor of the authors' code; only the prefixes differ."""
    name = unwrap(written).removeprefix("lxrt_encoder.model.")
    if name.startswith("bert."):
        return f"lxmert.{name.removeprefix('bert.')}"
    return f"{lxmert.FAMILY.anatomy.head}{name}" if name.startswith("logit_fc.") else name


def read_config(path: Path, weights: Mapping[str, Tensor]) -> LxmertConfig:
    """Return the config that follows from the shapes of `weights` (transformers' names). Raises ModelError."""
    _check_none_missing(path, (name for name, _ in _SIZED.values() if name not in weights))
    for name, _ in _SIZED.values():
        shape = list(weights[name].shape)
        if len(shape) != 2 or not all(shape):
            raise ModelError(
                f"{path}: {_authors_name(name)} has the shape {shape}, expected a matrix; give a whole checkpoint"
            )
    sizes = {field: weights[name].shape[axis] for field, (name, axis) in _SIZED.items()}
    layers = {field: _count_layers(weights, stack) for field, stack in _STACKS.items()}
    heads, rest = divmod(sizes["hidden_size"], HEAD_WIDTH)
    if rest or not heads:
        raise ModelError(
            f"{path}: is {sizes['hidden_size']} wide, no multiple of {HEAD_WIDTH}, the width of BERT's heads; "
            "convert it to a transformers folder, whose config.json tells their number"
        )
    config = LxmertConfig(**sizes, **layers, num_attention_heads=heads)
    head = {
        name: weights[name]
        for name in weights
        if name.startswith(lxmert.FAMILY.anatomy.head) and weights[name].dim() == 2
    }
    for name, tensor in head.items():
        if name.startswith(lxmert.FAMILY.anatomy.output_layer):
            config.num_qa_labels = tensor.shape[0]
        else:
            lxmert.FAMILY.set_images(config, max(1, tensor.shape[1] // config.hidden_size))
    return config


def _check_shapes(path: Path, weights: Mapping[str, Tensor], config: LxmertConfig, written: Mapping[str, str]) -> None:
    """Raise ModelError unless `weights` are those of the model of `config`, with or without its answer head.

    `written` has the names in the file.
    """
    expected = lxmert.FAMILY.shapes(config)
    if not any(name.startswith(lxmert.FAMILY.anatomy.head) for name in weights):
        expected = {name: shape for name, shape in expected.items() if not name.startswith(lxmert.FAMILY.anatomy.head)}
    _check_none_missing(path, (name for name in expected if name not in weights))
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise ModelError(
            f"{path}: has {len(unknown)} tensors that are not LXMERT's ({written[unknown[0]]} is the first); "
            "give a checkpoint of LXMERT"
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ModelError(
                f"{path}: {written[name]} has the shape {list(weights[name].shape)}, expected {list(shape)} "
                "as the other tensors have it; give a whole checkpoint of one model"
            )


def _check_none_missing(path: Path, names: Iterable[str]) -> None:
    """Raise ModelError if there are missing `names`."""
    lacking = sorted(set(names))
    if lacking:
        raise ModelError(
            f"{path}: lacks {len(lacking)} tensors of LXMERT ({_authors_name(lacking[0])} is the first); "
            "give a whole checkpoint of this model"
        )


def _authors_name(name: str) -> str:
    """Return the name that the pre-trained release has for a name of transformers."""
    return f"bert.{name.removeprefix('lxmert.')}" if name.startswith("lxmert.") else name


def _count_layers(weights: Iterable[str], stack: str) -> int:
    """Return the number of layers of a stack, at least 1; missing layers are found when the shapes are compared."""
    pattern = re.compile(rf"lxmert\.encoder\.{stack}\.(\d+)\.")
    return max(1, len({match[1] for match in map(pattern.match, weights) if match}))
