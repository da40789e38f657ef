"""Measure the training speed of full-size LXMERT: our loop compared with the loop of the reference code.

    python bench/train_throughput.py [--device cuda] [--batches 32 64 128 256] [--rounds 3] [--steps 20]

Both loops train the same model (9/5/5 layers x 768, 3,129 answers, random weights) on the same synthetic questions of
real shapes (up to 20 tokens, 36 regions x 2,048 features), in one process, in turns. The plain loop is our own
implementation of the reference: eager fp32, a DataLoader that copies one image at a time, targets of every answer
made on the CPU, one copy to the device per tensor and step, an optimizer that updates one parameter after another, and
the answers copied back after each step. Ours is `lxcompress.training.fit`, as in a study.

The share of the matmul rate is (FLOP of a step at full width, counted as three forwards) / time / (rate of a product of
8192 x 8192 matrices in the same precision, measured in the same run; 2048 on a CPU). On a CPU our loop shortens
questions to their lengths, which the count ignores: there the share may exceed 100 %, and only the ratio of the loops
is meaningful.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from synthetic import FULL, TOKENS, Sizes, make_model, synthetic_task
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from lxcompress.data.split import AnswerTask, Inputs, Split
from lxcompress.machine import describe_machine
from lxcompress.models import lxmert
from lxcompress.recipe import Train
from lxcompress.rundir import write_text
from lxcompress.training.device import DeviceSpec, choose_device
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.training.fit import fit
from lxcompress.training.losses import binary_loss
from lxcompress.training.spec import FitSpec

SETTLING = {"cuda": 8, "cpu": 1, "mps": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="timed steps a round")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--layers", type=int, nargs=3, default=[9, 5, 5], help="language, vision and cross layers")
    parser.add_argument("--out", type=Path, default=None, help="a folder; bench/results/MACHINE by default")
    options = parser.parse_args()
    options.sizes = replace(FULL, layers=tuple(options.layers))
    device = choose_device(options.device, "auto")
    questions = max(options.batches) * (options.steps + SETTLING[device.torch_device.type])
    task = synthetic_task(questions, options.images, options.sizes)
    names = ["plain loop, batch 32", *(f"ours, batch {size}" for size in options.batches)]
    ways = {"plain loop, batch 32": lambda: plain_loop(task, options, device)}
    for size in options.batches:
        ways[f"ours, batch {size}"] = lambda size=size: our_loop(task, options, device, size, device.precision)
    if device.torch_device.type == "cpu":
        names.append("ours in bf16, batch 32")
        ways["ours in bf16, batch 32"] = lambda: our_loop(task, options, device, 32, "bf16")
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names:
            rates[name].append(ways[name]())
            print(f"round {turn + 1}  {name:<26} {rates[name][-1]:10.2f} questions/s", flush=True)
    report(rates, options, device)


def report(rates: dict[str, list[float]], options: argparse.Namespace, device: DeviceSpec) -> None:
    """Print the table, and save it with its raw values and the machine."""
    flop = 3 * forward_flop(options.sizes)
    matmul = {precision: matmul_rate(device, precision) for precision in ("fp32", "bf16")}
    plain = statistics.median(rates["plain loop, batch 32"])
    rows = []
    for name, values in rates.items():
        precision = "fp32" if name.startswith("plain") else "bf16" if "bf16" in name else device.precision
        median = statistics.median(values)
        rows.append(
            {
                "loop": name,
                "precision": precision,
                "questions_per_s": values,
                "median": median,
                "times_plain": median / plain,
                "share_of_matmul_rate": median * flop / matmul[precision],
            }
        )
        print(f"{name:<26} {median:10.2f}/s  {median / plain:6.2f} x  {100 * rows[-1]['share_of_matmul_rate']:5.1f} %")
    machine = describe_machine()
    import json

    found = {
        "flop_a_question": flop,
        "matmul_flop_per_s": matmul,
        "layers": options.layers,
        "steps": options.steps,
        "machine": machine.model_dump(mode="json"),
        "rows": rows,
    }
    folder = options.out or Path(__file__).parent / "results" / folder_name(machine)
    write_text(folder / "train_throughput.json", json.dumps(found, indent=1) + "\n")
    print(f"saved in {folder / 'train_throughput.json'}")


def folder_name(machine) -> str:
    """Return the name of the machine's folder: its accelerator, or its processor and number of cores."""
    words = (
        machine.accelerator or f"{machine.processor.split()[0]}-{machine.processor.split()[1]}-{machine.cores}-cores"
    )
    return "-".join("".join(c if c.isalnum() else " " for c in words).lower().split())


@dataclass
class Laps:
    """The time between two steps, after the device has finished all work before them."""

    device: DeviceSpec
    first: int
    last: int
    stamps: list[float] = field(default_factory=list)

    def __call__(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Take the time at the first and the last step."""
        if done in (self.first, self.last):
            self.device.wait()
            self.stamps.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return self.stamps[1] - self.stamps[0]


def our_loop(task: AnswerTask, options: argparse.Namespace, device: DeviceSpec, size: int, precision: str) -> float:
    """Return the questions per second of a study's loop."""
    device = DeviceSpec(device.torch_device, precision)
    settling = SETTLING[device.torch_device.type]
    rows = torch.arange(size * (options.steps + settling))
    part = AnswerTask(task.train.take(rows), task.valid, task.labels, task.vocabulary)
    laps = Laps(device, settling, settling + options.steps)
    fit(
        make_model(options.sizes).to(device.torch_device),
        move_to_device_if_it_fits(part, device, "auto"),
        FitSpec(settings=Train(epochs=1, batch_size=size), seed=0),
        answer=lxmert.FAMILY.answer,
        device=device,
        progress=laps,
    )
    return size * options.steps / laps.seconds


class PlainDataset(Dataset):
    """A data set that gives one question at a time, with a target for every answer."""

    def __init__(self, split: Split, rows: int, answers: int) -> None:
        self.split, self.rows, self.answers = split, rows, answers

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        split = self.split
        scene = int(split.scene[row])
        target = torch.zeros(self.answers)
        for answer, credit in zip(split.answers[row].tolist(), split.credits[row].tolist(), strict=True):
            target[answer] = credit
        ids = split.input_ids[row].long()
        return ids, (ids != 0).long(), split.regions.features[scene].float(), split.regions.boxes[scene].clone(), target


class PlainBertAdam:
    """BertAdam that updates one parameter after another (training/optimizers.py updates all at once)."""

    def __init__(self, weights: list[Tensor], rate: float) -> None:
        self.weights, self.rate = weights, rate
        self.moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]

    @torch.no_grad()
    def step(self) -> None:
        for weight, (mean, square) in zip(self.weights, self.moments, strict=True):
            if weight.grad is None:
                continue
            mean.mul_(0.9).add_(weight.grad, alpha=0.1)
            square.mul_(0.999).addcmul_(weight.grad, weight.grad, value=0.001)
            weight.add_(mean / (square.sqrt() + 1e-6) + 0.01 * weight, alpha=-self.rate)


def plain_loop(task: AnswerTask, options: argparse.Namespace, device: DeviceSpec) -> float:
    """Return the questions per second of the reference's loop."""
    settling, size = SETTLING[device.torch_device.type], 32
    dataset = PlainDataset(task.train, size * (options.steps + settling), len(task.labels))
    loader = DataLoader(dataset, batch_size=size, shuffle=True, pin_memory=device.is_cuda, drop_last=True)
    model = make_model(options.sizes).to(device.torch_device).train()
    weights = list(model.parameters())
    optimizer = PlainBertAdam(weights, 5e-5)
    laps = Laps(device, settling, settling + options.steps)
    for done, batch in enumerate(loader, start=1):
        for weight in weights:
            weight.grad = None
        *inputs, targets = (tensor.to(device.torch_device) for tensor in batch)
        scores = model(*[inputs[0], inputs[2], inputs[3]], attention_mask=inputs[1]).question_answering_score
        binary_loss(scores, targets).backward()
        nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        scores.max(1).indices.cpu().tolist()
        laps("training", done)
    return size * options.steps / laps.seconds


def forward_flop(sizes: Sizes) -> int:
    """Return the FLOP of a forward pass of one question at full width, as torch counts products."""
    inputs = Inputs(
        torch.ones(1, TOKENS, dtype=torch.int64),
        torch.ones(1, TOKENS, dtype=torch.int64),
        torch.zeros(1, sizes.regions, sizes.features),
        torch.zeros(1, sizes.regions, 4),
        torch.ones(1, sizes.regions, dtype=torch.int64),
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        lxmert.FAMILY.answer(make_model(sizes), inputs)
    return counter.get_total_flops()


def matmul_rate(device: DeviceSpec, precision: str) -> float:
    """Return the FLOP/s of a large matrix product: the best of several."""
    size = 8192 if device.is_cuda else 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device.torch_device, dtype=kind) for _ in range(2))
    return max(2 * size**3 / seconds for seconds in _laps(lambda: left @ right, device))


def _laps(work, device: DeviceSpec, times: int = 12) -> Iterator[float]:
    for _ in range(times):
        device.wait()
        started = time.perf_counter()
        work()
        device.wait()
        yield time.perf_counter() - started


if __name__ == "__main__":
    main()
