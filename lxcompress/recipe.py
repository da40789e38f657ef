"""Recipe: the whole study as one YAML file, and the Cells it spans."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lxcompress.errors import RecipeError
from lxcompress.settings import SettingsProblem, echo, first_problem, nearest, parse_yaml, read_yaml_file
from lxcompress.units import short_percent

RECIPE_VERSION = 1
OLD_METHOD_KEYS = {"spared": "keep_dense"}
"""Keys of a method that were renamed -> what they are called now; the old ones are still read."""

MOST_SCENES = 10_000_000
MOST_KEYS = 10
"""Sections within each other that an override may name."""

log = logging.getLogger(__name__)

Criterion = Literal["low-magnitude", "random", "high-magnitude", "movement", "taylor", "wanda", "fisher"]
Scope = Literal["layer", "row", "global", "modality", "sensitivity"]
Schedule = Literal["one-shot", "iterative", "iterative-retrain", "gradual"]
Rewind = Literal["start", "step", "learning-rate", "none"]
Control = Literal["reinitialised", "shuffled", "dense-longer", "small-dense"]
Device = Literal["auto", "cuda", "mps", "cpu"]
Precision = Literal["auto", "fp32", "bf16"]
Optimizer = Literal["adamw", "bert-adam"]
Loss = Literal["binary", "categorical"]
Switch = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(lambda value: {True: "on", False: "off"}[value] if isinstance(value, bool) else value),
]
"""YAML reads a bare on and off as true and false."""
Fault = Literal[
    "one-dense-run", "compounded-sparsity", "every-tensor-pruned", "mask-applied-once", "high-from-low-mask"
]
"""The five faults of the published study's code, which `protocol` can ask for: docs/reproduction.md."""

CRITERIA: tuple[str, ...] = get_args(Criterion)
SCOPES: tuple[str, ...] = get_args(Scope)
MASKED = ("weight", "block-1x4", "block-4x1")
"""Granularities of a mask; N:M (2:4, 4:8) are some too."""
STRUCTURED = ("neuron", "head", "layer", "neuron+head")
"""Granularities that make the model smaller."""
BLIND_CRITERIA = ("low-magnitude", "high-magnitude", "random")
"""Criteria that need the weights alone."""
FAULTS: tuple[Fault, ...] = get_args(Fault)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Files = Annotated[
    tuple[Path, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, (str, Path)) else value),
]
"""One path, or a list of them."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""Of a study: it names a folder."""
Version = Annotated[int, Field(ge=1, le=RECIPE_VERSION, strict=True)]


class Strict(BaseModel):
    """A section of a recipe: an unknown key is an error, and a value never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ScenesData(Strict):
    """The embedded data set: seeded scenes and questions, made anew at each start.

    With `pixels` a scene is seen as a picture of so many pixels a side, for models that read pictures (ViLT).
    """

    kind: Literal["scenes"]
    train: Annotated[int, Field(gt=0, le=MOST_SCENES)] = 6000
    valid: Annotated[int, Field(gt=0, le=MOST_SCENES)] = 1500
    seed: Seed = 0
    pixels: Annotated[int, Field(ge=8, le=512)] | None = None


class ClevrData(Strict):
    """CLEVR v1.0 as its authors publish it: scenes and questions JSON, plain or gzip."""

    kind: Literal["clevr"]
    scenes: Path
    questions: Path
    valid_scenes: Path | None = None
    valid_questions: Path | None = None
    holdout: Count | None = None
    max_train: Count | None = None
    max_valid: Count | None = None

    @model_validator(mode="after")
    def _validation_comes_from_one_place(self) -> ClevrData:
        if (self.valid_scenes is None) != (self.valid_questions is None):
            raise ValueError("valid_scenes and valid_questions go together: give both, or neither to hold scenes out")
        if self.valid_scenes is not None and self.holdout is not None:
            raise ValueError("holdout has no effect beside validation files: give one or the other")
        return self


class QuestionsData(Strict):
    """What the data sets of questions over region features have in common."""

    train: Files
    valid: Files
    features: Path | None = None
    tokens: Annotated[int, Field(ge=4, le=512)] = 20
    max_train: Count | None = None
    max_valid: Count | None = None


class VqaData(QuestionsData):
    """VQA v1.0 or v2.0: the official questions with their annotations, or LXMERT's JSON, which holds both.

    Without `features` (a store made by `lxcompress data prepare`) the model is blind: it sees the question alone.
    """

    kind: Literal["vqa"]
    train_annotations: Files | None = None
    valid_annotations: Files | None = None
    answers: Path | None = None
    least_answers: Count | None = None

    @model_validator(mode="after")
    def _one_answer_vocabulary(self) -> VqaData:
        if self.answers is not None and self.least_answers is not None:
            raise ValueError("least_answers has no effect beside a file of answers: give one or the other")
        return self


class GqaData(QuestionsData):
    """GQA: the official questions JSON, or LXMERT's; `answers` is an answer vocabulary, or made of the training set."""

    kind: Literal["gqa"]
    answers: Path | None = None


class Nlvr2Data(QuestionsData):
    """NLVR2: sentences over pairs of photographs, official JSON lines or LXMERT's JSON."""

    kind: Literal["nlvr2"]


class NlvrData(Strict):
    """NLVR v1: sentences over structured scenes, JSON lines; without `valid` whole groups are held out of `train`.

    `weak` files, whose labels may be wrong, are trained on and never scored.
    """

    kind: Literal["nlvr"]
    train: Files
    valid: Files | None = None
    weak: Files | None = None
    holdout: Fraction | None = None
    max_train: Count | None = None
    max_valid: Count | None = None

    @model_validator(mode="after")
    def _validation_comes_from_one_place(self) -> NlvrData:
        if self.valid is not None and self.holdout is not None:
            raise ValueError("holdout has no effect beside validation files: give one or the other")
        return self


AnyData = ScenesData | ClevrData | VqaData | GqaData | Nlvr2Data | NlvrData
Data = Annotated[AnyData, Field(discriminator="kind")]
DATA_KINDS: dict[str, type[Strict]] = {
    get_args(section.model_fields["kind"].annotation)[0]: section for section in get_args(AnyData)
}


class Model(Strict):
    """Where the start weights come from: `mini` (shipped), a transformers folder, a hub name, or an original .pth.

    `vocabulary` replaces the vocab.txt beside it; `pretrained_answers` (all_ans.json) names the rows of its answer head
    to copy; `last_bias` is the bias that an answer without such a row starts from.
    """

    start: str = "mini"
    vocabulary: Path | None = None
    pretrained_answers: Path | None = None
    last_bias: float | None = None


class Train(Strict):
    """One training budget, the same for the dense run and for each retraining."""

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
    resident: Switch = "auto"

    @model_validator(mode="after")
    def _batch_divides(self) -> Train:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}")
        return self


def _read_granularity(value: Any) -> str:
    """A granularity; YAML reads a bare 2:4 as a number of base 60 (124), so that one comes back as it was written."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 60:
        value = f"{value // 60}:{value % 60}"
    text = str(value)
    if is_granularity(text):
        return text
    raise ValueError(f"is none of {', '.join((*MASKED, *STRUCTURED))} or N:M, such as 2:4")


def is_granularity(text: str) -> bool:
    """Return whether `text` names what is removed as one."""
    return text in MASKED or text in STRUCTURED or _is_n_of_m(text)


def _is_n_of_m(text: str) -> bool:
    kept, colon, of = text.partition(":")
    is_short = text.isascii() and len(text) <= 9
    return bool(colon) and is_short and kept.isdecimal() and of.isdecimal() and 0 < int(kept) < int(of)


Granularity = Annotated[str, BeforeValidator(_read_granularity)]
"""What is removed as one: docs/methods.md."""


class Distill(Strict):
    """Retraining beside the dense model (Hinton et al. 2015): its answers count `weight`, the labels the rest."""

    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 1.0
    hidden: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _teaches(self) -> Distill:
        if not (self.weight or self.hidden):
            raise ValueError("weight and hidden are both 0: nothing is learnt from the dense model; leave distill out")
        return self


class Rates(Strict):
    """How fast each part of a model is pruned beside the others; 0 leaves it whole."""

    language: Annotated[float, Field(ge=0)] = 1.0
    vision: Annotated[float, Field(ge=0)] = 1.0
    cross: Annotated[float, Field(ge=0)] = 1.0
    head: Annotated[float, Field(ge=0)] = 1.0


class Method(Strict):
    """One way to draw a ticket; docs/methods.md has the paper behind each value.

    `ticket` takes the mask of a ticket that is there, in the place of a criterion: a folder, in whose name {sparsity}
    and {seed} stand for the cell's. `sparsities` are the method's own, in the place of the grid's. Matrices named in
    `keep_dense` stay whole, and the sparsity is that of the others.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)] | None = None
    criterion: Criterion = "low-magnitude"
    granularity: Granularity = "weight"
    scope: Scope = "layer"
    rates: Rates | None = None
    schedule: Schedule = "one-shot"
    rate: Fraction | None = None
    rewind: Rewind = "start"
    rewind_at: Fraction | None = None
    distill: Distill | None = None
    control: Control | None = None
    times: Annotated[int, Field(ge=2)] | None = None
    ticket: str | None = None
    sparsities: Annotated[tuple[Fraction, ...], Field(min_length=1)] | None = None
    keep_dense: tuple[str, ...] = ()

    @field_validator("sparsities")
    @classmethod
    def _names_differ(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else _differently_named(values)

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Method:
        """Refuses what would be ignored, and what cannot go together."""
        refused = next((sentence for sentence, is_wrong in self._conflicts().items() if is_wrong), None)
        if refused:
            raise ValueError(refused)
        return self

    def _conflicts(self) -> dict[str, bool]:
        """What may be wrong with the method, and whether it is."""
        kind, control = f"granularity {self.granularity}", f"control {self.control}"
        has_one_sparsity = _is_n_of_m(self.granularity)
        is_grown, is_gradual = self.schedule != "one-shot", self.schedule == "gradual"
        is_nested = self.criterion in (*BLIND_CRITERIA, "movement") and self.scope != "sensitivity"
        is_dense = self.control in ("dense-longer", "small-dense")
        drawn = ("criterion", "scope", "schedule", "keep_dense")
        alone = (*drawn, "granularity", "rewind", "ticket", "distill")
        return {
            "rates and scope: modality go together": (self.rates is None) != (self.scope != "modality"),
            "rate needs an iterative schedule": self.rate is not None and not self.schedule.startswith("iterative"),
            "rewind_at needs rewind: step": self.rewind_at is not None and self.rewind != "step",
            f"{kind} has scope layer or global": self.is_structured and self.scope not in ("layer", "global"),
            f"{kind} leaves scope nothing to choose": has_one_sparsity and self.scope != "layer",
            f"{kind} has one sparsity, so its schedule is one-shot": has_one_sparsity and is_grown,
            f"{kind} has the schedule one-shot alone": self.granularity == "layer" and is_grown,
            f"schedule iterative draws what one-shot draws where criterion {self.criterion} ranks: nothing is ranked "
            "anew between its rounds; leave it out, or give iterative-retrain": (
                self.schedule == "iterative" and is_nested
            ),
            f"schedule gradual ranks while it trains, which criterion {self.criterion} cannot": (
                is_gradual and self.criterion not in (*BLIND_CRITERIA, "movement")
            ),
            f"schedule gradual has no scope {self.scope}": is_gradual and self.scope in ("modality", "sensitivity"),
            "a ticket's mask is drawn already: criterion, scope, schedule and keep_dense have no effect on it": (
                self.ticket is not None and self._differs(*drawn)
            ),
            "control shuffled needs a mask that is drawn before training": (
                self.control == "shuffled" and (self.is_structured or is_gradual)
            ),
            "control reinitialised has weights of its own to begin from: leave rewind and schedule gradual out": (
                self.control == "reinitialised" and (self.rewind != "start" or is_gradual)
            ),
            "times says how much longer control dense-longer trains, and needs it": (
                self.times is not None and self.control != "dense-longer"
            ),
            "sparsities have no effect on what has one sparsity of its own": (
                self.sparsities is not None and (has_one_sparsity or self.control == "dense-longer")
            ),
            f"{control} is dense: nothing else of a method has an effect on it": is_dense and self._differs(*alone),
        }

    def _differs(self, *fields: str) -> bool:
        """Whether one of `fields` is not as a method is by itself."""
        return any(getattr(self, field) != type(self).model_fields[field].default for field in fields)

    @property
    def id(self) -> str:
        """Its name, or its criterion and granularity and all else that is not as it is by itself."""
        if self.name:
            return self.name
        if self.control in ("dense-longer", "small-dense"):
            return f"{self.control}{self.times or ''}"
        rounds = "" if self.rate is None else short_percent(self.rate)
        late = "" if self.rewind_at is None else short_percent(self.rewind_at)
        parts = [
            "ticket" if self.ticket else self.criterion,
            self.granularity.replace(":", "of"),
            self.scope if self.scope != "layer" else "",
            "spared" if self.keep_dense else "",  # the word of before: ids name the folders of finished cells
            f"{self.schedule}{rounds}" if self.schedule != "one-shot" else "",
            {"start": "", "step": f"late{late}", "learning-rate": "lr-rewind", "none": "fine-tuned"}[self.rewind],
            "distilled" if self.distill else "",
            self.control or "",
        ]
        return "-".join(part for part in parts if part)

    @property
    def length(self) -> int:
        """How many times the recipe's epochs it trains in one go: 1, but for the control that is dense and longer."""
        return (self.times or 2) if self.control == "dense-longer" else 1

    @property
    def is_structured(self) -> bool:
        """Whether its tickets are smaller models, and not masks."""
        return self.granularity in STRUCTURED

    @property
    def is_control(self) -> bool:
        """Whether its runs are there to compare with, and never to ship."""
        return self.control is not None

    def targets(self, sparsities: Sequence[float]) -> tuple[float, ...]:
        """The sparsities of its cells, of the grid's: N:M has one of its own, and a dense control has 0."""
        if self.control == "dense-longer":
            return (0.0,)
        if _is_n_of_m(self.granularity):
            kept, of = map(int, self.granularity.split(":"))
            return (1 - kept / of,)
        return tuple(sorted(self.sparsities or sparsities))


class Calibration(Strict):
    """The training questions from which criteria and sensitivities that need data are measured."""

    questions: Count = 512
    batch_size: Count = 8


class Prune(Strict):
    """The pruning grid: `criteria` x `granularities`, and `methods` beside them or in their place.

    Widths of smaller models are multiples of `multiple`.
    """

    criteria: tuple[Criterion, ...] | None = None
    granularities: Annotated[tuple[Granularity, ...], Field(min_length=1)] = ("weight",)
    methods: tuple[Method, ...] = ()
    sparsities: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.7, 0.9)
    scope: Literal["layer", "row", "global"] = "layer"
    multiple: Count = 8
    calibration: Calibration = Calibration()

    @field_validator("criteria", "granularities")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if values is None else _distinct(values)

    @field_validator("sparsities")
    @classmethod
    def _names_differ(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return _differently_named(values)

    @model_validator(mode="after")
    def _methods_differ(self) -> Prune:
        try:
            ids = [method.id for method in self.all_methods()]
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        if not ids:
            raise ValueError("has no method: give criteria, or methods")
        twice = next((each for place, each in enumerate(ids) if each in ids[:place]), None)
        if twice:
            raise ValueError(f"two methods are called {twice}; give one of them a name")
        return self

    def all_methods(self) -> tuple[Method, ...]:
        """Every Method of the grid, the plain ones first."""
        plain = [
            plain_method(criterion, granularity, self.scope)
            for granularity in self.granularities
            for criterion in self.plain_criteria
        ]
        return (*plain, *self.methods)

    @property
    def plain_criteria(self) -> tuple[Criterion, ...]:
        """`criteria`; where there are neither those nor methods, the three of the published study."""
        if self.criteria is None:
            return () if self.methods else ("low-magnitude", "random", "high-magnitude")
        return self.criteria


def plain_method(criterion: str, granularity: str = "weight", scope: str = "layer") -> Method:
    """The Method of a grid's criterion: one shot, rewound to the start, and called the same whatever its scope."""
    name = f"{criterion}-{granularity.replace(':', 'of')}"
    return Method(name=name, criterion=criterion, granularity=granularity, scope=scope)


class Pick(Strict):
    """The default rule of `lxcompress pick`."""

    retain: Annotated[float, Field(gt=0, le=1)] = 0.99


class Bench(Strict):
    """The default task of `lxcompress bench`."""

    threads: Count = 1
    runs: Count = 50


class Export(Strict):
    """What `lxcompress study` exports at its end: with `twins`, the picked ticket beside its alternatives."""

    twins: bool = True
    format: Literal["onnx", "ort", "bitmask", "openvino", "executorch", "engine"] = "onnx"


def _name_faults(value: Any) -> Any:
    """The faults that `protocol` stands for: corrected has none, published all, and a list is itself."""
    if value in ("corrected", "published"):
        return {"corrected": (), "published": FAULTS}[value]
    given = value if isinstance(value, (list, tuple)) else [value]
    unknown = [each for each in given if each not in list(FAULTS)]
    if unknown:
        raise ValueError(f"{echo(unknown[0])} is none of corrected, published, or a list of {', '.join(FAULTS)}")
    return tuple(given)


class Recipe(Strict):
    """The whole study: model, data, training, pruning grid, picking rule, exports and benchmark."""

    version: Version = RECIPE_VERSION
    name: Name
    device: Device = "auto"
    protocol: Annotated[tuple[Fault, ...], BeforeValidator(_name_faults)] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: Data
    model: Model = Model()
    train: Train = Train()
    prune: Prune = Prune()
    pick: Pick = Pick()
    export: Export = Export()
    bench: Bench = Bench()

    @field_validator("seeds")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return _distinct(values)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults of the published study that this one reproduces; none in a corrected one."""
        return self.protocol

    def cells(self) -> list[Cell]:
        """Every Cell of the grid; seed varies slowest, so that a study's first seed is whole before its second."""
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
    def _faults_are_of_plain_masks(self) -> Recipe:
        plain = Method().model_dump(exclude={"name", "criterion", "scope"})
        for method in self.prune.all_methods() if self.protocol else ():
            is_plain = method.model_dump(exclude={"name", "criterion", "scope"}) == plain
            if not is_plain or method.criterion not in BLIND_CRITERIA:
                raise ValueError(
                    f"protocol: the published study did not draw {method.id}; leave it out, or give protocol: corrected"
                )
        return self


class Architecture(Strict):
    """The sizes of a model to pre-train, by transformers' own names; the defaults are the mini's."""

    hidden_size: Count = 128
    num_attention_heads: Count = 4
    intermediate_size: Count = 512
    l_layers: Count = 2
    r_layers: Count = 2
    x_layers: Count = 2
    visual_loss_normalizer: Annotated[float, Field(ge=0)] = 0.1
    hidden_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_probs_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _heads_divide(self) -> Architecture:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of num_attention_heads")
        return self


class Pretrain(Strict):
    """LXMERT's pre-training on scenes: what `lxcompress pretrain` reads."""

    version: Version = RECIPE_VERSION
    name: Name
    device: Device = "auto"
    seed: Seed = 0
    data: ScenesData
    architecture: Architecture = Architecture()
    train: Train = Train()
    mask_probability: Fraction = 0.15
    statement_probability: Fraction = 0.3
    mismatch_probability: Fraction = 0.5

    @field_validator("data")
    @classmethod
    def _reads_regions(cls, data: ScenesData) -> ScenesData:
        if data.pixels is not None:
            raise ValueError("LXMERT, which is pre-trained here, reads regions and no pictures: leave pixels out")
        return data


@dataclass(frozen=True)
class Cell:
    """One (method, target sparsity, seed) of a Recipe."""

    method: Method
    sparsity: float
    seed: int

    @property
    def id(self) -> str:
        """Readable and usable as a folder name: low-magnitude-weight-50-seed0."""
        return cell_id(self.method.id, self.sparsity, self.seed)


def cell_id(method: str, sparsity: float, seed: int) -> str:
    """The id of the Cell of the method called so."""
    return f"{method}-{short_percent(sparsity)}-seed{seed}"


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The Recipe in the YAML file `path`, with each `key=value` of `overrides` applied over it.

    Relative data paths are taken from the folder where the command runs. Raises RecipeError.
    """
    return read_settings(path, Recipe, overrides)


def load_run_recipe(path: Path) -> Recipe:
    """Return the Recipe that a run folder keeps at `path`, without a notice of old keys. Raises RecipeError."""
    return validate_settings(_read_yaml(path), Recipe, str(path))


def shipped_recipes() -> tuple[Path, ...]:
    """Return the recipes that ship with the package, by name."""
    package = Path(__file__).parent
    folders = [folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()]
    return tuple(sorted(folders[0].glob("*.yaml"))) if folders else ()


def find_recipe(path: Path) -> Path:
    """Return the file that `path` means: itself, a run folder's recipe, or the recipe of that name that ships.

    A path that is none of these comes back as it is.
    """
    if path.is_dir() and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if path.is_file() or path.parent not in (Path(), Path("recipes")):
        return path
    is_named = path.suffix in ("", ".yaml", ".yml")
    return next((each for each in shipped_recipes() if is_named and each.stem == path.stem), path)


def input_paths(recipe: BaseModel) -> list[Path]:
    """Return the files and folders that `recipe` names and that are there: data, and the model to start from."""
    found: list[Path] = []
    for _, value in recipe:
        if isinstance(value, BaseModel):
            found += input_paths(value)
        for each in value if isinstance(value, tuple | list) else [value]:
            if isinstance(each, BaseModel) and isinstance(value, tuple | list):
                found += input_paths(each)
            elif isinstance(each, Path):
                found.append(each)
    start = getattr(recipe, "start", None)
    return [*found, Path(start)] if isinstance(start, str) and Path(start).exists() else found


def read_settings(path: Path, kind: type[Strict], overrides: Sequence[str] = ()) -> Any:
    """Return the YAML file `path` as `kind`, with each `key=value` of `overrides` applied over it.

    `path` may be what find_recipe finds: a file, a run folder, or the name of a recipe that ships. Raises RecipeError.
    """
    path = find_recipe(path)
    tree = _read_yaml(path)
    for override in overrides:
        _apply(tree, override)
    for old in sorted(_old_keys(tree)):
        log.warning("%s: %s is now called %s; the old name is still read", path, old, OLD_METHOD_KEYS[old])
    return validate_settings(tree, kind, str(path))


def validate_settings(tree: Mapping[str, Any], kind: type[Strict], where: str) -> Any:
    """`tree` as a `kind`; `where` opens the sentence of the RecipeError raised if it is not one."""
    version = tree.get("version", RECIPE_VERSION)
    if _as_number(version) > RECIPE_VERSION:
        raise RecipeError(
            f"{where}: is of recipe version {echo(version)}, but this lxcompress reads up to version {RECIPE_VERSION}; "
            "upgrade it with: pip install --upgrade lxcompress"
        )
    tree = _rename_old_keys(tree, where)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{where}: {first_problem(error, kind, remedy=', or give --set {key}=VALUE')}") from None


def _methods(tree: Mapping[str, Any]) -> list[Any]:
    """The entries of `prune.methods`, as far as there are any."""
    prune = tree.get("prune")
    methods = prune.get("methods") if isinstance(prune, Mapping) else None
    return methods if isinstance(methods, list) else []


def _old_keys(tree: Mapping[str, Any]) -> set[str]:
    """The old keys that the methods in `tree` use."""
    return {key for method in _methods(tree) if isinstance(method, Mapping) for key in OLD_METHOD_KEYS if key in method}


def _rename_old_keys(tree: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return `tree` with the old keys of its methods renamed. Raises RecipeError where a method has both names."""
    if not _old_keys(tree):
        return tree
    methods = [dict(method) if isinstance(method, Mapping) else method for method in _methods(tree)]
    for index, method in enumerate(methods):
        for old in [key for key in OLD_METHOD_KEYS if isinstance(method, dict) and key in method]:
            new = OLD_METHOD_KEYS[old]
            if new in method:
                raise RecipeError(f"{where}: prune.methods.{index}: {old} is the old name of {new}; keep {new} alone")
            method[new] = method.pop(old)
    return {**tree, "prune": {**tree["prune"], "methods": methods}}


def _as_number(version: object) -> float:
    """The version as a number; -1 for what is none."""
    try:
        return float(version) if isinstance(version, (int, float, str)) else -1
    except ValueError:
        return -1


def dump_recipe(recipe: Strict) -> str:
    """The recipe as YAML with every field written out; reading it back gives an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml_file(path)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; {_nearby(path)}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecipeError(f"{path}: cannot be read as a recipe ({reason}); give the path of a YAML text file") from None
    except SettingsProblem as problem:
        raise RecipeError(f"{path}: {str(problem).replace('cannot be read:', 'cannot be read as a recipe:')}") from None
    if not isinstance(tree, dict):
        kind = "NoneType, as an empty file" if tree is None else type(tree).__name__
        raise RecipeError(f"{path}: a recipe is a YAML mapping of keys to values, got {kind}")
    return tree


def _nearby(path: Path) -> str:
    """Say which recipe may have been meant: a file in the same folder, or one that ships."""
    files = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    shipped = {recipe.stem: recipe for recipe in shipped_recipes()}
    near = nearest(path.name, [each.name for each in files], cutoff=0.6)
    if near:
        return f"give the path of a YAML file, such as {path.parent / near}"
    near = nearest(path.stem, list(shipped))
    if near:
        return f"did you mean {near}, which ships? lxcompress recipes lists all that do"
    return "give a YAML file, or a name that lxcompress recipes lists, such as quickstart, which ships"


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    shown = override if len(override) <= 70 else f"{override[:67]}..."
    if not equals or not key:
        raise RecipeError(f"--set {shown}: expected key=value, such as --set train.epochs=2")
    try:
        value = parse_yaml(text)
    except SettingsProblem as problem:
        what = "is not valid YAML" if "is not valid YAML" in str(problem) else str(problem)
        raise RecipeError(f"--set {shown}: the value {what}; quote it, as in --set 'name=\"a: b\"'") from None
    branch = tree
    *parents, leaf = key.split(".")
    if len(parents) > MOST_KEYS:
        raise RecipeError(f"--set {shown}: names {len(parents) + 1} keys within each other; no recipe is so deep")
    for parent in parents:
        inner = branch.get(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {shown}: {parent[:40]} holds a value, not a section; set it whole")
        branch[parent] = dict(inner)  # a copy: an alias may stand for the same section elsewhere
        branch = branch[parent]
    branch[leaf] = value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("values must differ from each other")
    return values


def _differently_named(values: tuple[float, ...]) -> tuple[float, ...]:
    """The sparsities, if no two are the same in a cell's id: their cells would share a folder."""
    if len({short_percent(value) for value in _distinct(values)}) != len(values):
        raise ValueError("values must differ in the first six digits of their percentages, which name the cells")
    return values
