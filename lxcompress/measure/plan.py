"""Plan a bench: check the artifacts, choose the runtime of each, and group the measurements that take turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.catalog.runtimes import is_runtime, runtime_names
from lxcompress.data.regions.identity import extractor_of_model
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
class BenchOptions:
    """The options of a bench; `baseline` is the path of one of the artifacts.

    Without `lengths`, question lengths are drawn as in the data. Without `runtimes`, each artifact runs in the usual
    runtime of its format.
    """

    threads: tuple[int, ...] = (1,)
    runs: int = 50
    warmup: int = WARMUP
    lengths: tuple[int, ...] = ()
    runtimes: tuple[str, ...] = ()
    baseline: Path | None = None


@dataclass(frozen=True)
class BenchTarget:
    """An artifact with checked files, its runtime, and the weights that the runtime holds (None if not known)."""

    path: Path
    record: Artifact
    sha256: str
    size_bytes: int
    runtime: str = ""
    weights: tuple[Weight, ...] | None = None


@dataclass(frozen=True)
class QuestionLengths:
    """The question lengths of a group: one for each run, drawn as in the data; all `tokens` if `lengths` is empty."""

    tokens: int
    lengths: tuple[int, ...] = ()

    def of_runs(self, runs: int) -> tuple[int, ...]:
        """Return the length of each of `runs` questions."""
        return self.lengths or (self.tokens,) * runs


@dataclass(frozen=True)
class BenchGroup:
    """Measurements that take turns: all targets, with the same number of threads and the same questions."""

    threads: int
    questions: QuestionLengths


@dataclass(frozen=True)
class BenchPlan:
    """All that a bench will measure; `remarks` say what is left out, and why."""

    targets: tuple[BenchTarget, ...]
    baseline: BenchTarget
    groups: tuple[BenchGroup, ...]
    remarks: tuple[str, ...]


def make_plan(paths: Sequence[Path], options: BenchOptions, progress: Progress = no_progress) -> BenchPlan:
    """Return the plan of a bench of the artifacts in `paths`, in their order. Raises MeasureError."""
    check_options(options)
    finished, unfinished = leave_out_unfinished(paths)
    artifacts = read_artifacts(finished, progress)
    targets, remarks = choose_runtimes(artifacts, options.runtimes)
    questions = choose_questions([target.record for target in targets], options)
    check_positions(targets, [length for lengths in questions for length in lengths.of_runs(1)])
    groups = tuple(BenchGroup(threads, lengths) for threads in options.threads for lengths in questions)
    targets = tuple(
        replace(target, weights=held_weights(target.path, target.record, target.runtime)) for target in targets
    )
    remarks = (*unfinished, *remarks, *note_extractors(artifacts))
    return BenchPlan(targets, find_baseline(targets, options.baseline), groups, remarks)


def check_options(options: BenchOptions) -> None:
    """Raise MeasureError for a number that is out of range, or given twice."""
    for name, given in (("threads", options.threads), ("lengths", options.lengths), ("runtimes", options.runtimes)):
        if len(set(given)) < len(given):
            raise MeasureError(
                f"{name}: expected different values, got {', '.join(map(str, given))}; give each value once"
            )
    if not options.threads or min(options.threads) < 1:
        raise MeasureError(f"threads: expected 1 or more, got {min(options.threads, default=0)}; give --threads 1")
    if options.lengths and min(options.lengths) < 1:
        raise MeasureError(f"lengths: expected 1 token or more, got {min(options.lengths)}; give --lengths 9,20")
    if options.runs < 1:
        raise MeasureError(
            f"runs: expected 1 or more (30 or more for reliable figures), got {options.runs}; give --runs 50"
        )
    if options.warmup < 0:
        raise MeasureError(
            f"warmup: expected 0 or more, got {options.warmup}; leave it out for the default of {WARMUP}"
        )
    unknown = [name for name in options.runtimes if not is_runtime(name)]
    if unknown:
        raise MeasureError(f"runtime {unknown[0]}: is unknown; expected one of: {', '.join(sorted(runtime_names()))}")


def leave_out_unfinished(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the `paths` of finished exports, and a remark for each unfinished one.

    If none is finished, return all paths, because their errors say more.
    """
    unfinished = [path for path in paths if _is_unfinished(path)]
    finished = [path for path in paths if path not in unfinished]
    remarks = tuple(
        f"{path}: is unfinished (it has no {ARTIFACT_FILE}), and is left out; export it again, or delete it"
        for path in unfinished
    )
    return (finished, remarks) if finished else (list(paths), ())


def read_artifacts(paths: Sequence[Path], progress: Progress = no_progress) -> list[BenchTarget]:
    """Return the artifacts in the folders `paths`, their files compared with their checksums. Raises MeasureError."""
    if not paths:
        raise MeasureError("artifacts: expected at least one, got none; give the folder that `lxcompress export` wrote")
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise MeasureError(f"{path}: is given twice (first as {seen[path.resolve()]}); give each artifact once")
        seen[path.resolve()] = path
    records = [(path, _read_artifact(path)) for path in paths]
    targets = []
    for done, (path, record) in enumerate(records):
        progress(f"checking {record.name}", done, len(records))
        _check_files(path, record)
        size_bytes = sum((path / name).stat().st_size for name in record.files)
        targets.append(BenchTarget(path, record, sha256(path / ARTIFACT_FILE), size_bytes))
    return targets


def note_extractors(artifacts: Sequence[BenchTarget]) -> tuple[str, ...]:
    """Return a remark if the artifacts read the features of different extractors, whose time is not measured here."""
    names: dict[str, str] = {}
    for artifact in artifacts:
        found = extractor_of_model(artifact.path) if (artifact.path / CONFIG_FILE).is_file() else None
        if found is not None:
            names.setdefault(" ".join((found.name, found.version)).strip(), artifact.record.name)
    if len(names) < 2:
        return ()
    listed = ", ".join(f"{artifact} of {extractor}" for extractor, artifact in names.items())
    return (f"the artifacts read features of different extractors ({listed}), whose time is not in these figures",)


def choose_runtimes(
    artifacts: Sequence[BenchTarget], runtimes: Sequence[str]
) -> tuple[tuple[BenchTarget, ...], tuple[str, ...]]:
    """Return each artifact with the runtimes to measure it in, and remarks on what is left out.

    These are the given `runtimes` that can run the artifact's format; if none is given, the usual one of the format.
    Raises MeasureError if nothing remains, or if a runtime's library is missing.
    """
    targets, remarks = [], []
    for artifact in artifacts:
        served = runtimes_of(artifact.record.format)
        chosen = [name for name in runtimes if name in served] if runtimes else list(served[:1])
        targets += [replace(artifact, runtime=name) for name in chosen]
        if not chosen:
            remarks.append(_explain_left_out(artifact.record, served, runtimes))
    for name in runtimes:
        if targets and not any(target.runtime == name for target in targets):
            remarks.append(f"runtime {name}: serves none of these artifacts, and is left out")
    if not targets:
        raise MeasureError("; ".join(remarks) + ", so nothing remains to be measured")
    for name in dict.fromkeys(target.runtime for target in targets):
        check_library(name)
    return tuple(targets), tuple(remarks)


def check_positions(targets: Sequence[BenchTarget], lengths: Sequence[int]) -> None:
    """Raise MeasureError if one of `lengths` exceeds the position embeddings of a target.

    OpenVINO would answer such a question without an error, with values from outside the table, and its time would
    count.
    """
    for target in targets:
        most = target.record.positions or _read_positions(target.path)
        if most is not None and lengths and max(lengths) > most:
            raise MeasureError(
                f"{target.path}: reads at most {most} tokens per question, but a question of {max(lengths)} is asked "
                f"for; give --lengths of at most {most}"
            )


def _read_positions(path: Path) -> int | None:
    """Return the number of position embeddings from the config of an older artifact, whose record lacks it."""
    try:
        config = parse_json(read_text(path / CONFIG_FILE))
        positions = config["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no config, or a damaged one
        return None
    return positions if type(positions) is int else None


def choose_questions(records: Sequence[Artifact], options: BenchOptions) -> list[QuestionLengths]:
    """Return the question lengths of each group: those of the options, else the data's, else the records' own.

    Raises MeasureError if the artifacts' own lengths differ, because their times would not be comparable.
    """
    if options.lengths:
        return [QuestionLengths(length) for length in options.lengths]
    known = {tuple(sorted(record.lengths.items())): record.name for record in records if record.lengths}
    usual = {record.tokens: record.name for record in records}
    if len(known) > 1 or (not known and len(usual) > 1):
        one, other = list((known or usual).values())[:2]
        raise MeasureError(
            f"{other}: was exported for questions of other lengths than {one}; give the lengths to measure, "
            f"for example --lengths {','.join(map(str, sorted(usual)))}"
        )
    if not known:
        return [QuestionLengths(records[0].tokens)]
    drawn = draw_lengths(dict(next(iter(known))), options.runs, seed=SEED)
    return [QuestionLengths(statistics.median_low(drawn), tuple(drawn))]


def find_baseline(targets: Sequence[BenchTarget], baseline: Path | None) -> BenchTarget:
    """Return the target that others are compared with: the one at the path, else a dense one, else the first.

    Raises MeasureError if no target is at the path.
    """
    if baseline is not None:
        found = [target for target in targets if target.path.resolve() == baseline.resolve()]
        if not found:
            raise MeasureError(
                f"--baseline {baseline}: is not one of the artifacts to measure; give one of them, or a saved "
                "bench (JSON)"
            )
        return found[0]
    return next((target for target in targets if _is_dense(target.record)), targets[0])


def _is_dense(record: Artifact) -> bool:
    """Return whether the artifact is the unpruned model in full precision."""
    return record.role == "dense" and record.precision == "fp32"


def _explain_left_out(record: Artifact, served: Sequence[str], runtimes: Sequence[str]) -> str:
    if not served:
        return (
            f"{record.name}: format {record.format} runs on other systems only, and is left out; "
            "measure it on a device that runs this format"
        )
    return (
        f"{record.name}: format {record.format} is served by {', '.join(served)}, not by {', '.join(runtimes)}, "
        "and is left out"
    )


def _is_unfinished(path: Path) -> bool:
    """Return whether `path` is the folder of an unfinished export: neither an artifact nor a model."""
    if not path.is_dir() or (path / ARTIFACT_FILE).exists():
        return False
    is_model = (path / CONFIG_FILE).is_file() and any(path.glob("*.safetensors"))
    return not is_model and not (path / TICKET_FILE).exists()


def _read_artifact(path: Path) -> Artifact:
    """Return the record of the artifact in the folder `path`. Raises MeasureError, which says what is there instead."""
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
    found = next((folder for folder in (path, path / "artifacts") if any(folder.glob(f"*/{ARTIFACT_FILE}"))), None)
    if found:
        raise MeasureError(f"{path}: is a folder of artifacts; give each: {command_line('bench', found)}/*")
    raise MeasureError(
        f"{path}: is not an artifact (it has no {ARTIFACT_FILE}); "
        "make one with: lxcompress export TICKET --onnx --out DIR"
    )


def _check_files(path: Path, record: Artifact) -> None:
    """Raise MeasureError unless each file of the artifact is the one that was exported."""
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
