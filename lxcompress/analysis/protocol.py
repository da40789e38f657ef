"""The faults of the published study that a recipe reproduces on purpose, and what each fault does."""

from __future__ import annotations

from collections.abc import Mapping

from lxcompress.recipe import FAULTS, Fault, Recipe

FAULT_WORDS: Mapping[Fault, str] = {
    "one-dense-run": "one fine-tuning is used for every seed, so the spread over seeds is that of retraining alone",
    "compounded-sparsity": "each tensor loses a tenth of its remaining weights until the target is passed, so that "
    "20, 50 and 90 % become 27.1, 52.2 and 90.2 %",
    "every-tensor-pruned": "biases, LayerNorm gains and the last matrix of the answer head are pruned too",
    "mask-applied-once": "the mask is applied before retraining and never again: the removed weights grow back, and "
    "the retrained models are dense",
    "high-from-low-mask": "“high-magnitude” removes weights that low-magnitude removes, not the largest ones",
}


def protocol_name(recipe: Recipe) -> str:
    """Return "corrected" (no faults), "published" (all faults), or the names of the faults joined by "+"."""
    if not recipe.faults:
        return "corrected"
    return "published" if set(recipe.faults) == set(FAULTS) else "+".join(recipe.faults)


def protocol_title(recipe: Recipe) -> str:
    """Return a title that says which faults a run reproduces; empty for the corrected protocol."""
    if not recipe.faults:
        return ""
    count = len(recipe.faults)
    if protocol_name(recipe) == "published":
        return "The published protocol: its five faults are reproduced here on purpose"
    return f"{count} {'fault' if count == 1 else 'faults'} of the published study reproduced here on purpose"


def fault_lines(recipe: Recipe) -> list[tuple[str, str]]:
    """Return (name of the fault, what it does) for each fault that a run reproduces."""
    return [(fault, FAULT_WORDS[fault]) for fault in FAULTS if fault in recipe.faults]


def has_tickets(recipe: Recipe) -> bool:
    """Return whether the retrained models of a run are tickets, so that their removed weights are still zero."""
    return "mask-applied-once" not in recipe.faults


NO_TICKETS = "The retrained models of this run are dense: none of them is a ticket to ship."
