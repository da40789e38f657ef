"""Laws of OSCAR's adapter: it answers as the authors' code, from the folders that their code writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.tokens import Vocabulary, tokenize
from lxcompress.models.checkpoints import load_model
from lxcompress.models.oscar import FAMILY, OscarConfig
from lxcompress.models.start import load_start
from tests.complain import complain
from tests.models.single_streams import (
    TINY,
    draw_fixed,
    fixed_inputs,
    oscar_config,
    oscar_fine_tuned,
    oscar_pretrained,
    with_tags,
)

AUTHORS_SCORES = Path(__file__).parent / "oscar_scores.json"
"""The scores that microsoft/Oscar's code gives for `with_tags(fixed_inputs)` and the weights of `draw_fixed`."""


def save(folder: Path, shapes: Mapping[str, tuple[int, ...]], **config: object) -> Path:
    """A folder as the authors' code writes it, with the config's fields changed or added."""
    (folder / "config.json").write_text(json.dumps({**oscar_config(TINY), **config}), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(SPECIAL), encoding="utf-8")
    torch.save(draw_fixed(shapes), folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("name", ["OSCAR", "VinVL"])
def test_it_answers_as_the_authors_code(name, tmp_path) -> None:
    has_norm = name == "VinVL"
    model = load_model(
        save(tmp_path, oscar_fine_tuned(TINY, has_norm=has_norm), **oscar_config(TINY, has_norm=has_norm))
    )
    with torch.no_grad():
        scores = FAMILY.answer(model.module, with_tags(fixed_inputs(TINY)))
    expected = torch.tensor(json.loads(AUTHORS_SCORES.read_text("utf-8"))[name])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert float(expected.std(0).min()) > 0.01
    assert len(model.weights) == len(oscar_fine_tuned(TINY, has_norm=has_norm))


def test_a_start_is_the_encoder_of_the_release_under_a_new_head(tmp_path) -> None:
    folder = save(tmp_path, oscar_pretrained(TINY))
    tensors = torch.load(folder / "pytorch_model.bin")
    _, weights = load_start(str(folder), ("yes", "no"), 0)
    assert torch.equal(weights["oscar.img_embeddings.img_linear.weight"], tensors["bert.img_embedding.weight"])
    assert len([name for name in weights if name.startswith("oscar.")]) == len(
        [name for name in tensors if name.startswith("bert.")]
    )
    complain(lambda: load_model(folder), "lacks 2 tensors of its answer head (classifier.bias is the first)")


def test_tags_are_words_of_the_second_token_type(tmp_path) -> None:
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "dog", "cat")
    ids = torch.from_numpy(tokenize(["what [SEP] dog cat", "what"], Vocabulary(words), 12)).long()
    inputs = fixed_inputs(TINY, rows=2)._replace(input_ids=ids, attention_mask=(ids != 0).long())
    module = load_model(save(tmp_path, oscar_fine_tuned(TINY))).module
    assert module.token_types(inputs).mul(inputs.attention_mask).tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]


@pytest.mark.parametrize(
    ("field", "value"), [("img_feature_type", "dis_code"), ("classifier", "mlp"), ("img_feature_dim", 6)]
)
def test_a_model_of_the_authors_that_is_not_supported_is_refused(field, value, tmp_path) -> None:
    complain(lambda: load_model(save(tmp_path, oscar_fine_tuned(TINY), **{field: value})), field, value)


def test_the_published_sizes() -> None:
    """OSCAR-base with VQA's 3,129 answers, and a MiniVLM of 12 layers with 384 channels."""
    for width, inner, heads in ((768, 3072, 12), (384, 1536, 12)):
        config = OscarConfig(hidden_size=width, intermediate_size=inner, num_attention_heads=heads)
        FAMILY.set_answers(config, 3129)
        shapes = FAMILY.shapes(config)
        prunable = sum(shape.numel() for name, shape in shapes.items() if FAMILY.is_prunable(name, shape))
        assert prunable == 12 * (4 * width**2 + 2 * width * inner) + width * 2054 + width**2
