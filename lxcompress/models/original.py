"""Checkpoints as LXMERT's authors save them: one .pth file of tensors, under the names of their code.

- model_LXRT.pth, the pre-trained release: the encoder under `bert.`, and the heads of the pre-training tasks.
- BEST.pth, a fine-tuned model: the encoder under `lxrt_encoder.model.bert.`, the answer head under `logit_fc.`.

`module.` and `_orig_mod.` stand in the names where DataParallel or torch.compile were at work. Every tensor is
accounted for, and nothing but tensors is unpickled.
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
"""The width of BERT's attention heads, which the shape of no tensor tells."""

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
"""The heads of pre-training tasks that question answering leaves aside, and their tensors."""
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
"""Where the sizes of a config are read off."""
_STACKS = {"l_layers": "layer", "r_layers": "r_layers", "x_layers": "x_layers"}


@dataclass(frozen=True)
class Original:
    """A checkpoint of the authors' code under transformers' names; its dead branch is there."""

    config: LxmertConfig
    weights: Mapping[str, Tensor]
    """`lxmert.` and, unless the file has none, `answer_head.`"""
    aside: Mapping[str, int]
    """parameters in each head that was left aside"""


@dataclass(frozen=True)
class Account:
    """Where every parameter of a checkpoint goes."""

    path: str
    encoder: int
    """what each study starts from"""
    answer_head: int
    """read where the answers are: `model.pretrained_answers`, and a fine-tuned model to prune"""
    aside: Mapping[str, int]
    """never read, by group"""

    @property
    def used(self) -> int:
        return self.encoder + self.answer_head

    @property
    def total(self) -> int:
        return self.used + sum(self.aside.values())


def account(path: Path) -> Account:
    """Every parameter in the .pth file `path`. Raises ModelError for a tensor that is unknown or missing."""
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
    """The .pth file `path`, each of its tensors named as transformers does or left aside by name.

    Tensors stay where they are on disk until they are read. Raises ModelError for one that is unknown, missing, twice
    there, or of another shape than its model's.
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
    """A name of the authors' code as transformers has it; the two differ only in what stands around them."""
    name = unwrap(written).removeprefix("lxrt_encoder.model.")
    if name.startswith("bert."):
        return f"lxmert.{name.removeprefix('bert.')}"
    return f"{lxmert.FAMILY.anatomy.head}{name}" if name.startswith("logit_fc.") else name


def read_config(path: Path, weights: Mapping[str, Tensor]) -> LxmertConfig:
    """The config that the shapes of `weights` (transformers' names) tell. Raises ModelError."""
    _lacking(path, (name for name, _ in _SIZED.values() if name not in weights))
    for name, _ in _SIZED.values():
        shape = list(weights[name].shape)
        if len(shape) != 2 or not all(shape):
            raise ModelError(
                f"{path}: {_authors(name)} has the shape {shape}, expected a matrix; give a whole checkpoint"
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
    """Raises ModelError unless `weights` are all of the model of `config`, or all but its answer head.

    `written` has the names that stand in the file.
    """
    expected = lxmert.FAMILY.shapes(config)
    if not any(name.startswith(lxmert.FAMILY.anatomy.head) for name in weights):
        expected = {name: shape for name, shape in expected.items() if not name.startswith(lxmert.FAMILY.anatomy.head)}
    _lacking(path, (name for name in expected if name not in weights))
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise ModelError(
            f"{path}: holds {len(unknown)} tensors of no known part of LXMERT ({written[unknown[0]]} is the first); "
            "give a checkpoint of LXMERT, and no other"
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ModelError(
                f"{path}: {written[name]} has the shape {list(weights[name].shape)}, expected {list(shape)} "
                "as the other tensors have it; give a whole checkpoint of one model"
            )


def _lacking(path: Path, names: Iterable[str]) -> None:
    lacking = sorted(set(names))
    if lacking:
        raise ModelError(
            f"{path}: lacks {len(lacking)} tensors of LXMERT ({_authors(lacking[0])} is the first); "
            "give a whole checkpoint of this model"
        )


def _authors(name: str) -> str:
    """A name of transformers as it stands in the pre-trained release."""
    return f"bert.{name.removeprefix('lxmert.')}" if name.startswith("lxmert.") else name


def _count_layers(weights: Iterable[str], stack: str) -> int:
    """How many layers of a stack there are, at least one; with a gap in them, one short of the last."""
    pattern = re.compile(rf"lxmert\.encoder\.{stack}\.(\d+)\.")
    return max(1, len({match[1] for match in map(pattern.match, weights) if match}))
