"""Laws of choosing: exact counts whatever the granularity and scope, equality with the obvious loops, nested masks."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from lxcompress.errors import PruneError
from lxcompress.pruning.choose import (
    check_selection,
    describe_undivided,
    find_kept_dense,
    mask_from_scores,
)
from lxcompress.pruning.granularity import Block, NOfM, find_undivided, read_granularity
from lxcompress.pruning.mask import Mask
from lxcompress.pruning.scope import keep_count, share_by_modality, share_by_sensitivity
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import Method
from tests.complain import complain

GRANULARITIES = ("weight", "block-1x4", "block-4x1", "block-2x1", "block-2x4", "block-4x4")
BLOCKS: dict[str, Block] = {name: read_granularity(name) for name in GRANULARITIES}
SHAPES = {"language.a": (12, 16), "vision.b": (8, 24), "cross.c": (4, 8), "head.d": (20, 4)}
RATES = {"language": 1.0, "vision": 0.5, "cross": 2.0, "head": 0.25}
CURVES = {
    "language.a": {0.3: 0.0, 0.5: 0.1, 0.7: 0.3, 0.95: 3.0},
    "vision.b": {0.3: -0.1, 0.5: -0.2, 0.7: -0.1, 0.95: 0.2},
    "cross.c": {0.3: 0.5, 0.5: 0.4, 0.7: 2.0, 0.95: 9.0},
    "head.d": {0.3: 0.05, 0.5: 0.1, 0.7: 0.1, 0.95: 0.3},
}
OPTIONS = {
    "layer": {},
    "row": {},
    "global": {},
    "modality": {"relative_rates": RATES, "modality": lambda name: name.split(".")[0]},
    "sensitivity": {"sensitivities": CURVES},
}


def split(settings: dict) -> tuple[Selection, dict]:
    """The Selection of some settings, and the other arguments of a choice among them."""
    more = {name: settings[name] for name in ("modality", "sensitivities", "within") if name in settings}
    return Selection(**{name: value for name, value in settings.items() if name not in more}), more


def pick(scores: dict[str, torch.Tensor], **settings) -> Mask:
    selection, more = split(settings)
    return mask_from_scores(scores, selection, **more)


def check(shapes: dict[str, torch.Size], **settings) -> None:
    selection, more = split(settings)
    check_selection(shapes, selection, **more)


def draw(seed: int = 0, *, levels: int | None = None) -> dict[str, torch.Tensor]:
    """Scores of four matrices; with `levels`, whole numbers, so few that most are ties and all sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: (score * levels).round() for name, score in drawn.items()} if levels else drawn


def slow_top(scored: list[tuple[float, object]], keep: int) -> set[object]:
    """The obvious way: a stable sort, the highest first."""
    return {place for _, place in sorted(scored, key=lambda pair: -pair[0])[:keep]}


def blocks_of(score: torch.Tensor, rows: int, columns: int) -> list[tuple[float, tuple[int, int]]]:
    """Each block's score and its place, row after row."""
    return [
        (sum(float(score[r + i, c + j]) for i in range(rows) for j in range(columns)), (r, c))
        for r in range(0, score.shape[0], rows)
        for c in range(0, score.shape[1], columns)
    ]


def written_out(shape: tuple[int, int], places: set, rows: int, columns: int) -> torch.Tensor:
    kept = torch.zeros(shape, dtype=torch.bool)
    for r, c in places:
        kept[r : r + rows, c : c + columns] = True
    return kept


def slow_rows(scored: list[tuple[float, tuple[int, int]]], keep: int) -> set:
    """Rows in turn take their best, each as many as any other or one more: the better ones of the last turn."""
    rows: dict[int, list] = {}
    for value, place in scored:
        rows.setdefault(place[0], []).append((value, place))
    base, extra = divmod(keep, len(rows))
    ranked = [sorted(row, key=lambda pair: -pair[0]) for row in rows.values()]
    kept = {place for row in ranked for _, place in row[:base]}
    return kept | slow_top([row[base] for row in ranked if base < len(row)], extra)


def slow_mask(scores, sparsity, granularity, scope) -> dict[str, torch.Tensor]:
    size = BLOCKS[granularity].rows, BLOCKS[granularity].columns
    blocks = {name: blocks_of(score, *size) for name, score in scores.items()}
    if scope == "global":
        together = [(value, (name, place)) for name, each in blocks.items() for value, place in each]
        keep = keep_count(len(together), sparsity)
        best = slow_top(together, keep)
        forced: set[object] = set()
        while empty := [name for name in scores if name not in {other for other, _ in best}]:
            forced |= {(empty[0], place) for place in slow_top(blocks[empty[0]], 1)}
            others = [pair for pair in together if pair[1] not in forced]
            best = forced | slow_top(others, keep - len(forced))
        chosen = {name: {place for other, place in best if other == name} for name in scores}
    else:
        top = slow_rows if scope == "row" else slow_top
        chosen = {name: top(each, keep_count(len(each), sparsity)) for name, each in blocks.items()}
    return {name: written_out(SHAPES[name], chosen[name], *size) for name in scores}


def equal(kept, expected) -> bool:
    return list(kept) == list(expected) and all(torch.equal(kept[name], expected[name]) for name in expected)


@pytest.mark.parametrize("levels", [1, 1000])
@pytest.mark.parametrize("scope", ["layer", "row", "global"])
@pytest.mark.parametrize("granularity", BLOCKS)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.65])
def test_it_equals_the_obvious_loops(sparsity, granularity, scope, levels) -> None:
    for seed in range(3):
        scores = draw(seed, levels=levels)
        kept = pick(scores, sparsity=sparsity, granularity=granularity, scope=scope).kept
        assert equal(kept, slow_mask(scores, sparsity, granularity, scope))


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("scope", OPTIONS)
@pytest.mark.parametrize("granularity", BLOCKS)
@pytest.mark.parametrize("sparsity", [0.1, 0.25, 0.5, 0.7])
def test_counts_are_exact_in_whole_blocks(sparsity, granularity, scope, levels) -> None:
    kept = pick(draw(1, levels=levels), sparsity=sparsity, granularity=granularity, scope=scope, **OPTIONS[scope]).kept
    block = BLOCKS[granularity]
    units = {name: math.prod(shape) // block.size for name, shape in SHAPES.items()}
    counts = {name: int(each.sum()) / block.size for name, each in kept.items()}
    for name, each in kept.items():
        sums = each.view(each.shape[0] // block.rows, block.rows, -1, block.columns).sum((1, 3))
        assert set(sums.unique().tolist()) <= {0, block.size}, name
        assert each.is_contiguous(), name
    if scope in ("layer", "row"):
        assert counts == {name: keep_count(count, sparsity) for name, count in units.items()}
    else:
        assert sum(counts.values()) == keep_count(sum(units.values()), sparsity)


@pytest.mark.parametrize("scope", ["layer", "row"])
@pytest.mark.parametrize("granularity", ["2:4", "1:4", "3:4", "1:2", "4:8", "5:8"])
@pytest.mark.parametrize("levels", [1, 1000])
def test_n_of_m_keeps_the_n_best_of_each_group(levels, granularity, scope) -> None:
    keep, of = map(int, granularity.split(":"))
    scores = {name: score for name, score in draw(2, levels=levels).items() if score.shape[1] % of == 0}
    kept = pick(scores, sparsity=1 - keep / of, granularity=granularity, scope=scope).kept
    assert len(kept) >= 3
    for name, score in scores.items():
        for group, chosen in zip(score.reshape(-1, of), kept[name].reshape(-1, of), strict=True):
            expected = slow_top([(float(value), index) for index, value in enumerate(group)], keep)
            assert {index for index in range(of) if chosen[index]} == expected


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("scope", OPTIONS)
@pytest.mark.parametrize("granularity", BLOCKS)
def test_masks_drawn_one_within_another_are_nested(granularity, scope, levels) -> None:
    before = None
    for number, sparsity in enumerate((0.1, 0.3, 0.5, 0.7)):
        mask = pick(
            draw(number, levels=levels),
            sparsity=sparsity,
            granularity=granularity,
            scope=scope,
            within=before,
            **OPTIONS[scope],
        )
        if before:
            assert all(not bool((mask.kept[name] & ~before.kept[name]).any()) for name in mask.kept)
        before = mask


@pytest.mark.parametrize("scope", ["layer", "row", "global", "modality", "sensitivity"])
def test_masks_of_the_same_scores_are_nested_over_sparsities(scope) -> None:
    magnitudes = {name: score.abs() for name, score in draw(3, levels=4).items()}
    drawn = [pick(magnitudes, sparsity=each, scope=scope, **OPTIONS[scope]) for each in (0.1, 0.25, 0.5, 0.6)]
    for denser, sparser in itertools.pairwise(drawn):
        assert all(not bool((sparser.kept[name] & ~denser.kept[name]).any()) for name in SHAPES)


def test_a_row_keeps_as_many_as_any_other_or_one_more() -> None:
    for granularity in ("weight", "block-1x4"):
        kept = pick(draw(4), sparsity=0.63, granularity=granularity, scope="row").kept
        for name, each in kept.items():
            rows = each.sum(1) // BLOCKS[granularity].size
            assert int(rows.max() - rows.min()) <= 1, name


def test_modalities_are_pruned_at_their_rates() -> None:
    units = {"language.a": 100_000, "language.b": 300_000, "vision.c": 200_000, "cross.d": 50_000, "head.e": 1000}
    rates = {"language": 1.0, "vision": 0.5, "cross": 1.5, "head": 0.0}
    kept = share_by_modality(units, 0.5, rates=rates, modality=lambda name: name.split(".")[0])
    gone = {name: 1 - kept[name] / units[name] for name in units}
    assert sum(kept.values()) == keep_count(sum(units.values()), 0.5)
    assert gone["head.e"] == 0
    assert gone["language.a"] == pytest.approx(gone["language.b"], abs=1e-4)
    assert gone["vision.c"] / gone["language.a"] == pytest.approx(0.5, abs=1e-4)
    assert gone["cross.d"] / gone["language.a"] == pytest.approx(1.5, abs=1e-4)


def test_a_modality_whose_rate_would_empty_it_keeps_one_unit_and_the_others_go_on() -> None:
    units = {"language.a": 1000, "cross.d": 100}
    kept = share_by_modality(
        units, 0.8, rates={"language": 0.1, "cross": 5.0}, modality=lambda name: name.split(".")[0]
    )
    assert kept["cross.d"] == 1
    assert sum(kept.values()) == 220


def test_equal_rates_are_the_layer_scope() -> None:
    units = {"language.a": 400, "vision.b": 200, "cross.c": 1000}
    even = {"language": 3.0, "vision": 3.0, "cross": 3.0}
    assert share_by_modality(units, 0.35, rates=even, modality=lambda name: name.split(".")[0]) == {
        name: keep_count(count, 0.35) for name, count in units.items()
    }


def test_sensitivities_give_every_matrix_the_same_rise() -> None:
    units = {"a": 1_000_000, "b": 1_000_000}
    curves = {"a": {0.5: 1.0, 0.9: 3.0}, "b": {0.5: 0.25, 0.9: 0.75}}
    kept = share_by_sensitivity(units, 0.5, curves)
    gone = {name: 1 - kept[name] / units[name] for name in units}
    assert sum(kept.values()) == 1_000_000

    def rise(curve, sparsity):
        (one, low), (two, high) = sorted(curve.items())
        return low * sparsity / one if sparsity <= one else low + (high - low) * (sparsity - one) / (two - one)

    assert rise(curves["a"], gone["a"]) == pytest.approx(rise(curves["b"], gone["b"]), rel=1e-4)
    assert gone["b"] > gone["a"]


def test_a_rise_that_falls_is_read_as_flat_and_what_costs_nothing_goes_first() -> None:
    units = {"free": 1000, "dear": 1000}
    curves = {"free": {0.5: -1.0, 0.9: -2.0}, "dear": {0.5: 1.0, 0.9: 0.5}}
    assert share_by_sensitivity(units, 0.3, curves) == {"free": 400, "dear": 1000}
    assert share_by_sensitivity(units, 0.6, curves) == {"free": 100, "dear": 700}
    assert share_by_sensitivity(units, 0.9, curves) == {"free": 100, "dear": 100}


@pytest.mark.parametrize("seed", range(5))
def test_one_factor_gives_every_modality_its_sparsity(seed) -> None:
    """Parts of higher rates keep one unit, at several factors on the way to the one that is asked for."""
    chance = random.Random(seed)
    rates = {str(number): chance.uniform(0.2, 4) for number in range(8)}
    units = {name: chance.randint(50_000, 100_000) for name in rates}
    kept = share_by_modality(units, 0.8, rates=rates, modality=lambda name: name)
    gone = {name: 1 - kept[name] / units[name] for name in units}
    factor = gone[min(rates, key=rates.get)] / min(rates.values())
    assert len({name for name in units if kept[name] == 1}) in range(1, 8)
    for name, rate in rates.items():
        assert gone[name] == pytest.approx(min(1 - 1 / units[name], factor * rate), abs=3e-4)


def test_no_matrix_loses_all_units_or_goes_beyond_its_last_measured_sparsity() -> None:
    free, dear = {1.0: 0.0}, {0.5: 1.0, 0.9: 3.0}
    assert share_by_sensitivity({"free": 10, "dear": 10}, 0.5, {"free": free, "dear": dear}) == {"free": 1, "dear": 9}
    assert share_by_sensitivity({"dear": 10}, 0.9, {"dear": dear}) == {"dear": 1}
    assert share_by_sensitivity({"dear": 10}, 0.0, {"dear": dear}) == {"dear": 10}
    units = {"a": 8, "b": 8, "c": 64}
    curves = {"a": {0.28125: 0.0}, "b": {0.28125: 0.0}, "c": {0.5: 0.0}}  # 2.25, 2.25 and 32 units
    assert share_by_sensitivity(units, 37 / 80, curves) == {"a": 5, "b": 6, "c": 32}


def test_a_single_unit_that_costs_nothing_goes_first() -> None:
    units, curves = {"dear": 2, "free": 2}, {"dear": {0.5: 1.0}, "free": {0.5: 0.0}}
    assert share_by_sensitivity(units, 0.25, curves) == {"dear": 2, "free": 1}


def test_what_is_measured_may_fall_short_by_half_a_unit_and_no_more() -> None:
    assert share_by_sensitivity({"a": 8}, 0.5, {"a": {0.4375: 1.0}}) == {"a": 4}
    with pytest.raises(PruneError, match=r"allow 89\b"):
        share_by_sensitivity({"a": 100}, 0.9, {"a": {0.89: 1.0}})


@pytest.mark.parametrize("scope", ["layer", "row", "global", "modality", "sensitivity"])
@pytest.mark.parametrize(
    ("granularity", "sparsity", "odd"),
    [("block-1x4", 0.6, (6, 18)), ("block-4x1", 0.6, (18, 6)), ("2:4", 0.5, (6, 18)), ("4:8", 0.5, (6, 20))],
)
def test_matrices_that_cannot_be_divided_stay_dense_as_if_listed(
    granularity: str, sparsity: float, odd: tuple[int, int], scope: str
) -> None:
    if ":" in granularity and scope not in ("layer", "row"):
        return
    scores = {**draw(5), "odd.matrix": torch.randn(odd), "odd.vector": torch.randn(16)}
    wanted = {"sparsity": sparsity, "granularity": granularity, "scope": scope, **OPTIONS[scope]}
    kept = pick(scores, **wanted).kept
    assert list(kept) == list(scores)
    dense = find_kept_dense({name: score.shape for name, score in scores.items()}, Selection(0.5, granularity))
    assert dense == [*["head.d"] * (granularity == "4:8"), "odd.matrix", "odd.vector"]
    assert all(bool(kept[name].all()) for name in dense)
    others = {name: each for name, each in scores.items() if name not in dense}
    alone, listed = pick(others, **wanted).kept, pick(scores, **wanted, keep_dense=dense).kept
    assert all(torch.equal(kept[name], alone[name]) for name in others)
    assert equal(kept, listed)
    check({name: score.shape for name, score in scores.items()}, **wanted)


@pytest.mark.parametrize(
    ("granularity", "undivided"),
    [
        ("2:4", ["odd columns", "stack"]),
        ("block-2x1", ["odd rows", "stack"]),
        ("block-1x2", ["odd columns", "stack"]),
        ("block-4x4", ["odd rows", "odd columns", "stack"]),
        ("weight", []),
    ],
)
def test_a_matrix_is_divided_by_rows_and_by_columns(granularity: str, undivided: list[str]) -> None:
    sizes = {"odd rows": (3, 8), "odd columns": (8, 7), "even": (8, 8), "stack": (8, 8, 8)}
    assert find_undivided({name: torch.Size(size) for name, size in sizes.items()}, granularity) == undivided


@pytest.mark.parametrize("text", ["0:4", "4:4", "5:4", ":4", "2:", "-1:4", "2.0:4", "block-0x4", "row", ""])
def test_what_is_no_granularity_of_a_mask_is_refused(text: str) -> None:
    complain(lambda: read_granularity(text), f"granularity {text}:", "N below M, such as 2:4")


def test_the_narrowest_patterns_are_read() -> None:
    assert read_granularity("1:2") == NOfM(1, 2)
    assert read_granularity("3:4") == NOfM(3, 4)


def test_words_count_what_stays_dense_and_name_the_first() -> None:
    said = describe_undivided(shapes(odd=(8, 18), other=(3, 3)), "2:4")
    assert said == "2 of 6 matrices, which 2:4 does not divide: odd (8 x 18) and 1 more"
    assert describe_undivided(shapes(odd=(8, 18)), "weight") is None
    said = describe_undivided(shapes(odd=(8, 18)), "2:4")
    assert said == "1 of 5 matrices, which 2:4 does not divide: odd (8 x 18)"


def test_scores_are_left_as_they_are() -> None:
    scores = draw(6)
    copies = {name: score.clone() for name, score in scores.items()}
    within = pick(scores, sparsity=0.5)
    pick(scores, sparsity=0.7, scope="global", within=within)
    assert equal(scores, copies)


def shapes(**more) -> dict[str, torch.Size]:
    return {name: torch.Size(shape) for name, shape in {**SHAPES, **more}.items()}


@pytest.mark.parametrize(
    ("more", "fields", "named"),
    [
        ({}, {"granularity": "16:32"}, ("16:32", "nothing is left", "4 of 4", "language.a (12 x 16)", "use")),
        ({}, {"keep_dense": list(SHAPES)}, ("keep_dense", "all 4 matrices", "list fewer")),
        ({"odd": (8, 18)}, {"granularity": "2:4", "keep_dense": list(SHAPES)}, ("nothing is left", "odd (8 x 18)")),
        ({"odd": (16,)}, {"scope": "row"}, ("odd", "not a matrix", "scope layer")),
        ({}, {"granularity": "2:4", "sparsity": 0.7}, ("sparsity 0.7", "2:4", "give sparsity 0.5")),
        ({}, {"granularity": "2:4", "scope": "global"}, ("scope global", "2:4")),
        ({}, {"granularity": "4:2"}, ("granularity 4:2", "block-RxC", "2:4")),
        ({}, {"granularity": "neuron"}, ("granularity neuron", "block-4x4")),
        ({}, {"scope": "corner"}, ("scope corner", "layer, row, global, modality, sensitivity")),
        ({}, {"sparsity": 1.0}, ("sparsity 1", "0.5 for 50 %")),
        ({}, {"sparsity": 0.99}, ("cross.c", "all of its 32 weights", "lower the sparsity")),
        ({}, {"relative_rates": RATES}, ("relative_rates", "scope layer", "scope modality")),
        ({}, {"sensitivities": CURVES}, ("sensitivities", "scope layer")),
        ({}, {"scope": "modality"}, ("scope modality", "give relative_rates")),
        ({}, {"scope": "modality", "relative_rates": RATES}, ("scope modality", "give relative_rates")),
        (
            {},
            {"scope": "modality", **OPTIONS["modality"], "relative_rates": {"language": 1.0}},
            ("vision.b", "vision", "relative_rates.vision"),
        ),
        (
            {},
            {"scope": "modality", **OPTIONS["modality"], "relative_rates": {**RATES, "vision": -1.0}},
            ("relative_rates.vision", "-1"),
        ),
        (
            {},
            {"scope": "modality", **OPTIONS["modality"], "relative_rates": {**RATES, "vision": 0, "language": 0}},
            ("sparsity 0.5", "allow", "lower the sparsity"),
        ),
        ({}, {"scope": "sensitivity", "sensitivities": {}}, ("language.a", "measure it")),
        (
            {},
            {"scope": "sensitivity", "sensitivities": CURVES, "sparsity": 0.97},
            ("sparsity 0.97", "allow", "at higher sparsities"),
        ),
        (
            {},
            {"scope": "sensitivity", "sensitivities": {**CURVES, "cross.c": {0.5: float("nan")}}},
            ("cross.c", "0.5", "not a number"),
        ),
        ({}, {"keep_dense": ["nowhere"]}, ("keep_dense", "nowhere")),
    ],
)
def test_what_cannot_be_drawn_is_told_before_any_score(more, fields, named) -> None:
    given = {"granularity": "weight", "sparsity": 0.5, "scope": "layer", **fields}
    complain(lambda: check(shapes(**more), **given), *named, kind=PruneError)
    scores = {name: torch.rand(shape) for name, shape in shapes(**more).items()}
    complain(lambda: pick(scores, **given), *named, kind=PruneError)


def test_what_can_be_drawn_passes_before_sensitivities_are_measured() -> None:
    check(shapes(), granularity="block-1x4", sparsity=0.5, scope="sensitivity")
    for scope, options in OPTIONS.items():
        check(shapes(), granularity="weight", sparsity=0.5, scope=scope, **options)


def test_an_earlier_mask_that_left_too_few_is_told() -> None:
    scores = draw(7)
    few = pick(scores, sparsity=0.8)
    for fields in ({"sparsity": 0.5}, {"sparsity": 0.5, "granularity": "2:4"}, {"sparsity": 0.8, "scope": "row"}):
        complain(lambda given=fields: pick(scores, within=few, **given), "earlier mask", kind=PruneError)
    other = Mask({"language.a": torch.ones(3, 3, dtype=torch.bool)})
    complain(lambda: pick(scores, sparsity=0.5, within=other), "3 x 3, but 12 x 16", kind=PruneError)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_no_matrix_keeps_less_than_its_least_share_and_the_total_stays_exact(granularity, fraction) -> None:
    scores = {**draw(8), "tiny": torch.full((4, 8), -1e9)}
    sparsity = 0.5
    block = BLOCKS[granularity]
    kept = pick(scores, sparsity=sparsity, scope="global", granularity=granularity, least_kept=fraction).kept
    units = {name: score.numel() // block.size for name, score in scores.items()}
    counts = {name: int(matrix.sum()) // block.size for name, matrix in kept.items()}
    assert sum(counts.values()) == keep_count(sum(units.values()), sparsity)
    assert counts["tiny"] == max(1, math.ceil(fraction * units["tiny"]))
    assert all(counts[name] >= fraction * units[name] for name in units)


def test_a_least_share_keeps_the_best_units_and_does_not_bring_any_back() -> None:
    scores = {"large": torch.arange(100.0, 200).view(10, 10), "tiny": torch.arange(16.0).view(4, 4)}
    before = pick({**scores, "tiny": -scores["tiny"]}, sparsity=0.1, scope="global", least_kept=0.25)
    assert before.kept["tiny"].nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    after = pick(scores, sparsity=0.5, scope="global", least_kept=0.125, within=before)
    assert after.kept["tiny"].nonzero().tolist() == [[0, 2], [0, 3]]
    more = pick(scores, sparsity=0.5, scope="global", least_kept=0.4, within=before)
    assert torch.equal(more.kept["tiny"], before.kept["tiny"])


def test_more_than_the_sparsity_keeps_is_refused() -> None:
    complain(
        lambda: pick(draw(8), sparsity=0.9, scope="global", least_kept=0.2),
        "0.9",
        "least_kept 0.2",
        "lower the sparsity",
    )
    complain(lambda: check({"a": torch.Size((4, 4))}, sparsity=0.5, least_kept=0.2), "no effect with scope layer")
    complain(lambda: check({"a": torch.Size((4, 4))}, sparsity=0.5, scope="global", least_kept=1), "least_kept 1: is a")
    exact = pick({"a": draw(8)["cross.c"]}, sparsity=0.75, scope="global", least_kept=0.25)
    assert int(exact.kept["a"].sum()) == 8


def test_a_modality_keeps_the_least_share_of_each_matrix() -> None:
    kept = pick(draw(1), sparsity=0.75, scope="modality", least_kept=0.15, **OPTIONS["modality"]).kept
    shares = {name: float(matrix.float().mean()) for name, matrix in kept.items()}
    assert min(shares.values()) >= 0.15
    assert shares["cross.c"] == pytest.approx(0.15, abs=1 / 32)


def test_a_selection_has_the_settings_of_its_method() -> None:
    named = {"granularity": "block-1x4", "keep_dense": ("head.d",)}
    found = Selection.from_method(Method(scope="modality", relative_rates=RATES, **named), 0.3)
    assert found == Selection(0.3, scope="modality", relative_rates=RATES, multiple=8, **named)
    assert Selection.from_method(Method(**named), 0.3) == Selection(0.3, multiple=8, **named)
