"""What is to be measured: artifacts found whole, the runtimes of each, and in which groups they take turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.catalog.runtimes import is_runtime, runtime_names
from lxcompress.errors import MeasureError
from lxcompress.filenames import ARTIFACT_FILE, CONFIG_FILE, TICKET_FILE
from lxcompress.measure.lengths import draw_lengths
from lxcompress.measure.weight_bytes import Weight, held_weights
from lxcompress.output import command_line
from lxcompress.progress import Progress, no_progress
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import sha256
from lxcompress.runtimes import check_library, runtimes_of
from lxcompress.text import parse_json, read_text

WARMUP = 10
SEED = 0


@dataclass(frozen=True)
class Ask:
    """What a bench is asked for. Without `lengths` the questions' lengths follow the data's; without `runtimes` each
    artifact runs in its format's usual one; `baseline` is the path of one of the artifacts."""

    threads: tuple[int, ...] = (1,)
    runs: int = 50
    warmup: int = WARMUP
    lengths: tuple[int, ...] = ()
    runtimes: tuple[str, ...] = ()
    baseline: Path | None = None


@dataclass(frozen=True)
class Subject:
    """An artifact, its files found whole, the runtime it is measured in, and the weights that this holds, if known."""

    path: Path
    record: Artifact
    sha256: str
    size_bytes: int
    runtime: str = ""
    weights: tuple[Weight, ...] | None = None


@dataclass(frozen=True)
class Questions:
    """The questions of a group: `lengths` of each run, in order, where they follow the data, else all of `tokens`."""

    tokens: int
    lengths: tuple[int, ...] = ()

    def of_runs(self, runs: int) -> tuple[int, ...]:
        """The length of each of `runs` runs."""
        return self.lengths or (self.tokens,) * runs


@dataclass(frozen=True)
class Group:
    """Measurements that take turns: all subjects, on so many threads, over the same questions."""

    threads: int
    questions: Questions


@dataclass(frozen=True)
class Plan:
    """All that will be measured; `remarks` say what is left out, and why."""

    subjects: tuple[Subject, ...]
    baseline: Subject
    groups: tuple[Group, ...]
    remarks: tuple[str, ...]


def make_plan(paths: Sequence[Path], ask: Ask, progress: Progress = no_progress) -> Plan:
    """What `ask` comes to for the artifacts in `paths`, in their order. Raises MeasureError."""
    check_ask(ask)
    finished, unfinished = leave_out_unfinished(paths)
    artifacts = read_artifacts(finished, progress)
    subjects, remarks = choose_runtimes(artifacts, ask.runtimes)
    check_positions(subjects, ask.lengths)
    questions = choose_questions([each.record for each in subjects], ask)
    groups = tuple(Group(threads, each) for threads in ask.threads for each in questions)
    known = tuple(replace(each, weights=held_weights(each.path, each.record, each.runtime)) for each in subjects)
    return Plan(known, find_baseline(known, ask.baseline), groups, (*unfinished, *remarks))


def check_ask(ask: Ask) -> None:
    """Raises MeasureError for a number that is out of range, or given twice."""
    for name, given in (("threads", ask.threads), ("lengths", ask.lengths), ("runtimes", ask.runtimes)):
        if len(set(given)) < len(given):
            raise MeasureError(
                f"{name}: expected each value once, got {', '.join(map(str, given))}; leave the second out"
            )
    if not ask.threads or min(ask.threads) < 1:
        raise MeasureError(f"threads: expected 1 or more, got {min(ask.threads, default=0)}; give --threads 1")
    if ask.lengths and min(ask.lengths) < 1:
        raise MeasureError(f"lengths: expected 1 token or more, got {min(ask.lengths)}; give --lengths 9,20")
    if ask.runs < 1:
        raise MeasureError(f"runs: expected 1 or more (30 for a sound figure), got {ask.runs}; give --runs 50")
    if ask.warmup < 0:
        raise MeasureError(f"warmup: expected 0 or more, got {ask.warmup}; leave it out for {WARMUP}")
    unknown = [name for name in ask.runtimes if not is_runtime(name)]
    if unknown:
        raise MeasureError(f"runtime {unknown[0]}: is unknown; expected one of: {', '.join(sorted(runtime_names()))}")


def leave_out_unfinished(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the `paths` that an export finished, and a remark for each that one left half-made; all of them if none is
    finished: their errors say more."""
    unfinished = [path for path in paths if _is_unfinished(path)]
    finished = [path for path in paths if path not in unfinished]
    remarks = tuple(
        f"{path}: is half-made (it has no {ARTIFACT_FILE}), and is left out; export it again, or delete it"
        for path in unfinished
    )
    return (finished, remarks) if finished else (list(paths), ())


def read_artifacts(paths: Sequence[Path], progress: Progress = no_progress) -> list[Subject]:
    """The artifacts in the folders `paths`, each file as it was exported. Raises MeasureError."""
    if not paths:
        raise MeasureError("artifacts: expected at least one, got none; give the folder that `lxcompress export` wrote")
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise MeasureError(f"{path}: is given twice (as {seen[path.resolve()]} before); give each artifact once")
        seen[path.resolve()] = path
    records = [(path, _read_artifact(path)) for path in paths]
    subjects = []
    for done, (path, record) in enumerate(records):
        progress(f"checking {record.name}", done, len(records))
        _check_files(path, record)
        size_bytes = sum((path / name).stat().st_size for name in record.files)
        subjects.append(Subject(path, record, sha256(path / ARTIFACT_FILE), size_bytes))
    return subjects


def choose_runtimes(
    artifacts: Sequence[Subject], runtimes: Sequence[str]
) -> tuple[tuple[Subject, ...], tuple[str, ...]]:
    """Each artifact with each of the `runtimes` that serve it, or with its usual one, and what is left out.

    Raises MeasureError if nothing remains, or if a runtime's library is missing.
    """
    subjects, remarks = [], []
    for each in artifacts:
        served = runtimes_of(each.record.format)
        chosen = [name for name in runtimes if name in served] if runtimes else list(served[:1])
        subjects += [replace(each, runtime=name) for name in chosen]
        if not chosen:
            remarks.append(_left_out(each.record, served, runtimes))
    for name in runtimes:
        if subjects and not any(each.runtime == name for each in subjects):
            remarks.append(f"runtime {name}: serves none of these artifacts, and is left out")
    if not subjects:
        raise MeasureError("; ".join(remarks) + ", so that nothing remains to be measured")
    for name in dict.fromkeys(each.runtime for each in subjects):
        check_library(name)
    return tuple(subjects), tuple(remarks)


def check_positions(subjects: Sequence[Subject], lengths: Sequence[int]) -> None:
    """Raises MeasureError if one of `lengths` is beyond the position embeddings of a subject.

    OpenVINO answers such a question with whatever it finds there, and the time would count.
    """
    for each in subjects:
        most = each.record.positions or _positions_of(each.path)
        if most is not None and lengths and max(lengths) > most:
            raise MeasureError(
                f"{each.path}: reads {most} tokens a question, but --lengths asks for {max(lengths)}; give lengths of "
                f"at most {most}, or leave --lengths out for those of the data"
            )


def _positions_of(path: Path) -> int | None:
    """The position embeddings by the config beside an older artifact, whose record does not tell them."""
    try:
        config = parse_json(read_text(path / CONFIG_FILE))
        positions = config["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no config, or a damaged one: not known
        return None
    return positions if type(positions) is int else None


def choose_questions(records: Sequence[Artifact], ask: Ask) -> list[Questions]:
    """The questions of each group: of the lengths asked for, of the data's, or of what each record names.

    Raises MeasureError if the artifacts' own lengths are not the same, because their times would not be comparable.
    """
    if ask.lengths:
        return [Questions(length) for length in ask.lengths]
    known = {tuple(sorted(record.lengths.items())): record.name for record in records if record.lengths}
    usual = {record.tokens: record.name for record in records}
    if len(known) > 1 or (not known and len(usual) > 1):
        one, other = list((known or usual).values())[:2]
        raise MeasureError(
            f"{other}: was exported for questions of other lengths than {one}; say which to measure with, "
            f"for example --lengths {','.join(map(str, sorted(usual)))}"
        )
    if not known:
        return [Questions(records[0].tokens)]
    drawn = draw_lengths(dict(next(iter(known))), ask.runs, seed=SEED)
    return [Questions(statistics.median_low(drawn), tuple(drawn))]


def find_baseline(subjects: Sequence[Subject], baseline: Path | None) -> Subject:
    """The subject that others are compared with: the one at the path, else one that says it is dense, else the first.

    Raises MeasureError if the path is none of theirs.
    """
    if baseline is not None:
        found = [each for each in subjects if each.path.resolve() == baseline.resolve()]
        if not found:
            raise MeasureError(
                f"--baseline {baseline}: is none of the artifacts to measure; give one of them, or a bench kept as JSON"
            )
        return found[0]
    return next((each for each in subjects if _is_dense(each.record)), subjects[0])


def _is_dense(record: Artifact) -> bool:
    """Return whether the artifact is the unpruned model in full precision."""
    return record.role == "dense" and record.precision == "fp32"


def _left_out(record: Artifact, served: Sequence[str], runtimes: Sequence[str]) -> str:
    if not served:
        return (
            f"{record.name}: format {record.format} runs on other systems only, and is left out; "
            "measure it on a device that runs it"
        )
    return (
        f"{record.name}: format {record.format} is served by {', '.join(served)}, not by {', '.join(runtimes)}, "
        "and is left out"
    )


def _is_unfinished(path: Path) -> bool:
    """Whether `path` is a folder that an export began and did not finish: no artifact, and no model either."""
    if not path.is_dir() or (path / ARTIFACT_FILE).exists():
        return False
    is_model = (path / CONFIG_FILE).is_file() and any(path.glob("*.safetensors"))
    return not is_model and not (path / TICKET_FILE).exists()


def _read_artifact(path: Path) -> Artifact:
    """The record of the artifact in the folder `path`, or the error that says what is there instead."""
    if (path / ARTIFACT_FILE).is_file():
        record = read_record(path / ARTIFACT_FILE, Artifact, MeasureError)
        runtimes_of(record.format)
        return record
    if not path.exists():
        raise MeasureError(
            f"{path}: no such folder; make an artifact with: "
            f"{command_line('export', 'TICKET', '--onnx', '--out', path)}"
        )
    if not path.is_dir():
        raise MeasureError(f"{path}: is a file; give the artifact's folder, the one with {ARTIFACT_FILE} in it")
    if (path / TICKET_FILE).is_file() or (path / CONFIG_FILE).is_file():
        raise MeasureError(
            f"{path}: is a model, not an exported artifact; "
            f"export it first with: {command_line('export', path, '--onnx', '--out', 'DIR')}"
        )
    found = next((each for each in (path, path / "artifacts") if any(each.glob(f"*/{ARTIFACT_FILE}"))), None)
    if found:
        raise MeasureError(f"{path}: is a folder of artifacts; give each: {command_line('bench', found)}/*")
    raise MeasureError(
        f"{path}: is not an artifact (it has no {ARTIFACT_FILE}); "
        "make one with: lxcompress export TICKET --onnx --out DIR"
    )


def _check_files(path: Path, record: Artifact) -> None:
    """Raises MeasureError unless each file of the artifact is the one that was exported."""
    for name, expected in record.files.items():
        file = path / name
        if not file.is_file():
            raise MeasureError(f"{file}: is missing, but {ARTIFACT_FILE} names it; export the artifact again")
        found = sha256(file)
        if found != expected:
            raise MeasureError(
                f"{file}: has changed since it was exported (SHA-256: expected {expected}, got {found}); "
                "export the artifact again"
            )
