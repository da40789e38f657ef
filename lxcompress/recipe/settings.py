"""The types of values and the base class that all sections of a recipe use, and the section of the training budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticKnownError

from lxcompress.units import short_percent

RECIPE_VERSION = 1

Device = Literal["auto", "cuda", "mps", "cpu"]
Precision = Literal["auto", "fp32", "bf16"]
Optimizer = Literal["adamw", "bert-adam"]
Loss = Literal["binary", "categorical"]
Switch = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(
        lambda value: {True: "on", False: "off"}[value] if isinstance(value, bool) else value,
        json_schema_input_type=Literal["auto", "on", "off"] | bool,
    ),
]
"""auto, on or off; YAML reads a bare on and off as true and false, so these are accepted too."""

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Files = Annotated[
    tuple[Path, ...],
    Field(min_length=1),
    BeforeValidator(
        lambda value: (value,) if isinstance(value, (str, Path)) else value,
        json_schema_input_type=Path | tuple[Path, ...],
    ),
]
"""One path, or a list of paths."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""The name of a study, which is also the name of a folder."""
Version = Annotated[int, Field(ge=1, le=RECIPE_VERSION, strict=True)]


class RecipeSection(BaseModel):
    """The base of every section of a recipe: an unknown key is an error, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    old_keys: ClassVar[Mapping[str, str]] = {}
    """Old name of a renamed key -> its new name; recipes and records with the old names are still read."""

    @model_validator(mode="before")
    @classmethod
    def _rename_old_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not cls.old_keys.keys() & values.keys():
            return values
        for old, new in cls.old_keys.items():
            if old in values and new in values:
                raise ValueError(f"{old} is the old name of {new}; keep only {new}")
        return {cls.old_keys.get(key, key): value for key, value in values.items()}

    def checkpoint_key(self, *, exclude_defaults: bool = False) -> str:
        """Return the settings as one line of JSON, in which renamed keys have their old names.

        The line is a part of a checkpoint's key. With the old names, a run that an earlier version began can be
        resumed.
        """
        text = self.model_dump_json(exclude_defaults=exclude_defaults)
        for old, new in self._list_old_keys():
            text = text.replace(f'"{new}":', f'"{old}":')
        return text

    def _list_old_keys(self) -> Iterator[tuple[str, str]]:
        """Yield (old name, new name) of every renamed key of this section and of the sections in it."""
        yield from self.old_keys.items()
        for _, value in self:
            if isinstance(value, RecipeSection):
                yield from value._list_old_keys()


class Train(RecipeSection):
    """The settings of training; the dense run and every retraining use the same ones.

    `epochs` and `batch_size` are the budget. `learning_rate` is the highest rate: it rises during the share `warmup` of
    the steps, then falls to 0. `weight_decay` shrinks matrices at each step, and `clip_norm` limits the norm of the
    gradient. `eval_batch_size` is the number of questions in a scoring batch. `precision` is that of the products on
    the device. `optimizer` is adamw, or bert-adam of the reference code. `loss` is binary (each answer alone) or
    categorical (one answer among all). A batch is divided into `accumulate` micro-batches. `deterministic` refuses
    operations whose result may differ between runs. `compile` is torch.compile, `graph` are CUDA graphs, and
    `data_on_device` keeps the data in the memory of the GPU.
    """

    old_keys: ClassVar[Mapping[str, str]] = {"resident": "data_on_device"}

    epochs: Count = 4
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    eval_batch_size: Count = 256
    precision: Precision = "auto"
    optimizer: Optimizer = "adamw"
    loss: Loss = "binary"
    accumulate: Count = 1
    deterministic: bool = False
    compile: Switch = "auto"
    graph: Switch = "auto"
    data_on_device: Switch = "auto"

    @model_validator(mode="after")
    def _check_batch_divides(self) -> Train:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self


def named(names: Callable[[], Sequence[str]]) -> AfterValidator:
    """Return a validator for the names in a table that other packages can add to; `names` returns all known names.

    The validator raises the same error as a Literal of all names, so that the message to the user suggests the nearest.
    """

    def check(name: str) -> str:
        known = names()
        if name not in known:
            quoted = [repr(choice) for choice in known]
            expected = " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
            raise PydanticKnownError("literal_error", {"expected": expected})
        return name

    return AfterValidator(check)


def check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `values` if no two of them are equal. Raises ValueError."""
    if len(set(values)) != len(values):
        raise ValueError("values must differ from each other")
    return values


def check_sparsities_differ(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the sparsities if all of them are written differently in the ids of cells. Raises ValueError.

    Two cells with the same id would share a folder.
    """
    if len({short_percent(value) for value in check_distinct(values)}) != len(values):
        raise ValueError(
            "values must differ in the first six digits of their percentages, which are part of the runs' names"
        )
    return values
