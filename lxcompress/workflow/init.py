"""Write a recipe from the answers to five questions: model, data, target device, budget and hours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxcompress.errors import RecipeError
from lxcompress.output import command_line
from lxcompress.settings import did_you_mean
from lxcompress.text import shorten

if TYPE_CHECKING:
    from lxcompress.data.tables import Row

DEVICES: Mapping[str, tuple[str, str]] = {
    "cpu": ("{format: onnx, also: [engine, openvino]}", "a computer: ONNX Runtime, the sparse engine, OpenVINO"),
    "android": ("{format: engine, also: [executorch, litert]}", "Android: the sparse engine, ExecuTorch, LiteRT"),
    "ios": ("{format: onnx, also: [engine]}", "iOS: lxcompress export TICKET --format coreml writes Core ML"),
    "browser": ("{format: engine, also: [onnx]}", "a browser: lxcompress app RUN writes a page"),
    "gpu": ("{format: onnx}", "a GPU: ONNX Runtime; unstructured zeros save no time there"),
}
"""target device -> the section `export` of a recipe, and the comment on it"""
RECIPE_OF_KIND: Mapping[str, str] = {
    "vqa": "thesis",
    "gqa": "gqa",
    "nlvr2": "nlvr2",
    "nlvr": "nlvr",
    "clevr": "clevr",
}
"""kind of a published data set -> the shipped recipe whose section `data` is used"""
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "question", "sentence", "sentence1", "premise", "words", "title"),
    "second_text": ("second_text", "sentence2", "hypothesis", "text2"),
    "image": ("image", "image_path", "file", "file_name", "filename", "path", "photo", "img"),
    "label": ("label", "answer", "labels", "answers", "class", "category", "target"),
    "split": ("split",),
}
"""key of `data.columns` -> the usual names of such a column, the most usual first"""
SHORT_HOURS, LONG_HOURS = 1.0, 12.0
HOLD_OUT = "the same file: give the rows that validate in a file of their own, or add a column split"


@dataclass(frozen=True)
class StudyWishes:
    """The answers to the five questions: `budget_mb` is the largest size of the file to ship, 0 for no limit."""

    model: str
    data: str
    device: str
    budget_mb: float
    hours: float


def compose_recipe(wishes: StudyWishes, name: str) -> str:
    """Return the commented YAML text of a recipe for a study called `name`.

    Raises RecipeError for an unknown device or data set, and DataError for a table that cannot be read.
    """
    if wishes.device not in DEVICES:
        raise RecipeError(f"--device {wishes.device}: is unknown; {did_you_mean(wishes.device, list(DEVICES))}")
    export, served = DEVICES[wishes.device]
    seeds, prune, grid = _choose_grid(wishes.hours)
    limit = f" --max-size-mb {wishes.budget_mb:g}" if wishes.budget_mb else ""
    return "\n".join(
        [
            "# Every key, with what it means: docs/recipes.md. Editors read: lxcompress init --json-schema",
            "#   lxcompress data check FILE           are the data whole, and can the model read them?",
            "#   lxcompress study FILE --dry-run      how long does it take here?",
            "#   lxcompress study FILE",
            f"#   {command_line('pick', f'runs/{name}')}{limit}",
            f"name: {name}",
            f"seeds: {seeds}  # {grid}",
            *_compose_data(wishes.data),
            "model:",
            f"  start: {shorten(wishes.model, 1000)}  # mini (shipped), a folder, hub:OWNER/NAME, or a .pth file",
            "train: {epochs: 4, batch_size: 32, learning_rate: 5.0e-5}  # for mini, learning_rate: 5.0e-4",
            "prune:",
            *(f"  {line}" for line in prune),
            "pick: {retain: 0.99}  # the least share of dense accuracy",
            f"export: {export}  # {served}",
            "",
        ]
    )


def study_name(recipe: Path) -> str:
    """Return a name for the study of a recipe file: the file's name, with a hyphen for what a name cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", recipe.stem).strip("._-")[:100] or "study"


def _choose_grid(hours: float) -> tuple[list[int], list[str], str]:
    """Return the seeds, the lines of the section `prune`, and a comment, for a study of about so many hours."""
    least = ["criteria: [low-magnitude, random]  # random is the control", "sparsities: [0.5, 0.7, 0.9]"]
    more = [
        "methods:",
        "  # Neurons and heads: a smaller model, faster in every runtime.",
        "  - {criterion: taylor, granularity: neuron+head, scope: global, rewind: learning-rate, sparsities: [0.5]}",
        "  # Blocks, which the sparse engine multiplies fast.",
        "  - {granularity: block-1x4, scope: global, rewind: learning-rate, distill: {}}",
    ]
    advice = f"for {hours:g} hours; --dry-run says how long it really takes"
    if hours < SHORT_HOURS:
        return [0], least, f"one seed, {advice}. One seed shows no spread: give three when you can"
    if hours < LONG_HOURS:
        return [0, 1, 2], least, f"three seeds, {advice}"
    return [0, 1, 2], [*least, *more], f"three seeds and structured methods, {advice}"


def _compose_data(data: str) -> Sequence[str]:
    """Return the lines of the section `data`: a kind of data set, or a table of examples."""
    if data == "scenes":
        return ["data: {kind: scenes, train: 6000, valid: 1500, test: 1500}  # built in: no download"]
    if data in RECIPE_OF_KIND:
        return _copy_data(RECIPE_OF_KIND[data])
    if not Path(data).suffix:
        known = ["scenes", *RECIPE_OF_KIND]
        raise RecipeError(
            f"--data {data}: is neither a known data set nor a table (.jsonl, .csv, .parquet); "
            f"{did_you_mean(data, known)}"
        )
    from lxcompress.data.tables import read_table

    columns = guess_columns(read_table(Path(data))[0], data)
    path = shorten(data, 1000)
    lines = ["data:", "  kind: examples", f"  train: {path}", f"  valid: {path}"]
    if "split" not in columns:
        lines[-1] += f"  # {HOLD_OUT}"
    lines += [f"  columns: {{{', '.join(f'{key}: {shorten(column, 1000)}' for key, column in columns.items())}}}"]
    if "image" in columns:
        folder = shorten(Path(data).parent.as_posix(), 1000)
        lines += [f"  images: {folder}  # the folder of the images", "  pixels: 224  # the side that the model reads"]
    return lines


def _copy_data(recipe: str) -> Sequence[str]:
    """Return the lines of the section `data` of a shipped recipe."""
    from lxcompress.settings import read_yaml_file
    from lxcompress.workflow.cards import find_shipped

    section: Mapping[str, Any] = read_yaml_file(find_shipped(recipe))["data"]
    command = command_line("recipes", recipe)
    remark = f"# As in the recipe {recipe}, whose first lines say how to get the files: {command}"
    return [remark, "data:", *(f"  {key}: {shorten(value, 1000)}" for key, value in section.items())]


def guess_columns(row: Row, where: str) -> dict[str, str]:
    """Return {key of data.columns: name of a column}, guessed from the names of the columns.

    If only one column is not recognised, and nothing else can be read, that column is the text.
    Raises RecipeError if there is no column for a label, or none to read.
    """
    by_name = {name.lower(): name for name in row}
    found = {
        key: next(by_name[usual] for usual in names if usual in by_name)
        for key, names in COLUMN_NAMES.items()
        if by_name.keys() & set(names)
    }
    others = [name for name in row if name not in found.values()]
    if "text" not in found and "image" not in found and len(others) == 1:
        found["text"] = others[0]
    if "label" not in found or not found.keys() & {"text", "image"}:
        raise RecipeError(
            f"{where}: has the columns {', '.join(row)}, expected a label and a text or an image; rename them, as in "
            "text, image, label, or write data.columns by hand (docs/data.md)"
        )
    return found
