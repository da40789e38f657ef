"""The records that are stored as JSON: scores of a study, exported files, measurements, and the machine."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lxcompress.errors import LxError, RunError
from lxcompress.shapes import FixedShape
from lxcompress.text import read_text, shorten
from lxcompress.unset import leave_out_unset

RECORD_VERSION = 1
LARGEST_COUNT = 2**53
"""The largest integer that every JSON reader reads exactly; no count here comes near it."""
LARGEST_AMOUNT = 1e15
"""The largest number of seconds or joules; sums and ratios of a few million such numbers are still finite."""
ROUNDING = 1e-9
"""The largest distance below 0 or above 1 that the rounding of a mean may cause in a fraction."""
_DRIVE = re.compile(r"^[A-Za-z]:")


def check_file_name(name: str) -> str:
    """Return `name` if it is a relative path that stays in its folder on every system.

    A record may come from someone else, and the files that the record names are opened, hashed or removed. Raises
    ValueError.
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
    """Return `value` unless it is a boolean or a text: pydantic reads true and "1" as 1. Raises ValueError."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("number", "expected a number")
    return value


def _check_fraction(value: float) -> float:
    """Return `value`, limited to 0-1. Raises ValueError if it is outside of 0-1 by more than ROUNDING."""
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
    """Return `text` if it can be a path: it has no NUL character. Raises ValueError."""
    if "\0" in text:
        raise PydanticCustomError("path", "expected a path without NUL bytes")
    return text


IS_NUMBER = BeforeValidator(_check_number)
Count = Annotated[int, IS_NUMBER, Field(ge=0, le=LARGEST_COUNT)]
Positive = Annotated[int, IS_NUMBER, Field(ge=1, le=LARGEST_COUNT)]
Key = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
"""A count that is the key of a JSON object; JSON writes keys as text."""
Work = Annotated[int, IS_NUMBER, Field(ge=0, le=10**30)]
"""A number of floating-point operations."""
Fraction = Annotated[float, IS_NUMBER, AfterValidator(_check_fraction)]
Amount = Annotated[float, IS_NUMBER, Field(ge=0, le=LARGEST_AMOUNT)]
"""A number of seconds or joules, or a difference of scores."""
Loss = Annotated[float, IS_NUMBER, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, AfterValidator(check_file_name)]
FolderName = Annotated[str, AfterValidator(_check_name)]
PathText = Annotated[str, AfterValidator(_check_no_nul)]
Settings = Annotated[dict[str, Any], AfterValidator(_check_no_nan)]


Role = Literal["dense", "model", "ticket", "structured", "unstructured"]
"""The role of a file in a comparison: the dense model of a study, another model without a ticket, a ticket, or the
structured or unstructured ticket of the same size."""


class Record(BaseModel):
    """The base of every record: an unknown key is an error, numbers are finite, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileRecord(Record):
    """A record that is a whole file; `version` is the version of the format that the file was written in.

    `seal` is the SHA-256 of the file's other values. `dump_sealed` writes it and `read_record` checks it; files of an
    earlier version have none.
    """

    version: Annotated[int, IS_NUMBER, Field(ge=1, le=RECORD_VERSION)] = RECORD_VERSION
    seal: str = Field(default="", exclude=True, repr=False)


class Machine(Record):
    """The machine, and the versions of the libraries, that a run or a measurement was made with."""

    system: str
    processor: str
    cores: Count
    memory_bytes: Count
    python: str
    accelerator: str | None
    packages: dict[str, str]


ORIGIN_FIELD = "features_from"
"""The field of a model's config.json with its FeatureOrigin. A model that was trained on no photographs has none."""


class FeatureOrigin(Record):
    """How the features that a model was trained on were made from photographs.

    `made_with` has the options of `lxcompress features` that decide the features, as in store.json. An image has
    `regions` regions at most. `version` is that of the extractor, as in store.json. The model saw `kept_regions` of
    them, or pooled to so many (data/regions/fewer.py); None is all.
    """

    made_with: str
    regions: Positive
    version: str = ""
    kept_regions: Positive | None = None


class Score(Record):
    """The accuracy on a split, 0-1: the mean credit of the model's answers to the questions of the split.

    `by_type` has the accuracy for each type of question, and `questions` the number of questions.
    """

    accuracy: Fraction
    by_type: dict[str, Fraction]
    questions: Positive


CREDITS_REMEDY = "restore the record, or delete it and run lxcompress study again"


class ScoreByQuestion(Score):
    """A Score that also has the credit of every question, so that two models can be compared question by question.

    `credits` is base64 of the zlib-compressed credits: one byte for each question, in the order of the split, which is
    the credit in hundredths.
    """

    credits: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]

    def credit_of_each(self) -> list[float]:
        """Return the credit (0-1) of each question, in the order of the split. Raises RunError if they are damaged."""
        try:
            decoder = zlib.decompressobj()
            hundredths = decoder.decompress(base64.b64decode(self.credits, validate=True), self.questions + 1)
        except (ValueError, zlib.error) as problem:
            raise RunError(f"credits of a test score: are no compressed bytes ({problem}); {CREDITS_REMEDY}") from None
        if len(hundredths) != self.questions or max(hundredths, default=0) > 100:
            raise RunError(
                f"credits of a test score: expected {self.questions} numbers of 0 to 100, got {len(hundredths)} of at "
                f"most {max(hundredths, default=0)}; {CREDITS_REMEDY}"
            )
        return [number / 100 for number in hundredths]


def pack_credits(credits: Sequence[float]) -> str:
    """Return the credits (0-1) of the questions as a ScoreByQuestion stores them, rounded to hundredths."""
    hundredths = bytes(round(100 * credit) for credit in credits)
    return base64.b64encode(zlib.compress(hundredths, 9)).decode()


class Floors(FileRecord):
    """The scores of baselines that answer without the image.

    - majority: always the most frequent answer
    - majority_per_type: the most frequent answer of the question's answer type, which the baseline is told
    - majority_per_question_type: the most frequent answer of the question's type (a group of wordings that the authors
      of the data set define); None if they define no types
    - question_only: the answer of a linear model that reads the words and word pairs of the question
    """

    majority: Score
    majority_per_type: Score
    majority_per_question_type: Score | None = None
    question_only: Score


class Epoch(Record):
    """One pass over the training data, and the score after the pass.

    `duration_s` is the time of training and scoring together, in seconds.
    """

    epoch: Count
    train_loss: Loss
    valid: Score
    duration_s: Amount


class Usage(Record):
    """The use of a GPU by a run; `utilisation` is the fraction of time (0-1) in which any kernel ran, as NVML counts.

    `peak_bytes` is the largest memory, `energy_j` the energy in joules, and `duration_s` the time in seconds.
    """

    gpu: str
    peak_bytes: Count
    utilisation: Fraction | None
    energy_j: Amount | None
    duration_s: Amount


class RoundRecord(FileRecord):
    """A finished round of the schedule iterative-retrain.

    `files` maps the name of each file in the round's folder to its SHA-256.
    """

    epochs: list[Epoch]
    files: dict[FileName, Sha256] = {}


class Sensitivity(FileRecord):
    """The rise of the loss when only one matrix is pruned.

    `curves` maps the matrix, then its sparsity (0-1), to the rise. `dense_sha256` is the SHA-256 of the dense model's
    weights.
    """

    method: str
    seed: int
    dense_sha256: str
    curves: dict[str, dict[float, float]]


class Dense(FileRecord):
    """The scores of the dense model of one seed; the cells of the seed are compared with them.

    `start` is the score of the start weights, and `trained` the score after training, both on the validation split.
    `test` is the score of the trained model on the test split; None if the recipe has no test split. `files` maps the
    name of each other file in the folder to its SHA-256. `start_sha256` is the SHA-256 of the start weights. Records of
    an earlier version have no `files` and no `start_sha256`.
    """

    _write = leave_out_unset("test")

    seed: Count
    start: Score
    trained: Score
    test: ScoreByQuestion | None = None
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
    """The numbers of weights that a mask or a surgery keeps and removes.

    `prunable` is the number of prunable weights, and `kept` how many of them are kept. `live` is the number of weights
    that an answer depends on, and `all` the number of weights of the published model. `achieved`, `of_live` and
    `of_all` are the numbers of removed weights divided by `prunable`, `live` and `all` (0-1).
    """

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


class FirstStepRecord(FileRecord):
    """The finished first step of compound tickets: the smaller model that they mask.

    `method` has the settings of the step, and `dense_sha256` is the SHA-256 of the dense weights that it pruned.
    `sparsity` is that of its surgery. `epochs` are those of its last training; `steps` and `duration_s` (seconds) count
    all its trainings. `drawing_s` is the part of `duration_s` for choosing. `files` maps the name of each other file in
    the folder to its SHA-256.
    """

    method: Settings
    seed: Count
    dense_sha256: Sha256
    sparsity: Sparsity
    kept_dense: list[str] = []
    epochs: list[Epoch]
    steps: Count
    duration_s: Amount
    drawing_s: Amount
    files: dict[FileName, Sha256]


class FirstCut(Record):
    """The first step of a compound ticket: how the smaller model was made whose weights the ticket masks.

    `sparsity` counts what this step alone removed from the original model.
    """

    criterion: str
    granularity: str
    scope: str
    target: Fraction
    sparsity: Sparsity
    kept_dense: list[str] = []


class Result(FileRecord):
    """The scores of a Cell after pruning, rewinding and retraining, and the epochs of its retraining.

    `pruned`, `rewound` and `retrained` are scores on the validation split. `test` is the score of the retrained model
    on the test split; None if the recipe has no test split. Nothing is picked or judged by it.

    `method` has the settings of the cell's Method that are not defaults. `kept_dense` names the prunable matrices that
    the method does not prune: those in keep_dense, and those whose shape the granularity does not divide. `regrown`
    counts the removed weights that are not zero after retraining; only the fault mask-applied-once leaves any.

    `kept_by_modality` maps each part of the model to the fraction (0-1) of its prunable weights that is kept.
    `parameters` is the number of weights of the model that answers, and `flops` the operations for one question of the
    usual length; zeros are counted in both. `files` maps the name of each other file in the folder to its SHA-256.

    `steps` and `duration_s` (seconds) count every training of the ticket in addition to the dense run. `drawing_s` is
    the part of `duration_s` for measuring statistics and choosing weights. `shared_s` is the part for rounds that other
    cells trained, and that this cell shares with them.
    """

    _write = leave_out_unset("test")

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
    test: ScoreByQuestion | None = None
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
    """The retraining of one pruned model outside of a study.

    `dense`, `pruned` and `retrained` are the scores before pruning, after pruning and after retraining. `recipe` is the
    name of the recipe, and `train` has its training settings.
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
    """The origin of a Ticket: how it was pruned, from which start weights, and on which data it was scored.

    The start weights, the data and the accuracy are None for a model that was pruned outside of a study. The checksums
    are set when the ticket is saved: one for the weights, and one for the mask or the surgery. `files` maps the name of
    each other file in the folder to its SHA-256. Tickets of an earlier version have no `files`. `first` is set for a
    compound ticket, which has a surgery and a mask; the other fields are then those of its second step, and `sparsity`
    and `target` count both steps over the original model.
    """

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
    first: FirstCut | None = None


class Parity(Record):
    """The difference between the answers of an exported file and those of its source, over `questions` questions.

    `max_abs_difference` is the largest difference of a score, and `tolerance` the largest one that is allowed.
    `tolerance` is None for int8 and int4: their scores must differ, so only the changed answers are judged.
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
    """An exported file set: its format, its files, their size, and how well it matches its source.

    `source_sha256` is one SHA-256 over all files of the source that an export reads. It tells whether the artifact is
    up to date. A question has `images` rows of inputs, and each row has `objects` regions. `lengths` maps a number of
    tokens to the number of validation questions of that length, and `tokens` is the median length. `positions` is the
    number of tokens of the longest question that the file takes; older records do not have it. `fixed` is the only
    shape of questions that the file takes, if it was exported with --fixed; the runtimes pad smaller ones.
    `picture_size` is the width in pixels of a picture, for a model that reads pictures whole, each as one region.
    `parameters` is the number of weights of the model that answers. `flops` are the operations for one question of
    `tokens` tokens, or of the fixed shape, if zeros are multiplied too.

    `parity` and `accuracy` are None if no runtime on this machine serves the file; `unproven` says why. `twin` is the
    name of the file among the twins of a ticket, and `role` its role in a comparison. `seed` is the seed of the file's
    ticket or dense run. `notes` tell the reader what was fused, or the result of a mobile check. `doubts` say why the
    file may not match its source; they are always shown. `layouts` says how the engine's layouts were chosen: measured,
    or by the table, which gives the same bytes each time.
    """

    _write = leave_out_unset("test")

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
    fixed: FixedShape | None = None
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
    test: Score | None = None
    notes: list[str] = []
    doubts: list[str] = []
    layouts: Literal["measured", "table"] | None = None
    machine: Machine

    @model_validator(mode="before")
    @classmethod
    def _add_role_and_seed(cls, values: Any) -> Any:
        """Return `values` with the role and the seed; records of earlier versions have both only as parts of names."""
        if not isinstance(values, Mapping) or "role" in values:
            return values
        return {**values, **_read_role_and_seed(values)}


def role_of_twin(twin: str) -> Role:
    """Return the role of the twin with this name: the first word of the name, so "dense" for "dense int8".

    Raises KeyError for a name whose first word is not a role.
    """
    return _ROLES[twin.partition(" ")[0]]


_ROLES: Mapping[str, Role] = {role: role for role in get_args(Role)}


def _read_role_and_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the role and the seed of an artifact from the names in its old record.

    The name of the cell ends in "-seed0", the source of a dense run is "seeds/0/dense", and the name of a twin begins
    with its role.
    """
    cell, source, twin = (str(values.get(name) or "") for name in ("cell", "source", "twin"))
    folders = source.replace("\\", "/").split("/")
    number = cell.rpartition("-seed")[2] if cell else folders[-2] if folders[-3:-2] == ["seeds"] else ""
    seed = int(number) if number.isdecimal() and number.isascii() and len(number) < 16 else None
    if twin:
        return {"role": _ROLES.get(twin.partition(" ")[0], "model"), "seed": seed}
    return {"role": "ticket" if cell else "dense" if folders[-1] == "dense" else "model", "seed": seed}


class Task(Record):
    """The work of a measured process: it answers `runs` questions, after `warmup` questions that are not timed.

    A question has `tokens` tokens and `images` images of `objects` regions. If the lengths of the questions follow the
    data, `lengths` has the number of tokens of each run, and `tokens` is their median. `picture_size` is the width in
    pixels of a picture, for a model that reads pictures whole, each as one region.
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
    """The raw values of a measurement, in the order in which they were taken, and their unit."""

    unit: str
    values: Annotated[list[Annotated[float, IS_NUMBER, Field(gt=0, le=LARGEST_AMOUNT)]], Field(min_length=1)]


class Measurement(Record):
    """The measurement of one artifact in its own process; percentiles are computed from the raw samples when needed.

    `rounds` has the number of latency samples of each turn of the artifact. `load_s` is the time in seconds to load the
    file from the page cache, and `cold_load_s` from the disk. `steady_bytes` is the memory of the process between two
    answers, and `peak_bytes` its largest memory. `energy_j` is the processor's energy for one answer in joules, and
    `read_bytes` the bytes of weights that one answer reads. `target` names the device profile if another device was
    measured; such a device may not report load time and memory.
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
    """The measurements of one `lxcompress bench`; the artifacts were measured in turns.

    `baseline` is the path of the artifact, or of the earlier bench, that the artifacts are compared with. `noise` has a
    second measurement of the baseline in another process: its ratio to the first shows the noise. `remarks` say what
    was not measured.
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

    Raises `error` if the file is missing, damaged, changed since it was written, or from a newer version.
    """
    record = read_unsealed(path, kind, error, remedy=remedy)
    check_seal(path, error, remedy=remedy)
    return record


def read_unsealed(
    path: Path, kind: type[Kind], error: type[LxError] = RunError, *, remedy: str = "make the file again"
) -> Kind:
    """Return the record in the JSON file `path` without checking its seal.

    Raises `error` if the file is missing or damaged, or from a newer version.
    """
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
    """Raise `error` if the values in the JSON file `path` were changed since the file was written.

    A file without a seal comes from an earlier version, and is accepted.
    """
    try:
        tree = json.loads(_read_text(path, error))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: is not complete JSON ({problem}); restore it, or {remedy}") from None
    seal = tree.pop("seal", None) if isinstance(tree, dict) else None
    if seal is not None and seal != _digest(tree):
        raise error(
            f"{path}: was changed since it was written (its values do not match its seal); restore it, or {remedy}"
        )


def is_whole(path: Path) -> bool:
    """Return whether the file exists and is complete JSON; an empty or cut-off file is not complete.

    A file that the system refuses to read counts as complete, so that `read_record` reports the reason.
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
    """Return the record as `dump_record` does, with the seal as the last value if it is a FileRecord."""
    text = dump_record(record)
    if not isinstance(record, FileRecord):
        return text
    body = text.rstrip().removesuffix("}").rstrip()
    return f'{body},\n "seal": "{_digest(json.loads(text))}"\n}}\n'


def _read_text(path: Path, error: type[LxError]) -> str:
    """Return the text of a record's file. Raises `error`."""
    try:
        return read_text(path)
    except (OSError, ValueError) as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else str(problem)
        raise error(f"{path}: cannot be read ({reason}); make it again with the command that wrote it") from None


def _digest(tree: Any) -> str:
    """Return the SHA-256 of JSON values, in hexadecimal; spaces and the order of keys have no effect on it."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _contradiction(expected: str, found: str) -> PydanticCustomError:
    """Return the error for values of a record that contradict each other."""
    return PydanticCustomError(
        "contradiction", "expected that {expected}, got {found}", {"expected": expected, "found": found}
    )


def _say(problem: ValidationError) -> str:
    """Return the first problem as words: the field, the expected value, and the value that was found, shortened."""
    first = problem.errors(include_url=False)[0]
    where = ".".join(_cut(str(step)) for step in first["loc"]) or "the file"
    message = _cut(first["msg"], 160)
    words = (message[:1].lower() + message[1:]).removeprefix("input should be ")
    if first["type"] in ("missing", "extra_forbidden", "json_invalid", "contradiction"):
        return f"{where}: {words}"
    expected = words if words.startswith("expected") else f"expected {words}"
    return f"{where}: {expected}, got {shorten(first['input'])}"


def _cut(text: str, most: int = 60) -> str:
    """Return `text`, shortened to at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
