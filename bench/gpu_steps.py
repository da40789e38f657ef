"""Steps of bench/gpu_proof.py that compare two ways of training, which must give the same.

A step is a function: setup -> figures. It raises StepFailedError if what it finds is wrong, and StepSkippedError if the
machine cannot show it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gpu_setup import Figures, Setup, StepFailedError, StepSkippedError, check_close, relative_error
from synthetic import make_model, synthetic_task
from torch import Tensor, nn
from train_throughput import PlainBertAdam

from lxcompress.data.split import AnswerTask
from lxcompress.errors import RunError
from lxcompress.models import lxmert
from lxcompress.recipe import Train
from lxcompress.records import Epoch
from lxcompress.training.device import choose_device
from lxcompress.training.feed import move_to_device_if_it_fits
from lxcompress.training.fit import can_compile, fit
from lxcompress.training.optimizers import BETAS, EPSILON, make_optimizer, set_rate
from lxcompress.training.spec import FitSpec


def find_device(setup: Setup) -> Figures:
    """Find the GPU and its libraries."""
    if setup.is_cuda and not torch.cuda.is_available():
        raise StepFailedError(f"torch {torch.__version__} finds no GPU; nvidia-smi must show one, and torch needs CUDA")
    device = setup.device()
    if not setup.is_cuda:
        return {"device": "cpu", "torch": torch.__version__, "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device.torch_device)
    return {
        "device": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "can_compile": can_compile(),
    }


def compare_optimizers(setup: Setup) -> Figures:
    """Compare AdamW and BertAdam on the device, as a CUDA graph runs them, with plain ones in fp32 on the CPU."""
    return {name: check_close(_optimizer_error(setup, name), 1e-5, name) for name in ("adamw", "bert-adam")}


def _optimizer_error(setup: Setup, name: str) -> float:
    """Return the largest relative error of the weights after some steps on random gradients."""
    device, generator = setup.device("fp32"), torch.Generator().manual_seed(0)
    shapes = {"matrix": (64, 48), "bias": (64,)}
    starts = {key: torch.randn(*shape, generator=generator) for key, shape in shapes.items()}
    ours = {key: nn.Parameter(start.to(device.torch_device)) for key, start in starts.items()}
    plain = {key: nn.Parameter(start.clone()) for key, start in starts.items()}
    settings = Train(optimizer=name, learning_rate=1e-2)
    optimizer = make_optimizer(ours, settings, captured=True)
    reference = _plain_optimizer(plain, settings)
    for step in range(10):
        set_rate(optimizer, 1e-2 / (step + 1))
        set_rate(reference, 1e-2 / (step + 1))
        for key, weight in plain.items():
            weight.grad = torch.randn(*shapes[key], generator=generator)
            ours[key].grad = weight.grad.to(device.torch_device)
        optimizer.step()
        reference.step()
    return max(relative_error(ours[key].detach().cpu(), plain[key].detach()) for key in shapes)


class _PlainBertAdam(PlainBertAdam):
    """PlainBertAdam with a learning rate that can be set as that of torch's optimizers."""

    def __init__(self, weights: list[Tensor], rate: float) -> None:
        super().__init__(weights, rate)
        self.param_groups = [{"lr": rate}]

    def step(self) -> None:
        self.rate = self.param_groups[0]["lr"]
        super().step()


def _plain_optimizer(weights: Mapping[str, nn.Parameter], settings: Train) -> Any:
    """Return an optimizer that updates one parameter after another."""
    if settings.optimizer == "bert-adam":
        return _PlainBertAdam(list(weights.values()), settings.learning_rate)
    groups = [
        {"params": [weights["matrix"]], "weight_decay": settings.weight_decay},
        {"params": [weights["bias"]], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, eps=EPSILON, foreach=False)


def compare_graphs(setup: Setup) -> Figures:
    """Train with and without CUDA graphs: the losses and the weights are equal, with the same dropout."""
    setup.need_cuda("CUDA graphs exist on CUDA only")
    return _compare_fits(
        setup, {"graph": "off", "compile": "off"}, {"graph": "on", "compile": "off"}, 1e-6, deterministic=True
    )


def compare_compiled(setup: Setup) -> Figures:
    """Train with and without torch.compile, in fp32, without dropout, which compiled code draws in another order."""
    if setup.is_small:
        raise StepSkippedError("a small run leaves torch.compile out: its compiler takes longer than all other steps")
    if setup.is_cuda and not can_compile():
        raise StepSkippedError("torch.compile needs Triton, a C compiler and Python's header")
    return _compare_fits(setup, {"compile": "off"}, {"compile": "on"}, 1e-3, dropout=0.0, precision="fp32")


def compare_data(setup: Setup) -> Figures:
    """Train with the data on the GPU, and with batches that threads make and copy: the results are equal."""
    setup.need_cuda("the memory of a CPU holds the data already")
    return _compare_fits(
        setup,
        {"data_on_device": "on", "compile": "off"},
        {"data_on_device": "off", "compile": "off"},
        1e-6,
        deterministic=True,
    )


def compare_precision(setup: Setup) -> Figures:
    """Train in bf16 and in fp32: the losses differ by less than 3 %."""
    return _compare_fits(setup, {"precision": "fp32"}, {"precision": "bf16"}, 0.03, dropout=0.0, compile="off")


def _compare_fits(
    setup: Setup, first: Mapping[str, str], second: Mapping[str, str], tolerance: float, **common: Any
) -> Figures:
    """Train with the settings `first` and `second`; fail if the losses of an epoch differ by more than `tolerance`.

    `common` has the settings of both; `dropout` is that of the model.
    """
    dropout = common.pop("dropout", 0.1)
    losses, weights, seconds = [], [], []
    for chosen in (first, second):
        started = time.perf_counter()
        model, epochs = train(setup, Train(**_settings(setup), **{**common, **chosen}), dropout=dropout)
        seconds.append(time.perf_counter() - started)
        losses.append([epoch.train_loss for epoch in epochs])
        weights.append(torch.cat([weight.detach().cpu().flatten() for weight in model.parameters()]))
    error = max(abs(one - other) / abs(one) for one, other in zip(*losses, strict=True))
    return {
        "losses": dict(zip(("first", "second"), losses, strict=True)),
        "loss_error": check_close(error, tolerance, "the losses of an epoch"),
        "weight_error": relative_error(weights[1], weights[0]),
        "is_equal": bool(torch.equal(*weights)),
        "seconds": seconds,
    }


def _settings(setup: Setup) -> dict[str, Any]:
    """Return the settings of a short training: three epochs of eight steps; a graph is captured in the first one."""
    return {"epochs": 3, "batch_size": 8 if setup.is_small else 32, "learning_rate": 1e-3}


def train(
    setup: Setup, settings: Train, *, dropout: float = 0.1, checkpoint: Path | None = None, progress: Any = None
) -> tuple[nn.Module, list[Epoch]]:
    """Train a model of random weights on synthetic questions; return it with the records of its epochs."""
    model, task = prepare(setup, settings, dropout)
    spec = FitSpec(settings, seed=0, checkpoint=checkpoint, key="gpu-proof")
    return model, fit_model(setup, model, task, spec, progress=progress)


def prepare(setup: Setup, settings: Train, dropout: float) -> tuple[nn.Module, AnswerTask]:
    """Return a model of random weights, and questions for eight steps."""
    task = synthetic_task(8 * settings.batch_size, 64, setup.model)
    return make_model(setup.model, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout), task


def fit_model(setup: Setup, model: nn.Module, task: AnswerTask, spec: FitSpec, *, progress: Any = None) -> list[Epoch]:
    """Train the model on the device as a study does; return the records of its epochs."""
    device = choose_device(setup.kind, spec.settings.precision)
    model.to(device.torch_device)
    placed = move_to_device_if_it_fits(task, device, spec.settings.data_on_device)
    return fit(model, placed, spec, answer=lxmert.FAMILY.answer, device=device, progress=progress)


def resume_after_kill(setup: Setup) -> Figures:
    """Kill a deterministic training in its second epoch, and resume it: the weights equal those of an unbroken one."""
    checkpoint = setup.folder / "resume.safetensors"
    checkpoint.unlink(missing_ok=True)
    ends = {name: setup.folder / f"resume-{name}.txt" for name in ("whole", "killed", "resumed")}
    for path in ends.values():
        path.unlink(missing_ok=True)
    run_forked(lambda: _train_to_end(setup, ends["whole"], None))
    code = run_forked(lambda: _train_to_end(setup, ends["killed"], checkpoint, kill_at=12))
    if code != -signal.SIGKILL or not checkpoint.exists() or ends["killed"].exists():
        raise StepFailedError(f"the training that was to be killed ended with {code}")
    run_forked(lambda: _train_to_end(setup, ends["resumed"], checkpoint))
    if not (ends["whole"].exists() and ends["resumed"].exists()):
        raise StepFailedError("a training ended with an error; see the log of this step")
    whole, resumed = ends["whole"].read_text(), ends["resumed"].read_text()
    checkpoint.unlink(missing_ok=True)
    if whole != resumed:
        raise StepFailedError(f"the weights differ: {whole[:12]} unbroken, {resumed[:12]} resumed")
    return {"sha256": whole}


def _train_to_end(setup: Setup, end: Path, checkpoint: Path | None, *, kill_at: int = 0) -> None:
    """Train, and write the SHA-256 of the weights to `end`; this process is killed at step `kill_at`."""

    def kill(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Train(**_settings(setup), deterministic=True, compile="off" if setup.is_small else "auto")
    model, _ = train(setup, settings, checkpoint=checkpoint, progress=kill)
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    end.write_text(digest.hexdigest())


def run_forked(work: Callable[[], None]) -> int:
    """Do `work` in a child process; return its exit code, or minus the number of the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def name_the_knob(setup: Setup) -> Figures:
    """Train with a batch that cannot fit: the error names the settings that help."""
    settings = Train(epochs=1, batch_size=1024, compile="off")
    model, task = prepare(setup, settings, 0.1)
    limit_memory(setup)
    try:
        fit_model(setup, model, task, FitSpec(settings))
    except RunError as error:
        told = str(error)
    except (RuntimeError, MemoryError) as error:
        raise StepFailedError(f"not explained: {type(error).__name__}: {str(error)[:200]}") from None
    else:
        raise StepFailedError("a batch of 1024 questions did not exceed the limit of the memory")
    absent = [key for key in ("train.accumulate", "train.batch_size") if key not in told]
    if absent or "memory" not in told:
        raise StepFailedError(f"the error does not name {' and '.join(absent) or 'the memory'}: {told}")
    return {"error": told}


def limit_memory(setup: Setup) -> None:
    """Give this process so little memory that the model fits, and a large batch does not."""
    if setup.is_cuda:
        total = torch.cuda.get_device_properties(setup.device().torch_device).total_memory
        torch.cuda.set_per_process_memory_fraction(3e9 / total)
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    room = 30_000_000 if setup.is_small else 3_000_000_000
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
