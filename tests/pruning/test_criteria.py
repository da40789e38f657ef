"""Laws of criteria: each score is what its paper says, computed by hand, and what it needs is asked for by name."""

from __future__ import annotations

import pytest
import torch

from lxcompress.catalog.criteria import CRITERIA, CriterionSpec
from lxcompress.errors import PruneError
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.criteria import CalibrationStatistics, score_weights
from lxcompress.pruning.selection import Selection
from tests.complain import complain

WEIGHT = torch.tensor([[0.5, -2.0, 0.0], [1.0, -0.25, 3.0]])
SEEN = CalibrationStatistics(
    gradient={"a": torch.tensor([[4.0, 0.5, 9.0], [0.0, 8.0, 1.0]])},
    squared_gradient={"a": torch.tensor([[16.0, 0.25, 81.0], [0.0, 64.0, 2.0]])},
    input_norm={"a": torch.tensor([10.0, 1.0, 0.5])},
    movement={"a": torch.tensor([[-1.0, 2.0, 0.0], [3.0, -4.0, 0.5]])},
)
BY_HAND = {
    "low-magnitude": [[0.5, 2.0, 0.0], [1.0, 0.25, 3.0]],
    "high-magnitude": [[-0.5, -2.0, 0.0], [-1.0, -0.25, -3.0]],
    "movement": [[-1.0, 2.0, 0.0], [3.0, -4.0, 0.5]],
    "taylor": [[2.0, 1.0, 0.0], [0.0, 2.0, 3.0]],
    "wanda": [[5.0, 2.0, 0.0], [10.0, 0.25, 1.5]],
    "fisher": [[2.0, 0.5, 0.0], [0.0, 2.0, 9.0]],
}
NEEDY = sorted(name for name, criterion in CRITERIA.items() if criterion.needs)


@pytest.mark.parametrize("criterion", BY_HAND)
def test_a_score_is_what_its_paper_says(criterion) -> None:
    scores = score_weights({"a": WEIGHT}, criterion=criterion, seed=0, statistics=SEEN)
    assert scores["a"].tolist() == BY_HAND[criterion]


def test_every_criterion_is_tested_here() -> None:
    assert CRITERIA.keys() == {*BY_HAND, "random"}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_new_float32_and_leave_weights_and_evidence_alone(criterion) -> None:
    weight, before = WEIGHT.to(torch.bfloat16), WEIGHT.to(torch.bfloat16)
    kept = {
        name: getattr(SEEN, name)["a"].clone() for name in ("gradient", "squared_gradient", "input_norm", "movement")
    }
    score = score_weights({"a": weight}, criterion=criterion, seed=0, statistics=SEEN)["a"]
    assert score.dtype == torch.float32
    score.fill_(7)
    assert torch.equal(weight, before)
    assert all(torch.equal(getattr(SEEN, name)["a"], each) for name, each in kept.items())


def test_noise_follows_its_seed_and_not_the_weights() -> None:
    def draw(seed, weight):
        return score_weights({"a": weight}, criterion="random", seed=seed)["a"]

    assert torch.equal(draw(3, WEIGHT), draw(3, WEIGHT * 5))
    assert not torch.equal(draw(3, WEIGHT), draw(4, WEIGHT))


@pytest.mark.parametrize("criterion", NEEDY)
def test_a_criterion_asks_for_what_it_needs(criterion) -> None:
    needs = CRITERIA[criterion].needs.replace("_", " ")

    def draw(statistics):
        return choose_mask({"a": WEIGHT}, Selection(0.5), criterion=criterion, seed=0, statistics=statistics)

    complain(lambda: draw(None), f"criterion {criterion}", needs, "of a", "low-magnitude, random", kind=PruneError)
    others = {name: {} if name == CRITERIA[criterion].needs else {"a": WEIGHT} for name in vars(SEEN)}
    complain(lambda: draw(CalibrationStatistics(**others)), needs, "of a", kind=PruneError)
    wrong = CalibrationStatistics(**{CRITERIA[criterion].needs: {"a": torch.ones(7)}})
    complain(lambda: draw(wrong), f"criterion {criterion}", "[7]", "measure it with this model", kind=PruneError)
    spoilt = CalibrationStatistics(
        **{CRITERIA[criterion].needs: {"a": getattr(SEEN, CRITERIA[criterion].needs)["a"] / 0}}
    )
    complain(lambda: draw(spoilt), "a: its", criterion, "not finite", kind=PruneError)


def test_what_cannot_be_ranked_is_told() -> None:
    complain(lambda: score_weights({}, criterion="random", seed=0), "no prunable weight", kind=PruneError)
    complain(lambda: score_weights({"a": WEIGHT}, criterion="biggest", seed=0), "biggest", *CRITERIA, kind=PruneError)
    for value in (float("nan"), float("inf"), -float("inf")):
        spoilt = {"a": WEIGHT, "b": torch.tensor([[1.0, value]])}
        complain(
            lambda given=spoilt: score_weights(given, criterion="random", seed=0),
            "b",
            "NaN or infinite",
            "another checkpoint",
        )


def to_double(weight: torch.Tensor, statistic: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
    return weight.double()


def to_row(weight: torch.Tensor, statistic: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
    return weight[0]


def size_of_statistic(weight: torch.Tensor, statistic: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
    return torch.full_like(weight, statistic.numel())


def test_a_criterion_of_another_shape_or_type_is_told(monkeypatch) -> None:
    for score in (to_double, to_row):
        spec = CriterionSpec("added", f"{__name__}:{score.__name__}")
        monkeypatch.setitem(CRITERIA, "added", spec)
        complain(lambda: score_weights({"a": WEIGHT}, criterion="added", seed=0), "a", "added", "[2, 3]", "float32")


def test_a_criterion_that_needs_no_statistic_is_given_an_empty_one(monkeypatch) -> None:
    monkeypatch.setitem(CRITERIA, "added", CriterionSpec("added", f"{__name__}:size_of_statistic"))
    assert not score_weights({"a": WEIGHT}, criterion="added", seed=0)["a"].any()
