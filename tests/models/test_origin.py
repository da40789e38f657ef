"""Laws of the origin of features: a model names the extractor that it was trained on, and so do its copies."""

from __future__ import annotations

import json

import pytest

from lxcompress.catalog.extractors import describe_options, read_extractor
from lxcompress.errors import ModelError
from lxcompress.models.checkpoints import read_config, save_config
from lxcompress.models.origin import get_origin, set_origin
from lxcompress.models.start import load_start
from lxcompress.records import ORIGIN_FIELD, FeatureOrigin

ORIGIN = FeatureOrigin(made_with="--extractor pixels --side 384", regions=1)


def test_the_options_of_an_extraction_are_read_back() -> None:
    assert read_extractor(describe_options("grid-efficientnet-lite0")) == ("grid-efficientnet-lite0", None)
    assert read_extractor(describe_options("pixels", 384)) == ("pixels", 384)
    assert read_extractor("--boxes normalised") is None
    assert read_extractor("") is None


def test_the_config_of_a_model_keeps_the_origin(tiny_start, tmp_path) -> None:
    model, _ = load_start(str(tiny_start), ("yes", "no"), 0)
    assert get_origin(model.config) is None
    set_origin(model.config, ORIGIN)
    save_config(tmp_path, model)
    config, _ = read_config(str(tmp_path))
    assert get_origin(config) == ORIGIN
    set_origin(config, None)
    assert get_origin(config) is None
    tree = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**tree, ORIGIN_FIELD: {"made_with": 3}}))
    with pytest.raises(ModelError, match=f"has {ORIGIN_FIELD}: .*, expected an object such as"):
        read_config(str(tmp_path))
