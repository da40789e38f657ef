"""Choosing masks over all matrices of full-size LXMERT but the embeddings: seconds, and peak memory.

    python bench/mask_selection.py [--rounds 3] [--out FOLDER]

Every case runs in a process of its own, which draws random normal weights of LXMERT's shapes (190 M, 760 MB as float32)
and then chooses a mask by low magnitude, the scoring included. Beside ours is the plain way to exactly k with ties to
the earlier: a stable argsort of the scores, of each matrix or of all together. The peak is that of the process, so the
weights are in it, and what was there before the choice is kept too. Where the seconds of the cores are less than those
of the clock, the machine was not quiet. Both ways' masks are compared.

Why ours is as it is: a threshold and a fill of its ties need no order of all the weights. In one matrix the threshold
comes from numpy's partition (vectorised where the processor has AVX-512 or AVX2), over all of them from two histograms
of the halves of the floats' bits, which need no copy of all scores in one piece.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from transformers import LxmertConfig

from lxcompress.machine import describe_machine
from lxcompress.measure.host.memory import peak_rss_bytes
from lxcompress.models.lxmert import FAMILY
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.selection import Selection
from lxcompress.rundir import write_text

SPARSITY = 0.7
OURS = {
    "layer": Selection(SPARSITY),
    "global": Selection(SPARSITY, scope="global"),
    "row": Selection(SPARSITY, scope="row"),
    "block-1x4": Selection(SPARSITY, "block-1x4"),
    "2:4": Selection(0.5, "2:4"),
}
PLAIN = {"layer": "plain layer", "global": "plain global"}
"""A case of ours -> the plain way to the same mask."""
ANSWERS = 3129


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of ours; the plain way runs once")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="a folder; bench/results/MACHINE by default")
    parser.add_argument("--case", default=None, help="run this case alone and print what came of it, as JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options.threads)))
        return
    found: dict[str, list[dict]] = {}
    for turn in range(options.rounds):
        for case in (*OURS, *(PLAIN.values() if turn == 0 else ())):
            found.setdefault(case, []).append(in_a_process(case, options.threads))
    for ours, plain in PLAIN.items():
        assert found[ours][0]["mask"] == found[plain][0]["mask"], f"{ours} and {plain} differ"
    report(found, options)


def in_a_process(case: str, threads: int) -> dict:
    """What came of a case in a process of its own."""
    command = [sys.executable, __file__, "--case", case, "--threads", str(threads)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run_case(case: str, threads: int) -> dict:
    """Seconds to choose the mask, the peak before and after, and a checksum of the mask."""
    torch.set_num_threads(threads)
    weights = draw_weights()
    before = peak_rss_bytes()
    started, worked = time.perf_counter(), time.process_time()
    kept = choose(case, weights)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    peak = peak_rss_bytes()
    digest = hashlib.sha256()
    for each in kept.values():
        digest.update(each.numpy())
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "before_bytes": before,
        "peak_bytes": peak,
        "weights": sum(weight.numel() for weight in weights.values()),
        "kept": sum(int(each.sum()) for each in kept.values()),
        "mask": digest.hexdigest()[:16],
    }


def draw_weights() -> dict[str, Tensor]:
    """Every matrix of LXMERT but the embeddings, drawn as BERT's are."""
    generator = torch.Generator().manual_seed(0)
    config = LxmertConfig(num_qa_labels=ANSWERS)
    return {
        name: torch.normal(0.0, config.initializer_range, tuple(shape), generator=generator)
        for name, shape in FAMILY.shapes(config).items()
        if len(shape) == 2 and ".embeddings." not in name
    }


def choose(case: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """name -> bool, True = kept."""
    if case == "plain layer":
        return {
            name: by_argsort(weight.abs(), keep_count(weight.numel(), SPARSITY)) for name, weight in weights.items()
        }
    if case == "plain global":
        together = torch.cat([weight.abs().flatten() for weight in weights.values()])
        kept = by_argsort(together, keep_count(together.numel(), SPARSITY))
        pieces = kept.split([weight.numel() for weight in weights.values()])
        return {name: piece.view_as(weights[name]) for name, piece in zip(weights, pieces, strict=True)}
    return dict(choose_mask(weights, OURS[case], criterion="low-magnitude", seed=0).kept)


def by_argsort(scores: Tensor, keep: int) -> Tensor:
    """The plain way to exactly `keep`, ties to the earlier."""
    order = scores.flatten().argsort(descending=True, stable=True)
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    kept[order[:keep]] = True
    return kept.view_as(scores)


def report(found: dict[str, list[dict]], options) -> None:
    """Prints what was found, and keeps it with its raw values and the machine."""
    machine = describe_machine()
    weights = found["layer"][0]["weights"]
    print(f"{weights:,} weights, sparsity {SPARSITY}, {options.threads} threads; {machine.processor}\n")
    print(f"{'':16}{'seconds':>9}{'of cores':>10}{'peak MB':>9}{'of it before':>14}")
    for case, runs in found.items():
        keys = ("seconds", "cpu_seconds", "peak_bytes", "before_bytes")
        middle = {key: statistics.median(run[key] for run in runs) for key in keys}
        print(f"{case:16}{middle['seconds']:9.2f}{middle['cpu_seconds']:10.2f}", end="")
        print(f"{middle['peak_bytes'] / 1e6:9.0f}{middle['before_bytes'] / 1e6:14.0f}")
    kept = {
        "weights": weights,
        "sparsity": SPARSITY,
        "threads": options.threads,
        "cases": found,
        "machine": machine.model_dump(mode="json"),
    }
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine.processor} {machine.cores} cores".lower())
    path = (options.out or Path(__file__).parent / "results" / name) / "mask_selection.json"
    write_text(path, json.dumps(kept, indent=1) + "\n")
    print(f"\nkept in {path}")


if __name__ == "__main__":
    main()
