"""Laws of exported transformers folders: plain transformers loads them, says nothing, and answers as the ticket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertTokenizer
from transformers.utils import logging as transformers_logging

from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.errors import ExportError
from lxcompress.exporters.artifact import ExportSource, export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.exporters.transformers import count_zeros
from lxcompress.models.checkpoints import load_model, save_model
from lxcompress.models.start import load_start
from lxcompress.rundir import sha256
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from tests.complain import complain
from tests.models.families import TOYS, Toy, save_start, some_inputs

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
QUESTIONS = ("Is there a red cube?", "How many SPHERES are left of it?", "qwxyz 17", "")


@pytest.fixture(scope="module", params=[name for name, toy in TOYS.items() if toy.is_of_transformers])
def toy(request) -> Toy:
    return TOYS[request.param]


@pytest.fixture(scope="module")
def model(toy, tmp_path_factory) -> Path:
    """A fine-tuned toy of the family as a transformers folder, less what no answer depends on."""
    root = tmp_path_factory.mktemp("model")
    made, weights = load_start(str(save_start(toy, root / "start")), ANSWERS, 0)
    save_model(root / "model", made, weights, shipped_vocabulary())
    return root / "model"


@pytest.fixture(scope="module")
def ticket(model, tmp_path_factory) -> ExportSource:
    """A ticket of half its weights."""
    folder = tmp_path_factory.mktemp("ticket") / "ticket"
    prune_model(str(model), folder, PruneOptions(criterion="low-magnitude", sparsity=0.5))
    return open_source(folder)


@contextmanager
def remarks() -> Iterator[list[str]]:
    """What transformers says meanwhile."""
    said: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger, level, bars = logging.getLogger("transformers"), transformers_logging.get_verbosity(), True
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_warning()
    transformers_logging.disable_progress_bar()
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def load_plainly(kind, folder: Path):
    """The model as a user of transformers gets it, who hears nothing."""
    with remarks() as said:
        made, account = kind.from_pretrained(folder, output_loading_info=True)
    assert said == []
    assert not any(account.values()), account
    return made.eval()


def test_without_the_writer_transformers_would_alarm(toy, ticket) -> None:
    """Why zeros are stored for what no answer depends on: a ticket's own folder lacks it."""
    with remarks() as said:
        toy.answering.from_pretrained(ticket.folder)
    lacks = bool(ticket.model.family.count_dead(ticket.model.config))
    assert any("TRAIN" in each or "MISSING" in each for each in said) == lacks


@pytest.mark.parametrize("precision", DTYPES)
def test_from_pretrained_loads_it_and_answers_as_the_ticket(toy, ticket, precision, tmp_path) -> None:
    artifact = export(ticket, tmp_path / "out", ExportOptions("transformers", precision))
    theirs = load_plainly(toy.answering, tmp_path / "out")
    assert theirs.dtype == DTYPES[precision]
    assert theirs.config.id2label == dict(enumerate(ANSWERS))
    for name, weight in ticket.model.weights.items():
        assert torch.equal(theirs.state_dict()[name], weight.to(DTYPES[precision])), name
    inputs = some_inputs(toy)
    with torch.no_grad():
        said = toy.ask(theirs.float(), inputs)
        expected = ticket.model.family.answer(ticket.model.module, inputs)
    torch.testing.assert_close(said, expected, atol=1e-5 if precision == "fp32" else 2e-2, rtol=0)
    sealed = ("artifact.json", "reliability.json")  # records with a checksum of their own
    files = {path.name: sha256(path) for path in (tmp_path / "out").iterdir() if path.name not in sealed}
    assert artifact.files == files
    assert files.keys() == {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"}


@pytest.mark.parametrize("precision", DTYPES)
def test_it_comes_back_without_what_is_dead(ticket, precision, tmp_path) -> None:
    export(ticket, tmp_path / "out", ExportOptions("transformers", precision))
    found = load_model(tmp_path / "out")
    assert found.weights.keys() == ticket.model.weights.keys()
    for name, weight in ticket.model.weights.items():
        assert torch.equal(found.weights[name], weight.to(DTYPES[precision]).float()), name
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert sum(each.numel() for each in stored.values()) == ticket.model.whole
    assert not any(bool(stored[name].any()) for name in stored.keys() - ticket.model.weights.keys())
    zeros, elements = count_zeros(tmp_path / "out")
    assert elements == sum(weight.numel() for weight in ticket.model.prunable.values())
    assert zeros == sum(int((weight.to(DTYPES[precision]) == 0).sum()) for weight in ticket.model.prunable.values())


@pytest.mark.parametrize("kind", [AutoTokenizer, BertTokenizer])
def test_its_tokenizer_cuts_questions_as_this_package_does(ticket, kind, tmp_path) -> None:
    export(ticket, tmp_path / "out", ExportOptions("transformers"))
    with remarks() as said:
        tokenizer = kind.from_pretrained(tmp_path / "out")
    assert said == []
    ours = tokenize(QUESTIONS, shipped_vocabulary(), 20)
    theirs = tokenizer(list(QUESTIONS), padding=True, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(theirs, ours)
    assert tokenizer.model_max_length == ticket.model.config.max_position_embeddings


def test_lxmert_is_found_by_its_task(ticket, toy, tmp_path) -> None:
    export(ticket, tmp_path / "out", ExportOptions("transformers"))
    if toy is TOYS["lxmert"]:
        load_plainly(AutoModelForQuestionAnswering, tmp_path / "out")
    assert f'"{toy.answering.__name__}"' in (tmp_path / "out" / "config.json").read_text("utf-8")


@pytest.mark.parametrize(("granularity", "sparsity"), [("layer", 0.25), ("neuron", 0.1)])
def test_fewer_layers_and_feed_forwards_of_one_width_load_too(toy, model, granularity, sparsity, tmp_path) -> None:
    wish = {"criterion": "low-magnitude", "granularity": granularity, "sparsity": sparsity}
    prune_model(str(model), tmp_path / "ticket", PruneOptions(**wish))
    source = open_source(tmp_path / "ticket")
    export(source, tmp_path / "out", ExportOptions("transformers"))
    theirs = load_plainly(toy.answering, tmp_path / "out")
    inputs = some_inputs(toy)
    with torch.no_grad():
        torch.testing.assert_close(
            toy.ask(theirs, inputs), source.model.family.answer(source.model.module, inputs), atol=1e-5, rtol=0
        )
    assert count_zeros(tmp_path / "out")[1] == source.ticket.provenance.sparsity.kept


@pytest.mark.parametrize(
    "wish",
    [
        {"granularity": "head", "sparsity": 0.1},
        {"granularity": "neuron+head", "sparsity": 0.3},
        {"granularity": "neuron", "sparsity": 0.2, "scope": "global", "multiple": 1},
    ],
)
def test_layers_of_many_sizes_are_refused_with_what_would_do(model, wish, tmp_path) -> None:
    prune_model(str(model), tmp_path / "ticket", PruneOptions(criterion="low-magnitude", **wish))
    source = open_source(tmp_path / "ticket")
    complain(
        lambda: export(source, tmp_path / "out", ExportOptions("transformers")),
        tmp_path / "out",
        "of equal size",
        "--format bitmask, or onnx",
        kind=ExportError,
    )
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.fixture
def lxmert(tmp_path) -> Path:
    return save_start(TOYS["lxmert"], tmp_path / "start")


def test_a_model_that_transformers_does_not_have_is_refused(lxmert, tmp_path) -> None:
    model, weights = load_start(str(lxmert), ANSWERS, 0, images=2)
    save_model(tmp_path / "pair", model, weights, shipped_vocabulary())
    source = open_source(tmp_path / "pair")
    options = ExportOptions("transformers")
    complain(lambda: export(source, tmp_path / "out", options), "several images", "bitmask", kind=ExportError)


@pytest.mark.parametrize(("value", "precision"), [(70000.0, "fp16"), (float("nan"), "fp32"), (float("inf"), "fp16")])
def test_numbers_that_cannot_be_stored_are_refused_by_name(lxmert, value, precision, tmp_path) -> None:
    model, weights = load_start(str(lxmert), ANSWERS, 0)
    weights["lxmert.pooler.dense.bias"][0] = value
    save_model(tmp_path / "model", model, weights, shipped_vocabulary())
    source = open_source(tmp_path / "model")
    options = ExportOptions("transformers", precision)
    complain(lambda: export(source, tmp_path / "out", options), "pooler.dense.bias", kind=ExportError)


def test_a_model_without_words_is_exported_without_a_tokenizer(lxmert, tmp_path) -> None:
    model, weights = load_start(str(lxmert), ANSWERS, 0)
    save_model(tmp_path / "model", model, weights, shipped_vocabulary())
    (tmp_path / "model" / "vocab.txt").unlink()
    artifact = export(open_source(tmp_path / "model"), tmp_path / "out", ExportOptions("transformers"))
    assert artifact.files.keys() == {"config.json", "model.safetensors"}
    assert any("without a tokenizer" in note for note in artifact.notes)


def test_a_family_that_transformers_lacks_is_refused(tmp_path) -> None:
    made, weights = load_start(str(save_start(TOYS["uniter"], tmp_path / "start")), ANSWERS, 0)
    save_model(tmp_path / "model", made, weights, shipped_vocabulary())
    complain(
        lambda: export(open_source(tmp_path / "model"), tmp_path / "out", ExportOptions("transformers")),
        "transformers has no UniterForQuestionAnswering",
        "give --format bitmask, or onnx",
        kind=ExportError,
    )
