"""Laws of pre-training: a study can start from its folder, its loss falls, and the loss of each batch is a number."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import load_task
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.recipe import Pretrain, ScenesData
from lxcompress.training.pretrain import pretrain

SMALL = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "l_layers": 1,
    "r_layers": 1,
    "x_layers": 1,
}


class CutOffError(Exception):
    """Raised in the middle of a fit, as a kill would end it."""


def settings(**fields) -> Pretrain:
    """Return settings of a pre-training that takes a second; `train` is merged into its budget."""
    train = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "precision": "fp32", **fields.pop("train", {})}
    data = ScenesData(kind="scenes", train=96, valid=32)
    return Pretrain(name="small", device="cpu", data=data, architecture=SMALL, train=train, **fields)


@pytest.fixture(scope="module")
def task() -> AnswerTask:
    return load_task(settings().data)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    one, two = tensors(first), tensors(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_its_folder_starts_a_study(task, tmp_path) -> None:
    epochs = pretrain(settings(), task, tmp_path / "out")
    assert [epoch.epoch for epoch in epochs] == [0, 1]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "vocab.txt"}
    model, weights = load_start(str(tmp_path / "out"), ANSWERS, 0)
    assert load_vocabulary(str(tmp_path / "out")) == task.vocabulary
    assert (model.config.hidden_size, model.config.visual_feat_dim) == (16, FEATURES)
    kept = tensors(tmp_path / "out")
    assert all(tensor.dtype == torch.float16 for tensor in kept.values())
    encoder = {name.removeprefix("lxmert."): tensor for name, tensor in weights.items() if name.startswith("lxmert.")}
    assert len(encoder) > 50
    assert all(torch.equal(tensor, kept[name].float()) for name, tensor in encoder.items())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    with torch.no_grad():
        scores = model.family.answer(model.module, task.valid.inputs(torch.arange(8)))
    assert scores.shape == (8, len(ANSWERS))


def test_its_loss_falls(task, tmp_path) -> None:
    told: list[float] = []
    budget = {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3}
    epochs = pretrain(
        settings(train=budget), task, tmp_path / "out", progress=lambda what, done, total, value: told.append(value)
    )
    assert len(told) == 6 * 12
    assert epochs[-1].train_loss < 0.8 * epochs[0].train_loss
    assert all(math.isfinite(loss) for loss in told)


@pytest.mark.parametrize("statement", [1e-12, 1 - 1e-12])
@pytest.mark.parametrize("mismatch", [1e-12, 1 - 1e-12])
def test_no_batch_is_without_a_number(statement, mismatch, task, tmp_path) -> None:
    told: list[float] = []
    pretrain(
        settings(statement_probability=statement, mismatch_probability=mismatch, train={"epochs": 1, "batch_size": 2}),
        task,
        tmp_path / "out",
        progress=lambda what, done, total, value: told.append(value),
    )
    assert len(told) == 48
    assert all(math.isfinite(loss) and loss > 0 for loss in told)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors(tmp_path / "out").values())


@pytest.mark.parametrize("mask", [1e-12, 1 - 1e-12])
def test_no_batch_is_without_a_number_however_much_is_masked(mask, task, tmp_path) -> None:
    told: list[float] = []
    pretrain(
        settings(mask_probability=mask, statement_probability=0.5, train={"epochs": 1, "batch_size": 1}),
        task,
        tmp_path / "out",
        progress=lambda what, done, total, value: told.append(value),
    )
    assert all(math.isfinite(loss) for loss in told)


def test_the_seed_decides_the_folder_and_nothing_else_does(task, tmp_path) -> None:
    budget = {"epochs": 1}
    before = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(seed + 40)
        state = torch.get_rng_state()
        pretrain(settings(seed=seed, train=budget), task, tmp_path / name)
        assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)
    assert equal(tmp_path / "a", tmp_path / "b")
    assert not equal(tmp_path / "a", tmp_path / "c")


def test_interrupted_and_resumed_equals_uninterrupted(task, tmp_path) -> None:
    def cut(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done == 9:
            raise CutOffError

    whole = pretrain(settings(), task, tmp_path / "whole")
    with pytest.raises(CutOffError):
        pretrain(settings(), task, tmp_path / "resumed", progress=cut)
    assert {path.name for path in (tmp_path / "resumed").iterdir()} == {"checkpoint.safetensors"}
    heard: list[int] = []
    resumed = pretrain(
        settings(), task, tmp_path / "resumed", progress=lambda what, done, total, value: heard.append(done)
    )
    assert heard == list(range(7, 13))
    assert [(epoch.train_loss, epoch.valid) for epoch in resumed] == [
        (epoch.train_loss, epoch.valid) for epoch in whole
    ]
    assert equal(tmp_path / "whole", tmp_path / "resumed")
