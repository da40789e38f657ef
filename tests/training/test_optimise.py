"""Laws of the training loop: masks hold at every step, a resumed fit equals an uninterrupted one, the seed decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from lxcompress.data.objects import ANSWERS
from lxcompress.data.tasks import load_task
from lxcompress.errors import RunError
from lxcompress.models.checkpoints import Model
from lxcompress.models.start import load_start
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.mask import Mask
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import ScenesData, Train
from lxcompress.records import Epoch, Score
from lxcompress.training.device import DeviceSpec, choose_device
from lxcompress.training.fit import fit
from lxcompress.training.optimise import BatchSource, Objective, draw_batches, optimise
from lxcompress.training.optimizers import schedule
from lxcompress.training.spec import FitSpec

CPU = DeviceSpec(torch.device("cpu"), "fp32")
SETTINGS = Train(epochs=3, batch_size=16, learning_rate=2e-3, warmup=0.2)


class CutOffError(Exception):
    """Raised in the middle of a fit, as a kill would be."""


@dataclass
class Spy:
    """A Progress that keeps its calls, may look at the model, and may interrupt the fit."""

    look: Callable[[], None] = lambda: None
    cut_at: int | None = None
    heard: list[tuple[int, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __call__(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        self.look()
        self.heard.append((done, total))
        self.losses.append(value)
        if done == self.cut_at:
            raise CutOffError


@pytest.fixture(scope="module")
def task():
    return load_task(ScenesData(kind="scenes", train=60, valid=30))


@pytest.fixture
def toy(tiny_start) -> Model:
    """Return a toy with dropout, as LXMERT has: a resumed epoch must draw the same dropout."""
    model, _ = load_start(str(tiny_start), ANSWERS, 0)
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.module.modules())
    return model


def run(model: Model, task, *, seed: int = 0, settings: Train = SETTINGS, **options) -> list[Epoch]:
    progress, spec = options.pop("progress", None), FitSpec(settings, seed, **options)
    return fit(model.module, task, spec, answer=model.family.answer, device=CPU, progress=progress)


def numbers(epochs: list[Epoch]) -> list[tuple[int, float, Score]]:
    """Return what must be equal in two fits: everything except times."""
    return [(epoch.epoch, epoch.train_loss, epoch.valid) for epoch in epochs]


def copy_of(model: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.weights.items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def pruned(model: Model, sparsity: float = 0.7) -> Mask:
    """Return a random mask, after applying it to the model."""
    mask = choose_mask(model.prunable, Selection(sparsity), criterion="random", seed=1)
    model.load(mask.apply(copy_of(model)))
    return mask


@pytest.mark.parametrize("total", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_the_schedule_rises_once_then_falls_and_stays_within_bounds(total, warmup) -> None:
    rates = [schedule(step, total, warmup) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert abs(top - total * warmup) <= 1
    assert schedule(total, total, warmup) == 0


def test_the_schedule_without_warmup_starts_at_the_whole_rate_and_falls_evenly() -> None:
    assert [schedule(step, 4, 0.0) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]


def test_the_schedule_with_warmup_rises_evenly() -> None:
    rates = [schedule(step, 100, 0.1) for step in range(10)]
    steps = [after - before for before, after in zip([0.0, *rates], rates, strict=False)]
    assert steps == pytest.approx([1 / 11] * 10)
    assert schedule(10, 100, 0.1) == 1


def test_masks_hold_after_every_step_of_the_real_loop(toy, task) -> None:
    mask = pruned(toy)
    started = copy_of(toy)
    names = dict(toy.module.named_parameters())

    def look() -> None:
        for name, kept in mask.kept.items():
            assert not bool(names[name].detach()[~kept].any()), name

    spy = Spy(look)
    run(toy, task, masks=mask.kept, progress=spy)
    assert len(spy.heard) == 3 * 4
    for name, kept in mask.kept.items():
        assert bool((toy.weights[name] != started[name])[kept].any()), f"{name} was not trained"
    assert mask.holds_in(toy.weights)


def test_masks_hold_from_the_first_step_even_where_the_start_was_not_masked(toy, task) -> None:
    mask = choose_mask(toy.prunable, Selection(0.5), criterion="random", seed=1)
    assert not mask.holds_in(toy.weights)
    held: list[bool] = []
    run(toy, task, masks=mask.kept, progress=Spy(lambda: held.append(mask.holds_in(toy.weights))))
    assert held == [True] * 12


def test_without_masks_the_removed_weights_would_come_back(toy, task) -> None:
    mask = pruned(toy)
    run(toy, task)
    assert not mask.holds_in(toy.weights)


def test_what_a_mask_removed_does_not_bear_on_the_rest() -> None:
    """If the norm included the gradients of removed weights, clipping would change the other updates."""
    settings = SETTINGS.model_copy(update={"clip_norm": 1e-3, "epochs": 1, "weight_decay": 0.0})
    kept = torch.tensor([[True, True, False, False]])
    grown = []
    for scale in (1.0, 1000.0):
        model = nn.Linear(4, 1, bias=False)
        nn.init.ones_(model.weight).data.mul_(kept)
        seen = torch.tensor([1.0, 2.0, scale, scale])
        optimise(
            model,
            Objective(lambda rows, model=model, seen=seen: (model(seen) * len(rows)).sum(), epoch_of),
            BatchSource(rows_alone, 64),
            FitSpec(settings=settings, seed=0, masks={"weight": kept}),
            device=CPU,
        )
        grown.append(model.weight.detach().clone())
    assert torch.equal(*grown)


def rows_alone(batches: Iterable[Tensor], _: torch.Generator) -> Iterator[Tensor]:
    return iter(batches)


def epoch_of(epoch: int, train_loss: float, duration_s: float) -> Epoch:
    score = Score(accuracy=0.0, by_type={}, questions=1)
    return Epoch(epoch=epoch, train_loss=train_loss, valid=score, duration_s=duration_s)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cut_at", [1, 4, 5, 7, 8, 12])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(cut_at, masked, toy, task, tmp_path) -> None:
    masks = pruned(toy).kept if masked else None
    start, path = copy_of(toy), tmp_path / "checkpoint.safetensors"
    whole = run(toy, task, masks=masks)
    expected = copy_of(toy)

    toy.load(start)
    with pytest.raises(CutOffError):
        run(toy, task, masks=masks, checkpoint=path, key="k", progress=Spy(cut_at=cut_at))
    toy.load(start)
    spy = Spy()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(cut_at)
        resumed = run(toy, task, masks=masks, checkpoint=path, key="k", progress=spy)
    assert numbers(resumed) == numbers(whole)
    assert equal(copy_of(toy), expected)
    epochs_kept = (cut_at - 1) // 4
    assert spy.heard == [(step, 12) for step in range(4 * epochs_kept + 1, 13)]


def test_interrupted_twice_is_still_the_same(toy, task, tmp_path) -> None:
    start, path = copy_of(toy), tmp_path / "checkpoint.safetensors"
    whole, expected = run(toy, task), copy_of(toy)
    for cut_at in (6, 10):
        toy.load(start)
        with pytest.raises(CutOffError):
            run(toy, task, checkpoint=path, progress=Spy(cut_at=cut_at))
    toy.load(start)
    assert numbers(run(toy, task, checkpoint=path)) == numbers(whole)
    assert equal(copy_of(toy), expected)


def test_a_checkpoint_changes_no_number(toy, task, tmp_path) -> None:
    start = copy_of(toy)
    bare, expected = run(toy, task), copy_of(toy)
    toy.load(start)
    assert numbers(run(toy, task, checkpoint=tmp_path / "c.safetensors", key="k")) == numbers(bare)
    assert equal(copy_of(toy), expected)


def test_a_checkpoint_of_another_key_is_ignored(toy, task, tmp_path) -> None:
    start, path = copy_of(toy), tmp_path / "checkpoint.safetensors"
    whole = run(toy, task)
    toy.load(start)
    with pytest.raises(CutOffError):
        run(toy, task, seed=9, checkpoint=path, key="another", progress=Spy(cut_at=9))
    toy.load(start)
    spy = Spy()
    assert numbers(run(toy, task, checkpoint=path, key="this", progress=spy)) == numbers(whole)
    assert spy.heard[0] == (1, 12)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["key"] == "this"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:4],
        lambda data: b"\xff" * 64,
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: (
            data[: len(data) * 2 // 3] + bytes([data[len(data) * 2 // 3] ^ 64]) + data[len(data) * 2 // 3 + 1 :]
        ),
        lambda data: data.replace(b"train_loss", b"train_lost", 1),
    ],
    ids=["empty", "half", "four", "noise", "last bit", "a bit", "epochs"],
)
def test_a_damaged_checkpoint_gives_one_sentence(damage, toy, task, tmp_path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(CutOffError):
        run(toy, task, checkpoint=path, progress=Spy(cut_at=5))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError) as caught:
        run(toy, task, checkpoint=path)
    said = str(caught.value)
    assert said.startswith(f"{path}: the checkpoint is damaged")
    assert "delete it" in said
    assert said.count("\n") == 0


def test_the_seed_decides_everything(toy, task) -> None:
    start = copy_of(toy)
    ends = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + len(ends))
        toy.load(start)
        run(toy, task, seed=seed)
        ends.append(copy_of(toy))
    assert equal(ends[0], ends[1])
    assert not equal(ends[0], ends[2])


def test_the_global_randomness_is_left_alone_even_when_cut_off(toy, task) -> None:
    before = torch.get_rng_state()
    run(toy, task)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(CutOffError):
        run(toy, task, progress=Spy(cut_at=6))
    assert torch.equal(torch.get_rng_state(), before)


def count_rows(rows: int, batch_size: int, epochs: int) -> Iterator[list[int]]:
    """Yield the rows that each epoch draws."""
    drawn: list[int] = []
    model = nn.Linear(1, 1)

    def loss(chosen: Tensor) -> Tensor:
        assert 0 < len(chosen) <= batch_size
        drawn.extend(chosen.tolist())
        return model.weight.sum()

    settings = Train(epochs=epochs, batch_size=batch_size)
    optimise(
        model, Objective(loss, epoch_of), BatchSource(rows_alone, rows), FitSpec(settings=settings, seed=3), device=CPU
    )
    for epoch in range(epochs):
        yield drawn[epoch * rows : (epoch + 1) * rows]


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 1), (1, 8), (7, 8), (8, 8), (9, 8), (50, 16)])
def test_each_epoch_draws_each_row_once_in_an_order_of_its_own(rows, batch_size) -> None:
    orders = list(count_rows(rows, batch_size, 3))
    assert all(sorted(order) == list(range(rows)) for order in orders)
    if rows > 6:
        assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_loss_of_an_epoch_is_the_mean_of_what_was_told(toy, task) -> None:
    spy = Spy()
    epochs = run(toy, task, progress=spy)
    for epoch in epochs:
        told = spy.losses[4 * epoch.epoch : 4 * epoch.epoch + 4]
        assert epoch.train_loss == pytest.approx(sum(told) / 4, rel=1e-5)
    assert spy.heard == [(step, 12) for step in range(1, 13)]


def test_fitting_learns_and_ends_in_evaluation_mode(toy, task) -> None:
    epochs = run(toy, task, settings=Train(epochs=6, batch_size=8, learning_rate=5e-3))
    assert epochs[-1].train_loss < 0.8 * epochs[0].train_loss
    assert not toy.module.training
    assert not any(module.training for module in toy.module.modules())


def test_weight_decay_falls_on_matrices_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    nn.init.ones_(model[0].bias)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimise(
        model,
        Objective(lambda rows: 0 * sum(weight.sum() for weight in model.parameters()), epoch_of),
        BatchSource(rows_alone, 4),
        FitSpec(settings=Train(epochs=2, batch_size=2, learning_rate=0.1, weight_decay=0.5, warmup=0), seed=0),
        device=CPU,
    )
    after = dict(model.named_parameters())
    assert bool((after["0.weight"].abs() < before["0.weight"].abs()).all())
    assert all(torch.equal(after[name], before[name]) for name in before if name != "0.weight")


def test_the_device_is_the_chosen_one_or_an_error_with_a_remedy() -> None:
    assert choose_device("cpu", "auto") == CPU
    assert choose_device("cpu", "bf16").precision == "bf16"
    absent = [name for name, there in (("cuda", torch.cuda.is_available()), ("mps", has_mps())) if not there]
    for name in absent:
        with pytest.raises(RunError, match=f"device {name}: not available .* --set device=auto"):
            choose_device(name, "auto")
    if len(absent) == 2:
        assert choose_device("auto", "auto") == CPU


def has_mps() -> bool:
    return torch.backends.mps.is_available()


@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_micro_batches_add_up_to_their_batch(accumulate, tiny_start, task) -> None:
    """Without dropout, a batch in pieces gives the same gradients and weights, except for rounding."""
    ends = []
    for parts in (1, accumulate):
        model, _ = load_start(str(tiny_start), ANSWERS, 0)
        for module in model.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        settings = SETTINGS.model_copy(update={"accumulate": parts, "epochs": 1, "clip_norm": 0.5})
        epochs = run(model, task, settings=settings)
        ends.append((epochs[0].train_loss, copy_of(model)))
    (loss, whole), (pieces_loss, pieces) = ends
    assert pieces_loss == pytest.approx(loss, rel=1e-5)
    for name, weight in whole.items():
        torch.testing.assert_close(pieces[name], weight, rtol=0, atol=2e-4)


def test_a_plain_loop_gives_the_same_weights(tiny_start, task) -> None:
    """A textbook loop on the same batches gives the same weights."""
    model, _ = load_start(str(tiny_start), ANSWERS, 0)
    other, _ = load_start(str(tiny_start), ANSWERS, 0)
    for module in (*model.module.modules(), *other.module.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    mask = pruned(model)
    other.load(mask.apply(other.weights))
    settings = Train(epochs=1, batch_size=16, learning_rate=1e-3, warmup=0.0, weight_decay=0.0)
    run(model, task, settings=settings, masks=mask.kept)

    generator = torch.Generator().manual_seed(1)
    drawn = draw_batches(60, 16, generator, (task.train.input_ids != 0).sum(1))
    optimizer = torch.optim.Adam(other.module.parameters(), betas=(0.9, 0.999), eps=1e-6)
    other.module.train()
    for step, rows in enumerate(drawn):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / len(drawn))
        optimizer.zero_grad()
        scores = other.family.answer(other.module, task.train.inputs(rows))
        targets = torch.zeros(len(rows), len(ANSWERS))
        for row, index in enumerate(rows.tolist()):
            targets[row, task.train.answers[index, 0]] = 1.0
        nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="sum").div(len(rows)).backward()
        for name, kept in mask.kept.items():
            dict(other.module.named_parameters())[name].grad.mul_(kept)
        nn.utils.clip_grad_norm_(other.module.parameters(), 5.0)
        optimizer.step()
        for name, kept in mask.kept.items():
            dict(other.module.named_parameters())[name].data.mul_(kept)
    for name, weight in copy_of(model).items():
        torch.testing.assert_close(weight, other.weights[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "bert-adam"])
def test_each_optimizer_resumes_bit_for_bit(optimizer, toy, task, tmp_path) -> None:
    settings = SETTINGS.model_copy(update={"optimizer": optimizer})
    start = copy_of(toy)
    whole = run(toy, task, settings=settings)
    end = copy_of(toy)
    toy.load(start)
    with pytest.raises(CutOffError):
        run(toy, task, settings=settings, checkpoint=tmp_path / "c.safetensors", progress=Spy(cut_at=7))
    again = run(toy, task, settings=settings, checkpoint=tmp_path / "c.safetensors")
    assert numbers(again) == numbers(whole)
    assert equal(end, copy_of(toy))


def test_the_categorical_loss_is_cross_entropy(toy, task) -> None:
    told = Spy()
    settings = SETTINGS.model_copy(update={"loss": "categorical", "epochs": 1})
    epochs = run(toy, task, settings=settings, progress=told)
    assert 0 < epochs[0].train_loss < 2 * math.log(len(ANSWERS))


def test_a_switch_that_cannot_be_turned_on_is_an_error(toy, task) -> None:
    with pytest.raises(RunError, match=r"train\.graph=on: works on CUDA only, but this runs on cpu"):
        run(toy, task, settings=SETTINGS.model_copy(update={"graph": "on"}))


def test_deterministic_runs_leave_torch_as_it_was(toy, task) -> None:
    start = copy_of(toy)
    first = run(toy, task, settings=SETTINGS.model_copy(update={"deterministic": True}))
    assert not torch.are_deterministic_algorithms_enabled()
    toy.load(start)
    assert numbers(run(toy, task, settings=SETTINGS.model_copy(update={"deterministic": True}))) == numbers(first)


def test_too_little_memory_names_the_knobs() -> None:
    """An allocation that no machine has: the error says which settings to change."""
    weight = nn.Linear(1, 1)

    def loss(rows: Tensor) -> Tensor:
        return weight.weight.sum() * torch.zeros(1 << 60).sum()

    with pytest.raises(
        RunError, match=r"memory is too small .*train\.accumulate to 2 .*train\.batch_size \(it is 16\)"
    ):
        optimise(
            weight,
            Objective(loss, epoch_of),
            BatchSource(rows_alone, 16),
            FitSpec(settings=SETTINGS, seed=0),
            device=CPU,
        )
