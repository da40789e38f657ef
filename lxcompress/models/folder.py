"""Read the config and the tensors of a transformers folder, and check them before any memory is allocated.

transformers never reads the folder. Python code in the folder is never run, and its config cannot make lxcompress read
other files. An error about a tensor states the tensor's name, its shape and the expected shape.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from lxcompress.catalog.families import family_names
from lxcompress.errors import ModelError
from lxcompress.filenames import CONFIG_FILE
from lxcompress.models.auto import NotAnEncoderError, derive_family, find_config_class, is_known
from lxcompress.models.family import Family, accepts_every_config, find_family
from lxcompress.models.origin import is_origin
from lxcompress.models.oscar import translate_config
from lxcompress.models.source import CODE_FILES, WEIGHT_FILES, check_weights
from lxcompress.models.tensors import name_type, read_pickled, unwrap
from lxcompress.records import ORIGIN_FIELD
from lxcompress.text import decode_text, first_line, parse_json, read_bytes, shorten

MOST_CONFIG_BYTES = 64 << 20
BYTES_A_WEIGHT = 4
_REMOTE = (
    "contains Python code (auto_map in {file}), which lxcompress never runs; if it is a plain model of transformers, "
    "remove auto_map from that file, else give a plain model"
)
_SIZES = {
    "hidden_size": (1, 65_536),
    "num_attention_heads": (1, 4_096),
    "intermediate_size": (1, 1_000_000),
    "vocab_size": (1, 10_000_000),
    "max_position_embeddings": (1, 1_000_000),
    "type_vocab_size": (1, 1_000),
    "num_qa_labels": (0, 10_000_000),
    "num_object_labels": (0, 1_000_000),
    "num_attr_labels": (0, 1_000_000),
    "l_layers": (0, 256),
    "r_layers": (0, 256),
    "x_layers": (0, 256),
    "num_hidden_layers": (0, 256),
    "visual_feat_dim": (1, 10_000_000),
    "visual_pos_dim": (4, 4),
    "visual_embedding_dim": (1, 10_000_000),
    "image_size": (1, 65_536),
    "patch_size": (1, 65_536),
    "embedding_size": (1, 65_536),
    "projection_dim": (0, 65_536),
    "dim": (1, 65_536),
    "hidden_dim": (1, 1_000_000),
    "n_heads": (1, 4_096),
    "n_layers": (0, 256),
    "num_channels": (3, 3),
    "modality_type_vocab_size": (2, 1_000),
    "images_per_question": (1, 64),
}
"""Config field with a whole number -> the smallest and the largest value that are allowed."""
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_POSITIVE = ("initializer_range", "layer_norm_eps", "img_layer_norm_eps")
_SWITCHES = ("bypass_transformer", "special_visual_initialize", "qkv_bias", "tie_word_embeddings", "use_img_layernorm")
_LEFT_OUT = {"dtype", "return_dict", "output_hidden_states", "is_encoder_decoder", "chunk_size_feed_forward"} | {
    "bos_token_id",
    "eos_token_id",
}
"""Config fields that say how transformers runs a model, and not which model it is: here they keep their defaults."""
MOST_NAME = 200
"""The largest number of characters in a file's name; for a longer name the file system raises its own error."""
_IGNORED_BUFFERS = ("position_ids", "token_type_ids")
"""Endings of the names of buffers that old releases of transformers saved; buffers are not weights."""
_CONFIG_WANTED = "give the config.json that the model was saved with"


def check_code(folder: Path, where: str) -> None:
    """Raise ModelError if a file of the folder names Python code that transformers would run when it loads the folder.

    `where` is the model as the user named it.
    """
    for name in CODE_FILES:
        path = folder / name
        if path.is_file() and _names_code(_read_document(path, where)):
            raise ModelError(f"{where}: {_REMOTE.format(file=name)}")


def read_folder_config(folder: Path, where: str) -> tuple[PreTrainedConfig, Family]:
    """Return the config in a folder, and its family. Raises ModelError for a value that no model can have."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(
            f"{where}: has no {CONFIG_FILE}; give a transformers folder ({CONFIG_FILE} and model.safetensors)"
        )
    tree = _read_document(path, where)
    if not isinstance(tree, dict):
        raise ModelError(f"{where}: {CONFIG_FILE} is {shorten(tree)}, expected an object; {_CONFIG_WANTED}")
    try:
        tree = translate_config(tree)
    except ValueError as error:
        raise ModelError(f"{where}: {CONFIG_FILE} cannot be used ({error}); give a model for VQA") from None
    kind = tree.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(
            f"{where}: {CONFIG_FILE} has no model_type; {_CONFIG_WANTED}, with one of {', '.join(family_names())}"
        )
    if kind not in family_names():
        return _read_encoder_config(tree, kind, where)
    family = find_family(kind)
    settings = _ConfigSettings(family.config_class, family.images_field, family.check_config)
    config = _make_config(tree, settings, where)
    _check_memory(where, _count_weights(config, family))
    return config, family


class _ConfigSettings(NamedTuple):
    """How the config of a model is made: its class, the field that counts images, and the check of its values.

    Fields in `unchecked` may have any value that the class accepts.
    """

    config_class: type[PreTrainedConfig]
    images_field: str | None = None
    check: Callable[[Any], None] = accepts_every_config
    unchecked: tuple[str, ...] = ()


def _read_encoder_config(tree: Mapping[str, Any], kind: str, where: str) -> tuple[PreTrainedConfig, Family]:
    """Return the config of an encoder that only transformers knows, and the family derived from it.

    Raises ModelError for a model of another kind.
    """
    if not is_known(kind):
        raise ModelError(
            f"{where}: is a {shorten(kind)[1:-1]} model; lxcompress knows {', '.join(family_names())} and the encoders "
            "of transformers"
        )
    config = _make_config(tree, _ConfigSettings(find_config_class(kind), unchecked=("type_vocab_size",)), where)
    try:
        family = derive_family(config)
    except NotAnEncoderError as error:
        raise ModelError(f"{where}: {error}; give an encoder, such as a BERT, a ViT or one tower of a CLIP") from None
    except Exception as error:  # the class of an odd config raises errors of many types
        raise ModelError(
            f"{where}: transformers cannot build its model ({type(error).__name__}: {first_line(error)}); "
            f"{_CONFIG_WANTED}"
        ) from None
    _check_memory(where, sum(shape.numel() for shape in family.shapes(config).values()))
    return config, family


def read_shapes(folder: Path, where: str) -> dict[str, torch.Size]:
    """Return {name: shape} of the tensors in a folder; reads no values. Raises ModelError."""
    shapes: dict[str, torch.Size] = {}
    for path in _weight_files(folder, where):
        if path.suffix == ".safetensors":
            with _opened(path) as file:
                found = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        else:
            found = {name: tensor.shape for name, tensor in read_pickled(path, ignored=_IGNORED_BUFFERS).items()}
        shapes |= found
    return {unwrap(name): shape for name, shape in shapes.items() if not name.endswith(_IGNORED_BUFFERS)}


def read_types(folder: Path, where: str) -> set[str]:
    """Return the types in which a folder stores its floating-point tensors, such as fp32. Raises ModelError."""
    types: set[str] = set()
    for path in _weight_files(folder, where):
        if path.suffix == ".safetensors":
            with _opened(path) as file:
                found = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            types |= {kind for kind in found if kind.startswith(("F", "BF"))}
        else:
            tensors = read_pickled(path, ignored=_IGNORED_BUFFERS)
            types |= {str(tensor.dtype) for tensor in tensors.values()}
    return {name_type(kind) for kind in types}


def read_tensors(folder: Path, where: str, wanted: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of a folder that are in `wanted`, as fp32.

    `wanted` is {name in the folder, without the parts of wrappers: name in the result}. Raises ModelError, also for a
    tensor whose values are not floating-point numbers.
    """
    weights: dict[str, Tensor] = {}
    written: dict[str, str] = {}
    for path in _weight_files(folder, where):
        for own, tensor in _iterate_tensors(path, wanted):
            name = wanted[unwrap(own)]
            if name in weights:
                raise ModelError(f"{where}: holds one tensor as {written[name]} and as {own}; save the model again")
            if not tensor.is_floating_point():
                kind = str(tensor.dtype).removeprefix("torch.")
                raise ModelError(
                    f"{where}: {own} holds values of {kind}, expected floats; give the model before it was quantised"
                )
            weights[name], written[name] = tensor.float(), own
    return weights


def _make_config(tree: Mapping[str, Any], settings: _ConfigSettings, where: str) -> PreTrainedConfig:
    """Return the config from the JSON object `tree` after checking its values; unknown fields are ignored.

    Raises ModelError.
    """
    if tree.get("quantization_config") is not None:
        raise ModelError(
            f"{where}: is quantised (quantization_config in {CONFIG_FILE}); give the model before quantisation"
        )
    known = {*settings.config_class.__dataclass_fields__, settings.images_field, ORIGIN_FIELD} - _LEFT_OUT
    fields = {name: value for name, value in tree.items() if name in known}
    stacks = fields.get("num_hidden_layers")
    if isinstance(stacks, dict):
        del fields["num_hidden_layers"]  # in LXMERT's config this is the sum of other fields
    for name, value in _list_fields(fields):
        problem = None if name in settings.unchecked else _find_problem(name, value)
        if problem:
            raise ModelError(
                f"{where}: {CONFIG_FILE} has {name}: {shorten(value)}, expected {problem}; {_CONFIG_WANTED}"
            )
    pad, words = fields.get("pad_token_id"), fields.get("vocab_size", _default_words(settings.config_class))
    if pad is not None and words is not None and not 0 <= pad < words:
        raise ModelError(
            f"{where}: {CONFIG_FILE} has pad_token_id: {pad}, expected less than vocab_size {words}; {_CONFIG_WANTED}"
        )
    try:
        with _without_remarks():
            config = settings.config_class.from_dict(fields)
        width, heads = (getattr(config, name, None) for name in ("hidden_size", "num_attention_heads"))
        if isinstance(width, int) and isinstance(heads, int) and width % heads:
            raise ValueError(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
        settings.check(config)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, StrictDataclassError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{where}: {CONFIG_FILE} cannot be used ({line[:200]}); {_CONFIG_WANTED}") from None
    return config


def _list_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of each field of a config, and of the configs of its text and vision encoders."""
    for name, value in fields.items():
        yield name, value
        if name in ("text_config", "vision_config") and isinstance(value, dict):
            yield from value.items()


def _default_words(config_class: type[PreTrainedConfig]) -> int | None:
    """Return the number of words that a config has by default; None for the config of a model that reads none."""
    return getattr(config_class(), "vocab_size", None)


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence the messages of transformers about a config in this context; those that matter are errors here."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _find_problem(name: str, value: object) -> str | None:
    """Return which values a field of a config may have, as text, if `value` is not one of them; else None."""
    if name in _SIZES:
        least, most = _SIZES[name]
        is_good = type(value) is int and least <= value <= most
        return None if is_good else f"a whole number from {least} to {most}" if least < most else f"{least}"
    if name in _SHARES or name in _POSITIVE:
        highest = 1.0 if name in _SHARES else 1e3
        is_good = (type(value) is int or type(value) is float) and math.isfinite(value) and 0 <= value <= highest
        return None if is_good else f"a number from 0 to {highest:g}"
    if name in _SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    if name == "hidden_act":
        return (
            None
            if isinstance(value, str) and value in ACT2FN
            else f"an activation, such as {', '.join(('gelu', 'relu'))}"
        )
    if name in ("id2label", "label2id"):
        return _find_label_problem(name, value)
    if name == "architectures":
        is_good = value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))
        return None if is_good else "a list of names"
    if name == ORIGIN_FIELD:
        return None if value is None or is_origin(value) else 'an object such as {"made_with": "", "regions": 36}'
    if name == "pad_token_id":
        return None if value is None or type(value) is int else "a whole number"
    return None


def _find_label_problem(name: str, value: object) -> str | None:
    """Return the expected form of id2label or label2id, as text, if the value has another form; else None."""
    wanted = "{number: answer}" if name == "id2label" else "{answer: number}"
    if value is None:
        return None
    if not isinstance(value, dict):
        return wanted
    numbers, words = (value.keys(), value.values()) if name == "id2label" else (value.values(), value.keys())
    is_good = all(str(number).isdecimal() for number in numbers) and all(
        type(word) in (str, int, float, bool) for word in words
    )
    return None if is_good else wanted


def _count_weights(config: PreTrainedConfig, family: Family) -> int:
    """Return about how many weights the model of a config has, without building it."""
    width, inner = config.hidden_size, config.intermediate_size
    layers = sum(getattr(config, stack.config_field) for stack in family.anatomy.stacks)
    read = max(getattr(config, name, 0) or 0 for name in ("visual_feat_dim", "visual_embedding_dim"))
    rows = config.vocab_size + config.max_position_embeddings + config.num_labels + read
    rows += 2 * (getattr(config, "num_qa_labels", 0) or 0)
    count = width * (rows + layers * 2 * (2 * width + inner))
    if hasattr(config, "patch_size"):
        count += width * (3 * config.patch_size**2 + (config.image_size // max(1, config.patch_size)) ** 2)
    return int(count)


def _check_memory(where: str, count: int) -> None:
    """Raise ModelError if `count` weights need more memory than this machine has; allocates nothing."""
    there = psutil.virtual_memory().total
    if count * BYTES_A_WEIGHT > there:
        raise ModelError(
            f"{where}: {CONFIG_FILE} describes {count:.3g} weights, which take {count * BYTES_A_WEIGHT / 1e9:,.0f} GB, "
            f"and this machine has {there / 1e9:,.0f} GB of memory; {_CONFIG_WANTED}"
        )


def _names_code(document: object) -> bool:
    """Return whether a JSON document has the key `auto_map`, at any depth, with a value that is not empty."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if value.get("auto_map"):
                return True
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return False


def _read_document(path: Path, where: str) -> Any:
    """Return the value of a JSON file. Raises ModelError."""
    try:
        return parse_json(decode_text(read_bytes(path, most_bytes=MOST_CONFIG_BYTES)))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{where}: {path.name} cannot be read ({error}); copy the file again") from None


def _weight_files(folder: Path, where: str) -> Sequence[Path]:
    """Return the files that hold a folder's tensors. Raises ModelError if there are none, or if one is missing."""
    check_weights(folder, where)
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).exists()), None)
    if found is None:
        raise ModelError(f"{where}: has no weights, neither model.safetensors nor pytorch_model.bin; copy them there")
    if found.suffix != ".json":
        return [found]
    index = _read_document(found, where)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{where}: {found.name} has no weight_map {{tensor: file}}; copy the file again")
    files = []
    for name in dict.fromkeys(map(str, names.values())):
        is_plain = name == Path(name).name and name.endswith((".safetensors", ".bin")) and "\\" not in name
        is_plain = is_plain and len(name) <= MOST_NAME
        if not is_plain:
            raise ModelError(
                f"{where}: {found.name} names the file {shorten(name)}, expected one of this folder; copy the folder "
                "again"
            )
        if not (folder / name).is_file():
            raise ModelError(
                f"{where}: lacks {shorten(name)[1:-1]}, which {found.name} names; copy the whole folder again"
            )
        files.append(folder / name)
    return files


def _iterate_tensors(path: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """Yield (name in the file, tensor) for each tensor of a file that is in `wanted`."""
    if path.suffix != ".safetensors":
        yield from (
            (name, tensor)
            for name, tensor in read_pickled(path, ignored=_IGNORED_BUFFERS).items()
            if unwrap(name) in wanted
        )
        return
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            if unwrap(name) in wanted:
                yield name, file.get_tensor(name)


def _opened(path: Path) -> Any:
    """Return an open safetensors file. Raises ModelError."""
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); make it again, or copy it again") from None
