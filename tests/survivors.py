"""The changes that no test can notice, and why: module -> change -> reason."""

from __future__ import annotations

_SHORTCUT = "the general path gives the same; the condition only saves time"
_CANCELS = "a factor of both medians cancels in their ratio"
_ANY_NEGATIVE = "numpy takes any negative size as the one to find"
_CUDA = "it is called on a CUDA device only, on which none of these tests was run (docs/gpu.md)"
_CACHE = "the size of a cache changes no score"
_FAR_BELOW = "0 and 1 are both far below the largest number of the type"
_BRACKET = "a wider bracket, or a halving more, ends at the same value"
_EITHER_END = "where the middle is the wanted value, both ends of the bracket come to it"

_ANY_SIZE = "the graph is the same for any number of tokens and regions"
_EAGER = "the installed transformers computes attention of these models in its eager form alone"
_MADE_BEFORE = "the tests hold classes that were made before the change; in the file itself it fails them"
_SCORES_DO = "the installed torch-pruning finds the same parts from the scores alone"
_ALL_SHARES = "all shares change by one factor, and only their order is read"

_BIT = "no share is this number to the bit"
_ALIKE = "a part of the key that all such files share, so it decides nothing"

SURVIVORS: dict[str, dict[str, str]] = {
    "analysis/comparison": {
        "_sign: mine < its -> mine <= its": "equals are the same, and end before",
        "_difference: sign > 0 -> sign >= 0": "a sign of 0 is no difference, and has no words",
    },
    "analysis/constraints": {
        "figure: 100 -> 101": "from 100 to 101 both formats give the same text",
        "figure: value < 100 -> value <= 100": "both formats give 100",
    },
    "analysis/pick": {
        "_speed_key: 3 -> 4": "a prediction comes last with either",
        "_speed_key: 0.0 -> 1.0": _ALIKE,
        "_speed_key: 0.0 -> 1.0 #2": _ALIKE,
        "_speed_key: 0.0 -> 1.0 #3": _ALIKE,
        "_speed_key: 2 -> 3": "a file that fits is chosen among exported ones alone",
    },
    "bitmask": {
        "pack: 1 -> 2": _ANY_NEGATIVE,
        "_by_row: 1 -> 2": _ANY_NEGATIVE,
        "_scale_rows: 0 -> 1 #2": "1 is less than a least weight above 1 only, and there the largest weight decides",
        "_check_weights: 0 -> 1": _FAR_BELOW,
        "_check_weights: 0 -> 1 #2": _FAR_BELOW,
        "_check_weights: 0 -> 1 #3": "the smallest value is NaN with either initial value",
        "_write: False -> True": "a copy has the same values; it costs time and memory only",
        "_names: 0 -> 1": "of the parts only the names are read here, which no number changes",
        "_take: 0 -> 1 #2": "of the parts only the names are read here, which no number changes",
    },
    "data/nlvr2_score": {
        "score_nlvr: 1.0 -> 2.0": "a score is at most 1, so it is the smaller one with either",
    },
    "data/vqa_score": {
        "(module): 1 -> 2": _CACHE,
        "(module): 18 -> 19": _CACHE,
        "(module): 1 << 18 -> 1 >> 18": _CACHE,
    },
    "engine/pack": {
        "vector: 1 -> 2": _ANY_NEGATIVE,
        "unpack: 1 -> 2": _ANY_NEGATIVE,
        "_check_numbers: 0 -> 1": _FAR_BELOW,
        "_check_numbers: 0 -> 1 #2": _FAR_BELOW,
        "_check_numbers: 0 -> 1 #3": "the smallest value is NaN with either initial value",
        "_check_cut: 1 -> 2": "the number after the largest panel is no multiple of 4",
        "_pack_dense: 1 -> 2": _ANY_NEGATIVE,
        "_pack_tile: 1 -> 2": _ANY_NEGATIVE,
        "_pack_tile: 1 -> 2 #6": _ANY_NEGATIVE,
        "_pack_tile: 1 -> 2 #7": _ANY_NEGATIVE,
        "_pack_tile: 1 -> 2 #9": _ANY_NEGATIVE,
        "_pack_tile: 1 -> 2 #10": _ANY_NEGATIVE,
        "_unpack_product: 1 -> 2": _ANY_NEGATIVE,
        "_unpack_dense: 1 -> 2": _ANY_NEGATIVE,
    },
    "measure/compare": {
        "_judge: low is None or high is None -> low is None and high is None": "both are None, or neither is",
        "_judge: value < 1 -> value <= 1": "a ratio of 1 is no difference, and ends before",
        "_medians: 1 -> 2": _ANY_NEGATIVE,
        "_medians: 2 -> 3 #3": _CANCELS,
        "_medians: (pooled[row, below] + pooled[row, above]) / 2 -> (pooled[row, below] + pooled[row, above]) * 2": _CANCELS,
    },
    "pruning/choose": {
        "_check_settings: abs(sparsity - units.sparsity) > 1e-09 -> abs(sparsity - units.sparsity) >= 1e-09": (
            "no sparsity that can be written is exactly this far from the pattern's"
        ),
        "_keep_together: int(kept[name].sum()) < count -> int(kept[name].sum()) <= count": (
            "a matrix that keeps exactly its least keeps the same units when they are raised"
        ),
    },
    "pruning/controls": {
        "small_config: config.hidden_size // heads -> config.hidden_size * heads": _BRACKET,
        "small_config: count_prunable(_with_heads_o ...  middle)) <= prunable_target -> count_prunable(_with_heads_o ... , middle)) < prunable_target": _EITHER_END,
    },
    "analysis/equal_accuracy": {
        "SizeGain.is_smaller: self.file.exported.size_mb < ...  self.rival.exported.size_mb -> self.file.exported.size_mb < ...  self.rival.exported.size_mb": _BIT,
        "compare_at_equal_accuracy: kept.ratios.mean >= floor - ROUNDING -> kept.ratios.mean > floor - ROUNDING": _BIT,
        "find_shared_bench: latency_ms(measured).p50 < latency_ms(before).p50 -> latency_ms(measured).p50 <= latency_ms(before).p50": "of equal medians either may count",
        "_speed_gain: found.low is None or found.high is None -> found.low is None and found.high is None": "an interval has both ends or none",
    },
    "analysis/equal_accuracy_words": {
        "_is_confirmed: tested.ratios.mean >= found.floor - ROUNDING -> tested.ratios.mean > found.floor - ROUNDING": _BIT,
        "_speed_words: 0.0 -> 1.0": "the rival of a speed was measured",
    },
    "pruning/mask": {
        "_drop_later_ties: kept.sum(1) > keep -> kept.sum(1) >= keep": "a row with exactly as many weights comes out as it was",
        "(module): 1 -> 2": "a larger histogram counts the same",
        "(module): 16 -> 17": "a larger histogram counts the same",
        "keep_top_of_each: keep >= scores.shape[1] -> keep > scores.shape[1]": _SHORTCUT,
        "keep_top_of_each: keep * len(kept) -> keep / len(kept) #2": _SHORTCUT,
        "keep_top_of_each: total > keep * len(kept) -> total >= keep * len(kept)": _SHORTCUT,
        "keep_top_together: keep <= 0 -> keep < 0": _SHORTCUT,
        "keep_top_together: keep >= total -> keep > total": _SHORTCUT,
        "keep_top_together: keep <= 0 or keep >= total -> keep <= 0 and keep >= total": _SHORTCUT,
        "_ordered: 0 -> 1": "the initial value is for no scores, and 1 is less than SIGN too",
        "_from_the_top: 0 -> 1": "the top bin of the upper half has no numbers; the rank in the lower is unused",
    },
    "pruning/published": {
        "_compounded: count / total >= target - ROUNDING -> count / total > target - ROUNDING": "no share is this number to the bit",
        "_rounds: -math.inf -> math.inf": "the first value is used for a tensor without scores only",
        "_keep_by_chance: torch.rand(low.shape, generator=generator) >= share -> torch.rand(low.shape, generator=generator) > share": "a random number is the share itself once in 16 million",
    },
    "pruning/scope": {
        "least_kept: 6 -> 7": "both cut off the rounding error of a product, and nothing else",
        "(module): 100 -> 101": _BRACKET,
        "share_by_modality: 1 -> 2 #2": _BRACKET,
        "share_by_modality: 0.0 -> 1.0": "without a rate above 0 nothing is removed, at any factor",
        "share_by_sensitivity: 0.0 -> 1.0": "the value for no matrices, which have no units to share",
        "share_by_sensitivity: 1.0 -> 2.0": _BRACKET,
        "_solve_counts: most < wanted - 0.5 - 1e-06 -> most <= wanted - 0.5 - 1e-06": "no sum is this number to the bit",
        "_solve_counts: sum(removed(middle).values()) >= wanted -> sum(removed(middle).values()) > wanted": _EITHER_END,
        "_solve_counts: 0.0 -> 1.0 #2": "both ends of the bracket are equal then",
    },
    "pruning/surgery": {
        "(module): 1 -> 2": _MADE_BEFORE,
        "(module): 1 -> 2 #2": _MADE_BEFORE,
        "unit_of: 1 -> 2 #2": "of the parts only the first is read",
        "_traced: 3 -> 4": _ANY_SIZE,
        "_traced: 2 -> 3": _ANY_SIZE,
        "_traced: attention not in (None, 'eager') -> attention in (None, 'eager')": _EAGER,
        "_traced: attention not in (None, 'eager') -> attention in (None, 'eager') #2": _EAGER,
        "_tensors: out if isinstance(out, (tuple, list)) else (out,) -> out if not isinstance(out, (tuple, list)) else (out,)": _SCORES_DO,
        "_tensors: out.values() if isinstance(o ... , (tuple, list)) else (out,) -> out.values() if not isinstan ... , (tuple, list)) else (out,)": _SCORES_DO,
        "_tensors: value.grad_fn is not None -> value.grad_fn is None": _SCORES_DO,
        "_tensors: isinstance(value, Tensor) and value.grad_fn is not None -> isinstance(value, Tensor) or value.grad_fn is not None": _SCORES_DO,
        "_tensors: for value in values if isins ... nd value.grad_fn is not None -> for value in values if not ( ... d value.grad_fn is not None)": _SCORES_DO,
    },
    "pruning/units": {
        "_take_steps: selection.sparsity > sparsities[-1] + ROUNDING -> selection.sparsity >= sparsities[-1] + ROUNDING": "no sparsity is this sum to the bit",
        "_take_steps: step.share < 0 -> step.share <= 0": "a share is -1 or above 0",
        "_group_steps: 2 -> 3": _ALL_SHARES,
        "_group_steps: (start + end) / 2 -> (start + end) * 2": _ALL_SHARES,
        "_group_steps: 1.0 -> 2.0": "only the sign is read",
        "_reachable_sparsities: any((group.kind == 'layer' for group in groups)) -> all((group.kind == 'layer' for group in groups))": "layers are never with groups of another kind",
        "_reachable_sparsities: 1 -> 2": "the last value stands twice, and of equal ones the first is taken",
    },
    "training/step": {
        "EagerStep.__call__: True -> False": "a gradient of 0 and none give the same step; only the memory differs",
        "(module): 3 -> 4": _CUDA,
        "GraphStep.__call__: for leaf in leaves if isinstance(leaf, Tensor) -> for leaf in leaves if not isinstance(leaf, Tensor)": _CUDA,
        "GraphStep.__call__: self.graph is None -> self.graph is not None": _CUDA,
        "GraphStep.__call__: self.repeats.count(form) > STEPS_BEFORE_CAPTURE -> self.repeats.count(form) >= STEPS_BEFORE_CAPTURE": _CUDA,
        "GraphStep.__call__: self.graph is None and self. ... form) > STEPS_BEFORE_CAPTURE -> self.graph is None or self.r ... form) > STEPS_BEFORE_CAPTURE": _CUDA,
        "GraphStep.__call__: if self.graph is None and se ... APTURE: self._capture(parts) -> if not (self.graph is None a ... PTURE): self._capture(parts)": _CUDA,
        "GraphStep.__call__: self.graph is None -> self.graph is not None #2": _CUDA,
        "GraphStep.__call__: form != self.repeats.form -> form == self.repeats.form": _CUDA,
        "GraphStep.__call__: self.graph is None or form != self.repeats.form -> self.graph is None and form != self.repeats.form": _CUDA,
        "GraphStep.__call__: if self.graph is None or for ... f._run_on_side_stream(parts) -> if not (self.graph is None o ... f._run_on_side_stream(parts)": _CUDA,
        "GraphStep.__call__: self.loss is not None -> self.loss is None": _CUDA,
        "GraphStep._capture: leaf.clone() if isinstance(leaf, Tensor) else leaf -> leaf.clone() if not isinstance(leaf, Tensor) else leaf": _CUDA,
        "GraphStep._capture: for leaf in static if isinstance(leaf, Tensor) -> for leaf in static if not isinstance(leaf, Tensor)": _CUDA,
        "GraphStep._capture: True -> False": _CUDA,
        "RepeatCounter.__init__: 0 -> 1": "the first form is another than None, and sets the number to 1",
        "EagerStep.__call__: len(parts) > 1 -> len(parts) >= 1": "the share of a single micro-batch is 1",
    },
    "stats": {
        "(module): 2000 -> 2001": "a resample more moves an end by less than another seed does",
        "_from_logit: 700 -> 701": "a share of 1e-304 is 0 to every reader",
        "_from_logit: value > -700 -> value >= -700": "a share of 1e-304 is 0 to every reader",
        "student_t: 1.0 -> 2.0": _BRACKET,
        "student_t: 2 -> 3": _BRACKET,
        "student_t: 80 -> 81": _BRACKET,
        "student_t: share_within(high, freedom) < level -> share_within(high, freedom) <= level": _BRACKET,
        "student_t: share_within(middle, freedom) < level -> share_within(middle, freedom) <= level": _EITHER_END,
    },
    "tickets": {
        "load_ticket: 'surgery' if isinstance(cut, Surgery) else 'mask' -> 'surgery' if not isinstance(cut, Surgery) else 'mask'": (
            "a word of a message"
        ),
        "save_mask: 1 -> 2": _ANY_NEGATIVE,
    },
}
