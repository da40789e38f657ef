"""A transformers folder that `from_pretrained` loads: one safetensors file with every weight, zeros included.

Tensors that no answer depends on (LXMERT's last vision branch, VisualBERT's pooler) are not in tickets. They are
written here as zeros. Without them, transformers would warn that the model should be trained.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lxcompress.data.tokens import SETTINGS_FILE, VOCABULARY_FILE, format_settings
from lxcompress.errors import ExportError, LxError
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.filenames import WEIGHTS_FILE
from lxcompress.models.checkpoints import Model, identify, save_config, save_weights
from lxcompress.models.resize import with_layers
from lxcompress.models.vocabulary import load_vocabulary, save_vocabulary
from lxcompress.rundir import write_text

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_INSTEAD = "give --format bitmask, or onnx"


def write(job: Job) -> WrittenFiles:
    """Write config.json, model.safetensors, vocab.txt and tokenizer_config.json. Raises ExportError."""
    model, dtype = job.model, DTYPES[job.precision]
    fields = _find_fields(job.out, model)
    weights = {name: _convert(job.out, name, tensor, dtype) for name, tensor in model.weights.items()}
    dead = _find_dead(model, fields)
    weights |= {name: torch.zeros(shape, dtype=dtype) for name, shape in dead.items()}
    config = save_config(job.out, model, **fields, dtype=str(dtype).removeprefix("torch."))
    save_weights(job.out / WEIGHTS_FILE, weights)
    words, notes = _write_words(job)
    if dead:
        count = sum(shape.numel() for shape in dead.values())
        notes.append(f"{count:,} zeros stand for weights that no answer depends on: from_pretrained warns without them")
    return WrittenFiles([config, job.out / WEIGHTS_FILE, *words], notes)


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices that an answer depends on."""
    config, family = identify(str(out))
    zeros = elements = 0
    with safe_open(out / WEIGHTS_FILE, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            shape = torch.Size(file.get_slice(name).get_shape())
            if family.is_prunable(name, shape) and not family.is_dead(name, config):
                zeros += int((file.get_tensor(name) == 0).sum())
                elements += shape.numel()
    return zeros, elements


def _find_fields(out: Path, model: Model) -> dict[str, int]:
    """Return the fields to change in the config so that transformers builds a model with the sizes of `model`.

    If all feed-forwards have one width, it becomes the config's `intermediate_size`. Raises ExportError for sizes that
    a config of transformers cannot describe.
    """
    kind = type(model.module)
    if not kind.__module__.startswith("transformers."):
        several = model.family.count_images(model.config) > 1
        reason = ", because this model reads several images" if several else ""
        raise ExportError(f"{out}: transformers has no {kind.__name__}{reason}; {_INSTEAD}")
    weights, family = model.weights, model.family
    widths = {weights[f"{block.first}.weight"].shape[0] for block in family.feed_forwards(model.module)}
    fields = {"intermediate_size": widths.pop()} if len(widths) == 1 else {}
    expected = family.shapes(with_layers(model.config, fields))
    for name, tensor in weights.items():
        if expected.get(name) != tensor.shape:
            raise ExportError(
                f"{out}: transformers needs layers of equal size, but {name} has the shape {list(tensor.shape)}, "
                "expected "
                f"{list(expected.get(name, ()))} by its config; {_INSTEAD}"
            )
    return fields


def _find_dead(model: Model, fields: dict[str, int]) -> dict[str, torch.Size]:
    """Return {name: shape} of the tensors that transformers' model has, but that no answer depends on."""
    config = with_layers(model.config, fields)
    return {name: shape for name, shape in model.family.shapes(config).items() if model.family.is_dead(name, config)}


def _convert(out: Path, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor as `dtype`. Raises ExportError if a value is not finite, or too large for `dtype`."""
    converted = tensor.detach().to(dtype)
    if not bool(converted.isfinite().all()):
        is_wide = bool(tensor.isfinite().all())
        reason = "above 65504, the largest of fp16" if is_wide else "that are NaN or infinite"
        remedy = "give --precision fp32" if is_wide else "train the model again"
        raise ExportError(f"{out}: {name} holds values {reason}; {remedy}")
    return converted


def _write_words(job: Job) -> tuple[list[Path], list[str]]:
    """Write vocab.txt and the settings of transformers' tokenizer, so that it tokenizes as lxcompress does.

    Returns the written files, and notes for the user; there are no files if the source has no vocabulary.
    """
    try:
        vocabulary = load_vocabulary(str(job.source))
    except LxError as error:
        reason = str(error).replace(str(job.source), job.source.name)
        return [], [f"without a tokenizer: {reason}"]
    save_vocabulary(job.out, vocabulary)
    settings = format_settings(vocabulary, model_max_length=job.model.family.count_positions(job.model.config))
    write_text(job.out / SETTINGS_FILE, settings)
    return [job.out / VOCABULARY_FILE, job.out / SETTINGS_FILE], []
