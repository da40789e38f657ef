"""The mini LXMERT that ships: its size, its format, and that it fits the embedded data."""

from __future__ import annotations

import torch
from safetensors import safe_open

from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.models.source import MINI
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.recipe import ScenesData, Train
from lxcompress.training.device import choose_device
from lxcompress.training.fit import fit
from lxcompress.training.floors import find_floors
from lxcompress.training.spec import FitSpec


def test_it_is_small_and_half_precision() -> None:
    file = MINI / "model.safetensors"
    assert file.stat().st_size <= 6_000_000
    with safe_open(file, framework="pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}  # noqa: SIM118


def test_it_reads_what_the_embedded_data_gives() -> None:
    model, weights = load_start(str(MINI), ANSWERS, seed=0)
    assert model.config.visual_feat_dim == FEATURES
    assert load_vocabulary(str(MINI)) == shipped_vocabulary()
    assert 1_500_000 < model.live < 2_500_000
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_a_short_fine_tuning_from_it_clears_every_floor() -> None:
    task = load_task(ScenesData(kind="scenes", train=1500, valid=300))
    model, _ = load_start(str(MINI), ANSWERS, seed=0)
    (epoch,) = fit(
        model.module,
        task,
        FitSpec(settings=Train(epochs=1, batch_size=32, learning_rate=5e-4), seed=0),
        answer=model.family.answer,
        device=choose_device("cpu", "fp32"),
    )
    assert epoch.valid.accuracy > find_floors(task).question_only.accuracy + 0.05
