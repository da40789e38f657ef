"""The origin of the features that a model was trained on, which its config.json keeps: tickets and exports copy it."""

from __future__ import annotations

from pydantic import ValidationError
from transformers import PreTrainedConfig

from lxcompress.records import ORIGIN_FIELD, FeatureOrigin


def set_origin(config: PreTrainedConfig, origin: FeatureOrigin | None) -> None:
    """Write the origin of the features into the config of a model; None removes that of an earlier training."""
    if origin is not None:
        setattr(config, ORIGIN_FIELD, origin.model_dump())
    elif hasattr(config, ORIGIN_FIELD):
        delattr(config, ORIGIN_FIELD)


def get_origin(config: PreTrainedConfig) -> FeatureOrigin | None:
    """Return the origin in the config of a model; None if the model was trained on no photographs."""
    found = getattr(config, ORIGIN_FIELD, None)
    return None if found is None else FeatureOrigin.model_validate(found)


def is_origin(value: object) -> bool:
    """Return whether `value`, read from a config.json, is an origin of features."""
    try:
        FeatureOrigin.model_validate(value)
    except ValidationError:
        return False
    return True
