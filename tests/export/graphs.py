"""Plain ONNX files of a small model of each family, half of its weights removed: each traced once a test run."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LxmertConfig, ViltConfig, VisualBertConfig

from lxcompress.data.split import Inputs
from lxcompress.exporters.onnx import MODEL_FILE, save, trace
from lxcompress.models import lxmert, vilt, visual_bert
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.surgery import operate
from tests.once import make_once
from tests.pruning.test_surgery import SIZES as WIDTHS
from tests.pruning.test_surgery import ask, choose

SMALLER = "lxmert of fewer heads and neurons"
LXMERT = {"num_qa_labels": 7, "visual_feat_dim": 12, "l_layers": 0, "r_layers": 0, "x_layers": 2, **WIDTHS}
"""Wide enough that torch's exporter leaves the transposes of cross-attention's matrices behind.

Each layer takes a second in the exporter. So each kind of layer is in one of the models only; two cross layers are in
one, because the last of them differs.
"""
FAMILIES = {
    "lxmert": (lxmert.FAMILY, LxmertConfig, LXMERT),
    SMALLER: (lxmert.FAMILY, LxmertConfig, {**LXMERT, "l_layers": 1, "r_layers": 1, "x_layers": 1}),
    "lxmert of two images": (
        lxmert.FAMILY,
        LxmertConfig,
        {**LXMERT, "images_per_question": 2, "x_layers": 1},
    ),
    "visual_bert": (
        visual_bert.FAMILY,
        VisualBertConfig,
        {"num_labels": 7, "num_hidden_layers": 1, "visual_embedding_dim": 12, **WIDTHS},
    ),
    "vilt": (
        vilt.FAMILY,
        ViltConfig,
        {"num_labels": 7, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16, **WIDTHS},
    ),
}
NAMES = tuple(FAMILIES)


@dataclass(frozen=True)
class Traced:
    """A model, and the folder of its plain fp32 file."""

    model: Model
    example: Inputs
    path: Path
    whole: Any
    """The configuration of the model before it was made smaller, if it was."""

    @property
    def removed(self) -> int:
        """The zeros among the prunable weights."""
        return sum(int((weight == 0).sum()) for weight in self.model.prunable.values())

    @property
    def prunable(self) -> int:
        """The number of prunable weights."""
        return sum(weight.numel() for weight in self.model.prunable.values())

    @property
    def matrices(self) -> int:
        """The matrices that feed products: those that may be pruned, and the output layer."""
        return len(self.model.prunable) + 1


@functools.cache
def traced(name: str) -> Traced:
    """A model, its weights removed where a seeded draw says so, and its file."""
    family, config = FAMILIES[name][0], FAMILIES[name][1](**FAMILIES[name][2])
    model, draw = Model(family.build(config), config, family), torch.Generator().manual_seed(3)
    model.load({each: torch.randn(weight.shape, generator=draw) * 0.2 for each, weight in model.weights.items()})
    if name == SMALLER:
        model = operate(model, choose(model, "neuron+head", 0.5, scope="global"))
    with torch.no_grad():
        for weight in model.prunable.values():
            weight.mul_(torch.rand(weight.shape, generator=draw) < 0.5)
    example = ask(model)
    folder = make_once(f"plain-{name.replace(' ', '-')}", lambda folder: save(trace(model, example), folder))
    return Traced(model, example, folder / MODEL_FILE, config)


def questions(given: Traced, count: int, tokens: int, objects: int) -> Inputs:
    """Seeded questions, whose padding stands anywhere: no file may believe that it stands last."""
    model, draw = given.model, torch.Generator().manual_seed(100 * count + tokens)
    rows = count * model.family.count_images(model.config)
    objects = given.example.visual_feats.shape[1] if model.family.picture_size(model.config) else objects
    said, seen = (torch.rand(rows, size, generator=draw) < 0.7 for size in (tokens, objects))
    said[:, :2] = seen[:, :1] = True  # VisualBERT reads its answer off the last word but one
    return Inputs(
        torch.randint(1, 50, (rows, tokens), generator=draw),
        said.long(),
        torch.randn(rows, objects, given.example.visual_feats.shape[2], generator=draw),
        torch.rand(rows, objects, 4, generator=draw),
        seen.long(),
    )


def scores(model: Model, inputs: Inputs) -> np.ndarray:
    """What torch answers."""
    with torch.no_grad():
        return model.family.answer(model.module, inputs).numpy()


SIZES = ((1, 3, 1), (1, 9, 5), (3, 4, 7), (16, 16, 2))
"""Questions, tokens, regions."""
