"""Write a choice as sentences: what to ship, how much accuracy it keeps, and how it compares with dense int8."""

from __future__ import annotations

from lxcompress.analysis.alternatives import candidate_of
from lxcompress.analysis.choice import Choice, PickedTicket
from lxcompress.analysis.commands import bench_command, format_twins_command
from lxcompress.analysis.comparison import comparison, find_dense_int8, find_pair
from lxcompress.analysis.constraints import figure
from lxcompress.analysis.equal_accuracy_words import equal_accuracy_sentence
from lxcompress.analysis.groups import Spread
from lxcompress.analysis.protocol import NO_TICKETS, has_tickets
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.words import plus_minus
from lxcompress.catalog.formats import find_format
from lxcompress.units import percent


def verdict(choice: Choice) -> str:
    """Return one or two sentences that say what to ship, or why nothing was picked."""
    picked = choice.picked
    if picked is None:
        return _nothing_words(choice)
    free = free_words(picked)
    if free:
        return f"{free} The best ticket is {picked.label}: {accuracy_words(choice)}.{_longer_words(choice)}"
    file = picked.predicted
    size = "" if file is None or file.size_mb is None else f"about {figure(file.size_mb)} MB, "
    name = "" if file is None or picked.exported else f" (as {file.name}: predicted, {size}not exported yet)"
    return f"Ship {picked.label}{name}: {accuracy_words(choice)}.{_longer_words(choice)}"


def headlines(summary: RunSummary, choice: Choice) -> list[str]:
    """Return the sentences that head a result: the comparison with dense int8 at equal accuracy, and the verdict.

    The comparison comes second as long as something is missing for it. A run without tickets has one sentence.
    """
    if not has_tickets(summary.recipe):
        return [NO_TICKETS]
    if choice.equal is None:
        return [verdict(choice)]
    both = [equal_accuracy_sentence(choice.equal), verdict(choice)]
    return both if choice.equal.is_decided else both[::-1]


def accuracy_words(choice: Choice) -> str:
    """Return how much of the dense accuracy the picked group keeps, with both accuracies in percent."""
    assert choice.picked is not None
    assert choice.dense is not None
    group = choice.picked.group
    assert group.retained is not None
    seeds = f"seed {group.seeds[0]} alone" if len(group.seeds) == 1 else f"{len(group.seeds)} seeds"
    dense = Spread({seed: choice.dense.by_seed[seed] for seed in group.seeds})
    kept = "matches dense" if group.retained >= 1 else f"keeps {percent(group.retained, 1)} % of dense accuracy"
    return f"{kept} ({plus_minus(group.retrained.overall)} against {plus_minus(dense)} %, {seeds})"


def free_words(picked: PickedTicket) -> str:
    """Return a sentence that recommends dense int8, if it is at least as good as the picked file; else empty."""
    if picked.free is None:
        return ""
    assert picked.exported is not None, "dense int8 is compared with an exported file"
    return f"Ship dense int8, which needs no pruning: {comparison(picked.free, candidate_of(picked.exported))}."


def compared_words(picked: PickedTicket) -> tuple[str, str | None]:
    """Return a sentence that compares the picked file with dense int8, and the command for what was not compared.

    The dense int8 file has the same format. The sentence is empty and the command None for a file that is not exported
    yet, or whose format has no int8. The command is None if nothing is left to compare.
    """
    exported = picked.exported
    if exported is None or picked.free is not None or "int8" not in find_format(exported.artifact.format).precisions:
        return "", None
    format = exported.artifact.format
    other = find_dense_int8(exported, picked.others)
    if other is None:
        if exported.artifact.cell is None:
            return "", None
        words = f"Not compared with dense int8 (no pruning needed): no {format} file of it is exported."
        return words, format_twins_command(picked.ticket, format)
    words = f"Compared with dense int8 (no pruning needed): {comparison(candidate_of(exported), other)}"
    if find_pair(exported, other.exported):
        return f"{words}.", None
    return f"{words}; speed not measured side by side.", bench_command(exported.folder, other.exported.folder)


def _nothing_words(choice: Choice) -> str:
    """Return why nothing is picked, and which group comes closest to the rule."""
    if choice.dense is None:
        return "Nothing can be picked yet: the dense baseline is not finished for every seed."
    nearest = choice.nearest
    floors = " and answers better than the floors" if any("floor" in group.broken for group in choice.rejected) else ""
    if nearest is None:
        return f"No ticket keeps {choice.rule.words}{floors}."
    why = f"Nearest: {nearest.label}, {'; '.join(nearest.reasons)}."
    if nearest.commands:
        return f"It is not known whether a file keeps {choice.rule.words}. {why}"
    return f"No ticket keeps {choice.rule.words}{floors}. {why}"


def _longer_words(choice: Choice) -> str:
    """Return a sentence on the dense model trained twice as long, if it is more accurate than the pick; else empty."""
    if choice.picked is None or choice.longer is None:
        return ""
    if choice.longer.mean <= choice.picked.group.retrained.overall.mean:
        return ""
    return f" Dense trained twice as long scores {plus_minus(choice.longer)}."
