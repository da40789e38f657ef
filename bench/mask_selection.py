"""Measure time and peak memory of choosing a mask for all matrices of full-size LXMERT except the embeddings.

    python bench/mask_selection.py [--rounds 3] [--device cuda] [--out FOLDER]

Every case runs in its own process. It draws random normal weights of LXMERT's shapes (190 M, 760 MB as float32), scores
them by magnitude and chooses a mask. The plain way to keep exactly k, the earlier one of equal scores, is a stable
argsort of the scores, of each matrix or of all together. The peak is that of the process, which includes the weights;
the memory before the choice is saved too. With --device cuda the weights are on the GPU: ours copies them to the CPU,
as a study does, and the plain way sorts on the GPU. If the processor time is less than the time of the clock, the
machine was not quiet. The masks of both ways are compared.

The reasons for our way: a threshold and a choice among equal scores need no sorting of all weights. In one matrix, the
threshold comes from numpy's partition (vectorised with AVX-512 or AVX2); over all matrices, from two histograms of the
halves of the floats' bits, which need no copy of all scores.
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
from synthetic import FULL, Sizes
from torch import Tensor

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
"""A case of ours -> the plain case with the same mask."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of our cases; the plain ones run once")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=None, help="a folder; bench/results/MACHINE by default")
    parser.add_argument("--case", default=None, help="run only this case, and print its result as JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options.threads, device=options.device)))
        return
    found: dict[str, list[dict]] = {}
    for turn in range(options.rounds):
        for case in (*OURS, *(PLAIN.values() if turn == 0 else ())):
            found.setdefault(case, []).append(in_a_process(case, options.threads, options.device))
    for ours, plain in PLAIN.items():
        assert found[ours][0]["mask"] == found[plain][0]["mask"], f"{ours} and {plain} differ"
    report(found, options)


def in_a_process(case: str, threads: int, device: str) -> dict:
    """Run a case in its own process, and return its result."""
    command = [sys.executable, __file__, "--case", case, "--threads", str(threads), "--device", device]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run_case(case: str, threads: int, *, device: str = "cpu", sizes: Sizes = FULL) -> dict:
    """Return the seconds to choose the mask, the peak memory before and after, and a checksum of the mask."""
    torch.set_num_threads(threads)
    weights = {name: weight.to(device) for name, weight in draw_weights(sizes).items()}
    before = peak_rss_bytes()
    if device == "cuda":
        torch.cuda.synchronize()
    started, worked = time.perf_counter(), time.process_time()
    kept = {name: mask.cpu() for name, mask in choose(case, weights).items()}
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    peak = peak_rss_bytes()
    digest = hashlib.sha256()
    for mask in kept.values():
        digest.update(mask.numpy())
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "before_bytes": before,
        "peak_bytes": peak,
        "weights": sum(weight.numel() for weight in weights.values()),
        "kept": sum(int(mask.sum()) for mask in kept.values()),
        "mask": digest.hexdigest()[:16],
    }


def draw_weights(sizes: Sizes) -> dict[str, Tensor]:
    """Draw every matrix of LXMERT except the embeddings, as BERT does."""
    generator = torch.Generator().manual_seed(0)
    config = sizes.config()
    return {
        name: torch.normal(0.0, config.initializer_range, tuple(shape), generator=generator)
        for name, shape in FAMILY.shapes(config).items()
        if len(shape) == 2 and ".embeddings." not in name
    }


def choose(case: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the mask of each matrix, True for a kept weight."""
    if case == "plain layer":
        return {
            name: by_argsort(weight.abs(), keep_count(weight.numel(), SPARSITY)) for name, weight in weights.items()
        }
    if case == "plain global":
        together = torch.cat([weight.abs().flatten() for weight in weights.values()])
        kept = by_argsort(together, keep_count(together.numel(), SPARSITY))
        pieces = kept.split([weight.numel() for weight in weights.values()])
        return {name: piece.view_as(weights[name]) for name, piece in zip(weights, pieces, strict=True)}
    weights = {name: weight.cpu() for name, weight in weights.items()}
    return dict(choose_mask(weights, OURS[case], criterion="low-magnitude", seed=0).kept)


def by_argsort(scores: Tensor, keep: int) -> Tensor:
    """Keep exactly `keep` scores by sorting, the earlier ones of equal scores."""
    order = scores.flatten().argsort(descending=True, stable=True)
    kept = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[order[:keep]] = True
    return kept.view_as(scores)


def report(found: dict[str, list[dict]], options) -> None:
    """Print the results, and save them with their raw values and the machine."""
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
        "device": options.device,
        "cases": found,
        "machine": machine.model_dump(mode="json"),
    }
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine.processor} {machine.cores} cores".lower())
    path = (options.out or Path(__file__).parent / "results" / name) / "mask_selection.json"
    write_text(path, json.dumps(kept, indent=1) + "\n")
    print(f"\nsaved in {path}")


if __name__ == "__main__":
    main()
