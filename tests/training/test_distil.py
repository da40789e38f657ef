"""Laws of distillation: weight 0 changes nothing, weight 1 needs no labels, and an equal teacher teaches nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from transformers import LxmertConfig

from lxcompress.data.objects import ANSWERS
from lxcompress.data.split import AnswerTask, Inputs
from lxcompress.data.tasks import load_task
from lxcompress.errors import RunError
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model
from lxcompress.models.start import load_start
from lxcompress.recipe import Distill, ScenesData, Train
from lxcompress.records import Epoch
from lxcompress.training.device import DeviceSpec
from lxcompress.training.distil import Teacher, distillation_loss, pair_last_states, soft_loss, states_error
from lxcompress.training.feed import Batch, make_batch
from lxcompress.training.fit import fit
from lxcompress.training.spec import FitSpec
from tests.models.families import TOYS, family_params, save_start, some_inputs

CPU = DeviceSpec(torch.device("cpu"), "fp32")
SETTINGS = Train(epochs=2, batch_size=16, learning_rate=2e-3, warmup=0.2)


@dataclass(frozen=True)
class Share:
    """Settings of a teacher, also such as a recipe would refuse."""

    weight: float = 0.5
    temperature: float = 1.0
    hidden: float = 0.0


@pytest.fixture(scope="module")
def task() -> AnswerTask:
    return load_task(ScenesData(kind="scenes", train=60, valid=30))


@pytest.fixture
def toy(toy_start) -> Model:
    return load_start(str(toy_start), ANSWERS, 0)[0]


@pytest.fixture
def other(toy_start) -> Model:
    """Return another toy, whose answers differ."""
    return noisy(load_start(str(toy_start), ANSWERS, 1)[0])


def noisy(model: Model) -> Model:
    generator = torch.Generator().manual_seed(3)
    model.load(
        {
            name: each + 0.1 * torch.randn(each.shape, generator=generator) if each.is_floating_point() else each
            for name, each in model.weights.items()
        }
    )
    return model


def run(model: Model, task: AnswerTask, **options) -> list[Epoch]:
    progress, spec = options.pop("progress", None), FitSpec(**{"settings": SETTINGS, **options})
    return fit(model.module, task, spec, answer=model.family.answer, device=CPU, progress=progress)


def teacher(model: Model, **settings: float) -> Teacher:
    return Teacher(model.module, model.family.answer, Share(**settings), model.family.hidden)


def copy_of(model: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.weights.items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def learnt(model: Model, task: AnswerTask, **options) -> dict[str, Tensor]:
    """Return the weights after a fit, and set the model back to its start."""
    start = copy_of(model)
    run(model, task, **options)
    end = copy_of(model)
    model.load(start)
    return end


def relabelled(task: AnswerTask) -> AnswerTask:
    """Return the task with the answer of the neighbour for every training question."""
    return replace(task, train=replace(task.train, answers=task.train.answers.roll(1, 0)))


@pytest.mark.parametrize("kind", ["binary", "categorical"])
def test_a_teacher_of_no_weight_changes_nothing_bit_for_bit(kind, toy, other, task) -> None:
    settings = SETTINGS.model_copy(update={"loss": kind})
    plain = learnt(toy, task, settings=settings)
    assert equal(learnt(toy, task, settings=settings, teacher=teacher(other, weight=0.0, temperature=3.0)), plain)


@pytest.mark.parametrize("kind", ["binary", "categorical"])
@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_a_teacher_of_all_the_weight_needs_no_labels(kind, hidden, toy, other, task) -> None:
    settings = SETTINGS.model_copy(update={"loss": kind})
    who = teacher(other, weight=1.0, temperature=2.0, hidden=hidden)
    alone = learnt(toy, task, settings=settings, teacher=who)
    assert equal(learnt(toy, relabelled(task), settings=settings, teacher=who), alone)
    assert not equal(learnt(toy, relabelled(task), settings=settings), learnt(toy, task, settings=settings))


def test_between_them_both_count(toy, other, task) -> None:
    half = learnt(toy, task, teacher=teacher(other, weight=0.5))
    assert not equal(half, learnt(toy, relabelled(task), teacher=teacher(other, weight=0.5)))
    assert not equal(half, learnt(toy, task))
    assert not equal(half, learnt(toy, task, teacher=teacher(other, weight=0.5, hidden=0.1)))


def test_a_teacher_is_left_as_it_was(toy, other, task) -> None:
    before = copy_of(other)
    other.module.train()
    run(toy, task, teacher=teacher(other, weight=0.7, hidden=0.5))
    assert equal(copy_of(other), before)
    assert all(weight.grad is None for weight in other.module.parameters())
    assert not other.module.training


def test_a_fit_learns_from_its_teacher_alone(toy, other, task) -> None:
    """Without labels, the student's answers get closer to the teacher's."""
    batch = make_batch(task.train, torch.arange(60), len(ANSWERS), padded=False)
    with torch.no_grad():
        said = other.family.answer(other.module.eval(), batch.inputs)
        before = nn.functional.mse_loss(toy.family.answer(toy.module.eval(), batch.inputs), said)
    run(toy, task, teacher=teacher(other, weight=1.0), settings=SETTINGS.model_copy(update={"epochs": 8}))
    with torch.no_grad():
        after = nn.functional.mse_loss(toy.family.answer(toy.module, batch.inputs), said)
    assert after < 0.5 * before


def test_distillation_resumes_as_any_other_fit(toy, other, task, tmp_path) -> None:
    who = teacher(other, weight=0.5, hidden=0.2)
    whole = learnt(toy, task, teacher=who)

    def cut(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done == 6:
            raise KeyboardInterrupt

    start = copy_of(toy)
    with pytest.raises(KeyboardInterrupt):
        run(toy, task, teacher=who, checkpoint=tmp_path / "c.safetensors", progress=cut)
    toy.load(start)
    run(toy, task, teacher=who, checkpoint=tmp_path / "c.safetensors")
    assert equal(copy_of(toy), whole)


@pytest.mark.parametrize("kind", ["binary", "categorical"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_an_equal_has_nothing_to_teach(kind, temperature) -> None:
    taught = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    scores = taught.clone().requires_grad_()
    soft_loss(scores, taught, temperature, kind).backward()
    torch.testing.assert_close(scores.grad, torch.zeros(6, 5), rtol=0, atol=1e-5)


def test_the_soft_losses_are_those_of_the_papers_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, taught = (3 * torch.randn(4, 3, generator=generator) for _ in range(2))
    binary = categorical = 0.0
    for row in range(4):
        mine, its = torch.softmax(scores[row] / 2, 0), torch.softmax(taught[row] / 2, 0)
        for index in range(3):
            categorical -= float(its[index] * mine[index].log()) * 4 / 4
            yes, wanted = torch.sigmoid(scores[row, index] / 2), torch.sigmoid(taught[row, index] / 2)
            binary -= float(wanted * yes.log() + (1 - wanted) * (1 - yes).log()) * 4 / 4
    for kind, by_hand in (("binary", binary), ("categorical", categorical)):
        assert float(soft_loss(scores, taught, 2.0, kind)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", ["binary", "categorical"])
def test_gradients_keep_their_size_whatever_the_temperature(kind) -> None:
    """Hinton et al. 2015, section 2.1: at a high temperature the gradient does not depend on it."""
    generator = torch.Generator().manual_seed(0)
    taught, start = (torch.randn(6, 5, generator=generator) for _ in range(2))
    slopes = []
    for temperature in (50.0, 200.0):
        scores = start.clone().requires_grad_()
        soft_loss(scores, taught, temperature, kind).backward()
        slopes.append(scores.grad)
    torch.testing.assert_close(*slopes, rtol=0.05, atol=1e-3)


def test_the_loss_is_the_weighted_sum_of_its_parts(toy, other, task) -> None:
    batch = make_batch(task.train, torch.arange(16), len(ANSWERS), padded=False)
    toy.module.eval()

    def value(**settings: float) -> float:
        who = teacher(other, **settings)
        total = distillation_loss(toy.module, who, answer=toy.family.answer, kind="binary", example=batch.inputs)
        return float(total(batch).detach())

    labels, soft = value(weight=0.0), value(weight=1.0)
    states = value(weight=0.0, hidden=1.0) - labels
    assert min(labels, soft, states) > 0
    assert value(weight=0.3) == pytest.approx(0.7 * labels + 0.3 * soft, rel=1e-5)
    assert value(weight=0.3, hidden=2.0) == pytest.approx(0.7 * labels + 0.3 * soft + 2 * states, rel=1e-4)


def test_states_err_by_the_mean_of_their_pairs() -> None:
    one, two = torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)
    assert float(states_error([(one, one + 2.0), (two, two)])) == pytest.approx(2.0)
    assert float(states_error([(one, one)])) == 0


@pytest.mark.parametrize(
    ("mine", "its", "pairs"),
    [
        ((2, 1), (2, 1), [(0, 0), (1, 1), (2, 2)]),
        ((1, 2), (3, 2), [(0, 2), (1, 3), (2, 4)]),
        ((2,), (4,), [(0, 2), (1, 3)]),
        ((3, 1), (1, 3), [(2, 0), (3, 3)]),
    ],
)
def test_where_layers_are_missing_the_last_of_each_stream_are_compared(mine, its, pairs) -> None:
    assert pair_last_states(mine, its) == pairs


def architecture(toy_start, **changes: int) -> Model:
    config = LxmertConfig.from_pretrained(toy_start)
    config.num_qa_labels = len(ANSWERS)
    for name, value in changes.items():
        setattr(config, name, value)
    return noisy(Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY))


def test_a_shallower_student_is_taught_by_the_last_layers(toy_start, task) -> None:
    """Streams are recognised even if a batch has as many words as regions."""
    deep, shallow = architecture(toy_start, l_layers=2, r_layers=3), architecture(toy_start, l_layers=2, r_layers=1)
    batch = make_batch(task.train, torch.arange(8), len(ANSWERS), padded=False)
    most = min(batch.inputs.input_ids.shape[1], batch.inputs.visual_feats.shape[1])
    square = Inputs(*(tensor[:, :most] for tensor in batch.inputs))
    assert square.input_ids.shape[1] == square.visual_feats.shape[1]
    who = Teacher(deep.module, lxmert.FAMILY.answer, Share(weight=1.0, hidden=1.0), lxmert.FAMILY.hidden)
    with_states, without = (
        distillation_loss(
            shallow.module,
            replace(who, settings=replace(who.settings, hidden=hidden)),
            answer=lxmert.FAMILY.answer,
            kind="binary",
            example=square,
        )(batch._replace(inputs=square))
        for hidden in (1.0, 0.0)
    )
    with torch.no_grad():
        _, mine = lxmert.FAMILY.hidden(shallow.module, square)
        _, its = lxmert.FAMILY.hidden(deep.module, square)
    assert (len(mine), len(its)) == (6, 8)  # of 2 cross layers; the last one's regions feed nothing
    alike = [*its[:4], *its[6:]]
    errors = [nn.functional.mse_loss(a, b) for a, b in zip(mine, alike, strict=True)]
    assert float((with_states - without).detach()) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


@pytest.mark.parametrize("family", family_params())
def test_every_family_shows_states_that_can_be_learnt_from(family, tmp_path) -> None:
    toy = TOYS[family]
    folder = str(save_start(toy, tmp_path))
    student, elder = load_start(folder, ANSWERS, 0)[0], noisy(load_start(folder, ANSWERS, 1)[0])
    batch = Batch(some_inputs(toy), torch.rand(6, len(ANSWERS), generator=torch.Generator().manual_seed(0)))
    with_states, without = (
        distillation_loss(
            student.module,
            teacher(elder, weight=0.0, hidden=hidden),
            answer=student.family.answer,
            kind="binary",
            example=batch.inputs,
        )(batch)
        for hidden in (1.0, 0.0)
    )
    total = with_states - without
    with torch.no_grad():
        (_, mine), (_, its) = (each.family.hidden(each.module, batch.inputs) for each in (student, elder))
    errors = [nn.functional.mse_loss(a, b) for a, b in zip(mine, its, strict=True)]
    assert float(total.detach()) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)
    assert float(total.detach()) > 0


def test_states_of_another_width_are_an_error_before_any_training(toy, toy_start, task) -> None:
    wide = architecture(toy_start, hidden_size=32)
    who = Teacher(wide.module, lxmert.FAMILY.answer, Share(hidden=0.1), lxmert.FAMILY.hidden)
    before = copy_of(toy)
    with pytest.raises(
        RunError,
        match=r"distill\.hidden: the teacher has 2 streams of hidden size 32, but the model has 2 of 16, .*hidden=0",
    ):
        run(toy, task, teacher=who)
    with pytest.raises(RunError, match=r"distill\.hidden: this family of models gives no hidden states"):
        run(toy, task, teacher=replace(who, hidden=None))
    assert equal(copy_of(toy), before)
    run(toy, task, teacher=replace(who, settings=Share()))


def test_a_model_is_not_its_own_teacher(toy, task) -> None:
    with pytest.raises(AssertionError, match="its own teacher"):
        run(toy, task, teacher=teacher(toy))


def test_the_recipes_section_has_what_a_teacher_reads() -> None:
    section = Distill()
    assert (section.weight, section.temperature, section.hidden) == (0.5, 1.0, 0.0)
