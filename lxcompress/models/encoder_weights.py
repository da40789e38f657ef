"""Read the weights of an encoder whose family is derived, under the names of transformers' class.

lxcompress reads the files, so no code in them runs. transformers only renames the tensors that older versions saved
under other names, leaves out those of other heads, and shares tied tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from lxcompress.errors import ModelError
from lxcompress.models.family import Family
from lxcompress.models.folder import read_shapes, read_tensors
from lxcompress.quiet import quiet
from lxcompress.text import first_line

_BUFFERS = ("relative_position_index", "num_batches_tracked")
"""Endings of the names of whole numbers that a model saves among its tensors, and computes again."""


def read_encoder_weights(
    folder: Path, where: str, config: PreTrainedConfig, family: Family
) -> tuple[dict[str, Tensor], str | None]:
    """Return {name: tensor} of an encoder, and why it has no answer head, as part of a sentence; None if it has one.

    Raises ModelError if the folder lacks a tensor of the encoder, or has one of another shape.
    """
    names = [name for name in read_shapes(folder, where) if not name.endswith(_BUFFERS)]
    found = read_tensors(folder, where, {name: name for name in names})
    module, lacking = _place(found, where, config, family)
    heads = family.anatomy.head
    lacking_head = [name for name in lacking if name.startswith(heads)]
    if len(lacking) > len(lacking_head):
        first = next(name for name in lacking if not name.startswith(heads))
        raise ModelError(
            f"{where}: lacks {len(lacking) - len(lacking_head)} tensors ({first} is the first); give a whole "
            "checkpoint of this model"
        )
    headless = None
    if lacking_head:
        headless = f"lacks {len(lacking_head)} tensors of its answer head ({lacking_head[0]} is the first)"
    weights = {
        name: tensor for name, tensor in module.state_dict().items() if not (headless and name.startswith(heads))
    }
    return weights, headless


def _place(
    tensors: Mapping[str, Tensor], where: str, config: PreTrainedConfig, family: Family
) -> tuple[PreTrainedModel, list[str]]:
    """Return a module with `tensors`, and the names of those that it lacks. Raises ModelError for another shape."""
    kind = family.make
    assert isinstance(kind, type), f"{kind} is no class"
    assert issubclass(kind, PreTrainedModel), f"{kind} is no class of transformers"
    try:
        with quiet("transformers"), torch.random.fork_rng(devices=()):
            module, report = kind.from_pretrained(
                None,  # no folder, so there is nothing for it to read
                config=config,
                state_dict=dict(tensors),
                output_loading_info=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                trust_remote_code=False,
            )
    except Exception as error:  # transformers raises errors of many types for tensors that do not fit
        raise ModelError(
            f"{where}: its tensors do not fit its config.json ({first_line(error)}); give the two files of one model"
        ) from None
    for name, given, expected in sorted(report["mismatched_keys"]):
        if not str(name).startswith(family.anatomy.head):
            raise ModelError(
                f"{where}: {name} has the shape {list(given)}, expected {list(expected)} by config.json; give the two "
                "files of one model"
            )
    lacking = {str(name) for name in report["missing_keys"]} | {str(name) for name, *_ in report["mismatched_keys"]}
    assert isinstance(module, PreTrainedModel)
    return module, sorted(lacking)
