"""Fitting of a question-answering model to an AnswerTask: its loss, its batches, and its score after each epoch.

Shapes: B batch, A answers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from lxcompress.data.split import AnswerTask
from lxcompress.errors import RunError
from lxcompress.progress import Progress
from lxcompress.recipe import Train
from lxcompress.records import Epoch, Score, ScoreByQuestion
from lxcompress.training.device import DeviceSpec, explain_out_of_memory
from lxcompress.training.distil import AnswerFunction, Teacher, distillation_loss
from lxcompress.training.evaluate import score_by_question, score_split
from lxcompress.training.feed import Batch, feed, make_batch
from lxcompress.training.losses import LOSSES
from lxcompress.training.optimise import BatchSource, Objective, optimise
from lxcompress.training.spec import FitSpec

MAX_COMPILED_VARIANTS = 64
"""The number of combinations of model and batch shape whose kernels torch.compile keeps. Torch's default is 8, which a
study with a few smaller models exceeds. Torch then runs the next models without compiling them, and says nothing."""


Run = TypeVar("Run", bound=Callable[..., Any])


def fit(
    model: nn.Module,
    task: AnswerTask,
    spec: FitSpec,
    *,
    answer: AnswerFunction,
    device: DeviceSpec,
    progress: Progress | None = None,
) -> list[Epoch]:
    """Fit `model` in place to the training split; return the record of each epoch, with its validation score.

    The task's data may be on the device already (`move_to_device_if_it_fits`). Batches for a GPU all have one shape;
    batches for the CPU hold questions of similar length. `answer` runs the model.
    """
    settings, answers = spec.settings, len(task.labels)
    loss_of = LOSSES[settings.loss]
    is_static = device.is_cuda
    is_compiled = uses_compile(settings, device)

    def wrap(function: Run) -> Run:
        return compile_function(function, is_static=is_static) if is_compiled else function

    def plain_loss() -> Callable[[Batch], Tensor]:
        forward = wrap(answer)
        return lambda batch: loss_of(forward(model, batch.inputs).float(), batch.targets)

    def taught_loss(teacher: Teacher) -> Callable[[Batch], Tensor]:
        example = make_batch(task.train, torch.arange(1), answers, padded=True).to(device.torch_device).inputs
        return distillation_loss(model, teacher, answer=answer, kind=settings.loss, example=example, wrap=wrap)

    def batches(rows: Iterable[Tensor], _: torch.Generator) -> Iterator[Batch]:
        return feed(task.train, rows, answers, device, padded=is_static)

    def evaluate(epoch: int, train_loss: float, duration_s: float) -> Epoch:
        started = time.perf_counter()
        valid = score(model, task, answer=answer, settings=settings, device=device)
        scoring_s = time.perf_counter() - started
        return Epoch(epoch=epoch, train_loss=train_loss, valid=valid, duration_s=duration_s + scoring_s)

    source = BatchSource(batches, len(task.train), None if is_static else task.train.lengths, is_static)
    with compile_settings(deterministic=settings.deterministic) if is_compiled else contextlib.nullcontext():
        objective = Objective(taught_loss(spec.teacher) if spec.teacher else plain_loss(), evaluate)
        return optimise(model, objective, source, spec, device=device, progress=progress)


def score(model: nn.Module, task: AnswerTask, *, answer: AnswerFunction, settings: Train, device: DeviceSpec) -> Score:
    """Return the model's Score on the validation split."""
    with explain_out_of_memory(f"lower train.eval_batch_size (it is {settings.eval_batch_size})"):
        return score_split(lambda inputs: answer(model, inputs), task.valid, settings.eval_batch_size, device)


def score_test(
    model: nn.Module, task: AnswerTask, *, answer: AnswerFunction, settings: Train, device: DeviceSpec
) -> ScoreByQuestion | None:
    """Return the model's Score on the test split, with the credit of each question; None without a test split."""
    if task.test is None:
        return None
    with explain_out_of_memory(f"lower train.eval_batch_size (it is {settings.eval_batch_size})"):
        return score_by_question(lambda inputs: answer(model, inputs), task.test, settings.eval_batch_size, device)


def uses_compile(settings: Train, device: DeviceSpec) -> bool:
    """Return whether to compile the model with torch.compile: on request, or on a GPU if this machine can compile."""
    return settings.compile == "on" or (settings.compile == "auto" and device.is_cuda and can_compile())


def can_compile() -> bool:
    """Return whether torch.compile can make CUDA kernels here.

    It needs Triton, and Triton needs a C compiler and Python's header: it compiles the code that launches a kernel.
    """
    given = os.environ.get("CC", "").split()
    compilers = given[:1] or ["cc", "gcc", "clang"]
    has_header = Path(sysconfig.get_path("include"), "Python.h").is_file()
    return (
        importlib.util.find_spec("triton") is not None and has_header and any(shutil.which(name) for name in compilers)
    )


def compile_function(function: Run, *, is_static: bool) -> Run:
    """Return `function`, to be compiled at its first call; if `is_static`, it is compiled again for each new shape."""
    return cast("Run", torch.compile(function, dynamic=False if is_static else None))


@contextlib.contextmanager
def compile_settings(*, deterministic: bool = False) -> Iterator[None]:
    """Let torch.compile keep MAX_COMPILED_VARIANTS inside the block. Raises RunError if the compilation fails.

    If `deterministic`, no kernel is chosen because it was the fastest in a trial: two processes may choose differently,
    and then their results differ in the last digits.
    """
    import torch._dynamo
    import torch._inductor.config

    # torch 2.8, the oldest version that we accept, has no such setting
    chosen = {"deterministic": True} if deterministic and hasattr(torch._inductor.config, "deterministic") else {}
    with (
        torch._dynamo.config.patch(recompile_limit=MAX_COMPILED_VARIANTS),
        torch._inductor.config.patch(chosen),
    ):
        try:
            yield
        except torch._dynamo.exc.TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = ", ".join(lines[:2]) or type(error).__name__
            raise RunError(f"torch.compile cannot compile the model here ({reason}); give train.compile=off") from None
