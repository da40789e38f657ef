"""All that is kept as JSON: what a study scored, what was exported, what was measured, and on which machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lxcompress.errors import LxError, RunError

RECORD_VERSION = 1


class Record(BaseModel):
    """Something kept as JSON: an unknown key is refused, and a value never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(Record):
    """A record that is a file of its own, and so carries the version it was written in."""

    version: Annotated[int, Field(le=RECORD_VERSION)] = RECORD_VERSION


class Machine(Record):
    """Where something ran, and with which libraries."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    python: str
    accelerator: str | None
    packages: dict[str, str]


class Score(Record):
    """Accuracy over a split, 0-1: the credit of the model's answers, averaged over questions."""

    accuracy: float
    by_type: dict[str, float]
    questions: int


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

    epoch: int
    train_loss: float
    valid: Score
    duration_s: float


class Usage(Record):
    """What a run took of its GPU; utilisation (0-1) is the share of time in which some kernel ran (NVML)."""

    gpu: str
    peak_bytes: int
    utilisation: float | None
    energy_j: float | None
    duration_s: float


class Round(FileRecord):
    """How a round of a schedule that retrains in each went."""

    epochs: list[Epoch]


class Dense(FileRecord):
    """What the unpruned model of one seed scored: the baseline of that seed's cells."""

    seed: int
    start: Score
    trained: Score
    epochs: list[Epoch]
    steps: int
    duration_s: float
    device: str
    precision: str
    machine: Machine
    usage: Usage | None = None


class Sparsity(Record):
    """Weights of a mask, counted; a fraction is of weights removed, 0-1."""

    prunable: int
    kept: int
    achieved: float
    of_live: float
    of_all: float
    live: int
    all: int


class Result(FileRecord):
    """What a Cell scored, and how its retraining went; `regrown` counts removed weights that are not zero at its end,
    which only a study with the fault mask-applied-once leaves.

    `method` holds the settings of its Method that are not as they are by themselves. `kept_by_modality` is the share of
    each part's prunable weights that stays, 0-1. `parameters` and `flops` (for one question of the data's usual length)
    are of the model that answers, as it is run densely. `drawing_s`, a part of `duration_s`, is spent on evidence and
    on choosing. `steps` and `duration_s` count every training that the ticket took beside the dense run; `shared_s` of
    it was spent by other cells, on rounds that this one shares with them.
    """

    cell: str
    method: dict[str, Any] = {}
    criterion: str
    granularity: str
    scope: str
    target: float
    seed: int
    faults: list[str] = []
    sparsity: Sparsity
    pruned: Score
    rewound: Score
    retrained: Score
    regrown: int = 0
    kept_by_modality: dict[str, float] = {}
    parameters: int | None = None
    flops: int | None = None
    drawing_s: float | None = None
    shared_s: float = 0.0
    epochs: list[Epoch]
    steps: int
    duration_s: float
    device: str
    precision: str
    machine: Machine
    usage: Usage | None = None


class Provenance(FileRecord):
    """Where a Ticket came from; start, data and accuracy are absent for a model pruned without a study. The checksums
    are filled in when the ticket is saved: of its mask, or of the surgery that made it a smaller model."""

    cell: str | None
    criterion: str
    granularity: str
    scope: str
    target: float
    seed: int
    sparsity: Sparsity
    start_file: str | None
    start_sha256: str | None
    model_sha256: str = ""
    mask_sha256: str = ""
    surgery_sha256: str = ""
    data: dict[str, Any] | None
    accuracy: Score | None


class Parity(Record):
    """How an exported file answers beside the model it came from, over `questions` inputs.

    `tolerance` is how far scores may differ; None where rounding the weights is the purpose, and what
    counts is how many answers it changes.
    """

    questions: int
    inputs: str
    max_abs_difference: float
    changed_answers: int
    tolerance: float | None


class Artifact(FileRecord):
    """An exported file set: the format, the files, their size, and how true it is to its source.

    `source_sha256` is of the source's weights, its mask or surgery and its configuration, in one: what tells whether
    the artifact is still of its source.
    A question takes `images` rows of its inputs, a row of `objects` regions for each image that it is about.
    `lengths` counts the questions of the validation data by their tokens; `tokens` is the median of them. `parameters`
    are the weights of the model that answers, `flops` what one question of `tokens` takes if zeros are multiplied.
    Parity and accuracy are absent where no runtime here serves the file, which `unproven` explains. `twin` is what the
    artifact stands for where a ticket is shown beside its alternatives. `notes` are for the reader: what was fused,
    what a mobile check says.
    """

    name: str
    source: str
    source_sha256: str | None = None
    cell: str | None
    twin: str | None = None
    format: str
    precision: str
    files: dict[str, str]
    size_bytes: int
    answers: int
    tokens: int
    objects: int
    lengths: dict[int, int] = {}
    images: int = 1
    feature_size: int
    prunable_zeros: float | None
    parameters: int | None = None
    flops: int | None = None
    parity: Parity | None
    unproven: str | None = None
    source_accuracy: Score | None
    accuracy: Score | None
    notes: list[str] = []
    machine: Machine


class Task(Record):
    """What a measured process did: `runs` single questions of `tokens` words over `images` of `objects` regions.

    `lengths` are the tokens of each run where they follow those of the data; `tokens` is then their median.
    """

    runtime: str
    threads: int
    batch: int
    tokens: int
    objects: int
    lengths: list[int] = []
    images: int = 1
    warmup: int
    runs: int


class Samples(Record):
    """Raw values in the order in which they were measured."""

    unit: str
    values: list[float]


class Measurement(Record):
    """One artifact measured in a process of its own; summaries are derived from the raw samples when they are read.

    `rounds` are the sizes of the turns that the samples were taken in. `load_s` is of a file in the page cache,
    `cold_load_s` of one that was dropped from it; `steady_bytes` is the memory held between answers, `peak_bytes` the
    most that was ever held. `energy_j` is what the processor took for one answer, `read_bytes` the weights that one
    answer reads. `target` names the device profile of a measurement that was made on another device, whose runner may
    not tell how long it loads or how much memory it takes.
    """

    artifact: str
    artifact_path: str
    artifact_sha256: str
    cell: str | None
    twin: str | None = None
    format: str
    precision: str = "fp32"
    task: Task
    machine: Machine
    target: str | None = None
    latency: Samples
    rounds: list[int] = []
    load_s: float | None
    cold_load_s: float | None = None
    peak_bytes: int | None
    steady_bytes: int | None = None
    size_bytes: int
    parameters: int | None = None
    flops: int | None = None
    energy_j: float | None = None
    read_bytes: int | None = None
    doubts: list[str]


class Bench(FileRecord):
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


def read_record(path: Path, kind: type[Kind], error: type[LxError] = RunError) -> Kind:
    """The record in the JSON file `path`; raises `error` if it is missing, damaged or of a newer version."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else str(problem)
        raise error(f"{path}: cannot be read ({reason}); make it again with the command that wrote it") from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise error(
            f"{path}: is not a {kind.__name__.lower()} record of this version of lxcompress ({where}: {first['msg']}); "
            "upgrade lxcompress, or make the file again"
        ) from None


def dump_record(record: Record) -> str:
    """The record as indented JSON, ending in a newline."""
    return record.model_dump_json(indent=1) + "\n"
