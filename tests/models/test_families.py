"""Laws of every family: one study for all, tickets that plain transformers loads, and names that say what they name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lxcompress.catalog.families import FAMILIES
from lxcompress.data.objects import ANSWERS
from lxcompress.data.split import Inputs
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import ModelError, PruneError, RecipeError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions, load_writer
from lxcompress.exporters.onnx import count_zeros
from lxcompress.models.checkpoints import Model, load_model, save_model
from lxcompress.models.start import NewLayers, load_start
from lxcompress.pruning.mask import Mask
from lxcompress.recipe import Recipe
from lxcompress.runtimes import open_session
from lxcompress.study.agreement import check_protocol
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket
from tests.models.families import PIXELS, TOYS, Toy, family_params, save_start, some_inputs

TICKET = "low-magnitude-weight-50-seed0"


@pytest.fixture(scope="module", params=family_params(slow=("oscar",)))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def toy(name) -> Toy:
    return TOYS[name]


@pytest.fixture(scope="module")
def start(toy, tmp_path_factory) -> Path:
    return save_start(toy, tmp_path_factory.mktemp("start"))


@pytest.fixture
def model(start) -> Model:
    return load_start(str(start), ANSWERS, 0)[0]


@pytest.fixture(scope="module")
def run(toy, start, tmp_path_factory) -> Path:
    """The run folder of a study of one cell and two epochs."""
    root = tmp_path_factory.mktemp("run")
    run_study(recipe(start, **toy.data), root)
    return root


def recipe(start: Path, **data: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "family",
            "seeds": [0],
            "device": "cpu",
            "data": {"kind": "scenes", "train": 48, "valid": 32, **data},
            "model": {"start": str(start)},
            "train": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3},
            "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]},
        }
    )


def answers(model: Model, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return model.family.answer(model.module, inputs)


def ask(toy: Toy, module: nn.Module, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return toy.ask(module, inputs)


def test_every_family_is_tried_here() -> None:
    assert TOYS.keys() == FAMILIES.keys()


def test_a_start_is_the_encoder_of_the_folder_under_a_head_of_the_seed(toy, start) -> None:
    kept = load_file(start / "model.safetensors")
    _, first = load_start(str(start), ANSWERS, 0)
    _, other = load_start(str(start), ANSWERS, 1)
    encoder = {name for name in first if name.startswith(toy.prefix)}
    assert encoder <= kept.keys()
    assert all(torch.equal(first[name], kept[name]) for name in encoder)
    assert {name for name in first if not torch.equal(first[name], other[name])} < first.keys() - encoder


def test_what_is_dead_gets_no_gradient_in_plain_transformers_and_all_else_does(toy, model) -> None:
    whole = toy.answering(model.config)
    whole.load_state_dict(model.weights, strict=False)
    toy.ask(whole, some_inputs(toy)).square().sum().backward()
    without = {name for name, weight in whole.named_parameters() if weight.grad is None}
    assert without == {name for name, _ in whole.named_parameters() if model.family.is_dead(name, model.config)}
    assert whole.state_dict().keys() - model.weights.keys() == without
    assert model.whole == sum(weight.numel() for weight in whole.parameters())
    assert model.live == sum(weight.numel() for name, weight in whole.named_parameters() if name not in without)
    assert model.family.shapes(model.config) == {name: weight.shape for name, weight in whole.state_dict().items()}


def test_the_adapter_answers_as_plain_transformers(toy, model) -> None:
    whole = toy.answering(model.config).eval()
    whole.load_state_dict(model.weights, strict=False)
    inputs = some_inputs(toy)
    scores = answers(model, inputs)
    assert scores.shape == (6, len(ANSWERS))
    assert float(scores.std(0).min()) > 1e-4
    torch.testing.assert_close(scores, ask(toy, whole, inputs), atol=1e-6, rtol=1e-5)


def test_an_answer_is_the_same_each_time_and_whatever_stands_beside_it(toy, model) -> None:
    inputs = some_inputs(toy)
    scores = answers(model, inputs)
    assert torch.equal(scores, answers(model, inputs))
    words, regions = int(inputs.attention_mask[1].sum()), int(inputs.visual_attention_mask[1].sum())
    alone = Inputs(*(tensor[1:2, :cut] for tensor, cut in zip(inputs, (words, words, *[regions] * 3), strict=True)))
    torch.testing.assert_close(answers(model, alone), scores[1:2], atol=1e-5, rtol=1e-4)


def test_what_is_seen_and_what_is_asked_both_move_the_answer(toy, model) -> None:
    inputs = some_inputs(toy)
    scores = answers(model, inputs)
    assert not torch.allclose(answers(model, inputs._replace(visual_feats=-inputs.visual_feats)), scores, atol=1e-4)
    said = inputs.input_ids.flip(0) * inputs.attention_mask
    assert not torch.allclose(answers(model, inputs._replace(input_ids=said)), scores, atol=1e-4)


def test_prunable_are_the_linear_layers_but_the_last_and_each_has_a_modality(model) -> None:
    linear = {f"{name}.weight" for name, module in model.module.named_modules() if isinstance(module, nn.Linear)}
    assert model.prunable.keys() == linear - {f"{model.family.anatomy.output_layer}weight"}
    assert {model.family.modality(name) for name in model.weights} == {"language", "vision", "cross", "head"}
    assert model.family.modality(f"{model.family.anatomy.output_layer}weight") == "head"


def test_feed_forwards_and_heads_name_every_linear_layer_between_embeddings_and_head_once(model) -> None:
    named = [part for each in model.family.feed_forwards(model.module) for part in (each.first, each.second)]
    for each in model.family.attentions(model.module):
        named += [each.query, each.key, each.value, each.output]
    parts = [name.removesuffix(".weight") for name in model.prunable]
    assert sorted(named) == sorted(part for part in parts if ".encoder." in part and ".visn_fc." not in part)


def test_a_neuron_is_a_row_of_the_first_layer_and_a_column_of_the_second(toy, model) -> None:
    inputs, weights = some_inputs(toy), {name: tensor.clone() for name, tensor in model.weights.items()}
    for block in model.family.feed_forwards(model.module):
        without_row = {name: tensor.clone() for name, tensor in weights.items()}
        without_row[f"{block.first}.weight"][3] = 0
        without_row[f"{block.first}.bias"][3] = 0
        without_column = {name: tensor.clone() for name, tensor in weights.items()}
        without_column[f"{block.second}.weight"][:, 3] = 0
        assert_equal_and_other(model, inputs, weights, without_row, without_column)


def test_a_head_is_a_slice_of_the_value_and_of_the_output(toy, model) -> None:
    inputs, weights = some_inputs(toy), {name: tensor.clone() for name, tensor in model.weights.items()}
    for each in model.family.attentions(model.module):
        width = len(weights[f"{each.value}.weight"]) // each.heads
        without_value = {name: tensor.clone() for name, tensor in weights.items()}
        without_value[f"{each.value}.weight"][width : 2 * width] = 0
        without_value[f"{each.value}.bias"][width : 2 * width] = 0
        without_output = {name: tensor.clone() for name, tensor in weights.items()}
        without_output[f"{each.output}.weight"][:, width : 2 * width] = 0
        assert_equal_and_other(model, inputs, weights, without_value, without_output)


def assert_equal_and_other(model: Model, inputs: Inputs, whole: dict, one: dict, other: dict) -> None:
    scores = []
    for weights in (whole, one, other):
        model.load(weights)
        scores.append(answers(model, inputs))
    torch.testing.assert_close(scores[1], scores[2], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(scores[0], scores[1], atol=1e-7)


def test_stacks_are_lists_of_layers_that_the_config_counts(model) -> None:
    stacks = model.family.stacks(model.config)
    assert stacks
    for module, field in stacks.items():
        assert len(model.module.get_submodule(module)) == getattr(model.config, field) > 0


def test_hidden_states_come_with_the_same_scores_and_all_feed_them(toy, model) -> None:
    scores, states = model.family.hidden(model.module, some_inputs(toy))
    assert torch.equal(scores.detach(), answers(model, some_inputs(toy)))
    gradients = torch.autograd.grad(scores.square().sum(), states, allow_unused=True)
    assert all(gradient is not None for gradient in gradients)
    assert len(states) > sum(getattr(model.config, field) for field in model.family.stacks(model.config).values()) - 1


def test_a_saved_model_loads_here_and_in_plain_transformers(toy, model, tmp_path) -> None:
    save_model(tmp_path, model, model.weights, shipped_vocabulary())
    inputs = some_inputs(toy)
    expected = answers(model, inputs)
    again = load_model(tmp_path)
    assert torch.equal(answers(again, inputs), expected)
    assert tuple(again.config.id2label[number] for number in range(len(ANSWERS))) == ANSWERS
    plain = toy.answering.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(ask(toy, plain, inputs), expected, atol=1e-6, rtol=1e-5)


def test_pretrained_answers_are_copied_from_the_head_of_the_start(model, tmp_path) -> None:
    save_model(tmp_path, model, model.weights, shipped_vocabulary())
    listed = tmp_path / "all_ans.json"
    listed.write_text(json.dumps([{"ans": answer, "dsets": ["vqa"]} for answer in ANSWERS]), encoding="utf-8")
    _, weights = load_start(str(tmp_path), ("no", "unheard of", "yes"), 0, layers=NewLayers(listed, -3.0))
    own = model.weights[f"{model.family.anatomy.output_layer}weight"]
    expected = torch.stack([own[1], torch.zeros_like(own[1]), own[0]])
    assert torch.equal(weights[f"{model.family.anatomy.output_layer}weight"], expected)
    assert float(weights[f"{model.family.anatomy.output_layer}bias"][1]) == -3.0


def test_a_vocabulary_of_ones_own_keeps_the_words_of_both(start, tmp_path) -> None:
    own = tmp_path / "vocab.txt"
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "zebra", *shipped_vocabulary()[-4:])
    own.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    before, _ = load_start(str(start), ANSWERS, 0)
    model, weights = load_start(str(start), ANSWERS, 0, vocabulary=own)
    assert len(model.weights[model.family.anatomy.words]) == model.config.vocab_size == len(tokens)
    assert torch.equal(weights[model.family.anatomy.words][-4:], before.weights[model.family.anatomy.words][-4:])


def test_a_study_ends_in_a_ticket_that_reloads(toy, run) -> None:
    ticket = load_ticket(run / "tickets" / TICKET)
    assert ticket.provenance.sparsity.achieved == pytest.approx(0.5, abs=1e-3)
    assert ticket.mask.kept.keys() == ticket.model.prunable.keys()
    inputs = some_inputs(toy)
    plain = toy.answering.from_pretrained(run / "tickets" / TICKET).eval()
    torch.testing.assert_close(ask(toy, plain, inputs), answers(ticket.model, inputs), atol=1e-6, rtol=1e-5)


def test_training_moves_every_live_tensor(run) -> None:
    start, dense = (load_file(run / "seeds" / "0" / path) for path in ("start.safetensors", "dense/model.safetensors"))
    assert start.keys() == dense.keys()
    assert not [name for name in start if torch.equal(start[name], dense[name])]


def test_onnx_answers_as_the_ticket_at_every_shape(name, toy, run, tmp_path) -> None:
    """An LXMERT: tests/export/test_onnx.py. A UNITER has the layers of OSCAR, which `make test-slow` exports."""
    if name in ("lxmert", "uniter"):
        return
    ticket = load_ticket(run / "tickets" / TICKET)
    artifact = export(open_source(run / "tickets" / TICKET), tmp_path, ExportOptions("onnx"))
    assert artifact.accuracy == artifact.source_accuracy
    counted = ticket.provenance.sparsity
    zeros, elements = count_zeros(tmp_path)
    assert (zeros, elements) == (counted.prunable - counted.kept, counted.prunable)
    session = open_session(tmp_path, threads=1)
    for rows, tokens in ((1, 3), (1, 20), (5, 9), (33, 40)):
        inputs = some_inputs(toy, rows, tokens, None if toy.regions == 1 else tokens)
        expected = answers(ticket.model, inputs).numpy()
        np.testing.assert_allclose(session.answer(inputs.numpy()), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("granularity", "format"),
    [
        ("neuron", "bitmask"),
        ("layer", "bitmask"),
        pytest.param("neuron", "onnx", marks=pytest.mark.slow),
        pytest.param("layer", "onnx", marks=pytest.mark.slow),
    ],
)
def test_a_ticket_that_is_a_smaller_model_exports(name, toy, start, tmp_path, granularity, format) -> None:
    """ONNX's converter sees only the smaller model, which tests/export traces too."""
    one_layer = {"lxmert": 0.25, "uniter": 0.35}.get(name, 0.4)  # a layer of one of its stacks
    sparsity = 0.2 if granularity == "neuron" else one_layer
    given = recipe(start, **toy.data)
    methods = [{"name": "cut", "granularity": granularity}]
    prune = {"criteria": [], "methods": methods, "sparsities": [sparsity], "multiple": 1}
    run_study(Recipe.model_validate({**given.model_dump(), "prune": prune}), tmp_path / "run")
    folder = next((tmp_path / "run" / "tickets").iterdir())
    ticket = load_ticket(folder)
    artifact = export(open_source(folder), tmp_path / "out", ExportOptions(format))
    assert artifact.accuracy == artifact.source_accuracy
    assert load_writer(format).count_zeros(tmp_path / "out") == (0, ticket.provenance.sparsity.kept)


def test_a_model_without_a_study_exports_on_made_up_questions(toy, model, tmp_path) -> None:
    """The questions are made up alike for each format: as a bitmask no model is traced."""
    save_model(tmp_path / "plain", model, model.weights, shipped_vocabulary())
    artifact = export(open_source(tmp_path / "plain"), tmp_path / "out", ExportOptions("bitmask"))
    assert artifact.accuracy is None
    assert artifact.parity.inputs.startswith("seeded random inputs")
    assert artifact.parity.max_abs_difference == 0
    assert (artifact.answers, artifact.feature_size) == (len(ANSWERS), toy.features)
    assert artifact.objects == (1 if toy.regions == 1 else 36)


def test_the_mask_of_another_family_is_refused(name, model, tmp_path) -> None:
    start = save_start(TOYS["visual_bert" if name == "lxmert" else "lxmert"], tmp_path)
    other, _ = load_start(str(start), ANSWERS, 0)
    mask = Mask({weight: torch.ones_like(tensor, dtype=torch.bool) for weight, tensor in other.prunable.items()})
    assert mask.apply(other.weights).keys() == other.weights.keys()
    with pytest.raises(PruneError, match="use the mask with the model that it was made for"):
        mask.apply(model.weights)


def test_two_images_a_question_are_for_lxmert_alone(name, start) -> None:
    if name == "lxmert":
        assert load_start(str(start), ("true", "false"), 0, images=2)[0].family.count_images
        return
    with pytest.raises(ModelError, match="one image per question, but the data have 2; start from an LXMERT"):
        load_start(str(start), ("true", "false"), 0, images=2)


def test_data_that_a_model_cannot_read_is_told_before_training(toy, start, tmp_path) -> None:
    wrong = {"pixels": PIXELS} if toy.regions > 1 else {}
    words = "leave data.pixels out" if toy.regions > 1 else f"give data.kind=scenes with data.pixels={PIXELS}"
    with pytest.raises(RecipeError, match=words):
        run_study(recipe(start, **wrong), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_questions_longer_than_the_model_reads_are_told_before_training(toy, tmp_path) -> None:
    config = type(toy.config).from_dict({**toy.config.to_dict(), "max_position_embeddings": 8})
    start = save_start(replace(toy, config=config), tmp_path / "start")
    with pytest.raises(RecipeError, match="reads at most 8 tokens per question, but data"):
        run_study(recipe(start, **toy.data), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_the_fault_that_names_tensors_of_lxmert_is_for_lxmert_alone(name, toy, start) -> None:
    given = recipe(start, **toy.data).model_copy(update={"protocol": ("every-tensor-pruned",)})
    model, _ = load_start(str(start), ANSWERS, 0)
    if name == "lxmert":
        check_protocol(model, given)
        return
    with pytest.raises(RecipeError, match=f"names tensors of LXMERT, but .* is a {name} model"):
        check_protocol(model, given)
