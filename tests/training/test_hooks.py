"""Laws of the hooks of a fit (movement, snapshots, gradual pruning), of late starts and of constant rates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from lxcompress.data.objects import ANSWERS
from lxcompress.data.tasks import load_task
from lxcompress.errors import RunError
from lxcompress.models.checkpoints import Model
from lxcompress.models.start import load_start
from lxcompress.pruning.mask import Mask, keep_top
from lxcompress.recipe import ScenesData, Train
from lxcompress.records import Epoch, Score
from lxcompress.training.device import DeviceSpec
from lxcompress.training.fit import fit
from lxcompress.training.gradual import UPDATES, GradualPruning, PruningSchedule, cubic_sparsity
from lxcompress.training.movement import Movement
from lxcompress.training.optimise import LOSS_READ_EVERY, BatchSource, Objective, optimise, recent_loss
from lxcompress.training.snapshots import Snapshots
from lxcompress.training.spec import FitSpec
from lxcompress.training.step import RepeatCounter

CPU = DeviceSpec(torch.device("cpu"), "fp32")
SETTINGS = Train(epochs=3, batch_size=16, learning_rate=2e-3, warmup=0.2)
STEPS = 12


class CutOffError(Exception):
    """Raised in the middle of a fit, as a kill would be."""


@pytest.fixture(scope="module")
def task():
    return load_task(ScenesData(kind="scenes", train=60, valid=30))


@pytest.fixture
def toy(tiny_start) -> Model:
    return load_start(str(tiny_start), ANSWERS, 0)[0]


def run(model: Model, task, **options) -> list[Epoch]:
    progress, spec = options.pop("progress", None), FitSpec(**{"settings": SETTINGS, **options})
    return fit(model.module, task, spec, answer=model.family.answer, device=CPU, progress=progress)


def copy_of(model: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.weights.items()}


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def prunable(model: Model) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.module.named_parameters() if name in model.prunable}


def cut_at(step: int):
    def progress(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done == step:
            raise CutOffError

    return progress


@dataclass
class Recorder:
    """A hook that keeps what it saw."""

    weights: Mapping[str, nn.Parameter]
    before: list[dict[str, Tensor]] = field(default_factory=list)
    gradients: list[dict[str, Tensor | None]] = field(default_factory=list)
    after: list[dict[str, Tensor]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def before_update(self) -> None:
        self.before.append(self._copy())
        self.gradients.append(
            {name: None if each.grad is None else each.grad.clone() for name, each in self.weights.items()}
        )

    def after_step(self, done: int) -> None:
        self.after.append(self._copy())
        self.done.append(done)

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        assert not state

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}


def choose_magnitude(weights: Mapping[str, Tensor], sparsity: float, previous: Mask | None) -> Mask:
    """Return the mask of the largest weights of each tensor; removed weights rank last."""
    kept = {}
    for name, weight in weights.items():
        scores = weight.abs() if previous is None else weight.abs().masked_fill(~previous.kept[name], -1.0)
        kept[name] = keep_top(scores, weight.numel() - round(weight.numel() * sparsity))
    return Mask(kept)


def gradual(model: Model, **options) -> GradualPruning:
    schedule = PruningSchedule(STEPS, **options)
    return GradualPruning(prunable(model), choose=choose_magnitude, sparsity=0.8, schedule=schedule)


def test_before_the_update_nothing_has_moved_and_after_the_step_everything_has(toy, task) -> None:
    start = {name: each.detach().clone() for name, each in toy.module.named_parameters()}
    seen = Recorder(dict(toy.module.named_parameters()))
    run(toy, task, hooks=[seen])
    assert seen.done == list(range(1, STEPS + 1))
    assert equal(seen.before[0], start)
    for ended, begun in zip(seen.after, seen.before[1:], strict=False):
        assert equal(ended, begun)
    assert not any(equal(begun, ended) for begun, ended in zip(seen.before, seen.after, strict=True))


def test_the_gradients_that_a_hook_sees_are_masked_and_clipped(toy, task) -> None:
    mask = choose_magnitude(toy.prunable, 0.5, None)
    toy.load(mask.apply(copy_of(toy)))
    seen = Recorder(dict(toy.module.named_parameters()))
    run(toy, task, hooks=[seen], masks=mask.kept, settings=SETTINGS.model_copy(update={"clip_norm": 0.01}))
    for gradients in seen.gradients:
        norm = torch.stack([gradient.norm() for gradient in gradients.values() if gradient is not None]).norm()
        assert float(norm) == pytest.approx(0.01, rel=1e-2)
        assert all(not bool(gradients[name][~kept].any()) for name, kept in mask.kept.items())


def test_hooks_that_only_look_change_no_number(toy, task) -> None:
    start = copy_of(toy)
    plain = run(toy, task)
    end = copy_of(toy)
    toy.load(start)
    written: list[int] = []
    hooks = [
        Movement(prunable(toy)),
        Snapshots(toy.weights, steps=(1, 5), write=lambda step, weights: written.append(step)),
    ]
    watched = run(toy, task, hooks=hooks)
    assert [each.train_loss for each in watched] == [each.train_loss for each in plain]
    assert equal(copy_of(toy), end)
    assert written == [1, 5]


def test_movement_is_what_a_hand_adds_up(toy, task) -> None:
    """It is minus weight times gradient, both as in the update, summed over all steps."""
    seen, movement = Recorder(prunable(toy)), Movement(prunable(toy))
    run(toy, task, hooks=[seen, movement])
    for name, total in movement.result.items():
        by_hand = torch.zeros_like(total)
        for weights, gradients in zip(seen.before, seen.gradients, strict=True):
            by_hand -= weights[name] * gradients[name]
        torch.testing.assert_close(total, by_hand, rtol=1e-5, atol=1e-9)
        assert bool(total.any())


def test_movement_is_positive_where_descent_leads_away_from_zero() -> None:
    """The loss moves one weight from 1 to 3, and another from 1 to 0: away from zero, and towards it."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    movement = Movement(dict(model.named_parameters()))
    optimise(
        model,
        Objective(lambda rows: ((model.weight - torch.tensor([[3.0, 0.0]])) ** 2).sum(), epoch_of),
        BatchSource(rows_alone, 4),
        FitSpec(
            settings=Train(epochs=1, batch_size=4, learning_rate=1e-3, warmup=0.0, clip_norm=1e6),
            seed=0,
            hooks=[movement],
        ),
        device=CPU,
    )
    assert movement.result["weight"].tolist() == [[4.0, -2.0]]  # -1 * 2 (1 - 3), and -1 * 2 (1 - 0)


def rows_alone(batches: Iterable[Tensor], _: torch.Generator) -> Iterator[Tensor]:
    return iter(batches)


def epoch_of(epoch: int, train_loss: float, duration_s: float) -> Epoch:
    score = Score(accuracy=0.0, by_type={}, questions=1)
    return Epoch(epoch=epoch, train_loss=train_loss, valid=score, duration_s=duration_s)


def test_snapshots_are_the_weights_of_their_steps(toy, task) -> None:
    seen = Recorder(dict(toy.module.named_parameters()))
    taken: dict[int, dict[str, Tensor]] = {}
    run(toy, task, hooks=[seen, Snapshots(toy.weights, steps=(2, 7, 99), write=taken.__setitem__)])
    assert set(taken) == {2, 7}
    for step, weights in taken.items():
        assert equal({name: weights[name] for name in seen.weights}, seen.after[step - 1])


@pytest.mark.parametrize("kind", ["movement", "gradual", "both"])
@pytest.mark.parametrize("cut", [3, 5, 8, 11])
def test_resumed_with_hooks_equals_uninterrupted(kind, cut, toy, task, tmp_path) -> None:
    start, path = copy_of(toy), tmp_path / "checkpoint.safetensors"

    def once(**options) -> tuple[list[float], dict[str, Tensor], list[dict[str, Tensor]]]:
        toy.load(start)
        prune, movement = gradual(toy, begin=0.1, end=0.8, every=2), Movement(prunable(toy))
        hooks = {"movement": [movement], "gradual": [prune], "both": [prune, movement]}[kind]
        masks = None if kind == "movement" else prune.masks
        epochs = run(toy, task, hooks=hooks, masks=masks, **options)
        return [epoch.train_loss for epoch in epochs], copy_of(toy), [hook.state() for hook in hooks]

    losses, end, states = once()
    with pytest.raises(CutOffError):
        once(checkpoint=path, key="k", progress=cut_at(cut))
    again, end_again, states_again = once(checkpoint=path, key="k")
    assert again == losses
    assert equal(end_again, end)
    assert all(equal(*pair) for pair in zip(states, states_again, strict=True))


def test_a_hook_that_was_begun_is_set_back_by_an_early_checkpoint(toy) -> None:
    """A checkpoint from before the first pruning means masks that keep everything."""
    prune = gradual(toy, begin=0.1, end=0.5)
    early = prune.state()
    prune.after_step(6)
    assert prune.mask.count(10**6, 10**6).achieved > 0
    prune.restore(early)
    assert prune.reached == 0
    assert all(bool(kept.all()) for kept in prune.mask.kept.values())


@pytest.mark.parametrize(("begin", "end"), [(0, 10), (3, 17), (5, 6)])
def test_the_cubic_rises_from_nothing_to_all_ever_slower(begin, end) -> None:
    shares = [cubic_sparsity(step, begin, end, 0.9) for step in range(end + 3)]
    assert all(share == 0 for share in shares[: begin + 1])
    assert shares[end:] == [0.9] * 3
    rises = [after - before for before, after in zip(shares[begin:end], shares[begin + 1 : end + 1], strict=True)]
    assert all(rise > 0 for rise in rises)
    assert rises == sorted(rises, reverse=True)
    for step in range(begin, end):
        left = (end - step) / (end - begin)
        assert shares[step] == pytest.approx(0.9 - 0.9 * left**3)


def test_gradual_masks_are_nested_follow_the_cubic_and_end_exact(toy, task) -> None:
    prune = gradual(toy, begin=0.1, end=0.75, every=2)
    assert (prune.begin, prune.end) == (1, 9)
    masks: list[Mask] = []
    held: list[bool] = []

    def look(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        masks.append(prune.mask)
        held.append(prune.mask.holds_in(toy.weights))

    run(toy, task, hooks=[prune], masks=prune.masks, progress=look)
    assert held == [True] * STEPS
    for before, after in itertools.pairwise(masks):
        assert all(not bool((after.kept[name] & ~before.kept[name]).any()) for name in after.kept)
    updates = {3: 3, 4: 3, 5: 5, 6: 5, 7: 7, 8: 7, 9: 9, 10: 9, 11: 9, 12: 9}
    for step, mask in enumerate(masks, start=1):
        wanted = cubic_sparsity(updates.get(step, 1), 1, 9, 0.8)
        for kept in mask.kept.values():
            assert int((~kept).sum()) == round(kept.numel() * wanted)
    assert masks[-1].kept.keys() == toy.prunable.keys()


@pytest.mark.parametrize("total", [1, 2, 3, 5, 100, 1000])
@pytest.mark.parametrize("every", [None, 1, 7])
def test_gradual_reaches_its_sparsity_whatever_the_steps(total, every) -> None:
    weight = torch.randn(10, 20, generator=torch.Generator().manual_seed(0))
    asked: list[float] = []

    def choose(weights: Mapping[str, Tensor], sparsity: float, previous: Mask | None) -> Mask:
        asked.append(sparsity)
        return choose_magnitude(weights, sparsity, previous)

    prune = GradualPruning({"w": weight}, choose=choose, sparsity=0.9, schedule=PruningSchedule(total, every=every))
    for done in range(1, total + 1):
        prune.after_step(done)
    assert int(prune.mask.kept["w"].sum()) == 20
    assert int(weight.count_nonzero()) == 20
    assert asked == sorted(asked)
    assert asked[-1] == 0.9
    assert len(asked) == len(set(asked))
    assert every is not None or len(asked) <= UPDATES


@pytest.mark.parametrize("skip", [1, 4, 11])
def test_gradual_in_a_late_start_goes_by_the_steps_that_are_done(skip, toy, task) -> None:
    prune = gradual(toy, skip=skip, begin=0.25, end=0.75)
    assert skip <= prune.begin < prune.end <= STEPS
    assert prune.begin - skip == pytest.approx(0.25 * (STEPS - skip), abs=1)
    assert prune.end - skip == pytest.approx(0.75 * (STEPS - skip), abs=1)
    run(toy, task, skip=skip, hooks=[prune], masks=prune.masks)
    assert prune.reached == 0.8
    assert prune.mask.holds_in(toy.weights)


def test_gradual_removes_by_the_weights_of_the_day(toy, task) -> None:
    """Pruning during training gives another mask than the magnitudes of the start weights."""
    at_once = choose_magnitude(toy.prunable, 0.8, None)
    prune = gradual(toy)
    run(toy, task, hooks=[prune], masks=prune.masks)
    assert prune.mask.holds_in(toy.weights)
    assert not equal(prune.mask.kept, at_once.kept)


@dataclass
class Course:
    """The rows of each step, and how far it moved the weight."""

    rows: list[list[int]] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)


def course(skip: int = 0, **options) -> tuple[Course, list[Epoch]]:
    """Fit one number with AdamW and a constant gradient, so that each update equals the learning rate."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    seen = Course()

    def loss(rows: Tensor) -> Tensor:
        seen.rows.append(rows.tolist())
        return model.weight.sum()

    before = [0.0]

    def progress(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        seen.moved.append(before[0] - float(model.weight.detach()))
        before[0] = float(model.weight.detach())

    epochs = optimise(
        model,
        Objective(loss, epoch_of),
        BatchSource(rows_alone, 10),
        FitSpec(
            settings=Train(epochs=3, batch_size=4, learning_rate=0.1, warmup=0.3, weight_decay=0.0),
            seed=5,
            skip=skip,
            **options,
        ),
        device=CPU,
        progress=progress,
    )
    return seen, epochs


@pytest.mark.parametrize("skip", range(9))
def test_a_late_start_has_the_batches_and_the_rates_of_the_plain_run(skip) -> None:
    (whole, epochs), (late, late_epochs) = course(), course(skip)
    assert late.rows == whole.rows[skip:]
    assert late.moved == pytest.approx(whole.moved[skip:], abs=1e-5)
    assert [late_epoch.epoch for late_epoch in late_epochs] == [epoch.epoch for epoch in epochs][skip // 3 :]


def test_a_late_start_from_its_snapshot_goes_the_plain_runs_way(tiny_start, task) -> None:
    """Without dropout, the loss of the next step is the same."""
    model = load_start(str(tiny_start), ANSWERS, 0)[0]
    for module in model.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    taken: dict[int, dict[str, Tensor]] = {}
    plain: list[float] = []
    run(
        model,
        task,
        hooks=[Snapshots(model.weights, steps=(4, 6), write=taken.__setitem__)],
        progress=lambda what, done, total, value: plain.append(value),
    )
    for step, weights in taken.items():
        model.load(weights)
        late: list[tuple[int, float]] = []
        run(model, task, skip=step, progress=lambda what, done, total, value, late=late: late.append((done, value)))
        assert late[0] == (step + 1, plain[step])
        assert [done for done, _ in late] == list(range(step + 1, STEPS + 1))


@pytest.mark.parametrize("cut", [6, 9, 11])
def test_a_late_start_resumes_as_any_other(cut, toy, task, tmp_path) -> None:
    start, path = copy_of(toy), tmp_path / "checkpoint.safetensors"
    whole = run(toy, task, skip=2)
    end = copy_of(toy)
    toy.load(start)
    with pytest.raises(CutOffError):
        run(toy, task, skip=2, checkpoint=path, progress=cut_at(cut))
    again = run(toy, task, skip=2, checkpoint=path)
    assert [each.train_loss for each in again] == [each.train_loss for each in whole]
    assert [each.epoch for each in again] == [0, 1, 2]
    assert equal(copy_of(toy), end)


@pytest.mark.parametrize("skip", [-1, STEPS, STEPS + 1])
def test_a_start_behind_the_end_is_an_error(skip, toy, task) -> None:
    with pytest.raises(RunError, match=rf"skip={skip}: the run has only 12 steps; rewind to an earlier"):
        run(toy, task, skip=skip)


def test_a_constant_rate_is_constant() -> None:
    seen, _ = course(constant_rate=0.02)
    assert seen.moved == pytest.approx([0.02] * 9, abs=1e-5)
    assert seen.rows == course()[0].rows


def test_the_loss_of_a_gpu_is_read_now_and_then() -> None:
    """Between two readings the last value is returned, and nothing waits for the GPU."""
    gpu = DeviceSpec(torch.device("cuda"), "bf16")
    losses, told, last = [], [], float("nan")
    for step in range(3 * LOSS_READ_EVERY):
        losses.append(torch.tensor(float(step)))
        last = recent_loss(losses, gpu, last)
        told.append(last)
        assert recent_loss(losses, CPU, -1.0) == step
    assert told == [float(step - step % LOSS_READ_EVERY) for step in range(3 * LOSS_READ_EVERY)]


def test_a_form_recurs_only_in_a_row() -> None:
    forms = RepeatCounter()
    assert [forms.count(form) for form in "aabaaaab"] == [1, 2, 1, 1, 2, 3, 4, 1]


def test_a_steps_masks_are_those_it_was_given_and_change_with_them(toy, task) -> None:
    """A float mask that changes in place takes effect at once."""
    names = prunable(toy)
    masks = {name: torch.ones_like(weight, requires_grad=False) for name, weight in names.items()}

    def progress(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done == 5:
            for mask in masks.values():
                mask[0].zero_()
        if done > 5:
            assert all(not bool(weight.detach()[0].any()) for weight in names.values())

    run(toy, task, masks=masks, progress=progress)
    assert all(bool(weight.detach()[1:].any()) for weight in names.values())
