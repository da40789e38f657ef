"""The smallest tickets that heavy formats are tested on: a few thousand weights, half of them removed."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LxmertConfig

from lxcompress.data.split import Inputs
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model

FEATURES = 12
SPARSITY = 0.5
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(45))]


def save_small(folder: Path, *, cross_layers: int = 1, images: int = 1) -> Path:
    """A model of random weights: `cross_layers` layers, each with attention in both directions but the last."""
    config = LxmertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        l_layers=0,
        r_layers=0,
        x_layers=cross_layers,
        max_position_embeddings=24,
        visual_feat_dim=FEATURES,
        num_qa_labels=7,
    )
    lxmert.FAMILY.set_images(config, images)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        model = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
        with torch.no_grad():
            for weight in model.module.parameters():  # scores far from zero, gains and biases that are not level
                weight.add_(0.1 * torch.randn_like(weight))
    save_model(folder, model, model.weights, WORDS)
    return folder


def save_ticket(folder: Path, *, granularity: str = "weight", cross_layers: int = 1, images: int = 1) -> Path:
    """A ticket of such a model, pruned by magnitude; of neurons and heads there are fewer to remove."""
    sparsity = SPARSITY if granularity == "weight" else 0.3
    start = save_small(folder / "start", cross_layers=cross_layers, images=images)
    prune_model(
        str(start),
        folder / "ticket",
        PruneOptions(criterion="low-magnitude", sparsity=sparsity, granularity=granularity),
    )
    return folder / "ticket"


def some_inputs(rows: int, tokens: int, objects: int) -> Inputs:
    """Questions and regions, the first and the last of which are shorter than the others."""
    draw = torch.Generator().manual_seed(100 * rows + tokens)
    said = torch.ones(rows, tokens, dtype=torch.int64)
    seen = torch.ones(rows, objects, dtype=torch.int64)
    said[0, tokens // 2 + 1 :] = 0
    seen[-1, objects // 2 + 1 :] = 0
    return Inputs(
        torch.randint(5, len(WORDS), (rows, tokens), generator=draw) * said,
        said,
        torch.randn(rows, objects, FEATURES, generator=draw),
        torch.rand(rows, objects, 4, generator=draw),
        seen,
    )


def score(model: Model, inputs: Inputs) -> torch.Tensor:
    """What torch answers."""
    with torch.no_grad():
        return model.family.answer(model.module, inputs)
