"""The pruning methods of a recipe: the criterion, granularity, scope, schedule and rewinding, and the controls."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lxcompress.catalog.criteria import CriterionSpec, criterion_names, find_criterion, is_criterion
from lxcompress.recipe.conflicts import DENSE_CONTROLS, find_conflict
from lxcompress.recipe.settings import Fraction, RecipeSection, check_sparsities_differ
from lxcompress.units import short_percent

Scope = Literal["layer", "row", "global", "modality", "sensitivity"]
Schedule = Literal["one-shot", "iterative", "iterative-retrain", "gradual"]
Rewind = Literal["start", "step", "learning-rate", "none"]
Control = Literal["reinitialised", "shuffled", "dense-longer", "small-dense"]

SCOPES: tuple[str, ...] = get_args(Scope)
MASKED = ("weight", "block-1x4", "block-4x1", "block-4x4")
"""Granularities whose result is a mask, as examples: any block-RxC and any N:M (2:4, 4:8) is one too."""
MOST_BLOCK = 64
"""The most rows, and the most columns, of a block."""
STRUCTURED = ("neuron", "head", "layer", "neuron+head")
"""Granularities whose result is a smaller model."""


def _check_criterion(name: str) -> str:
    """Return `name` if a criterion has this name.

    Raises the same error as a Literal of all names, so that the message to the user suggests the nearest name.
    """
    if is_criterion(name):
        return name
    *most, last = (f"'{known}'" for known in criterion_names())
    expected = f"{', '.join(most)} or {last}"
    raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})


Criterion = Annotated[str, AfterValidator(_check_criterion)]
"""The name of a criterion in catalog/criteria.py, or of a criterion that an installed package adds."""


def _read_granularity(value: Any) -> str:
    """Return the name of a granularity. Raises ValueError for any other value.

    YAML reads a bare 2:4 as a number in base 60 (124), so a number is converted back to the text 2:4.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 60:
        value = f"{value // 60}:{value % 60}"
    text = str(value)
    if is_granularity(text):
        return text
    raise ValueError(f"expected one of {', '.join((*MASKED, *STRUCTURED))}, another block-RxC, or N:M such as 2:4")


def is_granularity(text: str) -> bool:
    """Return whether `text` names a granularity."""
    return text == "weight" or text in STRUCTURED or read_block(text) is not None or is_n_of_m(text)


def read_block(text: str) -> tuple[int, int] | None:
    """Return the rows and columns of a block that `text` names, such as (4, 1) for block-4x1; None if it names none.

    A block has 1 to MOST_BLOCK rows and columns, and more than one weight.
    """
    found = re.fullmatch(r"block-([1-9][0-9]?)x([1-9][0-9]?)", text, re.ASCII)
    rows, columns = (int(found[1]), int(found[2])) if found else (1, 1)
    return (rows, columns) if rows * columns > 1 and max(rows, columns) <= MOST_BLOCK else None


def is_n_of_m(text: str) -> bool:
    """Return whether `text` is an N:M pattern, such as 2:4 (two of every four weights are kept)."""
    kept, colon, of = text.partition(":")
    is_short = text.isascii() and len(text) <= 9
    return bool(colon) and is_short and kept.isdecimal() and of.isdecimal() and 0 < int(kept) < int(of)


Granularity = Annotated[str, BeforeValidator(_read_granularity)]
"""The name of the unit of weights that is kept or removed together: see docs/methods.md."""


class Distill(RecipeSection):
    """The settings of knowledge distillation from the dense model (Hinton et al. 2015).

    The loss is `weight` (0-1) times the loss on the dense model's answers plus 1 - `weight` times the loss on the
    labels. Scores are divided by `temperature` before they are compared. `hidden` is the weight of the error of the
    hidden states.
    """

    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 1.0
    hidden: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _check_has_effect(self) -> Distill:
        if not (self.weight or self.hidden):
            raise ValueError("weight and hidden are both 0, so distillation has no effect; leave distill out")
        return self


class Rates(RecipeSection):
    """The rates of scope modality: how fast each part of a model is pruned, relative to the other parts.

    `language` layers read the text, `vision` layers the image, and `cross` layers both; `head` is the rest. A part with
    the rate 0 is not pruned.
    """

    language: Annotated[float, Field(ge=0)] = 1.0
    vision: Annotated[float, Field(ge=0)] = 1.0
    cross: Annotated[float, Field(ge=0)] = 1.0
    head: Annotated[float, Field(ge=0)] = 1.0


def _read_auto(value: object) -> object:
    """Return no names for the word auto: matrices that a granularity does not divide stay dense without a name."""
    return () if value == "auto" else value


MatrixNames = Annotated[
    tuple[str, ...], BeforeValidator(_read_auto, json_schema_input_type=Literal["auto"] | tuple[str, ...])
]
"""The names of matrices that stay dense, or auto: only those whose shape the granularity does not divide."""


class FirstStep(RecipeSection):
    """The settings of the first step of a compound method: it makes a smaller model, which the method then masks.

    Each setting has the meaning that it has in a Method. `sparsity` counts the weights of the original model.
    """

    granularity: Granularity
    sparsity: Fraction
    criterion: Criterion = "low-magnitude"
    scope: Scope = "layer"
    schedule: Schedule = "one-shot"
    rate: Fraction | None = None
    rewind: Rewind = "start"
    rewind_at: Fraction | None = None
    distill: Distill | None = None
    keep_dense: MatrixNames = ()

    @model_validator(mode="after")
    def _check_makes_a_smaller_model(self) -> FirstStep:
        if self.granularity not in STRUCTURED:
            raise ValueError(
                f"granularity {self.granularity} masks weights, but first makes a smaller model: give one of "
                f"{', '.join(STRUCTURED)}"
            )
        conflict = find_conflict(self._as_method())
        if conflict:
            raise ValueError(conflict)
        return self

    @property
    def id(self) -> str:
        """The id of the step without its sparsity, such as taylor-neuron+head-global."""
        return self._as_method().id

    @property
    def method(self) -> Method:
        """The Method that draws this step alone; its name depends on every setting, so that equal steps are shared."""
        digest = hashlib.sha256(self.checkpoint_key(exclude_defaults=True).encode()).hexdigest()[:8]
        return self._as_method(name=f"first-{self.id}-{short_percent(self.sparsity)}-{digest}")

    def _as_method(self, name: str | None = None) -> Method:
        """Return the step as a Method with this name; its settings are not checked."""
        settings = {field: value for field, value in self if field != "sparsity"}
        return Method.model_construct(name=name, sparsities=(self.sparsity,), **settings)


class Method(RecipeSection):
    """The settings of one way to draw a ticket; docs/methods.md names the paper behind each value.

    `name` is the id of the method; without it the id is made of the settings. `criterion` says which weights are
    removed first, `granularity` what is removed as one unit, and `scope` which part of the model has the target
    sparsity. `relative_rates` are for scope modality. Each matrix keeps at least the share `least_kept`. `schedule` is
    one-shot, or removes weights in steps, of which each removes the share `rate` of what is left. `rewind` says to
    which weights the ticket returns before its last training, and `rewind_at` the share of the steps for rewind step.
    `distill` lets the dense model teach, and `control` makes the method a control of another.

    `first` makes the method a compound: its first step makes a smaller model, and the other settings mask weights of
    that model. `sparsities` then still count the weights of the original model.

    `ticket` is the folder of a finished ticket, whose mask is used instead of a criterion; in this path, {sparsity} and
    {seed} stand for the sparsity and the seed of the cell. `sparsities` replaces the sparsities of the grid. The
    matrices in `keep_dense` are not pruned, and the sparsity counts the other matrices only. `epochs_factor` makes the
    last training of a ticket longer; the rounds before it have the epochs of the recipe. With `regions` the model sees
    fewer regions of an image than `data.regions`, and `dense` prunes nothing, so that only this changes.
    """

    old_keys: ClassVar[Mapping[str, str]] = {
        "spared": "keep_dense",
        "rates": "relative_rates",
        "times": "epochs_factor",
    }

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)] | None = None
    criterion: Criterion = "low-magnitude"
    granularity: Granularity = "weight"
    scope: Scope = "layer"
    relative_rates: Rates | None = None
    least_kept: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Schedule = "one-shot"
    rate: Fraction | None = None
    rewind: Rewind = "start"
    rewind_at: Fraction | None = None
    distill: Distill | None = None
    control: Control | None = None
    epochs_factor: Annotated[int, Field(ge=2)] | None = None
    ticket: str | None = None
    sparsities: Annotated[tuple[Fraction, ...], Field(min_length=1)] | None = None
    keep_dense: MatrixNames = ()
    first: FirstStep | None = None
    regions: Annotated[int, Field(gt=0)] | None = None
    dense: bool = False

    @field_validator("sparsities")
    @classmethod
    def _check_ids_differ(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else check_sparsities_differ(values)

    @model_validator(mode="after")
    def _check_settings_have_an_effect(self) -> Method:
        """Raise ValueError for settings without effect, and for settings that exclude each other."""
        conflict = find_conflict(self)
        if conflict:
            raise ValueError(conflict)
        return self

    def differs_in(self, *fields: str) -> bool:
        """Return whether at least one of `fields` differs from its default."""
        return any(getattr(self, field) != type(self).model_fields[field].default for field in fields)

    @property
    def id(self) -> str:
        """The id of the method: its name, or a text of its criterion, granularity and all settings without default."""
        if self.name:
            return self.name
        if self.control in DENSE_CONTROLS:
            return f"{self.control}{self.epochs_factor or ''}"
        rounds = "" if self.rate is None else short_percent(self.rate)
        late = "" if self.rewind_at is None else short_percent(self.rewind_at)
        parts = [
            f"{self.first.id}-{short_percent(self.first.sparsity)}-then" if self.first else "",
            *self._name_selection(),
            self.scope if self.scope != "layer" else "",
            f"least{short_percent(self.least_kept)}" if self.least_kept else "",
            # The old name of keep_dense: ids are the names of folders, which must not change.
            "spared" if self.keep_dense else "",
            f"{self.schedule}{rounds}" if self.schedule != "one-shot" else "",
            {"start": "", "step": f"late{late}", "learning-rate": "lr-rewind", "none": "fine-tuned"}[self.rewind],
            "distilled" if self.distill else "",
            f"last{self.epochs_factor}" if self.epochs_factor else "",
            f"regions{self.regions}" if self.regions else "",
            self.control or "",
        ]
        return "-".join(part for part in parts if part)

    def _name_selection(self) -> tuple[str, ...]:
        """Return the parts of the id that say how weights are chosen."""
        if self.dense:
            return ("dense",)
        return ("ticket" if self.ticket else self.criterion, self.granularity.replace(":", "of"))

    @property
    def length(self) -> int:
        """The length of the last training, as a multiple of the recipe's epochs; the rounds before it have length 1."""
        return self.epochs_factor or (2 if self.control == "dense-longer" else 1)

    @property
    def criterion_spec(self) -> CriterionSpec:
        """The spec of the method's criterion. Raises ExtensionError if the package that adds it fails to load."""
        return find_criterion(self.criterion)

    @property
    def is_structured(self) -> bool:
        """Whether the method's tickets are smaller models, not masks; a compound's tickets have a mask."""
        return self.granularity in STRUCTURED

    @property
    def makes_smaller_models(self) -> bool:
        """Whether the models of the method's tickets have fewer weights than the dense model, zeros not counted."""
        return self.is_structured or self.first is not None

    @property
    def is_dense(self) -> bool:
        """Whether the method prunes nothing: two of the controls, and methods that change the regions only."""
        return self.dense or self.control in DENSE_CONTROLS

    @property
    def is_unpruned(self) -> bool:
        """Whether the method's models are those of the dense run's shape, with no weight removed."""
        return self.dense or self.control == "dense-longer"

    @property
    def is_control(self) -> bool:
        """Whether the method's runs are for comparison only, and are never picked."""
        return self.control is not None

    @property
    def is_n_of_m(self) -> bool:
        """Whether the granularity is a pattern such as 2:4, which has only one sparsity."""
        return is_n_of_m(self.granularity)

    def targets(self, sparsities: Sequence[float]) -> tuple[float, ...]:
        """Return the target sparsities (0-1) of the method's cells; `sparsities` are those of the grid.

        N:M has only one sparsity, and a method that prunes nothing has the sparsity 0. A compound takes those
        sparsities of the grid that are above the sparsity of its first step.
        """
        if self.is_unpruned:
            return (0.0,)
        removed = self.first.sparsity if self.first else 0.0
        if self.is_n_of_m:
            kept, of = map(int, self.granularity.split(":"))
            return (1 - (1 - removed) * kept / of,)
        return tuple(sorted(sparsity for sparsity in self.sparsities or sparsities if sparsity > removed))


def region_method(regions: int) -> Method:
    """Return the Method that prunes nothing and sees `regions` regions of an image."""
    return Method(name=f"regions-{regions}", dense=True, regions=regions)


def plain_method(criterion: str, granularity: str = "weight", scope: Scope = "layer") -> Method:
    """Return the Method of a criterion and a granularity of the grid: one-shot, and rewound to the start weights.

    The name of the method does not name the scope.
    """
    name = f"{criterion}-{granularity.replace(':', 'of')}"
    return Method(name=name, criterion=criterion, granularity=granularity, scope=scope)
