"""Law of compound tickets in every format: the file is the smaller model, and keeps what the ticket keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions, load_writer
from lxcompress.recipe import FirstStep
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.tickets import load_ticket
from tests.export.small import save_small

FAST = ("bitmask:fp32", "onnx-sparse:fp32")
SLOW = ("bitmask:int8", "onnx:fp32", "onnx:int8", "onnx:int4", "ort:fp32", "ort:int4", "litert:fp32", "litert:int8")
LIBRARIES = {"litert": "litert_torch"}


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of a model with fewer neurons and heads, of whose blocks most are removed."""
    folder = tmp_path_factory.mktemp("compound")
    first = FirstStep(granularity="neuron+head", sparsity=0.3)
    options = PruneOptions(sparsity=0.9, granularity="block-1x4", first=first)
    prune_model(str(save_small(folder / "start", cross_layers=2)), folder / "ticket", options)
    return folder / "ticket"


@pytest.mark.parametrize("wanted", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_file_of_a_compound_ticket_keeps_what_the_ticket_keeps(wanted: str, ticket: Path, tmp_path: Path) -> None:
    """The ticket is counted over the weights of the original model, and the file over those of the smaller one."""
    format, precision = wanted.split(":")
    if format in LIBRARIES:
        pytest.importorskip(LIBRARIES[format])
    artifact = export(open_source(ticket), tmp_path / "file", ExportOptions(format, precision))
    loaded = load_ticket(ticket)
    smaller = sum(weight.numel() for weight in loaded.model.prunable.values())
    assert loaded.provenance.first is not None
    assert smaller < loaded.provenance.sparsity.prunable
    zeros, elements = load_writer(format).count_zeros(tmp_path / "file")
    kept = loaded.provenance.sparsity.kept
    assert elements == smaller
    assert elements - zeros == kept if precision == "fp32" else 0 < elements - zeros <= kept
    assert artifact.parity is not None
    if precision == "fp32":
        assert artifact.parity.max_abs_difference <= artifact.parity.tolerance
        assert artifact.parity.changed_answers == 0
