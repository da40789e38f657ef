"""Fitting a question-answering model to an AnswerTask: the loss of the published study, and its score after each epoch.

Shapes: B batch, A answers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lxcompress.data.split import AnswerTask
from lxcompress.errors import RunError
from lxcompress.progress import Progress
from lxcompress.recipe import Train
from lxcompress.records import Epoch, Score
from lxcompress.training.device import DeviceSpec, explain_out_of_memory
from lxcompress.training.distil import Answer, Teacher, taught_loss
from lxcompress.training.evaluate import score_split
from lxcompress.training.feed import Batch, feed, make_batch
from lxcompress.training.optimise import optimise
from lxcompress.training.step import Hook

COMPILED_KINDS = 64
"""Kernels are kept for so many kinds of model and batch: torch's own 8 are used up by a few cut models, and what comes
then is silently not compiled."""


def fit(
    model: nn.Module,
    task: AnswerTask,
    *,
    answer: Answer,
    settings: Train,
    device: DeviceSpec,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
    hooks: Sequence[Hook] = (),
    skip: int = 0,
    constant_rate: float | None = None,
    teacher: Teacher | None = None,
) -> list[Epoch]:
    """Fits `model` in place on the training split, scored on the validation split after each epoch.

    The task may be on the device already (`move_to_device_if_it_fits`). A GPU gets batches of one shape, the CPU
    batches of questions of like length. `hooks`, `skip` and `constant_rate` are as in `optimise`; a `teacher` is learnt
    from.
    """
    answers = len(task.labels)
    loss_of = LOSSES[settings.loss]
    is_static = device.is_cuda
    is_compiled = compiles(settings, device)

    def wrap(function: Callable) -> Callable:
        return compiled(function, is_static=is_static) if is_compiled else function

    def labelled() -> Callable[[Batch], Tensor]:
        reply = wrap(answer)
        return lambda batch: loss_of(reply(model, batch.inputs).float(), batch.targets)

    def taught(by: Teacher) -> Callable[[Batch], Tensor]:
        example = make_batch(task.train, torch.arange(1), answers, padded=True).to(device.torch_device).inputs
        return taught_loss(model, by, answer=answer, loss=loss_of, kind=settings.loss, example=example, wrap=wrap)

    def batches(rows: Iterable[Tensor], _: torch.Generator) -> Iterator[Batch]:
        return feed(task.train, rows, answers, device, padded=is_static)

    def evaluate(epoch: int, train_loss: float, duration_s: float) -> Epoch:
        started = time.perf_counter()
        valid = score(model, task, answer=answer, settings=settings, device=device)
        scoring_s = time.perf_counter() - started
        return Epoch(epoch=epoch, train_loss=train_loss, valid=valid, duration_s=duration_s + scoring_s)

    with compiling() if is_compiled else contextlib.nullcontext():
        return optimise(
            model,
            taught(teacher) if teacher else labelled(),
            feed=batches,
            rows=len(task.train),
            settings=settings,
            device=device,
            seed=seed,
            evaluate=evaluate,
            masks=masks,
            lengths=None if is_static else task.train.lengths,
            is_static=is_static,
            checkpoint=checkpoint,
            key=key,
            progress=progress,
            hooks=hooks,
            skip=skip,
            constant_rate=constant_rate,
        )


def compiles(settings: Train, device: DeviceSpec) -> bool:
    """Whether the model goes through torch.compile: if asked for, and by itself on CUDA where it has what it needs."""
    return settings.compile == "on" or (settings.compile == "auto" and device.is_cuda and can_compile())


def can_compile() -> bool:
    """Whether kernels for CUDA can be made here: Triton is installed, and a C compiler, which it calls, is found."""
    given = os.environ.get("CC", "").split()
    compilers = given[:1] or ["cc", "gcc", "clang"]
    return importlib.util.find_spec("triton") is not None and any(shutil.which(each) for each in compilers)


def compiled(answer: Callable, *, is_static: bool) -> Callable:
    """`answer`, compiled at its first call; static shapes each get kernels of their own, whatever ran before."""
    return torch.compile(answer, dynamic=False if is_static else None)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """What torch.compile needs around what it compiled. Raises RunError where its backend fails."""
    import torch._dynamo

    with torch._dynamo.config.patch(recompile_limit=COMPILED_KINDS):
        try:
            yield
        except torch._dynamo.exc.TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = ", ".join(lines[:2]) or type(error).__name__
            raise RunError(f"torch.compile cannot compile the model here ({said}); give train.compile=off") from None


def score(model: nn.Module, task: AnswerTask, *, answer: Answer, settings: Train, device: DeviceSpec) -> Score:
    """The model's Score on the validation split."""
    with explain_out_of_memory(f"lower train.eval_batch_size (it is {settings.eval_batch_size})"):
        return score_split(lambda inputs: answer(model, inputs), task.valid, settings.eval_batch_size, device)


def answer_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with soft targets [B, A], times the number of answers (the reference implementation's)."""
    return nn.functional.binary_cross_entropy_with_logits(scores, targets) * targets.shape[1]


def categorical_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one answer among all; soft targets [B, A] are shares (the reference's loss for NLVR2)."""
    return nn.functional.cross_entropy(scores, targets)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"binary": answer_loss, "categorical": categorical_loss}
"""train.loss -> the loss of scores and targets, both [B, A]."""
