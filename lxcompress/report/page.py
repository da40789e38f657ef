"""The report's page as frozen values, one class for each section; the template only places them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lxcompress.analysis.artifact_costs import CostEntry, MissingBaselines
from lxcompress.analysis.choice import PickedTicket, RejectedGroup
from lxcompress.analysis.groups import GroupKey, SeedGroup, Stage
from lxcompress.analysis.published import PublishedComparison


@dataclass(frozen=True)
class Figure:
    """One number in large type, and what it is."""

    value: str
    name: str


@dataclass(frozen=True)
class Panel:
    """One small chart with its heading and a note."""

    title: str
    note: str
    chart: Markup


@dataclass(frozen=True)
class LegendKey:
    """A sample of a look, and what it stands for."""

    sample: Markup
    label: str


@dataclass(frozen=True)
class Header:
    """The verdict, the rule, the picked ticket and its figures, and all warnings.

    `protocol` is the title of the faults that a run reproduces, empty if it has none. `compared` tells how the picked
    file compares with dense int8, `compared_command` what is left to measure for that. `missing` tells which runs are
    not finished.
    """

    name: str
    verdict: str
    has_tickets: bool
    protocol: str
    faults: Sequence[tuple[str, str]]
    rule: str
    picked: PickedTicket | None
    compared: str
    compared_command: str | None
    figures: Sequence[Figure]
    missing: str | None
    warnings: Sequence[str]


@dataclass(frozen=True)
class OmittedMethods:
    """The methods that the charts leave to the tables: how the drawn ones were chosen, how many are left out, which."""

    note: str
    count: str
    names: str


@dataclass(frozen=True)
class HeroSection:
    """Retrained accuracy over sparsity, for a wide and for a narrow screen."""

    wide: Markup
    narrow: Markup
    is_one_seed: bool
    floors_below: Sequence[str]
    published: PublishedComparison | None
    omitted: OmittedMethods | None


@dataclass(frozen=True)
class MeasuredTimes:
    """One measurement as text; None is what was not measured."""

    p50: str
    p90: str
    p99: str
    load: str | None
    cold_start: str | None
    peak: str | None
    steady: str | None
    energy: str | None


@dataclass(frozen=True)
class CostRow:
    """An artifact in the cost table, as text; ratios are relative to the dense artifact.

    `label` is what the artifact is, such as "structured 50 %". `cell` is the ticket it was exported from, or "dense".
    `command` measures it, if it is not measured.
    """

    number: int
    label: str
    name: str
    cell: str
    format: str
    precision: str
    runtime: str | None
    size: str
    size_ratio: str | None
    zeros: str
    times: MeasuredTimes | None
    latency_ratio: str | None
    memory_ratio: str | None
    accuracy: str | None
    accuracy_change: float | None
    parity: str | None
    changed_answers: str | None
    notes: Sequence[str]
    is_stale: bool
    is_reference: bool
    is_picked: bool
    command: str | None


@dataclass(frozen=True)
class MeasurementRow:
    """One measurement of an artifact, as text; `is_default` marks the one that the cost table shows."""

    number: int
    label: str
    is_default: bool
    task: str
    machine: str
    times: MeasuredTimes
    warnings: Sequence[str]


@dataclass(frozen=True)
class CostSection:
    """What the artifacts cost: the charts, the table, and what is left to run."""

    rows: Sequence[CostRow]
    tasks: Sequence[str]
    measurements: Sequence[MeasurementRow]
    panels: Sequence[Panel]
    legend: Sequence[LegendKey]
    not_drawn: Sequence[str]
    has_mark: bool
    has_energy: bool
    has_structured: bool
    reference: CostEntry | None
    missing_baselines: Sequence[MissingBaselines]
    twins_command: str | None
    commands: Sequence[str]
    warnings: Sequence[str]


@dataclass(frozen=True)
class MethodCell:
    """What a method keeps at one sparsity, with notes below it; `look` holds the classes of the style sheet."""

    words: str
    look: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class MethodTableRow:
    """A method in the methods table; an unpruned control has one cell for all sparsities."""

    name: str
    words: str
    cells: Sequence[MethodCell]
    is_unpruned: bool
    time: str
    steps: str


@dataclass(frozen=True)
class MethodSection:
    """Every method in one table, and the sizes of the smaller models in a second one."""

    note: str
    targets: Sequence[str]
    sections: Sequence[tuple[str, Sequence[MethodTableRow]]]
    sized_targets: Sequence[str]
    sized: Sequence[tuple[str, Sequence[Sequence[str]]]]


@dataclass(frozen=True)
class TypeSection:
    """Retrained accuracy of each answer type."""

    panels: Sequence[Panel]
    names: Sequence[str]
    has_small: bool


@dataclass(frozen=True)
class FloorRow:
    """A floor: its name, what it answers, and its accuracies."""

    name: str
    words: str
    accuracy: float
    by_type: Mapping[str, float]


@dataclass(frozen=True)
class GroupSection:
    """The numbers of every group, and why each was not picked; a long table is folded."""

    rows: Sequence[tuple[Markup, SeedGroup]]
    dense: Stage | None
    floors: Sequence[FloorRow]
    rejected: Sequence[RejectedGroup]
    picked: GroupKey | None
    published: PublishedComparison | None
    is_long: bool
    has_regrown: bool


@dataclass(frozen=True)
class KeptSection:
    """The share of weights that tickets keep, a panel for each sparsity; `absent` names tickets that are not there."""

    panels: Sequence[Panel]
    absent: str | None


@dataclass(frozen=True)
class ResourceSection:
    """What the study used; only what was counted has a figure and a column. `rows` are name, class and cells."""

    figures: Sequence[Figure]
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    warnings: Sequence[str]
    has_usage: bool


@dataclass(frozen=True)
class RunSection:
    """How the study was run."""

    facts: Sequence[tuple[str, str]]
    packages: Mapping[str, str]
    recipe: str


@dataclass(frozen=True)
class Page:
    """The whole report; a section that has nothing to show is None or empty."""

    version: str
    header: Header
    method_keys: Sequence[LegendKey]
    level_keys: Sequence[LegendKey]
    hero: HeroSection | None
    costs: CostSection
    methods: MethodSection | None
    stages: Sequence[Panel]
    types: TypeSection | None
    groups: GroupSection
    kept: KeptSection | None
    resources: ResourceSection | None
    run: RunSection
