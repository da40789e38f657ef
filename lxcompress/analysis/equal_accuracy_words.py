"""Write the comparison at equal accuracy as one sentence, as the rows of a table, and as JSON values."""

from __future__ import annotations

from typing import Any

from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.constraints import ROUNDING
from lxcompress.analysis.equal_accuracy import EqualAccuracy, FileAtAccuracy, KeptAccuracy, SizeGain, SpeedGain
from lxcompress.analysis.words import numbered
from lxcompress.catalog.runtimes import list_serving
from lxcompress.units import percent, significant

COLUMNS = ("file", "kept %", "on test %", "p50 ms", "p90 ms", "MB", "memory MB", "front")
"""The columns of the table of all files; shares of dense accuracy are of validation and of the test split."""
NOTHING = "–"


def equal_accuracy_sentence(found: EqualAccuracy) -> str:
    """Return how many times as fast and as small the best ticket is as dense int8, at the required accuracy.

    The sentence says plainly if nothing beats dense int8, or what is missing for a comparison.
    """
    tickets = [file for file in found.files if file.is_ticket]
    if tickets and not any(file.keeps_enough for file in tickets):
        return f"Nothing beats dense int8: no exported ticket keeps {_floor(found)}{_nearest_words(tickets)}."
    if found.size is None:
        return f"Not compared with dense int8 at equal accuracy: {found.missing}."
    start, rivals = f"At {_floor(found)},", _rival_words(found)
    speed, size = found.speed, found.size
    if not _is_confirmed(found):
        start = f"At {_floor(found)} on validation, but less on test,"
    if speed is None:
        words = f"{start} {file_name(size.file)} {_size_words(size, rivals)}"
        return f"{words}; it keeps {_kept_words(size.file)}; {found.missing}."
    if _is_faster(speed):
        joined = "and" if size.is_smaller else "but it"
        words = f"{start} {file_name(speed.file)} {_speed_words(speed, rivals)} {joined} {_size_words(size)}"
        return f"{words}; it keeps {_kept_words(speed.file)}."
    if size.is_smaller:
        words = f"{start} {file_name(size.file)} {_size_words(size, rivals)}; it keeps {_kept_words(size.file)}"
        return f"{words}; no ticket is faster: {file_name(speed.file)} {_speed_words(speed)}."
    slow = f"the fastest ticket, {file_name(speed.file)}, {_speed_words(speed)}"
    large = f"the smallest, {file_name(size.file)}, {_size_words(size)}"
    return f"At {_floor(found)}, nothing beats {rivals}: {slow}, and {large}."


def equal_accuracy_rows(found: EqualAccuracy) -> list[tuple[str, ...]]:
    """Return the cells of a row for each file, in the order of COLUMNS."""
    return [
        (
            file_name(file),
            _share(file.kept),
            _share(file.tested),
            *_times(file),
            significant(file.exported.size_mb),
            NOTHING
            if file.measured is None or file.measured.peak_bytes is None
            else _megabytes(file.measured.peak_bytes),
            "*" if file.is_optimal else "",
        )
        for file in found.files
    ]


def equal_accuracy_json(found: EqualAccuracy) -> dict[str, Any]:
    """Return the comparison as plain JSON values; shares of accuracy are 0-1."""
    return {
        "sentence": equal_accuracy_sentence(found),
        "floor": found.floor,
        "is_confirmed": _is_confirmed(found),
        "speed": found.speed and _speed_json(found.speed),
        "size": found.size and _size_json(found.size),
        "missing": found.missing,
        "command": found.command,
        "files": [_file_json(file) for file in found.files],
    }


def file_name(file: FileAtAccuracy) -> str:
    """Return the role of a file and what it runs in: "structured int8 50 % (engine)"."""
    return f"{file.label} ({_where(file)})"


def _where(file: FileAtAccuracy) -> str:
    """Return the format of a file, and its runtime if that is not the usual one of the format."""
    format = file.exported.artifact.format
    runtime = file.measured.task.runtime if file.measured else None
    return format if runtime is None or (runtime,) == list_serving(format)[:1] else f"{format} in {runtime}"


def _floor(found: EqualAccuracy) -> str:
    """Return the required accuracy as words: ">= 99 % of dense accuracy"."""
    return f">= {100 * found.floor:.4g} % of dense accuracy"


def _rival_words(found: EqualAccuracy) -> str:
    """Return what the tickets are compared with: "dense int8", or both int8 and int4."""
    precisions = sorted({file.precision for file in found.files if file.is_rival}, reverse=True)
    return f"dense {' or '.join(precisions)}"


def _is_confirmed(found: EqualAccuracy) -> bool:
    """Return whether the file of the sentence keeps the required accuracy on the test split too, if it was scored."""
    gain = found.speed if found.speed and _is_faster(found.speed) else found.size
    tested = gain.file.tested if gain else None
    return tested is None or tested.ratios.mean >= found.floor - ROUNDING


def _is_faster(speed: SpeedGain) -> bool:
    """Return whether the file is faster; with too few rounds for an interval, whether its median is smaller."""
    return speed.verdict == "faster" or (speed.verdict == "unknown" and speed.times > 1)


def _speed_words(speed: SpeedGain, rivals: str = "") -> str:
    """Return how the speed of a file compares with that of the fastest rival: "is 2.10 times as fast as ..."."""
    milliseconds = significant(speed.rival.p50_ms or 0.0)
    rival = f"the fastest{f' {rivals}' if rivals else ''} ({_where(speed.rival)}, {milliseconds} ms)"
    if speed.verdict == "no difference":
        return f"is as fast as {rival}, within the noise of the bench"
    if _is_faster(speed):
        return f"is {_times_words(speed.times, speed.interval)} as fast as {rival}"
    interval = speed.interval and (1 / speed.interval[1], 1 / speed.interval[0])
    return f"takes {_times_words(1 / speed.times, interval)} as long as {rival}"


def _size_words(size: SizeGain, rivals: str = "") -> str:
    """Return how the size of a file compares with that of the smallest rival: "1.87 times as small as ..."."""
    megabytes = significant(size.rival.exported.size_mb)
    rival = f"the smallest{f' {rivals}' if rivals else ''} ({_where(size.rival)}, {megabytes} MB)"
    if size.is_smaller:
        return f"{'is ' if rivals else ''}{_times_words(size.times)} as small as {rival}"
    return f"has {_times_words(1 / size.times)} the size of {rival}"


def _times_words(times: float, interval: tuple[float, float] | None = None) -> str:
    """Return "2.10 times", followed by the interval if it is known."""
    ends = f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    return f"{times:.2f} times{ends}"


def _nearest_words(tickets: list[FileAtAccuracy]) -> str:
    """Return a clause that names the most accurate of the tickets in validation; empty if no accuracy is known."""
    shares = {file_name(file): file.kept.ratios.mean for file in tickets if file.kept is not None}
    if not shares:
        return ""
    nearest = max(shares, key=lambda name: shares[name])
    return f"; the nearest, {nearest}, keeps {percent(shares[nearest], 1)} % on validation"


def _kept_words(file: FileAtAccuracy) -> str:
    """Return the share of dense accuracy that a file keeps, its split, and its seeds or its interval.

    It is of the test split if that was scored, else of the validation questions.
    """
    kept, split = (file.tested, "test") if file.tested else (file.kept, "validation")
    assert kept is not None
    seeds, interval = list(kept.ratios.by_seed), kept.interval
    if interval is None:
        spread = f"seed {seeds[0]} alone"
    else:
        spread = f"mean of {len(seeds)} seeds, {percent(interval[0], 1)} to {percent(interval[1], 1)} %"
    if not kept.scored:
        spread += "; as a ticket"
    elif len(kept.scored) < len(seeds):
        spread += f"; {numbered('seed', kept.scored)} as a file, the rest as tickets"
    return f"{percent(kept.ratios.mean, 1)} % on {split} ({spread})"


def _share(kept: KeptAccuracy | None) -> str:
    """Return the share of dense accuracy that a file keeps in percent, with half the width of its interval."""
    if kept is None:
        return NOTHING
    interval, mean = kept.interval, percent(kept.ratios.mean, 1)
    return mean if interval is None else f"{mean} ± {percent((interval[1] - interval[0]) / 2, 1)}"


def _times(file: FileAtAccuracy) -> tuple[str, str]:
    """Return the median and the 90th percentile of the latency in the shared bench, as text."""
    if file.measured is None:
        return NOTHING, NOTHING
    found = latency_ms(file.measured)
    return significant(found.p50), significant(found.p90)


def _megabytes(value: int) -> str:
    """Return a number of bytes in MB (10^6 bytes)."""
    return significant(value / 1e6)


def _speed_json(speed: SpeedGain) -> dict[str, Any]:
    """Return the comparison of speeds as plain JSON values."""
    return {
        "artifact": speed.file.exported.folder.as_posix(),
        "rival": speed.rival.exported.folder.as_posix(),
        "times_as_fast": speed.times,
        "interval": speed.interval,
        "verdict": speed.verdict,
    }


def _size_json(size: SizeGain) -> dict[str, Any]:
    """Return the comparison of sizes as plain JSON values."""
    return {
        "artifact": size.file.exported.folder.as_posix(),
        "rival": size.rival.exported.folder.as_posix(),
        "times_as_small": size.times,
    }


def _file_json(file: FileAtAccuracy) -> dict[str, Any]:
    """Return a file as plain JSON values; its times are those of the shared bench."""
    artifact, measured = file.exported.artifact, file.measured
    found = latency_ms(measured) if measured else None
    return {
        "artifact": file.exported.folder.as_posix(),
        "label": file.label,
        "format": artifact.format,
        "precision": artifact.precision,
        "runtime": measured.task.runtime if measured else None,
        "validation": _kept_json(file.kept),
        "test": _kept_json(file.tested),
        "keeps_enough": file.keeps_enough,
        "latency_p50_ms": found.p50 if found else None,
        "latency_p90_ms": found.p90 if found else None,
        "size_bytes": artifact.size_bytes,
        "peak_bytes": measured.peak_bytes if measured else None,
        "is_optimal": file.is_optimal,
        "is_rival": file.is_rival,
    }


def _kept_json(kept: KeptAccuracy | None) -> dict[str, Any] | None:
    """Return the share of dense accuracy that a file keeps as plain JSON values; null if it is not known."""
    if kept is None:
        return None
    ratios = {str(seed): share for seed, share in kept.ratios.by_seed.items()}
    return {"kept": kept.ratios.mean, "interval": kept.interval, "by_seed": ratios, "scored_seeds": list(kept.scored)}
