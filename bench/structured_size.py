"""Measure full-size LXMERT without some neurons and heads: parameters, FLOPs, file size, and time in torch.

    python bench/structured_size.py [--sparsities 0.5 0.7 0.9] [--rounds 5] [--out FOLDER]

The weights are random, with the configuration of transformers (3,129 answers), because size and time do not depend on
them; units are chosen by low magnitude, with the same share of every group. A question has 20 words and 36 regions,
batch 1, one thread. The models answer in turns, and the time of a round is the median of ten answers. A ratio is the
median over the rounds of the ratio to the dense model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import LxmertConfig

from lxcompress.machine import describe_machine
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, save_weights
from lxcompress.models.flops import count_flops, make_example
from lxcompress.pruning.criteria import score_weights
from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import find_groups, operate
from lxcompress.pruning.units import choose_units
from lxcompress.rundir import write_text

ANSWERS, TOKENS, OBJECTS, RUNS = 3129, 20, 36, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.7, 0.9])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench/results/amd-epyc-2-cores"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LxmertConfig(num_qa_labels=ANSWERS)
    whole = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
    models, rows = {"dense": whole}, {}
    started = time.perf_counter()
    groups = find_groups(whole, ("neuron", "head"))
    tracing_s = time.perf_counter() - started
    prunable = {name: weight.shape for name, weight in whole.prunable.items()}
    scores = score_weights(whole.prunable, criterion="low-magnitude", seed=0)
    for sparsity in options.sparsities:
        surgery = choose_units(scores, groups, Selection(sparsity, "neuron+head"), prunable=prunable)
        models[f"neuron+head {100 * sparsity:g} %"] = operate(whole, surgery)
    del scores
    for name, model in models.items():
        kept = sum(weight.numel() for weight in model.prunable.values())
        rows[name] = {
            "parameters": model.live,
            "prunable_kept": kept,
            "achieved_sparsity": 1 - kept / sum(shape.numel() for shape in prunable.values()),
            "flops": count_flops(model, tokens=TOKENS, objects=OBJECTS),
            "file_bytes": file_bytes(model),
        }
    laps = {name: [] for name in models}
    for _ in range(options.rounds):
        for name, model in models.items():
            laps[name].append(median_answer_s(model))
    for name, row in rows.items():
        ratios = [own / dense for own, dense in zip(laps[name], laps["dense"], strict=True)]
        row |= {"answer_s": laps[name], "ratio_to_dense": statistics.median(ratios), "ratios": ratios}
        flops, parameters = row["flops"] / 1e9, row["parameters"] / 1e6
        print(
            f"{name:18} {parameters:6.1f} M parameters  {flops:5.2f} GFLOP  {row['file_bytes'] / 1e6:5.0f} MB  "
            f"{1000 * statistics.median(laps[name]):6.1f} ms  {row['ratio_to_dense']:.2f} of dense"
        )
    record = {
        "machine": describe_machine().model_dump(mode="json"),
        "threads": 1,
        "tokens": TOKENS,
        "objects": OBJECTS,
        "tracing_s": tracing_s,
        "models": rows,
    }
    write_text(options.out / "structured_size.json", json.dumps(record, indent=1) + "\n")


def file_bytes(model: Model) -> int:
    """Return the size of the model's weights as safetensors, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_weights(path, model.weights)
        return path.stat().st_size


@torch.no_grad()
def median_answer_s(model: Model) -> float:
    """Return the median seconds of an answer to one question, without the first two."""
    inputs = make_example(model, tokens=TOKENS, objects=OBJECTS)
    laps = []
    for _ in range(RUNS + 2):
        started = time.perf_counter()
        model.family.answer(model.module, inputs)
        laps.append(time.perf_counter() - started)
    return statistics.median(laps[2:])


if __name__ == "__main__":
    main()
