"""The content of the report's page as frozen values, one class for each section; the template only places them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lxcompress.analysis.artifact_costs import CostEntry, MissingBaselines
from lxcompress.analysis.choice import PickedTicket, RejectedGroup
from lxcompress.analysis.groups import GroupKey, SeedGroup, Stage
from lxcompress.analysis.held_out import HeldOutAccuracy
from lxcompress.analysis.published import PublishedComparison


@dataclass(frozen=True)
class Figure:
    """A number in large type, and the name of what it counts or measures."""

    value: str
    name: str


@dataclass(frozen=True)
class Panel:
    """A small chart with its heading and a note."""

    title: str
    note: str
    chart: Markup


@dataclass(frozen=True)
class LegendKey:
    """An entry of a legend: a sample of a line or a dot, and what it stands for."""

    sample: Markup
    label: str


@dataclass(frozen=True)
class Header:
    """The head of the page: the headlines, the rule, the picked ticket with its figures, and all warnings.

    `headlines` are the comparison with dense int8 at equal accuracy and the verdict, the most important first.
    `next_command` makes what is missing for the comparison. `protocol` is a title that names the faults that the run
    reproduces; it is empty without faults. `compared` says how the picked file compares with dense int8, and
    `compared_command` is the command for what is not compared yet. `held_out` is a sentence on the
    test split, and `held_out_rows` the models with an accuracy there; both are empty without a test split. `missing`
    says which runs are not finished.
    """

    name: str
    headlines: Sequence[str]
    next_command: str | None
    has_tickets: bool
    protocol: str
    faults: Sequence[tuple[str, str]]
    rule: str
    picked: PickedTicket | None
    compared: str
    compared_command: str | None
    figures: Sequence[Figure]
    held_out: str
    held_out_rows: Sequence[HeldOutAccuracy]
    missing: str | None
    warnings: Sequence[str]


@dataclass(frozen=True)
class OmittedMethods:
    """The methods that only the tables show.

    `note` says how the drawn methods were chosen, `count` how many are left out, and `names` which ones.
    """

    note: str
    count: str
    names: str


@dataclass(frozen=True)
class HeroSection:
    """The main chart, retrained accuracy over sparsity, for wide and for narrow screens.

    `floors_below` names the floors that are too low for the range of the chart.
    """

    wide: Markup
    narrow: Markup
    is_one_seed: bool
    floors_below: Sequence[str]
    published: PublishedComparison | None
    omitted: OmittedMethods | None


@dataclass(frozen=True)
class MeasuredTimes:
    """The times, the memory and the energy of one measurement, as text; None was not measured."""

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
    """The row of an artifact in the cost table, as text; ratios are relative to the dense artifact.

    `label` says what the artifact is, such as "structured 50 %". `cell` is the id of the ticket that it was exported
    from, or "dense". `command` measures the artifact; it is None if a measurement exists.
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
    """One measurement of an artifact as text; `is_default` marks the measurement that the cost table shows."""

    number: int
    label: str
    is_default: bool
    task: str
    machine: str
    times: MeasuredTimes
    warnings: Sequence[str]


@dataclass(frozen=True)
class CostSection:
    """The section on the costs of the artifacts: the charts, the table, and the commands that are left to run."""

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
class DeviceTable:
    """The measurements on one other device: `machine` describes it, and each row has the cells of one file."""

    name: str
    machine: str
    rows: Sequence[Sequence[str]]
    warnings: Sequence[str]


@dataclass(frozen=True)
class MethodCell:
    """What a method keeps at one sparsity, with notes below; `look` holds the names of style sheet classes."""

    words: str
    look: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class MethodTableRow:
    """The row of a method in the methods table; a control that is not pruned has one cell for all sparsities."""

    name: str
    words: str
    cells: Sequence[MethodCell]
    is_unpruned: bool
    time: str
    steps: str


@dataclass(frozen=True)
class MethodSection:
    """The section on methods: all methods in one table, and the sizes of the smaller models in a second one."""

    note: str
    targets: Sequence[str]
    sections: Sequence[tuple[str, Sequence[MethodTableRow]]]
    sized_targets: Sequence[str]
    sized: Sequence[tuple[str, Sequence[Sequence[str]]]]


@dataclass(frozen=True)
class TypeSection:
    """The section on answer types: the retrained accuracy of each type."""

    panels: Sequence[Panel]
    names: Sequence[str]
    has_small: bool


@dataclass(frozen=True)
class FloorRow:
    """The row of a floor: its name, what it answers, and its accuracies (0-1), overall and by answer type."""

    name: str
    words: str
    accuracy: float
    by_type: Mapping[str, float]


@dataclass(frozen=True)
class GroupSection:
    """The section with the numbers of every group of runs, and why each group was not picked.

    A group holds the runs of one method and one sparsity. If `is_long`, the table is folded. `rows` holds a sample of
    the group's look, and the group.
    """

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
    """The section on kept weights, with a panel for each sparsity; `absent` names tickets that are not there."""

    panels: Sequence[Panel]
    absent: str | None


@dataclass(frozen=True)
class ReliabilitySection:
    """The section on reliability: the label and the cells of each measured model, and the chart with its legend.

    `command` measures the models that are not measured; None if all are.
    """

    rows: Sequence[tuple[str, Sequence[str]]]
    panels: Sequence[Panel]
    keys: Sequence[LegendKey]
    command: str | None


@dataclass(frozen=True)
class ResourceSection:
    """The section on what the study used; only values that were counted have a figure and a column.

    Each of `rows` is the name of a group, a class of the style sheet, and the cells.
    """

    figures: Sequence[Figure]
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    warnings: Sequence[str]
    has_usage: bool


@dataclass(frozen=True)
class RunSection:
    """The section on how the study was run: facts, versions of packages, and the recipe."""

    facts: Sequence[tuple[str, str]]
    packages: Mapping[str, str]
    recipe: str


@dataclass(frozen=True)
class Page:
    """The content of the whole report; a section without content is None or empty."""

    version: str
    header: Header
    method_keys: Sequence[LegendKey]
    level_keys: Sequence[LegendKey]
    hero: HeroSection | None
    costs: CostSection
    devices: Sequence[DeviceTable]
    methods: MethodSection | None
    stages: Sequence[Panel]
    types: TypeSection | None
    groups: GroupSection
    reliability: ReliabilitySection | None
    kept: KeptSection | None
    resources: ResourceSection | None
    run: RunSection
