"""Recipe: the settings of a whole study, and the cells (runs) of its grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from lxcompress.catalog.criteria import PUBLISHED_CRITERIA
from lxcompress.catalog.formats import all_formats
from lxcompress.catalog.runtimes import list_serving
from lxcompress.recipe.data import Data
from lxcompress.recipe.methods import Criterion, Granularity, Method, plain_method, region_method
from lxcompress.recipe.settings import (
    RECIPE_VERSION,
    Count,
    Device,
    Fraction,
    Name,
    RecipeSection,
    Seed,
    Train,
    Version,
    check_distinct,
    check_sparsities_differ,
    named,
)
from lxcompress.settings import echo
from lxcompress.units import short_percent

Fault = Literal[
    "one-dense-run", "compounded-sparsity", "every-tensor-pruned", "mask-applied-once", "high-from-low-mask"
]
"""The five faults in the code of the published study; `protocol` can reproduce them (docs/reproduction.md)."""
FAULTS: tuple[Fault, ...] = get_args(Fault)


class StartModel(RecipeSection):
    """The source of the start weights.

    `start` is mini (shipped), a transformers folder, hub:OWNER/NAME, or the authors' .pth file. `vocabulary` replaces
    the vocab.txt in the model's folder. `pretrained_answers` (all_ans.json) names the answer of each row in the .pth
    file's answer head, so that rows of known answers are copied. Any other answer starts with the bias `last_bias`.
    With `draw_feature_layer` the layer that reads the features of regions is drawn, with the width of the data's
    features. With `draw_word_embeddings` the embeddings of all words are drawn, not only those that the start lacks.
    """

    start: str = "mini"
    vocabulary: Path | None = None
    pretrained_answers: Path | None = None
    last_bias: float | None = None
    draw_feature_layer: bool = False
    draw_word_embeddings: bool = False


class Calibration(RecipeSection):
    """The training questions on which the statistics of criteria and the sensitivities are measured.

    `questions` is their number. `batch_size` is the number of questions in a batch.
    """

    questions: Count = 512
    batch_size: Count = 8


class Prune(RecipeSection):
    """The pruning grid: a method for each pair of `criteria` and `granularities`, and the other `methods`.

    `criteria` may be left out if there are `methods`. `sparsities` are the shares of the prunable weights to remove,
    for methods without sparsities of their own. `scope` is the part of the model that has the target sparsity.
    `calibration` is for criteria that read training questions. The widths of smaller models are multiples of
    `multiple`. Each number in `regions` is a method that prunes nothing and sees so many regions of an image.
    """

    criteria: tuple[Criterion, ...] | None = None
    granularities: Annotated[tuple[Granularity, ...], Field(min_length=1)] = ("weight",)
    methods: tuple[Method, ...] = ()
    regions: tuple[Count, ...] = ()
    sparsities: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.7, 0.9)
    scope: Literal["layer", "row", "global"] = "layer"
    multiple: Count = 8
    calibration: Calibration = Calibration()

    @field_validator("criteria", "granularities", "regions")
    @classmethod
    def _check_values_differ(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if values is None else check_distinct(values)

    @field_validator("sparsities")
    @classmethod
    def _check_ids_of_sparsities_differ(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return check_sparsities_differ(values)

    @model_validator(mode="after")
    def _check_methods_differ(self) -> Prune:
        try:
            ids = [method.id for method in self.all_methods()]
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        if not ids:
            raise ValueError("there is no method: give criteria, or methods")
        repeated = next((method_id for index, method_id in enumerate(ids) if method_id in ids[:index]), None)
        if repeated:
            raise ValueError(f"two methods are called {repeated}; give one of them a name")
        for method in self.methods:
            if method.first and not method.targets(self.sparsities):
                raise ValueError(
                    f"method {method.id}: no sparsity is above that of first, {method.first.sparsity:g}; sparsities "
                    "count the weights of the original model: give the method sparsities above it"
                )
        return self

    def all_methods(self) -> tuple[Method, ...]:
        """Return every Method of the grid: those of the criteria, then `methods`, then those of `regions`."""
        plain = [
            plain_method(criterion, granularity, self.scope)
            for granularity in self.granularities
            for criterion in self.plain_criteria
        ]
        return (*plain, *self.methods, *map(region_method, self.regions))

    def all_steps(self) -> tuple[Method, ...]:
        """Return every Method of the grid, and the first steps of compound methods, each as a Method of its own."""
        firsts = [method.first.method for method in self.methods if method.first]
        return (*self.all_methods(), *firsts)

    @property
    def plain_criteria(self) -> tuple[Criterion, ...]:
        """The criteria of the grid: `criteria`, or those of the published study if there are no `methods` either."""
        if self.criteria is None:
            return () if self.methods else PUBLISHED_CRITERIA
        return self.criteria


class Pick(RecipeSection):
    """The default rule of `lxcompress pick`: `retain` is the lowest accuracy kept (0-1)."""

    retain: Annotated[float, Field(gt=0, le=1)] = 0.99


class Bench(RecipeSection):
    """The default settings of `lxcompress bench`: the number of `threads`, and of measured `runs`."""

    threads: Count = 1
    runs: Count = 50


def _list_export_formats() -> tuple[str, ...]:
    """Return the formats that a study can export: those that an application can use and that a runtime serves."""
    return tuple(spec.name for spec in all_formats() if spec.is_shippable and list_serving(spec.name))


ExportFormat = Annotated[str, named(_list_export_formats)]


class Export(RecipeSection):
    """The exports at the end of `lxcompress study`: if `twins`, the picked ticket and the models to compare it with.

    All of them are exported in `format`, and in each format of `also` whose libraries are installed. With `int4`, the
    dense model in int4 is one of them.
    """

    twins: bool = True
    int4: bool = False
    format: ExportFormat = "onnx"
    also: tuple[ExportFormat, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """All formats, `format` first."""
        return (self.format, *self.also)

    @model_validator(mode="after")
    def _check_formats_differ(self) -> Export:
        try:
            check_distinct((self.format, *self.also))
        except ValueError:
            raise ValueError(
                f"also: the formats must differ from each other and from format, which is {self.format}"
            ) from None
        return self


def _read_protocol(value: Any) -> Any:
    """Return the faults that `protocol` names: none for `corrected`, all for `published`, or those of a list.

    Raises ValueError for an unknown name.
    """
    if value in ("corrected", "published"):
        return {"corrected": (), "published": FAULTS}[value]
    names = value if isinstance(value, (list, tuple)) else [value]
    unknown = [name for name in names if name not in list(FAULTS)]
    if unknown:
        raise ValueError(
            f"{echo(unknown[0])} is unknown, expected corrected, published, or a list of {', '.join(FAULTS)}"
        )
    return tuple(names)


class Recipe(RecipeSection):
    """The settings of a whole study: model, data, training, pruning grid, rule of the pick, exports and benchmark.

    `version` is that of the recipe format. `name` names the run folder, runs/NAME. `device` is where the training runs;
    auto takes a GPU if there is one. On a CPU, `processes` is how many processes share the runs. Each of `seeds` has an
    answer head, a dense run and cells of its own. `protocol` is corrected, published (with all faults of the published
    study), or a list of faults. `data` is the data set, and `model` the source of the start weights. `train` is the
    budget of each training, and `prune` the grid of methods and sparsities. `pick` is the rule by which a ticket is
    chosen. `export` says which files a study writes at its end, and `bench` how they are measured. `track` names an
    experiment tracker that gets the curves of each run; it changes no result, so it is not written to the run folder's
    recipe.
    """

    version: Version = RECIPE_VERSION
    name: Name
    device: Device = "auto"
    processes: Count = 1
    protocol: Annotated[
        tuple[Fault, ...],
        BeforeValidator(
            _read_protocol, json_schema_input_type=Literal["corrected", "published"] | Fault | tuple[Fault, ...]
        ),
    ] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: Data
    model: StartModel = StartModel()
    train: Train = Train()
    prune: Prune = Prune()
    pick: Pick = Pick()
    export: Export = Export()
    bench: Bench = Bench()
    track: Literal["none", "tensorboard", "trackio", "mlflow", "wandb"] = Field("none", exclude=True)

    @field_validator("seeds")
    @classmethod
    def _check_seeds_differ(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return check_distinct(values)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults of the published study that this study reproduces; a corrected study has none."""
        return self.protocol

    def cells(self) -> list[Cell]:
        """Return every Cell of the grid, all cells of the first seed before those of the second."""
        methods = self.prune.all_methods()
        targets = sorted({target for method in methods for target in method.targets(self.prune.sparsities)})
        return [
            Cell(method, target, seed)
            for seed in self.seeds
            for target in targets
            for method in methods
            if target in method.targets(self.prune.sparsities)
        ]

    @model_validator(mode="after")
    def _check_faults_have_plain_masks(self) -> Recipe:
        plain = Method().model_dump(exclude={"name", "criterion", "scope"})
        for method in self.prune.all_methods() if self.protocol else ():
            is_plain = method.model_dump(exclude={"name", "criterion", "scope"}) == plain
            if not is_plain or method.criterion not in PUBLISHED_CRITERIA:
                raise ValueError(
                    f"protocol: the published study has no method {method.id}; leave it out, or give protocol: "
                    "corrected"
                )
        return self


@dataclass(frozen=True)
class Cell:
    """One run of a Recipe's grid: a method, a target sparsity and a seed."""

    method: Method
    sparsity: float
    seed: int

    @property
    def id(self) -> str:
        """The id of the cell, which is also the name of its folder, such as low-magnitude-weight-50-seed0."""
        return cell_id(self.method.id, self.sparsity, self.seed)


def dense_id(seed: int) -> str:
    """Return the id of the dense run of a seed."""
    return f"dense-seed{seed}"


def cell_id(method: str, sparsity: float, seed: int) -> str:
    """Return the id of the Cell with this method (its id), sparsity (0-1) and seed."""
    return f"{method}-{short_percent(sparsity)}-seed{seed}"
