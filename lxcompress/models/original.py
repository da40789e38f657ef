"""Read checkpoints of LXMERT's authors: one .pth file of tensors, with the names that their code uses.

- model_LXRT.pth, the pre-trained release: the encoder under `bert.`, and the heads of the pre-training tasks.

- BEST.pth, a fine-tuned model: the encoder under `lxrt_encoder.model.bert.`, the answer head under `logit_fc.`.

DataParallel and torch.compile add `module.` and `_orig_mod.` to the names. A file with an unknown tensor is an error,
and only tensors are unpickled.
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
"""The width of BERT's attention heads; it cannot be read from the shapes of the tensors."""

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
"""Pre-training task -> the tensors of its head; question answering does not use these heads."""
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
"""Field of the config -> the tensor, and the axis of that tensor, whose length is the value of the field."""
_STACKS = {"l_layers": "layer", "r_layers": "r_layers", "x_layers": "x_layers"}


@dataclass(frozen=True)
class Original:
    """A checkpoint of the authors, with the tensor names of transformers and with the dead branch."""

    config: LxmertConfig
    weights: Mapping[str, Tensor]
    """{name: tensor} of the encoder (`lxmert.`) and, if the file has one, of the answer head (`answer_head.`)"""
    aside: Mapping[str, int]
    """pre-training task -> the number of parameters of its head, which is not used"""


@dataclass(frozen=True)
class Account:
    """How many parameters of a checkpoint are used, and for what."""

    path: str
    encoder: int
    """number of parameters that are used when a study starts from the checkpoint"""
    answer_head: int
    """number of parameters that are used with `model.pretrained_answers`, and when a fine-tuned model is pruned"""
    aside: Mapping[str, int]
    """part of the checkpoint that is not used -> its number of parameters"""

    @property
    def used(self) -> int:
        """Return the number of parameters that are used."""
        return self.encoder + self.answer_head

    @property
    def total(self) -> int:
        """Return the number of parameters in the checkpoint, used or not."""
        return self.used + sum(self.aside.values())


def account(path: Path) -> Account:
    """Return how the parameters of a .pth file are used. Raises ModelError for an unknown or missing tensor."""
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
    """Return the checkpoint in a .pth file, with the tensor names of transformers.

    Tensors stay on disk until their values are read. Raises ModelError if a tensor is unknown, missing or there twice,
    or if it has another shape than in its model.
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
    """Return the name in transformers of a tensor of the authors' code; the names differ only in their prefixes."""
    name = unwrap(written).removeprefix("lxrt_encoder.model.")
    if name.startswith("bert."):
        return f"lxmert.{name.removeprefix('bert.')}"
    return f"{lxmert.FAMILY.anatomy.head}{name}" if name.startswith("logit_fc.") else name


def read_config(path: Path, weights: Mapping[str, Tensor]) -> LxmertConfig:
    """Return the config that follows from the shapes of `weights`. Raises ModelError.

    The tensors in `weights` have the names of transformers.
    """
    _check_none_missing(path, (name for name, _ in _SIZED.values() if name not in weights))
    for name, _ in _SIZED.values():
        shape = list(weights[name].shape)
        if len(shape) != 2 or not all(shape):
            raise ModelError(
                f"{path}: {_authors_name(name)} has the shape {shape}, expected a matrix; download the checkpoint again"
            )
    sizes = {field: weights[name].shape[axis] for field, (name, axis) in _SIZED.items()}
    layers = {field: _count_layers(weights, stack) for field, stack in _STACKS.items()}
    heads, rest = divmod(sizes["hidden_size"], HEAD_WIDTH)
    if rest or not heads:
        raise ModelError(
            f"{path}: its hidden size {sizes['hidden_size']} is not a multiple of {HEAD_WIDTH}, the size of BERT's "
            "heads; "
            "convert it to a transformers folder, whose config.json has the number of heads"
        )
    config = LxmertConfig.from_dict({**sizes, **layers, "num_attention_heads": heads})
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
    """Raise ModelError unless `weights` are the tensors of the model of `config`, with or without its answer head.

    `written` is {name in transformers: name in the file}.
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
    """Raise ModelError if `names`, the names of missing tensors, is not empty."""
    lacking = sorted(set(names))
    if lacking:
        raise ModelError(
            f"{path}: lacks {len(lacking)} tensors of LXMERT ({_authors_name(lacking[0])} is the first); "
            "give a whole checkpoint of this model"
        )


def _authors_name(name: str) -> str:
    """Return the name in the pre-trained release of a tensor with a name of transformers."""
    return f"bert.{name.removeprefix('lxmert.')}" if name.startswith("lxmert.") else name


def _count_layers(weights: Iterable[str], stack: str) -> int:
    """Return the number of layers of a stack, at least 1. Gaps in the numbers are found later, with the shapes."""
    pattern = re.compile(rf"lxmert\.encoder\.{stack}\.(\d+)\.")
    return max(1, len({match[1] for match in map(pattern.match, weights) if match}))
