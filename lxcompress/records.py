"""All that is kept as JSON: what a study scored, what was exported, what was measured, and on which machine."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lxcompress.errors import LxError, RunError
from lxcompress.text import read_text, shorten

RECORD_VERSION = 1
LARGEST_COUNT = 2**53
"""The largest whole number up to which every reader of JSON is exact; no count of ours comes near."""
LARGEST_AMOUNT = 1e15
"""Of seconds and joules; sums and ratios of a few million of them are still finite numbers."""
ROUNDING = 1e-9
"""How far beyond 0 or 1 the rounding of a mean may take a fraction."""
_DRIVE = re.compile(r"^[A-Za-z]:")


def check_file_name(name: str) -> str:
    """Return `name` if it is a relative path that stays in its folder on every system.

    Raises ValueError. A record may come from someone else: what it names is opened, hashed or removed.
    """
    parts = name.split("/")
    is_safe = not (set(name) & set("\0\\") or _DRIVE.match(name) or any(part in ("", ".", "..") for part in parts))
    if not is_safe:
        raise PydanticCustomError("file_name", "expected a relative path without '..' and '\\'")
    return name


def _check_name(name: str) -> str:
    """Return `name` if it is the name of one folder. Raises ValueError."""
    if "/" in check_file_name(name):
        raise PydanticCustomError("folder_name", "expected one name without '/'")
    return name


def _check_number(value: Any) -> Any:
    """Return `value` unless it is a truth value or a text: pydantic reads true and "1" as 1. Raises ValueError."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("number", "expected a number")
    return value


def _check_fraction(value: float) -> float:
    """Return `value`, rounded into 0 to 1. Raises ValueError if it is further off than by rounding."""
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise PydanticCustomError("fraction", "expected 0 to 1")
    return min(1.0, max(0.0, value))


def _check_no_nan(tree: Any) -> Any:
    """Return `tree` if every number in it is finite. Raises ValueError."""
    if isinstance(tree, float) and not math.isfinite(tree):
        raise PydanticCustomError("finite", "expected a finite number")
    if isinstance(tree, Mapping):
        for value in tree.values():
            _check_no_nan(value)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for value in tree:
            _check_no_nan(value)
    return tree


def _check_no_nul(text: str) -> str:
    """Return `text` if it may stand for a path. Raises ValueError."""
    if "\0" in text:
        raise PydanticCustomError("path", "expected a path without NUL bytes")
    return text


IS_NUMBER = BeforeValidator(_check_number)
Count = Annotated[int, IS_NUMBER, Field(ge=0, le=LARGEST_COUNT)]
Positive = Annotated[int, IS_NUMBER, Field(ge=1, le=LARGEST_COUNT)]
Key = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
"""A count that is the key of an object, which JSON writes as a text."""
Work = Annotated[int, IS_NUMBER, Field(ge=0, le=10**30)]
"""Floating-point operations."""
Fraction = Annotated[float, IS_NUMBER, AfterValidator(_check_fraction)]
Amount = Annotated[float, IS_NUMBER, Field(ge=0, le=LARGEST_AMOUNT)]
"""Seconds, joules, differences of scores."""
Loss = Annotated[float, IS_NUMBER, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, AfterValidator(check_file_name)]
FolderName = Annotated[str, AfterValidator(_check_name)]
PathText = Annotated[str, AfterValidator(_check_no_nul)]
Settings = Annotated[dict[str, Any], AfterValidator(_check_no_nan)]


Role = Literal["dense", "model", "ticket", "structured", "unstructured"]
"""What a file stands for in a comparison: the dense model of a study, another model without a ticket, a ticket, or the
structured or unstructured ticket of the same size."""


class Record(BaseModel):
    """Something kept as JSON: an unknown key is refused, a number is finite, and a value never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileRecord(Record):
    """A record that is a file of its own, and so carries the version it was written in.

    `seal` is the SHA-256 of the file's other values. It is written by `dump_sealed` and checked by `read_record`; files
    of an earlier version have none.
    """

    version: Annotated[int, IS_NUMBER, Field(ge=1, le=RECORD_VERSION)] = RECORD_VERSION
    seal: str = Field(default="", exclude=True, repr=False)


class Machine(Record):
    """Where something ran, and with which libraries."""

    system: str
    processor: str
    cores: Count
    memory_bytes: Count
    python: str
    accelerator: str | None
    packages: dict[str, str]


class Score(Record):
    """Accuracy over a split, 0-1: the credit of the model's answers, averaged over questions."""

    accuracy: Fraction
    by_type: dict[str, Fraction]
    questions: Positive


class Floors(FileRecord):
    """What is scored without seeing: the commonest answer, the commonest per answer type (which is told), the commonest
    per question type (the authors' groups of wordings, where they name any), and a linear model of the question's
    words and word pairs."""

    majority: Score
    majority_per_type: Score
    majority_per_question_type: Score | None = None
    question_only: Score


class Epoch(Record):
    """One pass over the training data, and its score; `duration_s` counts both."""

    epoch: Count
    train_loss: Loss
    valid: Score
    duration_s: Amount


class Usage(Record):
    """What a run took of its GPU; utilisation (0-1) is the share of time in which some kernel ran (NVML)."""

    gpu: str
    peak_bytes: Count
    utilisation: Fraction | None
    energy_j: Amount | None
    duration_s: Amount


class RoundRecord(FileRecord):
    """How a round of a schedule that retrains in each went; `files` are the SHA-256 of its files, by name."""

    epochs: list[Epoch]
    files: dict[FileName, Sha256] = {}


class Sensitivity(FileRecord):
    """The rise of the loss when one matrix alone is pruned: name -> sparsity -> rise; `dense_sha256` is of the dense
    model's weights."""

    method: str
    seed: int
    dense_sha256: str
    curves: dict[str, dict[float, float]]


class Dense(FileRecord):
    """What the unpruned model of one seed scored: the baseline of that seed's cells.

    `files` are the SHA-256 of the files of its folder, by name, and `start_sha256` that of the start weights; both are
    absent in records of an earlier version.
    """

    seed: Count
    start: Score
    trained: Score
    epochs: list[Epoch]
    steps: Count
    duration_s: Amount
    device: str
    precision: str
    machine: Machine
    usage: Usage | None = None
    files: dict[FileName, Sha256] = {}
    start_sha256: Sha256 | None = None


class Sparsity(Record):
    """Weights of a mask, counted; a fraction is of weights removed, 0-1."""

    prunable: Positive
    kept: Count
    achieved: Fraction
    of_live: Fraction
    of_all: Fraction
    live: Positive
    all: Positive

    @model_validator(mode="after")
    def _counts_agree(self) -> Sparsity:
        if not self.kept <= self.prunable:
            raise _contradiction("kept is at most prunable", f"{self.kept} and {self.prunable}")
        if not (self.prunable <= self.all and self.live <= self.all):
            counts = f"{self.prunable}, {self.live} and {self.all}"
            raise _contradiction("prunable and live are at most all", counts)
        removed = 1 - self.kept / self.prunable
        if abs(removed - self.achieved) > 1e-6:
            raise _contradiction("achieved is the share that kept and prunable give", f"{self.achieved} and {removed}")
        return self


class Result(FileRecord):
    """What a Cell scored, and how its retraining went; `regrown` counts removed weights that are not zero at its end,
    which only a study with the fault mask-applied-once leaves. `kept_dense` names the prunable matrices that no mask of
    the method prunes: listed in keep_dense, or not divided by the granularity.

    `method` holds the settings of its Method that are not as they are by themselves. `kept_by_modality` is the share of
    each part's prunable weights that stays, 0-1. `parameters` and `flops` (for one question of the data's usual length)
    are of the model that answers, as it is run densely. `drawing_s`, a part of `duration_s`, is spent on evidence and
    on choosing. `steps` and `duration_s` count every training that the ticket took beside the dense run; `shared_s` of
    it was spent by other cells, on rounds that this one shares with them. `files` are the SHA-256 of the other files of
    its folder, by name.
    """

    cell: FolderName
    method: Settings = {}
    criterion: str
    granularity: str
    scope: str
    target: Fraction
    seed: Count
    faults: list[str] = []
    sparsity: Sparsity
    kept_dense: list[str] = []
    pruned: Score
    rewound: Score
    retrained: Score
    regrown: Count = 0
    kept_by_modality: dict[str, Fraction] = {}
    parameters: Count | None = None
    flops: Work | None = None
    drawing_s: Amount | None = None
    shared_s: Amount = 0.0
    epochs: list[Epoch]
    steps: Count
    duration_s: Amount
    device: str
    precision: str
    machine: Machine
    usage: Usage | None = None
    files: dict[FileName, Sha256] = {}


class Retraining(Record):
    """How one pruned model was trained further without a study: its score before it was pruned, after, and at the end.

    `train` holds the recipe's training settings, `recipe` its name.
    """

    recipe: str
    train: Settings
    dense: Score
    pruned: Score
    retrained: Score
    epochs: list[Epoch]
    steps: Count
    duration_s: Amount
    device: str
    precision: str
    machine: Machine


class Provenance(FileRecord):
    """Where a Ticket came from; start, data and accuracy are absent for a model pruned without a study. The checksums
    are filled in when the ticket is saved: of its weights, of its mask or of the surgery that made it a smaller model,
    and in `files` of the other files of the folder, by name. Tickets of an earlier version have no `files`."""

    cell: FolderName | None
    criterion: str
    granularity: str
    scope: str
    target: Fraction
    seed: Count
    sparsity: Sparsity
    kept_dense: list[str] = []
    start_file: PathText | None
    start_sha256: Sha256 | None
    model_sha256: Sha256 | Literal[""] = ""
    mask_sha256: Sha256 | Literal[""] = ""
    surgery_sha256: Sha256 | Literal[""] = ""
    files: dict[FileName, Sha256] = {}
    data: Settings | None
    accuracy: Score | None
    retraining: Retraining | None = None


class Parity(Record):
    """How an exported file answers beside the model it came from, over `questions` inputs.

    `tolerance` is how far scores may differ; None where rounding the weights is the purpose, and what
    counts is how many answers it changes.
    """

    questions: Positive
    inputs: str
    max_abs_difference: Amount
    changed_answers: Count
    tolerance: Amount | None

    @model_validator(mode="after")
    def _counts_agree(self) -> Parity:
        if self.changed_answers > self.questions:
            counts = f"{self.changed_answers} and {self.questions}"
            raise _contradiction("changed_answers are at most questions", counts)
        return self


class Artifact(FileRecord):
    """An exported file set: the format, the files, their size, and how true it is to its source.

    `source_sha256` is of the source's weights, its mask or surgery and its configuration, in one: what tells whether
    the artifact is still of its source.
    A question takes `images` rows of its inputs, a row of `objects` regions for each image that it is about.
    `lengths` counts the questions of the validation data by their tokens; `tokens` is the median of them. `positions`
    are the tokens of the longest question that the file reads; older records do not tell them. `picture_size` are the
    pixels a side of a picture that is read whole, as one region, by a model without a detector. `parameters`
    are the weights of the model that answers, `flops` what one question of `tokens` takes if zeros are multiplied.
    Parity and accuracy are absent where no runtime here serves the file, which `unproven` explains. `twin` is what the
    artifact stands for where a ticket is shown beside its alternatives. `notes` are for the reader: what was fused,
    what a mobile check says. `doubts` say why the file may not be what the ticket is: they are shown wherever it is.
    `layouts` says how the engine's layouts were chosen: measured, or by the table, which gives the same bytes again.
    """

    name: str
    source: PathText
    source_sha256: Sha256 | None = None
    cell: FolderName | None
    twin: str | None = None
    role: Role
    seed: Count | None = None
    format: str
    precision: str
    files: dict[FileName, Sha256]
    size_bytes: Positive
    answers: Positive
    tokens: Count
    objects: Positive
    lengths: dict[Key, Count] = {}
    positions: Positive | None = None
    images: Positive = 1
    feature_size: Count
    picture_size: Positive | None = None
    prunable_zeros: Fraction | None
    parameters: Count | None = None
    flops: Work | None = None
    parity: Parity | None
    unproven: str | None = None
    source_accuracy: Score | None
    accuracy: Score | None
    notes: list[str] = []
    doubts: list[str] = []
    layouts: Literal["measured", "table"] | None = None
    machine: Machine

    @model_validator(mode="before")
    @classmethod
    def _add_role_and_seed(cls, values: Any) -> Any:
        """Return `values` with the role and the seed, which records of earlier versions have in names only."""
        if not isinstance(values, Mapping) or "role" in values:
            return values
        return {**values, **_read_role_and_seed(values)}


def role_of_twin(twin: str) -> Role:
    """Return the role of a twin, which is the first word of its name: "dense int8" is a dense model.

    Raises KeyError for a name that no version writes.
    """
    return _ROLES[twin.partition(" ")[0]]


_ROLES: Mapping[str, Role] = {role: role for role in get_args(Role)}


def _read_role_and_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the role and the seed that the names in an old record of an artifact tell.

    Its cell ends in "-seed0", the source of a dense run is "seeds/0/dense", and a twin's name begins with its role.
    """
    cell, source, twin = (str(values.get(name) or "") for name in ("cell", "source", "twin"))
    folders = source.replace("\\", "/").split("/")
    number = cell.rpartition("-seed")[2] if cell else folders[-2] if folders[-3:-2] == ["seeds"] else ""
    seed = int(number) if number.isdecimal() and number.isascii() and len(number) < 16 else None
    if twin:
        return {"role": _ROLES.get(twin.partition(" ")[0], "model"), "seed": seed}
    return {"role": "ticket" if cell else "dense" if folders[-1] == "dense" else "model", "seed": seed}


class Task(Record):
    """What a measured process did: `runs` single questions of `tokens` words over `images` of `objects` regions.

    `lengths` are the tokens of each run where they follow those of the data; `tokens` is then their median.
    `picture_size` are the pixels a side of an image that is read whole, as one region.
    """

    runtime: str
    threads: Positive
    batch: Positive
    tokens: Count
    objects: Positive
    lengths: list[Count] = []
    images: Positive = 1
    picture_size: Positive | None = None
    warmup: Count
    runs: Positive


class Samples(Record):
    """Raw values in the order in which they were measured."""

    unit: str
    values: Annotated[list[Annotated[float, IS_NUMBER, Field(gt=0, le=LARGEST_AMOUNT)]], Field(min_length=1)]


class Measurement(Record):
    """One artifact measured in a process of its own; summaries are derived from the raw samples when they are read.

    `rounds` are the sizes of the turns that the samples were taken in. `load_s` is of a file in the page cache,
    `cold_load_s` of one that was dropped from it; `steady_bytes` is the memory held between answers, `peak_bytes` the
    most that was ever held. `energy_j` is what the processor took for one answer, `read_bytes` the weights that one
    answer reads. `target` names the device profile of a measurement that was made on another device, whose runner may
    not tell how long it loads or how much memory it takes.
    """

    artifact: str
    artifact_path: PathText
    artifact_sha256: Sha256
    cell: FolderName | None
    twin: str | None = None
    format: str
    precision: str = "fp32"
    task: Task
    machine: Machine
    target: str | None = None
    latency: Samples
    rounds: list[Positive] = []
    load_s: Amount | None
    cold_load_s: Amount | None = None
    peak_bytes: Positive | None
    steady_bytes: Positive | None = None
    size_bytes: Positive
    parameters: Count | None = None
    flops: Work | None = None
    energy_j: Amount | None = None
    read_bytes: Count | None = None
    doubts: list[str]

    @model_validator(mode="after")
    def _rounds_agree(self) -> Measurement:
        if self.rounds and sum(self.rounds) != len(self.latency.values):
            counts = f"{sum(self.rounds)} and {len(self.latency.values)}"
            raise _contradiction("rounds add up to the number of latency values", counts)
        return self


class BenchRecord(FileRecord):
    """The measurements of one `lxcompress bench`, interleaved in one run.

    `baseline` is the path of the artifact, or of the bench, that the others are compared with. `noise` are measurements
    of the baseline once more, each in a second process: what a ratio of equals looks like. `remarks` say what was left
    out.
    """

    started: str
    measurements: list[Measurement]
    baseline: str | None = None
    noise: list[Measurement] = []
    remarks: list[str] = []


Kind = TypeVar("Kind", bound=Record)


def read_record(
    path: Path, kind: type[Kind], error: type[LxError] = RunError, *, remedy: str = "make the file again"
) -> Kind:
    """Return the record in the JSON file `path`.

    Raises `error` if the file is missing, damaged, changed since it was written, or of a newer version.
    """
    record = read_unsealed(path, kind, error, remedy=remedy)
    check_seal(path, error, remedy=remedy)
    return record


def read_unsealed(
    path: Path, kind: type[Kind], error: type[LxError] = RunError, *, remedy: str = "make the file again"
) -> Kind:
    """Return the record in the JSON file `path` without a check of its seal. Raises `error`."""
    text = _read_text(path, error)
    try:
        record = kind.model_validate_json(text)
    except ValidationError as problem:
        name = kind.__name__.removesuffix("Record").lower()
        raise error(
            f"{path}: is not a {name} record of this version of lxcompress ({_say(problem)}); "
            f"upgrade lxcompress, or {remedy}"
        ) from None
    return record.model_copy(update={"seal": ""}) if isinstance(record, FileRecord) else record


def check_seal(path: Path, error: type[LxError] = RunError, *, remedy: str = "make the file again") -> None:
    """Raise `error` if the values of the JSON file `path` are not those that were written.

    A file without a seal is of an earlier version, and passes.
    """
    try:
        tree = json.loads(_read_text(path, error))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: is not whole JSON ({problem}); restore it, or {remedy}") from None
    seal = tree.pop("seal", None) if isinstance(tree, dict) else None
    if seal is not None and seal != _digest(tree):
        raise error(
            f"{path}: was changed since it was written (its values do not match its seal); restore it, or {remedy}"
        )


def is_whole(path: Path) -> bool:
    """Whether the file is there and holds whole JSON: a file that was cut off, or is empty, does not.

    A file that may not be read counts as whole: `read_record` says why.
    """
    try:
        json.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    except OSError:
        return True
    return True


def dump_record(record: Record) -> str:
    """Return the record as indented JSON, ending in a newline."""
    return record.model_dump_json(indent=1) + "\n"


def dump_sealed(record: Record) -> str:
    """Return the record as `dump_record` does; a FileRecord ends in its seal."""
    text = dump_record(record)
    if not isinstance(record, FileRecord):
        return text
    body = text.rstrip().removesuffix("}").rstrip()
    return f'{body},\n "seal": "{_digest(json.loads(text))}"\n}}\n'


def _read_text(path: Path, error: type[LxError]) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else str(problem)
        raise error(f"{path}: cannot be read ({reason}); make it again with the command that wrote it") from None


def _digest(tree: Any) -> str:
    """Return the SHA-256 of JSON values, whatever the file's spaces and order of keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _contradiction(expected: str, found: str) -> PydanticCustomError:
    return PydanticCustomError(
        "contradiction", "expected that {expected}, got {found}", {"expected": expected, "found": found}
    )


def _say(problem: ValidationError) -> str:
    """The first thing that is wrong: the field, what was expected, and what came, cut."""
    first = problem.errors(include_url=False)[0]
    where = ".".join(_cut(str(step)) for step in first["loc"]) or "the file"
    message = _cut(first["msg"], 160)
    words = (message[:1].lower() + message[1:]).removeprefix("input should be ")
    if first["type"] in ("missing", "extra_forbidden", "json_invalid", "contradiction"):
        return f"{where}: {words}"
    expected = words if words.startswith("expected") else f"expected {words}"
    return f"{where}: {expected}, got {shorten(first['input'])}"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
