"""Checkpoints as the code of UNITER and of OSCAR writes them, from their module trees and not from ours.

The values come from numpy, whose draws never change, so that the scores of the authors' code can be kept as a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from lxcompress.data.split import Inputs
from tests.models.original import Sizes, attention, feed_forward, linear, norm, transform

TINY = Sizes(hidden=128, wide=24, tokens=40, positions=16, language=2, features=11, answers=7, object_labels=5)


def bert(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The text embeddings, the layers and the pooler of BERT."""
    for table, rows in (("word", sizes.tokens), ("position", sizes.positions), ("token_type", 2)):
        yield f"embeddings.{table}_embeddings.weight", (rows, sizes.hidden)
    yield from norm("embeddings.LayerNorm", sizes.hidden)
    for number in range(sizes.language):
        yield from attention(f"encoder.layer.{number}.attention", "self", sizes.hidden)
        yield from feed_forward(f"encoder.layer.{number}.intermediate", f"encoder.layer.{number}.output", sizes)
    yield from linear("pooler.dense", sizes.hidden, sizes.hidden)


def uniter_encoder(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """UniterModel: name -> shape, under `uniter.`."""
    regions = [
        *linear("img_embeddings.img_linear", sizes.hidden, sizes.features),
        *norm("img_embeddings.img_layer_norm", sizes.hidden),
        *norm("img_embeddings.pos_layer_norm", sizes.hidden),
        *linear("img_embeddings.pos_linear", sizes.hidden, 7),
        ("img_embeddings.mask_embedding.weight", (2, sizes.features)),
        *norm("img_embeddings.LayerNorm", sizes.hidden),
    ]
    return {f"uniter.{name}": shape for name, shape in (*bert(sizes), *regions)}


def uniter_pretrained(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """UniterForPretraining's state dict: name -> shape."""
    hidden = sizes.hidden
    heads = [
        *transform("cls.predictions", hidden),
        ("cls.predictions.bias", (sizes.tokens,)),
        ("cls.predictions.decoder.weight", (sizes.tokens, hidden)),
        *linear("feat_regress.net.0", hidden, hidden),
        *norm("feat_regress.net.2", hidden),
        ("feat_regress.weight", (hidden, sizes.features)),
        ("feat_regress.bias", (sizes.features,)),
        *linear("region_classifier.net.0", hidden, hidden),
        *norm("region_classifier.net.2", hidden),
        *linear("region_classifier.net.3", sizes.object_labels, hidden),
        *linear("itm_output", 2, hidden),
    ]
    return uniter_encoder(sizes) | dict(heads)


def uniter_fine_tuned(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """UniterForVisualQuestionAnswering's state dict: name -> shape."""
    double = 2 * sizes.hidden
    head = [
        *linear("vqa_output.0", double, sizes.hidden),
        *norm("vqa_output.2", double),
        *linear("vqa_output.3", sizes.answers, double),
    ]
    return uniter_encoder(sizes) | dict(head)


def oscar_encoder(sizes: Sizes, *, has_norm: bool = False) -> dict[str, tuple[int, ...]]:
    """BertImgModel: name -> shape, under `bert.`; VinVL's has a norm behind the projection of the regions."""
    regions = linear("img_embedding", sizes.hidden, sizes.features + 6)
    regions += norm("LayerNorm", sizes.hidden) if has_norm else []
    return {f"bert.{name}": shape for name, shape in (*bert(sizes), *regions)}


def oscar_pretrained(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """BertImgForPreTraining's state dict: name -> shape."""
    heads = [
        *transform("cls.predictions", sizes.hidden),
        ("cls.predictions.bias", (sizes.tokens,)),
        ("cls.predictions.decoder.weight", (sizes.tokens, sizes.hidden)),
        *linear("cls.seq_relationship", 2, sizes.hidden),
    ]
    return oscar_encoder(sizes) | dict(heads)


def oscar_fine_tuned(sizes: Sizes, *, has_norm: bool = False) -> dict[str, tuple[int, ...]]:
    """The state dict of ImageBertForSequenceClassification with a linear classifier: name -> shape."""
    return oscar_encoder(sizes, has_norm=has_norm) | dict(linear("classifier", sizes.answers, sizes.hidden))


def oscar_config(sizes: Sizes, *, has_norm: bool = False) -> dict[str, object]:
    """The config.json of the authors, which has no model_type."""
    return {
        "attention_probs_dropout_prob": 0.1,
        "finetuning_task": "vqa_text",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.3,
        "hidden_size": sizes.hidden,
        "img_feature_dim": sizes.features + 6,
        "img_feature_type": "faster_r-cnn",
        "initializer_range": 0.02,
        "intermediate_size": sizes.wide,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": sizes.positions,
        "num_attention_heads": sizes.hidden // 64,
        "num_hidden_layers": sizes.language,
        "num_labels": sizes.answers,
        "output_attentions": False,
        "output_hidden_states": False,
        "pruned_heads": {},
        "torchscript": False,
        "type_vocab_size": 2,
        "vocab_size": sizes.tokens,
        **({"use_img_layernorm": 1, "img_layer_norm_eps": 1e-12} if has_norm else {}),
    }


def draw_fixed(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random tensors that are the same with every version of every library; gains are about one."""
    generator = np.random.RandomState(0)
    drawn = {}
    for name in sorted(shapes):
        is_gain = len(shapes[name]) == 1 and name.endswith("weight")
        drawn[name] = torch.from_numpy((0.2 * generator.randn(*shapes[name]) + is_gain).astype(np.float32))
    return drawn


def fixed_inputs(sizes: Sizes, rows: int = 3, tokens: int = 6, regions: int = 5) -> Inputs:
    """Questions and regions that are the same with every version of every library; the second question is shorter."""
    generator = np.random.RandomState(1)
    words = torch.from_numpy(generator.randint(5, sizes.tokens, (rows, tokens)))
    said, seen = torch.ones(rows, tokens, dtype=torch.int64), torch.ones(rows, regions, dtype=torch.int64)
    said[1, 4:], seen[1, 3:] = 0, 0
    features = torch.from_numpy(generator.randn(rows, regions, sizes.features).astype(np.float32))
    corners = np.sort(generator.rand(rows, regions, 2, 2), axis=2).reshape(rows, regions, 4)
    return Inputs(words * said, said, features, torch.from_numpy(corners.astype(np.float32)), seen)


def with_tags(inputs: Inputs, separator: int = 4) -> Inputs:
    """The same inputs with object tags behind the first question: [CLS] question [SEP] tags [SEP]."""
    words = inputs.input_ids.clone()
    words[torch.arange(len(words)), inputs.attention_mask.sum(1) - 1] = separator
    words[0, 2] = separator
    return inputs._replace(input_ids=words)
