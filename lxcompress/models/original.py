"""Read checkpoints of a model's authors: one .pth or .pt file of tensors, with the names that their code uses.

models/releases.py has these names: for LXMERT (model_LXRT.pth, BEST.pth) and for UNITER (uniter-base.pt).

DataParallel and torch.compile add `module.` and `_orig_mod.` to the names. A file with an unknown tensor is an error,
and only tensors are unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedConfig

from lxcompress.errors import ModelError
from lxcompress.models.releases import Release, find_release
from lxcompress.models.source import find_file
from lxcompress.models.tensors import read_pickled, unwrap

HEAD_WIDTH = 64
"""The width of BERT's attention heads; it cannot be read from the shapes of the tensors."""


@dataclass(frozen=True)
class Original:
    """A checkpoint of the authors, with the tensor names of the family's model and with the dead branch."""

    release: Release
    config: PreTrainedConfig
    weights: Mapping[str, Tensor]
    """{name: tensor} of the encoder and, if the file has one, of the answer head"""
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
    family = original.release.family
    counts = {"encoder": 0, "head": 0, "dead": 0}
    for name, tensor in original.weights.items():
        dead = family.is_dead(name, original.config)
        counts["dead" if dead else "head" if name.startswith(family.anatomy.head) else "encoder"] += tensor.numel()
    aside = {original.release.dead_branch: counts["dead"], **original.aside}
    return Account(str(path), counts["encoder"], counts["head"], aside)


def read_original(path: Path) -> Original:
    """Return the checkpoint in a .pth or .pt file, with the tensor names of its family's model.

    Tensors stay on disk until their values are read. Raises ModelError if a tensor is unknown, missing or there twice,
    or if it has another shape than in its model.
    """
    found = {own: (unwrap(own), tensor) for own, tensor in read_pickled(find_file(str(path))).items()}
    release = find_release(name for name, _ in found.values())
    groups = {name: group for group, names in release.aside.items() for name in names}
    weights: dict[str, Tensor] = {}
    aside = dict.fromkeys(release.aside, 0)
    written: dict[str, str] = {}
    for own, (bare, tensor) in found.items():
        name = release.rename(bare)
        if name in written:
            raise ModelError(f"{path}: holds one tensor as {written[name]} and as {own}; save the model again")
        written[name] = own
        if name in groups:
            aside[groups[name]] += tensor.numel()
        else:
            weights[name] = tensor.float()
    config = read_config(path, release, weights)
    _check_shapes(path, release, config, weights, written)
    return Original(release, config, weights, {group: count for group, count in aside.items() if count})


def read_config(path: Path, release: Release, weights: Mapping[str, Tensor]) -> PreTrainedConfig:
    """Return the config that follows from the shapes of `weights`. Raises ModelError.

    The tensors in `weights` have the names of the family's model.
    """
    family = release.family
    _check_none_missing(path, release, (name for name, _ in release.sizes.values() if name not in weights))
    for name, _ in release.sizes.values():
        shape = list(weights[name].shape)
        if len(shape) != 2 or not all(shape):
            raise ModelError(
                f"{path}: {release.name_in_release(name)} has the shape {shape}, expected a matrix; download the "
                "checkpoint again"
            )
    sizes = {field: weights[name].shape[axis] for field, (name, axis) in release.sizes.items()}
    layers = {field: _count_layers(weights, stack) for field, stack in release.stacks.items()}
    heads, rest = divmod(sizes["hidden_size"], HEAD_WIDTH)
    if rest or not heads:
        raise ModelError(
            f"{path}: its hidden size {sizes['hidden_size']} is not a multiple of {HEAD_WIDTH}, the size of BERT's "
            "heads; "
            "convert it to a transformers folder, whose config.json has the number of heads"
        )
    config = family.config_class.from_dict({**sizes, **layers, "num_attention_heads": heads})
    for name, tensor in weights.items():
        if tensor.dim() != 2 or not name.startswith(family.anatomy.head):
            continue
        if name.startswith(family.anatomy.output_layer):
            family.set_answers(config, tensor.shape[0])
        elif family.images_field is not None:
            family.set_images(config, max(1, tensor.shape[1] // sizes["hidden_size"]))
    return config


def _check_shapes(
    path: Path, release: Release, config: PreTrainedConfig, weights: Mapping[str, Tensor], written: Mapping[str, str]
) -> None:
    """Raise ModelError unless `weights` are the tensors of the model of `config`, with or without its answer head.

    `written` is {name in the model: name in the file}.
    """
    head = release.family.anatomy.head
    expected = release.family.shapes(config)
    if not any(name.startswith(head) for name in weights):
        expected = {name: shape for name, shape in expected.items() if not name.startswith(head)}
    _check_none_missing(path, release, (name for name in expected if name not in weights))
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise ModelError(
            f"{path}: has {len(unknown)} tensors that are not {release.family.title}'s ({written[unknown[0]]} is the "
            f"first); give a checkpoint of {release.family.title}"
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ModelError(
                f"{path}: {written[name]} has the shape {list(weights[name].shape)}, expected {list(shape)} "
                "as the other tensors have it; give a whole checkpoint of one model"
            )


def _check_none_missing(path: Path, release: Release, names: Iterable[str]) -> None:
    """Raise ModelError if `names`, the names of missing tensors, is not empty."""
    lacking = sorted(set(names))
    if lacking:
        raise ModelError(
            f"{path}: lacks {len(lacking)} tensors of {release.family.title} "
            f"({release.name_in_release(lacking[0])} is the first); give a whole checkpoint of this model"
        )


def _count_layers(weights: Iterable[str], stack: str) -> int:
    """Return the number of layers of a stack, at least 1. Gaps in the numbers are found later, with the shapes."""
    pattern = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    return max(1, len({match[1] for match in map(pattern.match, weights) if match}))
