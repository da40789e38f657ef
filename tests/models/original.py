"""Synthetic checkpoints with the names and shapes of LXMERT's own code, written from its module tree and not from ours.

`python -m tests.models.original FILE.pth` writes one of the released size (about 1 GB) and accounts for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import LxmertConfig

from lxcompress.data.split import Inputs
from lxcompress.models.original import account


@dataclass(frozen=True)
class Sizes:
    """The sizes of a checkpoint; the defaults are those of model_LXRT.pth."""

    hidden: int = 768
    wide: int = 3072
    tokens: int = 30_522
    positions: int = 512
    language: int = 9
    objects: int = 5
    cross: int = 5
    features: int = 2048
    answers: int = 9500
    object_labels: int = 1600
    attribute_labels: int = 400


TINY = Sizes(
    hidden=128,
    wide=24,
    tokens=40,
    positions=16,
    language=2,
    objects=1,
    cross=2,
    features=11,
    answers=7,
    object_labels=5,
    attribute_labels=3,
)

CONFIG = LxmertConfig(
    vocab_size=TINY.tokens,
    hidden_size=TINY.hidden,
    num_attention_heads=2,
    intermediate_size=TINY.wide,
    max_position_embeddings=TINY.positions,
    l_layers=TINY.language,
    r_layers=TINY.objects,
    x_layers=TINY.cross,
    visual_feat_dim=TINY.features,
    num_qa_labels=TINY.answers,
    num_object_labels=TINY.object_labels,
    num_attr_labels=TINY.attribute_labels,
)
"""What transformers calls the sizes of TINY."""


def encoder(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """LXRTModel: name -> shape, without what stands before its names."""
    return dict(_encoder(sizes))


def answer_head(sizes: Sizes, images: int = 1) -> dict[str, tuple[int, ...]]:
    """logit_fc: Linear, GeLU, LayerNorm, Linear."""
    double = 2 * sizes.hidden
    return dict(
        [
            *linear("logit_fc.0", double, images * sizes.hidden),
            *norm("logit_fc.2", double),
            *linear("logit_fc.3", sizes.answers, double),
        ]
    )


def task_heads(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The heads of LXRTPretraining but for its answer head."""
    return dict(
        [
            *transform("cls.predictions", sizes.hidden),
            ("cls.predictions.bias", (sizes.tokens,)),
            ("cls.predictions.decoder.weight", (sizes.tokens, sizes.hidden)),
            *linear("cls.seq_relationship", 2, sizes.hidden),
            *transform("obj_predict_head", sizes.hidden),
            *linear("obj_predict_head.decoder_dict.obj", sizes.object_labels, sizes.hidden),
            *linear("obj_predict_head.decoder_dict.attr", sizes.attribute_labels, sizes.hidden),
            *linear("obj_predict_head.decoder_dict.feat", sizes.features, sizes.hidden),
        ]
    )


def pretrained_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """LXRTPretraining's state dict: name -> shape."""
    return {
        **{f"bert.{name}": shape for name, shape in encoder(sizes).items()},
        **{f"answer_head.{name}": shape for name, shape in answer_head(sizes).items()},
        **task_heads(sizes),
    }


def fine_tuned_shapes(sizes: Sizes, images: int = 1) -> dict[str, tuple[int, ...]]:
    """The state dict of VQAModel, or, of two images, of NLVR2Model: name -> shape."""
    return {f"lxrt_encoder.model.bert.{name}": shape for name, shape in encoder(sizes).items()} | answer_head(
        sizes, images
    )


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Small random tensors, gains about one; the decoder of masked words is the word embeddings themselves."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, shape in shapes.items():
        is_gain = len(shape) == 1 and name.endswith("weight")
        drawn[name] = torch.normal(float(is_gain), 0.05, shape, generator=generator)
    for name in drawn.keys() & {"cls.predictions.decoder.weight"}:
        drawn[name] = drawn["bert.embeddings.word_embeddings.weight"]
    return drawn


def expand(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of the right shapes that hold one zero each, in memory and in a file."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same as it is saved from several GPUs, as the release was."""
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def some_inputs(config: LxmertConfig, batch: int, seed: int = 0) -> Inputs:
    """Random inputs [batch, ...] that `config` reads, some tokens and regions masked."""
    generator = torch.Generator().manual_seed(seed)
    tokens, objects = 6, 5
    ids = torch.randint(1, config.vocab_size, (batch, tokens), generator=generator)
    words = (torch.arange(tokens) < torch.randint(2, tokens + 1, (batch, 1), generator=generator)).long()
    seen = (torch.arange(objects) < torch.randint(1, objects + 1, (batch, 1), generator=generator)).long()
    features = torch.rand(batch, objects, config.visual_feat_dim, generator=generator)
    boxes = torch.rand(batch, objects, 4, generator=generator)
    return Inputs(ids * words, words, features, boxes, seen)


def _encoder(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = sizes.hidden
    for table, rows in (("word", sizes.tokens), ("position", sizes.positions), ("token_type", 2)):
        yield f"embeddings.{table}_embeddings.weight", (rows, hidden)
    yield from norm("embeddings.LayerNorm", hidden)
    for stream, reads, norm_name in (("visn_fc", sizes.features, "visn_layer_norm"), ("box_fc", 4, "box_layer_norm")):
        yield from linear(f"encoder.visn_fc.{stream}", hidden, reads)
        yield from norm(f"encoder.visn_fc.{norm_name}", hidden)
    for stack, count in (("layer", sizes.language), ("r_layers", sizes.objects)):
        for number in range(count):
            layer = f"encoder.{stack}.{number}"
            yield from attention(f"{layer}.attention", "self", hidden)
            yield from feed_forward(f"{layer}.intermediate", f"{layer}.output", sizes)
    for number in range(sizes.cross):
        layer = f"encoder.x_layers.{number}"
        yield from attention(f"{layer}.visual_attention", "att", hidden)
        for side in ("lang", "visn"):
            yield from attention(f"{layer}.{side}_self_att", "self", hidden)
            yield from feed_forward(f"{layer}.{side}_inter", f"{layer}.{side}_output", sizes)
    yield from linear("pooler.dense", hidden, hidden)


def attention(name: str, inner: str, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("query", "key", "value"):
        yield from linear(f"{name}.{inner}.{part}", hidden, hidden)
    yield from linear(f"{name}.output.dense", hidden, hidden)
    yield from norm(f"{name}.output.LayerNorm", hidden)


def feed_forward(inner: str, output: str, sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{inner}.dense", sizes.wide, sizes.hidden)
    yield from linear(f"{output}.dense", sizes.hidden, sizes.wide)
    yield from norm(f"{output}.LayerNorm", sizes.hidden)


def transform(name: str, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{name}.transform.dense", hidden, hidden)
    yield from norm(f"{name}.transform.LayerNorm", hidden)


def linear(name: str, out: int, reads: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (out, reads)), (f"{name}.bias", (out,))]


def norm(name: str, width: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (width,)), (f"{name}.bias", (width,))]


if __name__ == "__main__":
    torch.save(released(draw(pretrained_shapes(Sizes()))), sys.argv[1])
    found = account(Path(sys.argv[1]))
    counts = {"encoder": found.encoder, "answer head": found.answer_head, **found.aside, "total": found.total}
    print("\n".join(f"{count:>12,}  {group}" for group, count in counts.items()))
