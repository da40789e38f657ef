"""What tickets keep, counted in their files, is what the masks and the models themselves say."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lxcompress.analysis.kept_weights import by_layer, count_mask, count_matrices
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.errors import TicketError
from lxcompress.pruning.mask import Mask
from lxcompress.pruning.overlap import kept_by_matrix
from lxcompress.pruning.surgery import GroupCut, Part, Surgery
from lxcompress.recipe import plain_method
from lxcompress.records import dump_record
from lxcompress.report.html import render_html
from lxcompress.report.kept import kept_section
from lxcompress.rundir import read_run
from lxcompress.tickets import load_mask, save_mask
from tests.report.synthetic import recipe, write_run

NAMES = (
    "lxmert.encoder.layer.0.attention.self.query.weight",
    "lxmert.encoder.layer.0.output.dense.weight",
    "lxmert.encoder.layer.10.output.dense.weight",
    "lxmert.encoder.layer.2.output.dense.weight",
    "lxmert.encoder.r_layers.0.output.dense.weight",
    "lxmert.encoder.visn_fc.visn_fc.weight",
    "lxmert.encoder.x_layers.0.output.dense.weight",
    "lxmert.pooler.dense.weight",
    "answer_head.logit_fc.0.weight",
)


def a_mask(seed: int = 0) -> Mask:
    """Matrices whose sizes are no multiples of eight, so that a byte is not all of one matrix."""
    chance = torch.Generator().manual_seed(seed)
    return Mask(
        {name: torch.rand(3 + index, 7, generator=chance) < 0.1 * (index + 1) for index, name in enumerate(NAMES)}
    )


@pytest.mark.parametrize("seed", range(3))
def test_bits_are_counted_as_the_mask_itself_counts(tmp_path, seed):
    save_mask(tmp_path / "mask.safetensors", a_mask(seed))
    counts = count_mask(tmp_path / "mask.safetensors")
    slow = kept_by_matrix(load_mask(tmp_path / "mask.safetensors"))
    assert counts == {name: (each.kept, each.weights) for name, each in slow.items()}
    layers = by_layer(counts)
    assert sum(kept for kept, _ in layers.values()) == sum(kept for kept, _ in counts.values())
    assert layers["layer 0"] == tuple(map(sum, zip(counts[NAMES[0]], counts[NAMES[1]], strict=True)))
    assert {"layer 10", "r_layers 0", "visn_fc", "pooler", "logit_fc 0"} < set(layers)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"no mask at all, but some text"])
def test_what_is_no_mask_is_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "mask.safetensors"
    path.write_bytes(content)
    with pytest.raises(TicketError, match=re.escape(str(path))):
        count_mask(path)


def a_model(layers: int) -> dict[str, np.ndarray]:
    made = {}
    for layer in range(layers):
        made[f"stack.{layer}.first.weight"] = np.ones((8, 4), np.float32)
        made[f"stack.{layer}.second.weight"] = np.ones((4, 8), np.float32)
        made[f"stack.{layer}.norm.weight"] = np.ones(4, np.float32)
    return {**made, "head.3.weight": np.ones((5, 4), np.float32), "words.weight": np.ones((9, 4), np.float32)}


def cut(tmp_path, surgery: Surgery) -> dict[str, tuple[int, int]]:
    """What is counted of a model of four layers after a surgery, by layer."""
    whole = a_model(4)
    smaller = surgery.apply({name: torch.from_numpy(array) for name, array in whole.items()})
    save_file(whole, tmp_path / "whole.safetensors")
    save_file({name: tensor.contiguous().numpy() for name, tensor in smaller.items()}, tmp_path / "smaller.safetensors")
    (tmp_path / "surgery.json").write_text(dump_record(surgery), encoding="utf-8")
    paths = (tmp_path / f"{name}" for name in ("smaller.safetensors", "whole.safetensors", "surgery.json"))
    return by_layer(count_matrices(*paths))


def test_neurons_that_are_cut_are_counted_in_their_layer(tmp_path):
    parts = (
        Part(tensor="stack.1.first.weight", dim=0, width=1),
        Part(tensor="stack.1.second.weight", dim=1, width=1),
    )
    surgery = Surgery(cuts=(GroupCut(kind="neuron", name="stack.1", units=8, keep=(0, 3, 7), parts=parts),))
    assert cut(tmp_path, surgery) == {
        "stack 0": (64, 64),
        "stack 1": (24, 64),
        "stack 2": (64, 64),
        "stack 3": (64, 64),
    }


def test_layers_that_are_left_out_keep_nothing_and_the_others_their_numbers(tmp_path):
    parts = tuple(
        Part(tensor=name, dim=None, width=array.size) for name, array in a_model(4).items() if name.startswith("stack.")
    )
    surgery = Surgery(cuts=(GroupCut(kind="layer", name="stack", units=4, keep=(0, 3), parts=parts),))
    assert cut(tmp_path, surgery) == {"stack 0": (64, 64), "stack 1": (0, 64), "stack 2": (0, 64), "stack 3": (64, 64)}


def test_the_page_shows_layers_of_the_tickets_that_are_there_and_names_those_that_are_not(tmp_path):
    run = write_run(tmp_path / "run", recipe(seeds=(0,)))
    summary = summarise(read_run(run.root))
    there = [cell for cell in summary.recipe.cells() if cell.sparsity != 0.9 or cell.method.criterion != "random"]
    for cell in there:
        save_mask(run.ticket(cell) / "mask.safetensors", a_mask())
    slots = {plain_method(name): slot for slot, name in enumerate(("low-magnitude", "random", "high-magnitude"))}
    kept = kept_section(summary, slots, 0.5)
    assert [panel.title for panel in kept.panels] == ["50 % sparsity", "70 % sparsity", "90 % sparsity"]
    assert "The ticket random-weight-90-seed0 is not in the run folder" in kept.absent
    first, second = (a_mask().kept[name] for name in NAMES[:2])
    share = int(first.sum() + second.sum()) / (first.numel() + second.numel())
    words = f"language 0: {100 * share:.1f} % kept"
    assert f"low-magnitude at 50 %, {words}" in kept.panels[0].chart
    assert "random at 90 %, language 0: unknown" in kept.panels[2].chart
    order = re.findall(r"font-size:12px;[^>]*text-anchor:end[^>]*>([^<]+)<", kept.panels[0].chart)
    assert order == [
        *("language", "vision", "cross", "head"),
        *("language 0", "language 2", "language 10", "regions", "vision 0", "cross 0", "pooler", "answer head"),
    ]
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.99)))
    assert "Kept weights, part by part" in text
    assert "random-weight-90-seed0 is not in the run folder" in text


def test_a_study_of_many_sparsities_shows_the_picks_the_least_and_the_most(tmp_path):
    tenths = tuple(tenth / 10 for tenth in range(1, 10))
    summary = summarise(read_run(write_run(tmp_path, recipe(sparsities=tenths, seeds=(0,))).root))
    slots = {plain_method("random"): 0}
    titles = [panel.title for panel in kept_section(summary, slots, 0.4).panels]
    assert titles == ["10 % sparsity", "40 % sparsity", "90 % sparsity"]
    assert len(kept_section(summary, slots, None).panels) == 3


def test_results_of_an_earlier_version_have_no_parts_and_no_section(tmp_path):
    run = write_run(tmp_path, recipe(seeds=(0,)))
    for path in run.root.glob("tickets/*/result.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["seal"]
        path.write_text(json.dumps({**record, "kept_by_modality": {}}), encoding="utf-8")
    summary = summarise(read_run(run.root))
    assert kept_section(summary, {plain_method("random"): 0}, None) is None
    assert "part by part" not in render_html(summary, pick_ticket(summary, Rule(retain=0.99)))
