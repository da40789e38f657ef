"""A device profile: how adb reaches a device, which program runs there, and how its samples are read."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from lxcompress.errors import MeasureError
from lxcompress.records import FileName
from lxcompress.settings import SettingsProblem, echo, first_problem, read_yaml_file

PROFILE_VERSION = 1
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
BYTES = {"B": 1, "kB": 1000, "KiB": 1024, "MB": 1_000_000}
PLACEHOLDERS = ("runner", "folder", "model", "samples", "threads", "runs", "tokens", "objects", "images", "features")
"""The names in braces that a runner's command may use."""
ENGINE_PROFILE = Path(__file__).parents[2] / "engine" / "android" / "profile.yaml"
"""The profile of engine files, beside the program that runs them on a phone."""
_DEVICE_PATH = re.compile(r"/[A-Za-z0-9._/-]+")


class ProfilePart(BaseModel):
    """A section of a profile: unknown keys are refused, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ColumnNumber(ProfilePart):
    """A number in the file that the runner writes: the index of its column, from 0."""

    column: Annotated[int, Field(ge=0)] = 0
    unit: str


class PrintedNumber(ProfilePart):
    """A number in the runner's output: a regular expression whose only group matches it."""

    pattern: str
    unit: str

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as problem:
            raise ValueError(f"{echo(pattern)} is not a regular expression ({problem})") from None
        if groups != 1:
            raise ValueError(f"{echo(pattern)} has {groups} groups, expected one, around the number")
        return pattern


def _source_kind(found: object) -> str:
    """Return "pattern" or "column": which kind of number source a section is, so that an error names the right keys."""
    is_pattern = "pattern" in found if isinstance(found, dict) else isinstance(found, PrintedNumber)
    return "pattern" if is_pattern else "column"


NumberSource = Annotated[
    Annotated[ColumnNumber, Tag("column")] | Annotated[PrintedNumber, Tag("pattern")], Discriminator(_source_kind)
]
"""Where a number of a run, or of a whole turn, is found."""


class Runner(ProfilePart):
    """The program that runs on the device: the file to push, its command, and where its numbers are found.

    `command` is a list of words, in which {model}, {threads} and the other PLACEHOLDERS are replaced; no shell splits
    them. The first `discard` runs of each turn are not counted, for a runner without a warm-up.
    """

    file: Path
    libraries: tuple[Path, ...] = ()
    runtime: str
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    discard: Annotated[int, Field(ge=0)] = 0
    samples: NumberSource
    load: NumberSource | None = None
    peak: NumberSource | None = None

    @field_validator("command")
    @classmethod
    def _has_known_placeholders(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        for word in command:
            try:
                named = [name for _, name, _, _ in Formatter().parse(word) if name is not None]
            except ValueError as problem:
                raise ValueError(f"{echo(word)} is not a valid template ({problem})") from None
            unknown = [name for name in named if name not in PLACEHOLDERS]
            if unknown:
                raise ValueError(
                    f"{echo(word)} has the placeholder {{{unknown[0]}}}, expected one of {', '.join(PLACEHOLDERS)}"
                )
        if not any("{runs}" in word for word in command):
            raise ValueError("no word has {runs}: the runner would not know how many runs to make")
        return command

    @model_validator(mode="after")
    def _has_known_units(self) -> Runner:
        for name, source, known in (
            ("samples", self.samples, SECONDS),
            ("load", self.load, SECONDS),
            ("peak", self.peak, BYTES),
        ):
            if source is not None and source.unit not in known:
                raise ValueError(f"{name}.unit: expected one of {', '.join(known)}, got {echo(source.unit)}")
        return self


class Thermal(ProfilePart):
    """The temperature limit: no run starts while the hottest of `zones` has `highest_c` degrees or more.

    The number in a zone's file times `scale` is degrees: Linux writes thousandths.
    """

    zones: Annotated[tuple[str, ...], Field(min_length=1)]
    scale: Annotated[float, Field(gt=0)] = 0.001
    highest_c: float
    wait_at_most_s: Annotated[float, Field(ge=0)] = 600
    poll_s: Annotated[float, Field(gt=0)] = 10


class Profile(ProfilePart):
    """A device: `folder` is where files are pushed; `formats` names the files of each format, the model first."""

    version: Annotated[int, Field(le=PROFILE_VERSION)] = PROFILE_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    target: Literal["adb"] = "adb"
    serial: str | None = None
    folder: str
    runner: Runner
    formats: dict[str, Annotated[tuple[FileName, ...], Field(min_length=1)]]
    thermal: Thermal | None = None

    @field_validator("folder")
    @classmethod
    def _is_plain(cls, folder: str) -> str:
        if not _DEVICE_PATH.fullmatch(folder) or ".." in folder.split("/"):
            raise ValueError(f"expected a plain absolute path such as /data/local/tmp/lxcompress, got {echo(folder)}")
        return folder.rstrip("/")


def read_profile(path: Path) -> Profile:
    """Return the profile in a YAML file; its runner's paths are relative to that file. Raises MeasureError."""
    try:
        found = read_yaml_file(path)
    except OSError as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else problem.strerror
        raise MeasureError(f"--profile {path}: cannot be read ({reason}); start from one in docs/devices/") from None
    except SettingsProblem as problem:
        raise MeasureError(f"--profile {path}: {problem}") from None
    if not isinstance(found, dict):
        kind = "an empty file" if found is None else type(found).__name__
        raise MeasureError(
            f"--profile {path}: a profile is a mapping of keys to values, got {kind}; start from one in docs/devices/"
        )
    try:
        profile = Profile.model_validate(found)
    except ValidationError as problem:
        raise MeasureError(f"--profile {path}: {first_problem(problem, Profile)}; see docs/bench.md") from None
    runner = profile.runner
    return profile.model_copy(
        update={
            "runner": runner.model_copy(
                update={
                    "file": path.parent / runner.file,
                    "libraries": tuple(path.parent / library for library in runner.libraries),
                }
            )
        }
    )
