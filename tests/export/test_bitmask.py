"""Laws of bitmask artifacts: the folder of a ticket is that ticket, cut ones too, and a lie is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lxcompress.bitmask import bitmask_bytes, read_bitmask, write_bitmask
from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import ExportError, LxError, TicketError
from lxcompress.exporters.artifact import default_out, export, open_source
from lxcompress.exporters.bitmask import count_zeros
from lxcompress.exporters.formats import ExportOptions
from lxcompress.models.checkpoints import Model, load_model, save_model
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.pruning.surgery import Surgery
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import sha256
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.tickets import load_ticket
from tests.complain import complain
from tests.conftest import TOY_CELL
from tests.models.families import TOYS, family_params, save_start

TICKET = TOY_CELL
PRECISIONS = ("fp32", "fp16", "int8")
HALF_STEP = 0.5 * (1 + 1e-4)
SMALLER = {"neuron": 0.2, "head": 0.1, "neuron+head": 0.3, "layer": 0.2}


@pytest.fixture(scope="module")
def run(toy_run, tmp_path_factory) -> Path:
    """A run folder with one ticket, and that ticket as a bitmask of each precision where export puts it by itself."""
    root = shutil.copytree(toy_run, tmp_path_factory.mktemp("bitmask") / "run")
    source = open_source(root / "tickets" / TICKET)
    for precision in PRECISIONS:
        export(source, default_out(source.folder, "bitmask", precision), ExportOptions("bitmask", precision))
    return root


def place(run: Path, precision: str) -> Path:
    return default_out(run / "tickets" / TICKET, "bitmask", precision)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """An artifact to spoil."""
    shutil.copytree(place(run, "fp32"), tmp_path / "copy")
    return tmp_path / "copy"


def same(found: Model, expected: Model, precision: str) -> None:
    """The tensors of both, but for what the precision rounds."""
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        got = found.weights[name]
        if precision == "fp16":
            assert torch.equal(got, weight.half().float()), name
        elif precision == "int8" and weight.dim() > 1:
            steps = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True) / 127
            assert bool(((got - weight).abs() <= HALF_STEP * steps).all()), name
        else:
            assert torch.equal(got, weight), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_folder_of_a_ticket_is_that_ticket(run, precision) -> None:
    ticket, found = load_ticket(run / "tickets" / TICKET), load_ticket(place(run, precision))
    same(found.model, ticket.model, precision)
    assert found.mask.kept.keys() == ticket.mask.kept.keys()
    assert all(torch.equal(found.mask.kept[name], kept) for name, kept in ticket.mask.kept.items())
    sums = {"model_sha256", "mask_sha256", "files"}
    assert found.provenance.model_dump(exclude=sums) == ticket.provenance.model_dump(exclude=sums)
    assert load_vocabulary(str(found.folder)) == load_vocabulary(str(ticket.folder))
    assert not found.model.module.training


@pytest.mark.parametrize("precision", PRECISIONS)
def test_artifact_json_tells_the_truth(run, precision) -> None:
    out = place(run, precision)
    artifact = read_record(out / "artifact.json", Artifact)
    names = {"bitmask.safetensors", "config.json", "ticket.json", "vocab.txt"}
    assert artifact.files == {name: sha256(out / name) for name in names}
    assert {path.name for path in out.iterdir()} == names | {"artifact.json", "reliability.json"}
    assert artifact.size_bytes == sum((out / name).stat().st_size for name in names)
    assert (artifact.format, artifact.precision, artifact.cell) == ("bitmask", precision, TICKET)
    ticket = load_ticket(run / "tickets" / TICKET)
    shapes = {name: weight.shape for name, weight in ticket.model.weights.items()}
    kept = {name: int(each.sum()) for name, each in ticket.mask.kept.items()}
    assert bitmask_bytes(shapes, kept, precision=precision) == (out / "bitmask.safetensors").stat().st_size
    zeros, elements = count_zeros(out)
    weights = load_ticket(out).model.prunable
    assert zeros == sum(int((weight == 0).sum()) for weight in weights.values())
    assert elements == sum(weight.numel() for weight in weights.values())
    assert zeros >= ticket.provenance.sparsity.prunable - ticket.provenance.sparsity.kept
    assert artifact.prunable_zeros == zeros / elements
    if precision == "fp32":
        assert artifact.parity.changed_answers == 0
        assert artifact.accuracy == artifact.source_accuracy == ticket.provenance.accuracy


def test_a_dense_run_is_stored_whole(run, tmp_path) -> None:
    folder = run / "seeds" / "0" / "dense"
    for precision in PRECISIONS:
        out = tmp_path / precision
        artifact = export(open_source(folder), out, ExportOptions("bitmask", precision))
        same(load_model(out), load_model(folder), precision)
        assert artifact.cell is None
        assert any("no mask" in note for note in artifact.notes)
        assert not (out / "ticket.json").exists()
        assert open_source(out).ticket is None


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("granularity", SMALLER)
def test_a_smaller_model_stays_the_smaller_model(run, granularity, precision, tmp_path) -> None:
    dense, wish = run / "seeds" / "0" / "dense", {"granularity": granularity, "sparsity": SMALLER[granularity]}
    prune_model(str(dense), tmp_path / "ticket", PruneOptions(criterion="low-magnitude", **wish))
    ticket = load_ticket(tmp_path / "ticket")
    artifact = export(open_source(ticket.folder), tmp_path / "out", ExportOptions("bitmask", precision))
    found = load_ticket(tmp_path / "out")
    assert isinstance(found.cut, Surgery)
    assert found.cut == ticket.cut
    assert found.model.live == ticket.model.live == artifact.parameters < load_model(dense).live
    same(found.model, ticket.model, precision)
    assert count_zeros(tmp_path / "out")[1] == ticket.provenance.sparsity.kept
    (tmp_path / "out" / "surgery.json").write_text("{}", encoding="utf-8")
    complain(lambda: load_ticket(tmp_path / "out"), "surgery.json", "sha256", kind=TicketError)


@pytest.mark.parametrize("name", [*family_params(), "two images"])
def test_every_family_comes_back(name, tmp_path) -> None:
    start = save_start(TOYS.get(name, TOYS["lxmert"]), tmp_path / "start")
    model, weights = load_start(str(start), ANSWERS, 0, images=2 if name == "two images" else 1)
    save_model(tmp_path / "model", model, weights, shipped_vocabulary())
    prune_model(str(tmp_path / "model"), tmp_path / "ticket", PruneOptions(criterion="random", sparsity=0.7))
    artifact = export(open_source(tmp_path / "ticket"), tmp_path / "out", ExportOptions("bitmask"))
    assert artifact.parity.changed_answers == 0
    found, ticket = load_ticket(tmp_path / "out"), load_ticket(tmp_path / "ticket")
    same(found.model, ticket.model, "fp32")
    assert {name: each.tolist() for name, each in found.model.module.named_buffers()} == {
        name: each.tolist() for name, each in ticket.model.module.named_buffers()
    }


def test_an_artifact_is_exported_and_pruned_like_the_ticket(run, tmp_path) -> None:
    first, again = place(run, "fp32"), tmp_path / "again"
    export(open_source(first), again, ExportOptions("bitmask"))
    assert (again / "bitmask.safetensors").read_bytes() == (first / "bitmask.safetensors").read_bytes()
    prune_model(str(first), tmp_path / "further", PruneOptions(criterion="low-magnitude", sparsity=0.8))
    further, mask = load_ticket(tmp_path / "further").mask, load_ticket(first).mask
    assert not any(bool((further.kept[name] & ~kept).any()) for name, kept in mask.kept.items())


def test_half_the_weights_are_half_the_values(run) -> None:
    """The toy is mostly its header: what follows is of the data alone."""
    raw = (place(run, "fp32") / "bitmask.safetensors").read_bytes()
    data = len(raw) - 8 - int.from_bytes(raw[:8], "little")
    model = load_ticket(run / "tickets" / TICKET).model
    prunable = sum(weight.numel() for weight in model.prunable.values())
    assert data == pytest.approx(4 * (model.live - prunable / 2) + prunable / 8, abs=len(model.prunable))


def test_what_fp16_cannot_hold_is_refused_and_leaves_no_file(run, tmp_path) -> None:
    dense = load_model(run / "seeds" / "0" / "dense")
    weights = {name: weight.clone() for name, weight in dense.weights.items()}
    weights["lxmert.pooler.dense.bias"][0] = 70000.0
    save_model(tmp_path / "wide", dense, weights, shipped_vocabulary())
    source = open_source(tmp_path / "wide")
    options = ExportOptions("bitmask", "fp16")
    complain(
        lambda: export(source, tmp_path / "out", options),
        "pooler.dense.bias",
        "--precision",
        kind=ExportError,
    )
    assert not list((tmp_path / "out").glob("*"))


def test_a_folder_of_other_weights_is_not_written_into(run, tmp_path) -> None:
    shutil.copytree(run / "seeds" / "0" / "dense", tmp_path / "model")
    source = open_source(run / "tickets" / TICKET)
    complain(lambda: export(source, tmp_path / "model", ExportOptions("bitmask")), "another model", kind=ExportError)
    load_model(tmp_path / "model")


def test_a_changed_file_is_refused(copy) -> None:
    path = copy / "bitmask.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)
    complain(lambda: load_ticket(copy), path, "sha256", kind=TicketError)
    complain(lambda: load_model(copy), path, "sha256", kind=TicketError)


def test_a_missing_file_is_refused(copy) -> None:
    (copy / "bitmask.safetensors").unlink()
    complain(lambda: load_ticket(copy), copy, "missing", kind=TicketError)
    complain(lambda: load_model(copy), copy, "missing", kind=TicketError)


def reseal(folder: Path) -> None:
    """Makes ticket.json name the file that is there, as one who tampers with care would."""
    ticket = json.loads((folder / "ticket.json").read_text("utf-8"))
    ticket["model_sha256"] = sha256(folder / "bitmask.safetensors")
    ticket.pop("seal", None)
    (folder / "ticket.json").write_text(json.dumps(ticket), encoding="utf-8")


def rewrite(folder: Path, weights: dict[str, np.ndarray], masks: dict[str, np.ndarray]) -> None:
    write_bitmask(folder / "bitmask.safetensors", weights, masks, precision="fp32")
    reseal(folder)


def test_another_file_under_a_right_checksum_is_found(copy, run) -> None:
    weights = read_bitmask(copy / "bitmask.safetensors")
    kept = {name: each.numpy() for name, each in load_ticket(run / "tickets" / TICKET).mask.kept.items()}
    name = next(iter(kept))
    more = {**kept, name: np.ones_like(kept[name])}
    fewer = {other: each for other, each in kept.items() if other != name}
    for masks, named in ((more, "sparsity"), (fewer, "sparsity"), ({}, "has no mask")):
        rewrite(copy, weights, masks)
        complain(lambda: load_ticket(copy), copy, named, kind=TicketError)
    for wrong in (
        {**weights, "../../elsewhere": np.ones(3, np.float32)},
        {other: each for other, each in weights.items() if other in kept},
        {**weights, "lxmert.pooler.dense.bias": np.ones(3, np.float32)},
    ):
        rewrite(copy, wrong, kept)
        complain(lambda: load_ticket(copy), copy, kind=LxError)
    rewrite(copy, weights, kept)
    load_ticket(copy)


def test_the_ticket_itself_is_left_as_it_was(run) -> None:
    ticket = load_ticket(run / "tickets" / TICKET)
    assert load_file(ticket.folder / "model.safetensors").keys() == ticket.model.weights.keys()
