"""Derive the Family of any encoder of transformers that has no module of its own here, from its config and modules.

The encoder reads words, a picture or both. Its answer is the scores of its classifier. An encoder without a classifier
answers with its features: projected embeddings, the pooled output, or the first state of the last layer.

Shapes: B questions, L tokens, H hidden size, C channels, S pixels on each side of the picture, A scores.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from lxcompress.catalog.families import Modality, family_names
from lxcompress.data.split import Inputs
from lxcompress.models.anatomy import Anatomy, LayerStack
from lxcompress.models.family import Family, find_family, reads_no_picture
from lxcompress.models.module_parts import ModuleParts, find_parts, find_stacks

ANY_LENGTH = 512
"""The tokens of the longest question for an encoder that reads no words: it ignores them all."""
FEWEST_WORDS = 2
"""The word embeddings of an encoder that reads no words: one for padding and one for any word, which it ignores."""
USUAL_PIXELS = 224
"""The side of a picture for an encoder whose config states none: it reads any size, and was trained on this one."""
_LAYER_FIELDS = ("num_hidden_layers", "n_layers", "num_layers", "encoder_layers")
_LANGUAGE, _VISION = ("text", "language", "token", "word"), ("vision", "visual", "image", "pixel")


class NotAnEncoderError(ValueError):
    """A config that is not one of an encoder that reads words or a picture; the message is the rest of a sentence."""


@dataclass(frozen=True)
class EncoderClass:
    """The class of transformers that an encoder is built as.

    `has_head` is whether it has a classifier. `remark` says what was left out; None if nothing was.
    """

    kind: type[PreTrainedModel]
    has_head: bool
    remark: str | None = None


def is_known(model_type: str) -> bool:
    """Return whether transformers has models of this type."""
    return model_type in CONFIG_MAPPING_NAMES


def find_config_class(model_type: str) -> type[PreTrainedConfig]:
    """Return the class of the configs of a model type that transformers has."""
    kind: type[PreTrainedConfig] = CONFIG_MAPPING[model_type]
    return kind


def is_in_catalog(family: Family) -> bool:
    """Return whether a family has a module of its own, here or in another package."""
    return family.name in family_names()


def family_of(config: PreTrainedConfig) -> Family:
    """Return the family of a config: one of the catalog, or one that is derived. Raises NotAnEncoderError."""
    known = config.model_type in family_names()
    return find_family(config.model_type) if known else derive_family(config)


def derive_family(config: PreTrainedConfig) -> Family:
    """Return the family of an encoder of transformers. Raises NotAnEncoderError."""
    encoder = choose_class(config)
    module = build_empty(config, encoder.kind)
    parts = find_parts(module)
    if not parts.prunable:
        raise NotAnEncoderError(f"is a {encoder.kind.__name__} without a linear layer that could be pruned")
    takes = tuple(inspect.signature(encoder.kind.forward).parameters)
    reads_words, reads_images = "input_ids" in takes, "pixel_values" in takes
    prefix = f"{encoder.kind.base_model_prefix}." if _is_wrapped(module) else ""
    anatomy = _describe(config, module, parts, prefix, has_head=encoder.has_head)
    heads = anatomy.head if isinstance(anatomy.head, tuple) else (anatomy.head,)
    return Family(
        name=config.model_type,
        title=encoder.kind.__name__,
        anatomy=anatomy,
        config_class=type(config),
        answering=(encoder.kind.__name__,),
        make=encoder.kind,
        answer=partial(_answer, takes),
        hidden=partial(_hidden, takes),
        feature_size=_count_pixels if reads_images else _one_feature,
        picture_size=find_picture_size if reads_images else reads_no_picture,
        reads_words=reads_words,
        reads_images=reads_images,
        count_words=find_words if reads_words else partial(_constant, FEWEST_WORDS),
        count_positions=partial(_constant, _count_positions(config, module) if reads_words else ANY_LENGTH),
        count_features=None if encoder.has_head else partial(_count_features, encoder.kind.__name__),
        part_of=partial(_find_part, prefix, heads, reads_words, reads_images),
    )


def choose_class(config: PreTrainedConfig) -> EncoderClass:
    """Return the class that `architectures` of the config names, or its encoder if that class has another task.

    Raises NotAnEncoderError for a model of another kind.
    """
    named = config.architectures[0] if config.architectures else None
    _check_is_encoder(config, named)
    kind = getattr(transformers, named, None) if named else None
    bare = _first(modeling_auto.MODEL_MAPPING_NAMES.get(config.model_type))
    if named and isinstance(kind, type) and issubclass(kind, PreTrainedModel) and kind.config_class is type(config):
        if named in find_classifiers(config.model_type):
            return _check_inputs(EncoderClass(kind, has_head=True))
        if named == bare or named.endswith(("Model", "ModelWithProjection")):
            return _check_inputs(EncoderClass(kind, has_head=False))
    if bare is None or not hasattr(transformers, bare):
        raise NotAnEncoderError(f"is a {named or config.model_type}, of which transformers has no encoder")
    remark = f"is a {named}, of which only the encoder ({bare}) is read" if named else None
    return _check_inputs(EncoderClass(getattr(transformers, bare), has_head=False, remark=remark))


def find_classifiers(model_type: str) -> tuple[str, ...]:
    """Return the names of the classes that classify texts or pictures with an encoder of a model type."""
    mappings = (
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )
    found = (mapping.get(model_type, ()) for mapping in mappings)
    return tuple(name for names in found for name in ((names,) if isinstance(names, str) else names))


def build_empty(config: PreTrainedConfig, kind: type[PreTrainedModel]) -> PreTrainedModel:
    """Return a model of a class on the meta device, so that it takes no memory."""
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        return kind(config)


def find_words(config: PreTrainedConfig) -> int:
    """Return the number of word embeddings, from the config or the config of its text encoder."""
    words: int = _find_field(config, "vocab_size")
    return words


def find_picture_size(config: PreTrainedConfig) -> int:
    """Return the number of pixels on each side of the picture."""
    size = _find_field(config, "image_size") or USUAL_PIXELS
    return int(size if isinstance(size, int) else size[0])


def _check_is_encoder(config: PreTrainedConfig, named: str | None) -> None:
    """Raise NotAnEncoderError for an encoder-decoder or a decoder."""
    kind, is_half = config.model_type, bool(named) and str(named).endswith("EncoderModel")
    if getattr(config, "is_encoder_decoder", False) and not is_half:
        raise NotAnEncoderError(f"is an encoder-decoder ({named or kind}), and only encoders are read")
    writes = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if getattr(config, "is_decoder", False) or (kind in writes and kind not in fills and not is_half):
        raise NotAnEncoderError(f"is a decoder ({named or kind}), and only encoders are read")


def _check_inputs(encoder: EncoderClass) -> EncoderClass:
    """Return the class unchanged. Raises NotAnEncoderError unless it reads token ids or a picture."""
    takes = tuple(inspect.signature(encoder.kind.forward).parameters)
    if "input_ids" not in takes and "pixel_values" not in takes:
        raise NotAnEncoderError(f"is a {encoder.kind.__name__}, which reads {takes[1]}, neither token ids nor pictures")
    return encoder


def _describe(
    config: PreTrainedConfig, module: PreTrainedModel, parts: ModuleParts, prefix: str, *, has_head: bool
) -> Anatomy:
    """Return the anatomy of a module, with its parts named one by one."""
    tops = [name for name, _ in module.named_children() if f"{name}." != prefix]
    heads = tuple(f"{name}." for name in tops) if has_head else ()
    output = parts.outputs[-1]
    names = dict(module.named_modules())
    many = _find_field(config, "vocab_size")
    tables = (name for name, layer in names.items() if isinstance(layer, nn.Embedding) and layer.num_embeddings == many)
    words = next(tables, None)
    linear = (name for name, layer in names.items() if isinstance(layer, nn.Linear))
    first = next((name for name in linear if f"{name}.".startswith(heads)), output)
    return Anatomy(
        encoder=prefix,
        words=f"{words}.weight" if words else "",
        head=heads,
        first_layer=f"{first}.",
        output_layer=f"{output}.",
        stacks=tuple(LayerStack(name, field, (), ()) for name, field in _find_stacks(config, module, output).items()),
        unprunable=tuple(matrix.name for matrix in parts.kept),
        feed_forwards=parts.feed_forwards,
        attentions=parts.attentions,
    )


def _find_stacks(config: PreTrainedConfig, module: nn.Module, output: str) -> dict[str, str]:
    """Return {name of a list of layers: the field of the config with their number}, for lists that may be shortened.

    There are none if other fields of the config count the layers too (`stage_names`, `depths`). A list with the output
    layer in it is left out, because without its last layer the model would have another output layer.
    """
    fields = config.to_dict()
    if "stage_names" in fields or "depths" in fields:
        return {}
    found = find_stacks(module, {field: size for field, size in fields.items() if field in _LAYER_FIELDS})
    return {name: field for name, field in found.items() if not output.startswith(f"{name}.")}


def _is_wrapped(module: PreTrainedModel) -> bool:
    """Return whether a model holds its encoder under the name of that encoder, beside a head."""
    return bool(module.base_model_prefix) and hasattr(module, module.base_model_prefix)


def _find_part(prefix: str, heads: tuple[str, ...], reads_words: bool, reads_images: bool, name: str) -> Modality:
    """Return the part of a model that the tensor `name` belongs to, by the name of its top-level part."""
    top = name.removeprefix(prefix).split(".", 1)[0]
    if reads_words and reads_images:
        if any(word in top for word in _LANGUAGE):
            return "language"
        if any(word in top for word in _VISION):
            return "vision"
    if name.startswith(heads) or "pooler" in top:
        return "head"
    return "cross" if reads_words and reads_images else "language" if reads_words else "vision"


def _answer(takes: tuple[str, ...], model: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Return the scores [B, A] of a classifier, or the features of an encoder."""
    return _read_scores(model(**_arguments(takes, model, inputs)))


def _hidden(takes: tuple[str, ...], model: PreTrainedModel, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """Return the scores [B, A], and the outputs of the embeddings and of each layer."""
    output = model(**_arguments(takes, model, inputs), output_hidden_states=True)
    return _read_scores(output), list(output.hidden_states)


def _arguments(takes: tuple[str, ...], model: PreTrainedModel, inputs: Inputs) -> dict[str, Tensor]:
    """Return the inputs of transformers' model by name: of `inputs`, those that its forward takes."""
    arguments = {}
    if "input_ids" in takes:
        arguments["input_ids"] = inputs.input_ids
        if "attention_mask" in takes:
            arguments["attention_mask"] = inputs.attention_mask
    if "pixel_values" in takes:
        size = find_picture_size(model.config)
        arguments["pixel_values"] = inputs.visual_feats.reshape(-1, _count_channels(model.config), size, size)
    return arguments


def _read_scores(output: Any) -> Tensor:
    """Return the scores [B, A] of an output of transformers, or its features."""
    if (logits := getattr(output, "logits", None)) is not None:
        return _as_tensor(logits)
    projected = [getattr(output, name, None) for name in ("text_embeds", "image_embeds")]
    found = [embeds for embeds in projected if embeds is not None]
    if found:
        return torch.cat(found, dim=1)
    pooled = getattr(output, "pooler_output", None)
    return _as_tensor(output.last_hidden_state[:, 0] if pooled is None else pooled).flatten(1)


def _as_tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor), f"a {type(value).__name__} is no tensor"
    return value


def _count_features(name: str, config: PreTrainedConfig) -> int:
    """Return the number of features of an encoder of the class `name`, which has no classifier."""
    width: Any = getattr(config, "projection_dim", None)
    if name.endswith("WithProjection") and width:
        return int(width)
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        return 2 * int(width)
    sizes: Any = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes")[-1]  # noqa: B009
    return int(sizes)


def _count_positions(config: PreTrainedConfig, module: nn.Module) -> int:
    """Return the number of tokens of the longest question; RoBERTa's first positions are for padding."""
    stated = _find_field(config, "max_position_embeddings")
    for name, table in module.named_modules():
        is_table = isinstance(table, nn.Embedding) and name.endswith(("position_embeddings", "position_embedding"))
        if is_table and table.num_embeddings == stated and table.padding_idx is not None:
            return int(stated - table.padding_idx - 1)
    return int(stated or ANY_LENGTH)


def _count_pixels(config: PreTrainedConfig) -> int:
    """Return the number of values of a picture: pixels times channels."""
    return _count_channels(config) * find_picture_size(config) ** 2


def _count_channels(config: PreTrainedConfig) -> int:
    """Return the number of channels of a picture."""
    return int(_find_field(config, "num_channels") or 3)


def _one_feature(config: PreTrainedConfig) -> int:
    """Return 1, the size of an input that the encoder ignores."""
    return 1


def _constant(value: int, config: PreTrainedConfig) -> int:
    """Return `value`, which does not depend on the config."""
    return value


def _find_field(config: PreTrainedConfig, name: str) -> Any:
    """Return a field of a config, or of the config of its text or vision encoder; None if none has it."""
    nested = (getattr(config, part, None) for part in ("text_config", "vision_config"))
    return next((value for part in (config, *nested) if (value := getattr(part, name, None)) is not None), None)


def _first(names: Any) -> str | None:
    """Return a name, or the first of several names."""
    return names if isinstance(names, str) or names is None else names[0]
