"""Family: the functions that training, pruning and export need from every model family.

The module of a family (models/lxmert.py is an example) states its anatomy and a few functions. All other functions
follow from these. Shapes: B questions, N images for each question, L tokens or regions, H hidden size, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from lxcompress.catalog.extensions import resolve
from lxcompress.catalog.families import Modality, find_family_spec
from lxcompress.data.split import Inputs
from lxcompress.errors import ExtensionError, ModelError
from lxcompress.models import anatomy as anatomies
from lxcompress.models.anatomy import Anatomy, Attention, FeedForward
from lxcompress.models.heads import copy_head, draw_head


def reads_no_picture(config: PreTrainedConfig) -> int | None:
    """Return None, because the model reads region features and no picture."""
    return None


def own_words(config: PreTrainedConfig) -> int:
    """Return the number of word embeddings that a config states."""
    words: int = getattr(config, "vocab_size")  # noqa: B009 (a field of every config of a model that reads words)
    return words


def own_positions(config: PreTrainedConfig) -> int:
    """Return the number of tokens of the longest question that a config states."""
    positions: int = getattr(config, "max_position_embeddings")  # noqa: B009 (as above)
    return positions


def removes_nothing(module: nn.Module) -> None:
    """Leave the module unchanged, because every weight of the model feeds the answer."""


def accepts_every_config(config: PreTrainedConfig) -> None:
    """Do nothing, because a model can be built from every config."""


def keeps_name(name: str) -> str:
    """Return the name of a tensor unchanged, because published folders have the names of the model."""
    return name


@dataclass(frozen=True)
class Family:
    """A model family. The fields are stated by the family's module; the methods follow from the fields."""

    name: str
    """`model_type` in config.json"""
    title: str
    """the name in sentences for the user"""
    anatomy: Anatomy
    config_class: type[PreTrainedConfig]
    answering: tuple[str, ...]
    """names of transformers' classes that have this family's answer head; `make` builds the first"""
    make: Callable[[Any], nn.Module]
    """(config) -> the whole question-answering model with its dead branch; its weights may have any values"""
    answer: Callable[[Any, Inputs], Tensor]
    """(module, inputs [B * N, ...]) -> answer scores (logits) [B, A]"""
    hidden: Callable[[Any, Inputs], tuple[Tensor, list[Tensor]]]
    """(module, inputs) -> answer scores [B, A], and outputs [B * N, L, H] of the layers that the scores depend on"""
    feature_size: Callable[[Any], int]
    """(config) -> the number of features of a region; for a family that reads pictures, the values of a picture"""
    picture_size: Callable[[Any], int | None] = reads_no_picture
    """(config) -> pixels on each side of the picture that the model reads; None if it reads region features"""
    remove_dead: Callable[[Any], None] = removes_nothing
    """(module) -> None; removes from the module, in place, the branch that no answer depends on"""
    check_config: Callable[[Any], None] = accepts_every_config
    """(config) -> None; raises ValueError for a config from which no model can be built"""
    rename_published: Callable[[str], str] = keeps_name
    """(name of a tensor in a published folder) -> its name in the model"""
    answers_field: str = "num_labels"
    """the field of the config that states A, the number of answers"""
    feature_layer: str | None = None
    """the name of the linear layer that reads the features of a region; None if the family reads pictures"""
    features_field: str = ""
    """the field of the config that states the number of features of a region"""
    images_field: str | None = None
    """the field of the config that states N, the images of a question; None if the family reads one image only

    The field is absent from the config for N = 1.
    """
    reads_words: bool = True
    """whether an answer depends on the words of the question"""
    reads_images: bool = True
    """whether an answer depends on the images of the question"""
    count_words: Callable[[Any], int] = own_words
    """(config) -> the number of word embeddings"""
    count_positions: Callable[[Any], int] = own_positions
    """(config) -> the number of tokens of the longest question"""
    count_features: Callable[[Any], int] | None = None
    """(config) -> the number of scores of an encoder without an answer head; None for a family with an answer head"""
    part_of: Callable[[str], Modality] | None = None
    """(name of a tensor) -> the part of the model that it belongs to; None if the catalog has the parts"""

    def build(self, config: PreTrainedConfig) -> nn.Module:
        """Return the model of `config` without its dead branch, in evaluation mode; its weights have any values."""
        with torch.random.fork_rng(devices=()):
            module = self.make(config)
        self.remove_dead(module)
        return module.eval()

    def shapes(self, config: PreTrainedConfig) -> dict[str, torch.Size]:
        """Return {name: shape} of every tensor of the whole model with its dead branch; allocates no memory."""
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in self.make(config).state_dict().items()}

    def is_prunable(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether the tensor `name` is a weight matrix that may be pruned."""
        return anatomies.is_prunable(self.anatomy, name, shape)

    def is_dead(self, name: str, config: PreTrainedConfig) -> bool:
        """Return whether the tensor `name` is in a dead branch, so that no answer depends on the tensor."""
        return anatomies.is_dead(self.anatomy, name, config)

    def count_dead(self, config: PreTrainedConfig) -> int:
        """Return the number of weights that no answer depends on."""
        if not self.anatomy.dead:
            return 0
        return sum(shape.numel() for name, shape in self.shapes(config).items() if self.is_dead(name, config))

    def modality(self, name: str) -> Modality:
        """Return the part of the model that a tensor belongs to: language, vision, cross or head."""
        return self.part_of(name) if self.part_of else find_family_spec(self.name).find_part(name) or "head"

    def feed_forwards(self, module: nn.Module) -> list[FeedForward]:
        """Return the feed-forward blocks of a model, in the order of its modules."""
        return anatomies.find_feed_forwards(self.anatomy, module)

    def attentions(self, module: nn.Module) -> list[Attention]:
        """Return the attentions of a model, in the order of its modules."""
        return anatomies.find_attentions(self.anatomy, module)

    def stacks(self, config: PreTrainedConfig) -> dict[str, str]:
        """Return {name of a stack of layers: config field with the number of its layers}."""
        return anatomies.find_stacks(self.anatomy, config)

    def count_answers(self, config: PreTrainedConfig) -> int:
        """Return A, the number of answers that the head scores; for an encoder without a head, that of its features."""
        if self.count_features:
            return self.count_features(config)
        answers: int = getattr(config, self.answers_field)
        return answers

    def set_answers(self, config: PreTrainedConfig, answers: int) -> None:
        """Write A, the number of answers, into the config."""
        setattr(config, self.answers_field, answers)

    def count_images(self, config: PreTrainedConfig) -> int:
        """Return N, the number of images of a question. Raises ValueError if the config has an invalid value for N."""
        return 1 if self.images_field is None else read_images(config, self.images_field)

    def set_images(self, config: PreTrainedConfig, images: int) -> None:
        """Write N, the number of images of a question, into the config.

        For one image the field is left out, so that the config has only the fields that transformers defines. Raises
        ModelError for several images if the family reads only one.
        """
        if self.images_field is None:
            if images != 1:
                raise ModelError(
                    f"{self.title}: reads one image per question, but the data have {images}; "
                    "start from an LXMERT model (model.start=mini)"
                )
        elif images != 1:
            setattr(config, self.images_field, images)
        elif hasattr(config, self.images_field):
            delattr(config, self.images_field)

    def draw_feature_layer(
        self, config: PreTrainedConfig, features: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return new weights of the layer that reads regions, for `features` features, and write that into the config.

        Raises ModelError if the family names no such layer, or if the model reads so many features already.
        """
        if self.feature_layer is None:
            raise ModelError(
                f"model.draw_feature_layer: the family {self.title} has no layer for the features of regions; leave it "
                "out"
            )
        if self.feature_size(config) == features:
            raise ModelError(
                f"model.draw_feature_layer: the start model reads {features} features, as many as the data have; "
                "leave it out, so that its layer is kept"
            )
        setattr(config, self.features_field, features)
        shapes = self.shapes(config)
        names = [f"{self.feature_layer}.{part}" for part in ("weight", "bias")]
        deviation: float = getattr(config, "initializer_range")  # noqa: B009 (a field that every config here has)
        drawn = torch.normal(0.0, deviation, tuple(shapes[names[0]]), generator=generator)
        return {names[0]: drawn, names[1]: torch.zeros(shapes[names[1]])}

    def fresh_head(
        self, config: PreTrainedConfig, generator: torch.Generator, *, last_bias: float | None = None
    ) -> dict[str, Tensor]:
        """Return the weights of a new answer head for the answers of `config` (see heads.draw_head)."""
        shapes = {name: shape for name, shape in self.shapes(config).items() if name.startswith(self.anatomy.head)}
        deviation: float = getattr(config, "initializer_range")  # noqa: B009 (a field that every config here has)
        return draw_head(shapes, self.anatomy.output_layer, generator, deviation=deviation, last_bias=last_bias)

    def copied_head(
        self, head: Mapping[str, Tensor], rows: Sequence[int | None], *, last_bias: float | None = None
    ) -> dict[str, Tensor]:
        """Return an answer head in which answer i has row `rows[i]` of `head` (see heads.copy_head)."""
        return copy_head(head, self.anatomy.output_layer, rows, last_bias=last_bias)


def read_images(config: PreTrainedConfig, field: str) -> int:
    """Return the number of images of a question from a field of the config; 1 if the field is absent.

    Raises ValueError unless the value is a whole number from 1.
    """
    images = getattr(config, field, 1)
    if type(images) is not int or images < 1:
        raise ValueError(f"{field}: expected a whole number from 1, got {images!r}")
    return images


def find_family(name: str) -> Family:
    """Return the family of a model_type.

    Raises ExtensionError if no package has this family, or if the package that adds the family is broken.
    """
    spec = find_family_spec(name)
    family = resolve(spec.family)
    if not isinstance(family, Family) or family.name != name:
        raise ExtensionError(
            f"family {name}: {spec.family} is {family!r:.80}, expected a Family with the name {name!r}; correct that "
            "package"
        )
    return family
