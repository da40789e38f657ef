"""Laws of tickets: what is saved is what is loaded, transformers reads it too, and a changed one is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LxmertForQuestionAnswering
from transformers.utils import logging

from lxcompress.catalog.criteria import CRITERIA
from lxcompress.data.objects import ANSWERS
from lxcompress.data.split import Inputs
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import LxError, ModelError, PruneError, TicketError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.models.checkpoints import Model, load_model, save_model
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.pruning.bits import read_kept
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.mask import Mask
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.recipe import ScenesData
from lxcompress.records import Provenance, read_record
from lxcompress.rundir import sha256
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.tickets import (
    is_ticket,
    load_mask,
    load_ticket,
    mask_of,
    save_mask,
    save_ticket,
)
from tests.complain import complain as complain_of_kind

SMALLER = {"neuron": 0.2, "head": 0.1, "neuron+head": 0.3, "layer": 0.2}
"""The granularity of a smaller model -> its sparsity."""
FILES = ("config.json", "model.safetensors", "vocab.txt", "mask.safetensors", "ticket.json")


@pytest.fixture
def model(toy_start) -> Model:
    return load_start(str(toy_start), ANSWERS, 0)[0]


@pytest.fixture(scope="module")
def made(toy_start, tmp_path_factory) -> Path:
    """A folder with a fine-tuned toy, a ticket of half its weights, and its smaller models: the tests take copies."""
    root = tmp_path_factory.mktemp("made")
    model = load_start(str(toy_start), ANSWERS, 0)[0]
    save_model(root / "model", model, model.weights, shipped_vocabulary())
    prune_model(str(root / "model"), root / "ticket", PruneOptions(criterion="low-magnitude", sparsity=0.5))
    for granularity, sparsity in SMALLER.items():
        options = PruneOptions(criterion="low-magnitude", granularity=granularity, sparsity=sparsity)
        prune_model(str(root / "model"), root / granularity, options)
    return root


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A fine-tuned toy as a transformers folder."""
    return Path(shutil.copytree(made / "model", tmp_path / "model"))


@pytest.fixture
def ticket(made, tmp_path) -> Path:
    """A ticket of half the toy's weights."""
    return Path(shutil.copytree(made / "ticket", tmp_path / "ticket"))


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return load_task(ScenesData(kind="scenes", train=4, valid=40)).valid.inputs(torch.arange(40))


def provenance_of(model: Model, mask: Mask, **fields: Any) -> Provenance:
    return Provenance(
        **{
            "cell": "random-weight-50-seed0",
            "criterion": "random",
            "granularity": "weight",
            "scope": "layer",
            "target": 0.5,
            "seed": 0,
            "sparsity": mask.count(model.live, model.whole),
            "start_file": None,
            "start_sha256": None,
            "data": {"kind": "scenes"},
            "accuracy": None,
            **fields,
        }
    )


complain = partial(complain_of_kind, kind=TicketError)


def half(model: Model) -> Mask:
    return choose_mask(model.prunable, Selection(0.5), criterion="random", seed=0)


def save(folder: Path, model: Model, mask: Mask, weights: dict[str, torch.Tensor], **fields: Any) -> None:
    provenance = provenance_of(model, mask, **fields)
    save_ticket(folder, model, cut=mask, weights=weights, vocabulary=shipped_vocabulary(), provenance=provenance)


def same(first: Mask, second: Mask) -> bool:
    return first.kept.keys() == second.kept.keys() and all(
        torch.equal(first.kept[name], second.kept[name]) for name in first.kept
    )


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (3, 5), (1, 1), (4, 4), (5, 0), (2, 3, 11)])
def test_a_mask_of_any_shape_comes_back(shape, tmp_path) -> None:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    for name, kept in (("drawn", drawn), ("all", torch.ones_like(drawn)), ("none", torch.zeros_like(drawn))):
        mask = Mask({name: kept, "beside": drawn})
        save_mask(tmp_path / "mask.safetensors", mask)
        loaded = load_mask(tmp_path / "mask.safetensors")
        assert same(loaded, mask)
        assert all(kept.dtype == torch.bool for kept in loaded.kept.values())


def test_a_mask_is_an_eighth_of_a_byte_a_weight(tmp_path) -> None:
    shapes = {"a": (33, 31), "b": (64, 64)}
    save_mask(
        tmp_path / "m.safetensors", Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    )
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert file.get_tensor("a").numel() == 128
        assert file.get_tensor("b").numel() == 512
        assert file.get_tensor("a").dtype == torch.uint8


def test_the_first_weight_is_the_highest_bit(tmp_path) -> None:
    save_mask(tmp_path / "m.safetensors", Mask({"a": torch.tensor([True, *[False] * 7, False, True])}))
    assert load_file(tmp_path / "m.safetensors")["a"].tolist() == [0b1000_0000, 0b0100_0000]


def test_a_mask_that_is_not_contiguous_comes_back(tmp_path) -> None:
    mask = Mask({"a": (torch.arange(15).view(3, 5) % 2 == 0).T})
    save_mask(tmp_path / "m.safetensors", mask)
    assert same(load_mask(tmp_path / "m.safetensors"), mask)


def test_a_ticket_saved_and_loaded_is_the_same(model, inputs, tmp_path) -> None:
    mask = half(model)
    weights = mask.apply(model.weights)
    save(tmp_path / "ticket", model, mask, weights)
    loaded = load_ticket(tmp_path / "ticket")
    assert is_ticket(tmp_path / "ticket")
    assert same(loaded.mask, mask)
    assert loaded.model.weights.keys() == weights.keys()
    assert all(torch.equal(loaded.model.weights[name], weights[name]) for name in weights)
    assert load_vocabulary(str(tmp_path / "ticket")) == shipped_vocabulary()
    sums = {
        "model_sha256": sha256(tmp_path / "ticket" / "model.safetensors"),
        "mask_sha256": sha256(tmp_path / "ticket" / "mask.safetensors"),
    }
    files = {name: sha256(tmp_path / "ticket" / name) for name in ("config.json", "vocab.txt")}
    assert loaded.provenance == provenance_of(model, mask, **sums, files=files)
    model.load(weights)
    with torch.no_grad():
        answers = [each.family.answer(each.module, inputs) for each in (model, loaded.model)]
    assert torch.equal(*answers)


def test_saving_leaves_the_files_that_the_design_names_and_no_other(ticket) -> None:
    assert sorted(path.name for path in ticket.iterdir()) == sorted(FILES)


def test_transformers_loads_a_ticket_and_answers_the_same(ticket, inputs) -> None:
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        whole, account = LxmertForQuestionAnswering.from_pretrained(ticket, output_loading_info=True)
    finally:
        logging.set_verbosity(level)
    ours = load_ticket(ticket).model
    assert not account["unexpected_keys"]
    assert all(ours.family.is_dead(name, ours.config) for name in account["missing_keys"])
    assert account["missing_keys"]
    with torch.no_grad():
        expected = whole.eval()(**inputs._asdict()).question_answering_score
        assert torch.equal(ours.family.answer(ours.module, inputs), expected)
    assert whole.config.id2label == dict(enumerate(ANSWERS))


def test_a_kept_zero_stays_kept(model, tmp_path) -> None:
    mask = half(model)
    weights = mask.apply(model.weights)
    for name, kept in mask.kept.items():
        first = kept.nonzero()[0]
        weights[name][tuple(first)] = 0
    save(tmp_path / "ticket", model, mask, weights)
    loaded = load_ticket(tmp_path / "ticket")
    assert same(loaded.mask, mask)
    assert not any(torch.equal(loaded.mask.kept[name], loaded.model.weights[name] != 0) for name in mask.kept)
    assert loaded.provenance.sparsity.kept == sum(int(kept.sum()) for kept in mask.kept.values())


def test_weights_in_which_the_mask_does_not_hold_are_not_saved(model, tmp_path) -> None:
    mask = half(model)
    complain(lambda: save(tmp_path / "a", model, mask, model.weights), "not zero", kind=PruneError)
    weights = mask.apply(model.weights)
    name = next(iter(mask.kept))
    weights[name][tuple((~mask.kept[name]).nonzero()[-1])] = 1e-30
    complain(lambda: save(tmp_path / "a", model, mask, weights), "not zero", kind=PruneError)
    foreign = Mask({**mask.kept, name: torch.ones(3, 3, dtype=torch.bool)})
    complain(lambda: save(tmp_path / "a", model, foreign, weights), "3 x 3", kind=PruneError)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "mask.safetensors"])
@pytest.mark.parametrize(
    "change", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:-9], lambda _: b""]
)
def test_a_file_that_changed_is_named(name, change, ticket) -> None:
    path = ticket / name
    path.write_bytes(change(path.read_bytes()))
    complain(lambda: load_ticket(ticket), path, "sha256", "draw it again")


@pytest.mark.parametrize("name", ["model.safetensors", "mask.safetensors", "ticket.json"])
def test_a_file_that_is_missing_is_named(name, ticket) -> None:
    (ticket / name).unlink()
    complain(lambda: load_ticket(ticket), ticket, name)
    assert is_ticket(ticket) == (name != "ticket.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"cell": 3}'])
def test_a_damaged_provenance_is_named(text, ticket) -> None:
    (ticket / "ticket.json").write_text(text, encoding="utf-8")
    complain(lambda: load_ticket(ticket), ticket / "ticket.json")


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "0" * 64},
        {"mask_sha256": ""},
        {"version": 99},
        {"surprise": 1},
        {"target": "half"},
        {"sparsity": {"prunable": 1}},
    ],
)
def test_a_changed_provenance_is_refused(change, ticket) -> None:
    edit(ticket, change)
    complain(lambda: load_ticket(ticket), ticket)


@pytest.mark.parametrize("field", ["prunable", "kept", "achieved", "live", "all"])
def test_a_provenance_that_counts_otherwise_than_its_mask_is_refused(field, ticket) -> None:
    counted = json.loads((ticket / "ticket.json").read_text("utf-8"))["sparsity"]
    edit(ticket, {"sparsity": counted | {field: counted[field] * 2}})
    complain(lambda: load_ticket(ticket), ticket, "sparsity")
    complain(lambda: read_kept(ticket), ticket)


def edit(ticket: Path, change: dict[str, Any]) -> None:
    path = ticket / "ticket.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), encoding="utf-8")


def reseal(ticket: Path) -> None:
    """Makes the checksums right again, as one who tampers with care would."""
    edit(ticket, {f"{name}_sha256": sha256(ticket / f"{name}.safetensors") for name in ("model", "mask")})


def test_weights_revived_under_a_right_checksum_are_found(ticket) -> None:
    mask, path = load_mask(ticket / "mask.safetensors"), ticket / "model.safetensors"
    weights = load_file(path)
    name = next(iter(mask.kept))
    weights[name][tuple((~mask.kept[name]).nonzero()[0])] = 0.5
    save_file(weights, path, metadata={"format": "pt"})
    reseal(ticket)
    for read in (load_ticket, read_kept):
        complain(lambda read=read: read(ticket), ticket, "not zero")


def test_a_mask_is_read_without_the_model(ticket) -> None:
    kept, mask = read_kept(ticket), load_ticket(ticket).mask
    assert list(kept) == list(mask.kept)
    assert all(np.array_equal(kept[name], matrix.numpy()) for name, matrix in mask.kept.items())


def test_a_mask_of_another_model_under_a_right_checksum_is_found(ticket) -> None:
    mask = load_mask(ticket / "mask.safetensors")
    for kept in ({"elsewhere": torch.ones(2, 2, dtype=torch.bool)}, {next(iter(mask.kept)): torch.ones(2, 2).bool()}):
        save_mask(ticket / "mask.safetensors", Mask({**mask.kept, **kept}))
        reseal(ticket)
        complain(lambda: load_ticket(ticket), ticket, "mask")


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"a": torch.zeros(2, dtype=torch.uint8)}, None),
        ({"a": torch.zeros(2, dtype=torch.uint8)}, {"shapes": "{"}),
        ({"a": torch.zeros(2, dtype=torch.uint8)}, {"shapes": '{"a": [3, 3, 3]}'}),
        ({"a": torch.zeros(2, dtype=torch.uint8)}, {"shapes": '{"a": [8]}'}),
        ({"a": torch.zeros(2, dtype=torch.uint8)}, {"shapes": '{"b": [16]}'}),
        ({"a": torch.zeros(2)}, {"shapes": '{"a": [16]}'}),
        ({"a": torch.zeros(2, dtype=torch.uint8)}, {"shapes": '{"a": "wide"}'}),
        ({"a": torch.zeros(2, dtype=torch.uint8)}, {"shapes": "[]"}),
    ],
)
def test_a_file_that_is_no_mask_gives_one_sentence(tensors, metadata, tmp_path) -> None:
    path = tmp_path / "mask.safetensors"
    save_file(tensors, path, metadata=metadata)
    complain(lambda: load_mask(path), path, "cannot be read as a mask")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("a file")])
def test_what_is_no_ticket_is_refused(make, tmp_path) -> None:
    make(tmp_path / "place")
    complain(lambda: load_ticket(tmp_path / "place"), "is not a ticket", "lxcompress prune")


GRID = [
    pytest.param(criterion, sparsity, scope, marks=[] if (row + column + index) % 2 == 0 else pytest.mark.slow)
    for row, criterion in enumerate(("low-magnitude", "random", "high-magnitude"))
    for column, sparsity in enumerate((0.1, 0.37, 0.5, 0.9))
    for index, scope in enumerate(("layer", "global"))
]
"""Every pair of values is in `make test`, and every three in `make test-slow` or there."""


@pytest.mark.parametrize(("criterion", "sparsity", "scope"), GRID)
def test_pruning_keeps_exactly_k_and_changes_nothing_else(criterion, sparsity, scope, folder, tmp_path) -> None:
    before = load_model(folder)
    provenance = prune_model(
        str(folder), tmp_path / "out", PruneOptions(criterion=criterion, sparsity=sparsity, scope=scope)
    )
    pruned = load_ticket(tmp_path / "out")
    sizes = {name: weight.numel() for name, weight in before.prunable.items()}
    kept = {name: int(each.sum()) for name, each in pruned.mask.kept.items()}
    assert kept.keys() == sizes.keys()
    if scope == "layer":
        assert kept == {name: keep_count(size, sparsity) for name, size in sizes.items()}
    assert sum(kept.values()) == provenance.sparsity.kept
    if scope == "global":
        assert sum(kept.values()) == keep_count(sum(sizes.values()), sparsity)
    for name, weight in before.weights.items():
        expected = weight * pruned.mask.kept[name] if name in kept else weight
        assert torch.equal(pruned.model.weights[name], expected)
    assert provenance.sparsity.achieved == pytest.approx(sparsity, abs=0.002)
    assert (provenance.sparsity.live, provenance.sparsity.all) == (before.live, before.whole)
    assert load_vocabulary(str(tmp_path / "out")) == load_vocabulary(str(folder))


def test_pruning_a_ticket_further_keeps_its_zeros_and_its_data(model, tmp_path) -> None:
    mask = half(model)
    save(tmp_path / "first", model, mask, mask.apply(model.weights))
    provenance = prune_model(
        str(tmp_path / "first"), tmp_path / "second", PruneOptions(criterion="low-magnitude", sparsity=0.8)
    )
    second = load_ticket(tmp_path / "second")
    for name, kept in mask.kept.items():
        assert int(second.mask.kept[name].sum()) == keep_count(kept.numel(), 0.8)
        assert not bool((second.mask.kept[name] & ~kept).any())
    assert provenance.data == {"kind": "scenes"}
    assert provenance.accuracy is None


def test_pruning_is_the_same_each_time_and_random_turns_on_the_seed(folder, tmp_path) -> None:
    outs = [tmp_path / str(number) for number in range(5)]
    for out, seed in zip(outs, (0, 0, 0, 0, 1), strict=True):
        prune_model(str(folder), out, PruneOptions(criterion="random", sparsity=0.5, seed=seed))
    files = [[sha256(out / name) for name in FILES] for out in outs]
    assert all(file == files[0] for file in files[:4])
    assert files[4][FILES.index("mask.safetensors")] != files[0][FILES.index("mask.safetensors")]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"criterion": "biggest"}, ("--criterion biggest", *CRITERIA)),
        ({"scope": "block"}, ("--scope block", "layer, row, global")),
        ({"sparsity": 0.0}, ("--sparsity 0", "0.5 for 50 %")),
        ({"sparsity": 1.0}, ("--sparsity 1", "0.5 for 50 %")),
        ({"sparsity": 50.0}, ("--sparsity 50",)),
        ({"sparsity": float("nan")}, ("--sparsity nan",)),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(fields, named, folder, tmp_path) -> None:
    wish = {"criterion": "random", "sparsity": 0.5, **fields}
    complain(lambda: prune_model(str(folder), tmp_path / "out", PruneOptions(**wish)), *named, kind=PruneError)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_not_written_over(folder, ticket, tmp_path) -> None:
    before = (ticket / "mask.safetensors").read_bytes()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in (ticket, folder, tmp_path / "file"):
        complain(
            lambda out=out: prune_model(str(folder), out, PruneOptions(criterion="random", sparsity=0.9)), out, "--out"
        )
    assert (ticket / "mask.safetensors").read_bytes() == before
    assert (tmp_path / "file").read_text("utf-8") == "mine"
    (tmp_path / "empty").mkdir()
    prune_model(str(folder), tmp_path / "empty", PruneOptions(criterion="random", sparsity=0.9))


def test_a_source_that_is_no_model_gives_one_sentence(tmp_path) -> None:
    absent = tmp_path / "absent"
    wish = {"criterion": "random", "sparsity": 0.5}
    complain(lambda: prune_model(str(absent), tmp_path / "out", PruneOptions(**wish)), absent, kind=LxError)
    assert not (tmp_path / "out").exists()


def test_a_ticket_that_was_changed_is_not_pruned_further(ticket, tmp_path) -> None:
    (ticket / "mask.safetensors").write_bytes(b"")
    complain(
        lambda: prune_model(str(ticket), tmp_path / "out", PruneOptions(criterion="random", sparsity=0.9)),
        "mask.safetensors",
    )


@pytest.fixture(params=SMALLER)
def smaller(request, made, tmp_path) -> Path:
    """A ticket that is a smaller model."""
    return Path(shutil.copytree(made / request.param, tmp_path / "smaller"))


def test_a_smaller_model_comes_back_as_it_was_cut(smaller, folder, inputs) -> None:
    dense, ticket = load_model(folder), load_ticket(smaller)
    assert isinstance(ticket.cut, Surgery)
    assert read_kept(smaller) is None
    made = operate(dense, ticket.cut)
    assert 0 < ticket.model.live == made.live < dense.live
    assert ticket.provenance.sparsity.kept == sum(matrix.numel() for matrix in ticket.model.prunable.values())
    assert all(torch.equal(ticket.model.weights[name], each) for name, each in made.weights.items())
    with torch.no_grad():
        said, expected = (each.family.answer(each.module, inputs) for each in (ticket.model, made))
    assert torch.equal(said, expected)
    assert not ticket.model.module.training
    assert {path.name for path in smaller.iterdir()} == {
        "config.json",
        "model.safetensors",
        "surgery.json",
        "ticket.json",
        "vocab.txt",
    }


def test_replaying_the_surgery_gives_the_same_bytes(smaller, folder, tmp_path) -> None:
    dense = load_model(folder)
    surgery = read_record(smaller / "surgery.json", Surgery)
    save_ticket(
        tmp_path / "again",
        operate(dense, surgery),
        cut=surgery,
        weights=surgery.apply(dense.weights),
        vocabulary=shipped_vocabulary(),
        provenance=load_ticket(smaller).provenance,
    )
    for path in smaller.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_a_smaller_model_is_trained_and_saved_again(smaller, tmp_path) -> None:
    ticket = load_ticket(smaller)
    weights = {name: tensor * 2 for name, tensor in ticket.model.weights.items()}
    wish = {"vocabulary": shipped_vocabulary(), "provenance": ticket.provenance}
    save_ticket(tmp_path / "trained", ticket.model, cut=ticket.cut, weights=weights, **wish)
    again = load_ticket(tmp_path / "trained").model.weights
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_a_ticket_of_fewer_layers_is_transformers_own(folder, tmp_path, inputs) -> None:
    prune_model(str(folder), tmp_path / "t", PruneOptions(criterion="low-magnitude", granularity="layer", sparsity=0.2))
    logging.set_verbosity_error()
    theirs, account = LxmertForQuestionAnswering.from_pretrained(tmp_path / "t", output_loading_info=True)
    assert all("visn_" in name for name in account["missing_keys"])
    assert not account["unexpected_keys"]
    ours = load_ticket(tmp_path / "t").model
    with torch.no_grad():
        expected = ours.family.answer(ours.module, inputs)
        said = theirs.eval()(**inputs._asdict()).question_answering_score
    torch.testing.assert_close(said, expected)


def test_a_ticket_that_was_cut_has_no_mask_and_is_not_cut_again(smaller, tmp_path) -> None:
    complain(lambda: load_ticket(smaller).mask, smaller, "no mask")
    for granularity in ("weight", "neuron"):
        wish = {"criterion": "random", "sparsity": 0.2, "granularity": granularity}
        complain(
            lambda wish=wish: prune_model(str(smaller), tmp_path / "out", PruneOptions(**wish)),
            smaller,
            kind=PruneError,
        )
    assert not (tmp_path / "out").exists()
    complain(lambda: load_start(str(smaller), ANSWERS, 0), smaller, "a whole one", kind=ModelError)


def test_the_mask_of_a_smaller_model_has_the_shapes_of_the_whole_one(smaller, folder) -> None:
    whole, ticket = load_model(folder), load_ticket(smaller)
    if any(cut.kind == "layer" for cut in ticket.cut.cuts):
        complain(lambda: mask_of(ticket), "granularity layer", kind=PruneError)
        return
    mask = mask_of(ticket)
    assert {name: kept.shape for name, kept in mask.kept.items()} == {
        name: weight.shape for name, weight in whole.prunable.items()
    }
    assert mask.count(whole.live, whole.whole).kept == ticket.provenance.sparsity.kept


def test_the_mask_of_a_masked_ticket_is_its_own(ticket) -> None:
    read = load_ticket(ticket)
    assert mask_of(read) is read.mask


def test_a_ticket_as_a_bitmask_has_the_same_mask(ticket, tmp_path) -> None:
    export(open_source(ticket), tmp_path / "bitmask", ExportOptions("bitmask"))
    assert same(load_ticket(tmp_path / "bitmask").mask, load_ticket(ticket).mask)


def change_surgery(folder: Path, change: Callable[[dict], None]) -> None:
    """Changes surgery.json, and its checksum in ticket.json as who knows the format would."""
    path = folder / "surgery.json"
    surgery = json.loads(path.read_text("utf-8"))
    change(surgery)
    path.write_text(json.dumps(surgery), encoding="utf-8")
    ticket = json.loads((folder / "ticket.json").read_text("utf-8"))
    ticket["surgery_sha256"] = sha256(path)
    (folder / "ticket.json").write_text(json.dumps(ticket), encoding="utf-8")


def test_a_changed_surgery_is_refused(smaller) -> None:
    text = (smaller / "surgery.json").read_text("utf-8")
    (smaller / "surgery.json").write_text(text.replace("0", "1", 1), encoding="utf-8")
    complain(lambda: load_ticket(smaller), "surgery.json", "sha256")
    (smaller / "surgery.json").unlink()
    complain(lambda: load_ticket(smaller), "surgery.json", "was removed")


@pytest.mark.parametrize(
    "change",
    [
        lambda surgery: surgery["cuts"].pop(),
        lambda surgery: surgery["cuts"][0].update(keep="0-999999"),
        lambda surgery: surgery["cuts"][0].update(units=surgery["cuts"][0]["units"] + 8),
        lambda surgery: surgery["cuts"][0].update(name=3),
        lambda surgery: surgery["cuts"][0]["parts"][0].update(tensor="no.such.weight"),
        lambda surgery: surgery["cuts"][0]["parts"][0].update(width=3),
        lambda surgery: surgery.update(cuts={}),
        lambda surgery: surgery.clear(),
    ],
)
def test_a_surgery_that_did_not_make_the_model_is_refused(change, smaller) -> None:
    change_surgery(smaller, change)
    complain(lambda: load_ticket(smaller), smaller)


def test_weights_of_no_such_model_are_refused(folder, tmp_path) -> None:
    prune_model(str(folder), tmp_path / "t", PruneOptions(criterion="random", granularity="neuron+head", sparsity=0.3))
    path = tmp_path / "t" / "model.safetensors"
    weights = load_file(path)
    head = next(name for name in weights if name.endswith("self.query.weight"))
    for wrong in (
        {name: each for name, each in weights.items() if name != head},
        {**weights, head: weights[head][:3].clone()},
        {**weights, head: weights[head][:0].clone()},
        {**weights, head.replace("query", "key"): weights[head][:, :3].clone()},
        {**weights, "more": weights[head].clone()},
    ):
        save_file(wrong, path, metadata={"format": "pt"})
        complain(lambda: load_model(tmp_path / "t"), tmp_path / "t", kind=LxError)


def test_a_surgery_is_saved_with_the_model_that_it_made_alone(folder, smaller, tmp_path) -> None:
    dense, ticket = load_model(folder), load_ticket(smaller)
    wish = {"cut": ticket.cut, "vocabulary": shipped_vocabulary(), "provenance": ticket.provenance}
    for model, weights in ((dense, dense.weights), (ticket.model, dense.weights), (dense, ticket.model.weights)):
        with pytest.raises(PruneError):
            save_ticket(tmp_path / "wrong", model, weights=weights, **wish)
    assert not (tmp_path / "wrong").exists()


def test_a_folder_that_held_a_mask_holds_the_surgery_alone(model, folder, tmp_path) -> None:
    """A study that was interrupted, and goes on with another recipe."""
    mask = half(model)
    save(tmp_path / "t", model, mask, mask.apply(model.weights))
    prune_model(str(folder), tmp_path / "other", PruneOptions(criterion="random", granularity="neuron", sparsity=0.2))
    other = load_ticket(tmp_path / "other")
    wish = {"vocabulary": shipped_vocabulary(), "provenance": other.provenance}
    save_ticket(tmp_path / "t", other.model, cut=other.cut, weights=other.model.weights, **wish)
    assert isinstance(load_ticket(tmp_path / "t").cut, Surgery)
    assert not (tmp_path / "t" / "mask.safetensors").exists()
    save(tmp_path / "t", model, mask, mask.apply(model.weights))
    assert same(load_ticket(tmp_path / "t").mask, mask)
    assert not (tmp_path / "t" / "surgery.json").exists()


def test_a_bitmask_beside_a_tickets_own_weights_is_not_read(ticket) -> None:
    (ticket / "bitmask.safetensors").write_bytes(b"of another model")
    assert load_ticket(ticket).mask.kept
    (ticket / "model.safetensors").unlink()
    complain(lambda: load_ticket(ticket), ticket / "bitmask.safetensors", "sha256")


def test_a_ticket_of_an_earlier_version_is_read(ticket) -> None:
    tree = json.loads((ticket / "ticket.json").read_text("utf-8"))
    assert tree.pop("surgery_sha256") == ""
    assert tree.pop("files").keys() == {"config.json", "vocab.txt"}
    assert len(tree.pop("seal")) == 64
    (ticket / "ticket.json").write_text(json.dumps(tree), encoding="utf-8")
    assert load_ticket(ticket).mask.kept


@pytest.mark.parametrize("granularity", SMALLER)
def test_more_than_can_be_cut_is_refused_before_anything_is_written(granularity, folder, tmp_path) -> None:
    wish = {"criterion": "random", "granularity": granularity, "sparsity": 0.99}
    complain(
        lambda: prune_model(str(folder), tmp_path / "out", PruneOptions(**wish)),
        f"{granularity}: can remove at most",
        kind=PruneError,
    )
    assert not (tmp_path / "out").exists()
