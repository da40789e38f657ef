"""Write the page: a static folder with the engine, the models and their vocabularies, which any web server can serve.

Most files have their SHA-256 in their names, so that a browser never mixes two versions of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lxcompress import __version__
from lxcompress.confidence.record import find_scale
from lxcompress.data.fit import ModelShape
from lxcompress.data.objects import (
    ATTRIBUTES,
    FEATURES,
    FOCAL_PIXELS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    RADIUS,
)
from lxcompress.data.persian import persian_replacements
from lxcompress.data.persian_scenes import ADJECTIVES, NOUNS
from lxcompress.data.regions.identity import ExtractorRecord, is_same_extractor
from lxcompress.data.scenes import (
    CAMERA_FRONT,
    CAMERA_RIGHT,
    FEWEST_OBJECTS,
    LANGUAGES,
    MOST_OBJECTS,
    draw_questions,
    draw_scenes,
)
from lxcompress.data.tokens import Vocabulary
from lxcompress.errors import MeasureError
from lxcompress.extractors.artifact import ExtractorArtifact, read_extractor_artifact
from lxcompress.extractors.backbone import cut_grid
from lxcompress.extractors.grid import DEVIATION, MEAN
from lxcompress.extractors.pixels import MIDDLE, PixelExtractor
from lxcompress.filenames import PAGE_FILE
from lxcompress.measure.plan import BenchOptions, BenchTarget, choose_questions
from lxcompress.models.checkpoints import read_config
from lxcompress.models.origin import get_origin
from lxcompress.models.shape import describe_folder
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.output import command_line
from lxcompress.rundir import RunDir
from lxcompress.runtimes.engine import MODEL_FILE
from lxcompress.text import parse_json, read_text
from lxcompress.web.folder import DIGITS, PageFolder
from lxcompress.web.rivals import Rivals, describe_rivals, list_rival_files
from lxcompress.writing import WriteError, finished_folder

ASSETS = Path(__file__).parent / "page"
ENGINE = Path(__file__).parents[1] / "engine" / "web"
KERNELS = ("engine", "engine-pairs", "engine-dot")
BUILDS = tuple(f"{kernels}{threads}.wasm" for kernels in KERNELS for threads in ("", "-threads"))
"""The builds of the engine; the page chooses the best for its machine."""
ENTRY = "index.html"
ICON, SERVICE_WORKER, MANIFEST_FILE = "icon.svg", "sw.js", "manifest.webmanifest"
"""The files that keep their names: browsers look for them."""
SOURCE_FILE = "source.json"
"""Where measurements go: the run folder of the models, as a path from the page's folder. It is not served."""
EXAMPLES, SEED = 24, 0
"""The number of example questions, at most, and the seed that draws them."""
RISK = 0.05
"""The share of wrong answers that the threshold of the page keeps."""
RUNS = 100
"""The timed answers of each model."""
MEASURED = 2
"""The number of models that the page measures unless its reader chooses others."""
MANIFEST = {
    "name": "lxcompress",
    "short_name": "lxcompress",
    "start_url": "./",
    "display": "standalone",
    "background_color": "#ffffff",
    "theme_color": "#0b57d0",
    "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
}
"""The web app manifest: with it, a browser can install the page."""


@dataclass(frozen=True)
class PageModel:
    """An engine file, what it reads, and its vocabulary."""

    target: BenchTarget
    shape: ModelShape
    vocabulary: Vocabulary

    @property
    def reads_scenes(self) -> bool:
        """Return whether the model answers about the objects of a scene, which the page can draw."""
        shape = self.shape
        return shape.extractor is None and shape.picture_size is None and shape.feature_size == FEATURES

    def reads_features_of(self, extractor: ExtractorArtifact) -> bool:
        """Return whether the model was trained on all features that an exported extractor gives."""
        origin = get_origin(read_config(str(self.target.path))[0])
        record = ExtractorRecord(name=extractor.extractor, version=extractor.weights_version, settings={})
        return (
            origin is not None
            and self.shape.extractor is not None
            and is_same_extractor(self.shape.extractor, record)
            and origin.regions == extractor.grid**2
            and origin.kept_regions in (None, origin.regions)
        )

    @property
    def reads_pixels(self) -> bool:
        """Return whether the model was trained on the pixels of photographs, so that it needs no extractor."""
        return self.shape.picture_size is not None and self.shape.extractor is not None

    def find_image(self, extractor: ExtractorArtifact | None) -> Literal["scene", "photo", "features"]:
        """Return what the model answers about: a scene, a photograph, or features that the page cannot make."""
        if self.reads_scenes:
            return "scene"
        if self.reads_pixels if extractor is None else self.reads_features_of(extractor):
            return "photo"
        return "features"

    @property
    def language(self) -> str:
        """Return the language of the questions: en or fa."""
        return self.vocabulary.language or "en"


@dataclass(frozen=True)
class PageExtractor:
    """An exported extractor, and its folder."""

    folder: Path
    artifact: ExtractorArtifact


def write_page(
    targets: Sequence[BenchTarget],
    out: Path,
    answering: str,
    *,
    run: RunDir | None,
    extractor: Path | None = None,
    rivals: Rivals | None = None,
) -> list[str]:
    """Write the page of engine files to the folder `out`, and return the names of the page's models.

    `answering` is the name of the artifact that answers, unless the reader of the page chooses another. `run` is the
    run folder that measurements are saved in, and `extractor` the folder of an exported extractor. The page measures
    `rivals` beside the models. Raises LxError.
    """
    models = [read_model(target) for target in targets]
    exported = None if extractor is None else read_page_extractor(extractor)
    chosen = next((model for model in models if model.target.record.name == answering), models[0])
    with finished_folder(out, PAGE_FILE, before=lambda: clear_page(out)) as made:
        folder = PageFolder(made)
        page = _describe(models, chosen, folder, exported)
        if rivals is not None:
            page["rivals"] = describe_rivals(rivals, _find_baseline(models, chosen).target, folder)
        if run is not None:
            source = {"run": os.path.relpath(run.root.absolute(), out.absolute())}
            (made / SOURCE_FILE).write_text(json.dumps(source) + "\n", encoding="utf-8")
        text = json.dumps(page, indent=1, ensure_ascii=False) + "\n"
        (made / PAGE_FILE).write_text(text, encoding="utf-8", newline="\n")
        _write_service_worker(made, text)
    return [model["name"] for model in page["models"]]


def read_model(target: BenchTarget) -> PageModel:
    """Return the model of an artifact. Raises MeasureError unless it is one engine file that reads one image."""
    if target.record.format != "engine":
        raise MeasureError(
            f"{target.path}: has format {target.record.format}, but a page runs engine files; export the ticket with "
            "--format engine"
        )
    if target.record.images != 1:
        raise MeasureError(f"{target.path}: reads {target.record.images} images, but a page shows one")
    folder = str(target.path)
    return PageModel(target, describe_folder(folder), load_vocabulary(folder))


def read_page_extractor(folder: Path) -> PageExtractor:
    """Return the exported extractor in `folder`. Raises DataError, and MeasureError unless it is an engine file."""
    artifact = read_extractor_artifact(folder)
    if artifact.format != "engine":
        raise MeasureError(
            f"{folder}: has format {artifact.format}, but a page runs engine files; export the extractor with --format "
            "engine"
        )
    return PageExtractor(folder, artifact)


def list_files(page: Path) -> list[str]:
    """Return the paths of the files that a browser may fetch from the page in the folder `page`. Raises MeasureError.

    The first is the page itself.
    """
    try:
        described = parse_json(read_text(page / PAGE_FILE))
        files = [*described["code"], *described["engines"].values()]
        if described.get("extractor"):
            files.append(described["extractor"]["file"])
        for model in described["models"]:
            files += [model["file"], model["vocabulary"]]
        files += list_rival_files(described.get("rivals"))
        paths = [str(file["path"]) for file in files]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise MeasureError(
            f"{page}: is not a page ({type(problem).__name__}: {problem}); make one with: "
            f"{command_line('app', 'RUN', '--out', page)}"
        ) from None
    return list(dict.fromkeys([ENTRY, PAGE_FILE, ICON, SERVICE_WORKER, MANIFEST_FILE, *paths]))


def clear_page(out: Path) -> None:
    """Remove the files of an earlier page from `out`. Raises WriteError if it has other files and no page."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / PAGE_FILE).is_file():
        raise WriteError(f"--out {out}: has other files in it; give an empty folder, or that of an earlier page")
    for path in list_files(out):
        if not Path(path).is_absolute() and ".." not in Path(path).parts:
            (out / path).unlink(missing_ok=True)
    for folder in out.glob("code-*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _describe(
    models: Sequence[PageModel], chosen: PageModel, folder: PageFolder, extractor: PageExtractor | None
) -> dict[str, Any]:
    """Write all files that page.json names, and return the contents of page.json."""
    records = [model.target.record for model in models]
    questions = choose_questions(records, BenchOptions(runs=RUNS))[0]
    baseline = _find_baseline(models, chosen)
    measured = sorted(models, key=lambda model: (model is not baseline, model is not chosen))[:MEASURED]
    artifact = extractor.artifact if extractor else None
    image = chosen.find_image(artifact)
    if extractor is not None and image != "photo":
        raise MeasureError(
            f"{extractor.folder}: is not the extractor that {chosen.target.record.name} was trained with; give the "
            "export of its own extractor and grid, or leave --extractor out"
        )
    entries = [
        _describe_model(model, folder)
        | {"reads": _find_reading(model, chosen, artifact), "isMeasured": model in measured}
        for model in sorted(models, key=lambda model: model is not baseline)
    ]
    return {
        "version": 1,
        "lxcompress": __version__,
        "language": chosen.language,
        "answering": chosen.target.record.name,
        "code": _write_code(folder),
        "engines": {name: folder.add(name, ENGINE / name) for name in BUILDS},
        "asks": None if image == "features" else image,
        "world": describe_world() if image == "scene" else None,
        "extractor": _describe_extractor(extractor, folder) if extractor else None,
        "pixels": _describe_pixels(chosen.shape.picture_size) if image == "photo" and not extractor else None,
        "examples": _draw_examples(chosen.vocabulary.language) if image == "scene" else [],
        "bench": {"lengths": list(questions.of_runs(RUNS)), "objects": records[0].objects},
        "models": entries,
        "rivals": None,
    }


def _find_reading(model: PageModel, chosen: PageModel, extractor: ExtractorArtifact | None) -> str:
    """Return what a model answers about; all photographs of a page have the size that `chosen` reads."""
    has_size = model.shape.picture_size == chosen.shape.picture_size
    return model.find_image(extractor) if has_size else "features"


def _find_baseline(models: Sequence[PageModel], chosen: PageModel) -> PageModel:
    """Return the dense model of the precision of `chosen`; without one, the first dense model, or the first model."""
    dense = [model for model in models if model.target.record.role == "dense"]
    same = [model for model in dense if model.target.record.precision == chosen.target.record.precision]
    return [*same, *dense, *models][0]


def _describe_model(model: PageModel, folder: PageFolder) -> dict[str, Any]:
    """Write the files of one model, and return how page.json describes it."""
    target, shape = model.target, model.shape
    scale = find_scale(target.path)
    vocabulary = json.dumps(describe_vocabulary(model.vocabulary), ensure_ascii=False).encode()
    return {
        "name": target.record.name,
        "title": f"{target.record.name} ({target.size_bytes / 1e6:.1f} MB)",
        "sha256": target.sha256,
        "objects": target.record.objects,
        "labels": list(shape.labels or [f"answer {index}" for index in range(target.record.answers)]),
        "positions": target.record.positions or shape.positions,
        "temperature": scale.temperature if scale else 1.0,
        "hasThreshold": scale is not None,
        "threshold": scale.thresholds[RISK] if scale else None,
        "file": folder.add("model.lxe", target.path / MODEL_FILE),
        "vocabulary": folder.add("vocabulary.json", vocabulary),
    }


def describe_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the tokens and the settings of a vocabulary, as page/wordpiece.js reads them."""
    replacements = None
    if vocabulary.language is not None:
        replacements = persian_replacements(has_persian_digits=vocabulary.has_persian_digits)
    return {
        "tokens": vocabulary.tokens,
        "lowercase": vocabulary.do_lower_case,
        "stripAccents": vocabulary.strip_accents,
        "splitChinese": vocabulary.tokenize_chinese_chars,
        "replacements": replacements,
    }


def describe_world() -> dict[str, Any]:
    """Return the constants of scenes, as page/scene.js reads them, and the Persian words of attributes."""
    return {
        "attributes": ATTRIBUTES,
        "radius": RADIUS,
        "width": IMAGE_WIDTH,
        "height": IMAGE_HEIGHT,
        "focal": FOCAL_PIXELS,
        "cameraRight": CAMERA_RIGHT.tolist(),
        "cameraFront": CAMERA_FRONT.tolist(),
        "fewest": FEWEST_OBJECTS,
        "most": MOST_OBJECTS,
        "words": {"fa": {**NOUNS, **ADJECTIVES}},
    }


def _describe_extractor(extractor: PageExtractor, folder: PageFolder) -> dict[str, Any]:
    """Write the extractor's file, and return how page.json describes it, for page/photo.js."""
    artifact = extractor.artifact
    return {
        "file": folder.add("extractor.lxe", extractor.folder / MODEL_FILE),
        "side": artifact.side,
        "features": artifact.features,
        "boxes": cut_grid(artifact.grid).ravel().tolist(),
        "mean": MEAN,
        "deviation": DEVIATION,
    }


def _describe_pixels(side: int | None) -> dict[str, Any]:
    """Return how a photograph becomes the only region of a model that reads pixels, for page/photo.js."""
    assert side is not None, "a model that reads pixels has a picture size"
    boxes = PixelExtractor(side).boxes.ravel().tolist()
    return {"side": side, "features": 3 * side**2, "boxes": boxes, "mean": MIDDLE, "deviation": MIDDLE}


def _draw_examples(language: str | None) -> list[str]:
    """Return example questions in a language, each once."""
    random = np.random.default_rng(SEED)
    words, _, _ = draw_questions(EXAMPLES, draw_scenes(EXAMPLES, random), random, LANGUAGES[language].ask)
    return list(dict.fromkeys(words))


def _write_code(folder: PageFolder) -> list[dict[str, Any]]:
    """Write the files that every page has; return the path, SHA-256 and size of those in the folder of its code."""
    texts = _read_code()
    joined = "".join(f"{name}\n{text}" for name, text in texts.items())
    code = f"code-{hashlib.sha256(joined.encode()).hexdigest()[:DIGITS]}"
    (folder.root / code).mkdir()
    for name, text in texts.items():
        (folder.root / code / name).write_text(text, encoding="utf-8", newline="\n")
    shutil.copyfile(ASSETS / ICON, folder.root / ICON)
    entry = read_text(ASSETS / ENTRY).replace("CODE/", f"{code}/")
    (folder.root / ENTRY).write_text(entry, encoding="utf-8", newline="\n")
    (folder.root / MANIFEST_FILE).write_text(json.dumps(MANIFEST, indent=1) + "\n", encoding="utf-8")
    return [folder.identify(f"{code}/{name}") for name in texts]


def _read_code() -> dict[str, str]:
    """Return the modules and the style sheet of the page: name -> text, sorted.

    engine.mjs gets another name, because some servers do not know that .mjs is JavaScript.
    """
    scripts = [path for path in ASSETS.glob("*.js") if path.name != SERVICE_WORKER]
    texts = {path.name: read_text(path).replace("./engine.mjs", "./engine-file.js") for path in scripts}
    texts["style.css"] = read_text(ASSETS / "style.css")
    texts["engine-file.js"] = read_text(ENGINE / "engine.mjs").replace("./engine.mjs", "./engine-file.js")
    return dict(sorted(texts.items()))


def _write_service_worker(root: Path, page: str) -> None:
    """Write sw.js with the checksum of page.json, so that a browser updates what it keeps when the page changes."""
    digest = hashlib.sha256(page.encode()).hexdigest()
    text = f"{read_text(ASSETS / SERVICE_WORKER)}\n/* page.json: {digest} */\n"
    (root / SERVICE_WORKER).write_text(text, encoding="utf-8", newline="\n")
