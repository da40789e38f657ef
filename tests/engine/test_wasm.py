"""The engine as WebAssembly, in Node: as web/build.sh makes it, called through web/engine.mjs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lxcompress.engine import build, pack
from lxcompress.engine.program import Program
from tests.engine.other.elsewhere import (
    DRAWN,
    HERE,
    LAYERS,
    Machine,
    answer_here,
    is_near,
    need,
    write_drawn,
    write_layer,
    write_product,
)
from tests.engine.test_parity import PACKERS
from tests.engine.test_session import make_feeds, write_model

pytestmark = pytest.mark.native
WEB = build.SOURCE.parent / "web"
COMPILERS = (*(f"clang-{version}" for version in range(25, 14, -1)), "clang")
RELAXED = "--experimental-wasm-relaxed-simd"
"""Node 20 needs this flag, and later versions do not know it."""
BUILDS = ("engine-pairs", "engine-dot", "engine-threads", "engine-pairs-threads", "engine-dot-threads")
PAGE = "#include <stdlib.h>\nint main(void) { return malloc(1) == NULL; }\n"


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("node")
    compiler = next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("Clang is not installed; docs/engine-elsewhere.md says what builds for WebAssembly")
    folder = tmp_path_factory.mktemp("wasm")
    command = [compiler, "--target=wasm32-wasi", "-x", "c", "-", "-o", str(folder / "page.wasm")]
    if subprocess.run(command, input=PAGE, text=True, capture_output=True).returncode:
        pytest.skip(
            f"{compiler} has no linker or no C library for WebAssembly; docs/engine-elsewhere.md says what has them"
        )
    command = ["sh", str(WEB / "build.sh"), str(folder / "engine.wasm")]
    done = subprocess.run(command, env={**os.environ, "CC": compiler}, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return folder / "engine.wasm"


@pytest.fixture(scope="module")
def builds(wasm: Path) -> Path:
    """The folder of all builds."""
    compiler = next(name for name in COMPILERS if shutil.which(name))
    for name in BUILDS:
        command = ["sh", str(WEB / "build.sh"), str(wasm.parent / f"{name}.wasm")]
        done = subprocess.run(command, env={**os.environ, "CC": compiler}, capture_output=True, text=True)
        if done.returncode and "relaxed" in done.stderr:
            pytest.skip(f"{compiler} has no relaxed SIMD for WebAssembly; docs/engine-elsewhere.md says what has it")
        assert (done.returncode, done.stderr) == (0, "")
    return wasm.parent


@pytest.fixture(scope="module")
def machine(wasm: Path) -> Machine:
    return Machine(("node", str(HERE / "answer.mjs"), str(WEB / "engine.mjs"), str(wasm)))


@pytest.mark.parametrize("name", PACKERS)
def test_a_product_is_this_machines_and_the_references(machine: Machine, tmp_path: Path, name: str) -> None:
    case, feeds = write_product(tmp_path, name)
    scores = machine.answer(case.path, feeds, 1).scores
    assert is_near(scores, answer_here(case.path, feeds), 1e-5)
    assert is_near(scores, case.expect(feeds), 1e-5)


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_not_finite_is_refused(machine: Machine, tmp_path: Path, name: str) -> None:
    case, feeds = write_product(tmp_path, name)
    broken, large = ({**feeds, "x": feeds["x"].copy()} for _ in range(2))
    broken["x"][1, 2, 3] = np.nan
    large["x"][:] = 3e38
    for feeds_, said in ((broken, "x holds NaN or infinity in row 2 of question 1"), (large, "NaN or overflows")):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            machine.answer(case.path, feeds_, 1)
        assert said in caught.value.stderr


@pytest.mark.parametrize(("seed", "packers", "within"), DRAWN)
def test_any_program_is_near_this_machines(
    machine: Machine, tmp_path: Path, seed: int, packers: list[str], within: float
) -> None:
    case, feeds = write_drawn(tmp_path, seed, packers)
    assert is_near(machine.answer(case.path, feeds, 1).scores, answer_here(case.path, feeds), within)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_full_size_is_this_machines(machine: Machine, tmp_path: Path, name: str) -> None:
    """Of whole numbers, the sums are the same to the bit."""
    feeds = write_layer(tmp_path / "layer.lxe", name)
    scores = machine.answer(tmp_path / "layer.lxe", feeds, 1).scores
    here = answer_here(tmp_path / "layer.lxe", feeds)
    assert is_near(scores, here, 0 if name.startswith(("blocks", "quantised")) else 2e-6)


def _list_functions(paths: Sequence[Path]) -> list[Any]:
    """Return the imports and the exports of each build."""
    code = """const { Module } = WebAssembly, { readFileSync } = require("node:fs");
const modules = process.argv.slice(1).map((path) => new Module(readFileSync(path)));
console.log(JSON.stringify(modules.map((made) => [Module.imports(made), Module.exports(made)])));"""
    command = ["node", *_find_flags(), "-e", code, *map(str, paths)]
    found: list[Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def test_the_shipped_engine_has_the_functions_of_the_sources(wasm: Path) -> None:
    """`make web` builds it again."""
    shipped, built = _list_functions([WEB / "engine.wasm", wasm])
    assert shipped == built


def test_the_engine_is_small(wasm: Path) -> None:
    """It was 145 kB before it had convolutions; a page loads about a quarter of it, compressed."""
    assert wasm.stat().st_size < 170_000


def _find_flags() -> list[str]:
    """Return the flags with which Node runs every build."""
    found = subprocess.run(["node", "--v8-options"], check=True, capture_output=True, text=True)
    return [RELAXED] if RELAXED in found.stdout else []


def _ask(wasm: Path, folder: Path, code: str) -> str:
    """What a page's code says, where `open`, `model` and `engine` are at hand."""
    page = folder / "page.mjs"
    page.write_text(
        f"""import {{ readFileSync }} from "node:fs";
import {{ chooseBuild, findBuilds, open }} from {str(WEB / "engine.mjs")!r};
const read = (path) => new Uint8Array(readFileSync(path));
const model = read({str(folder / "model.lxe")!r}), engine = read({str(wasm)!r});
const say = (found) => console.log(JSON.stringify(found));
const tell = (call) => Promise.resolve().then(call).then(say, (error) => console.log(error.message));
{code}
""",
        encoding="utf-8",
    )
    done = subprocess.run(["node", *_find_flags(), str(page)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


FEEDS = """const feeds = {
  input_ids: { data: [1, 2, 3], dims: [1, 3] }, attention_mask: { data: [1, 1, 1], dims: [1, 3] },
  visual_attention_mask: { data: new BigInt64Array([1n]), dims: [1, 1] },
  visual_feats: { data: new Float32Array(12).fill(0.5), dims: [1, 1, 12] } };
"""


def test_a_page_is_told_what_a_model_takes_and_gives(wasm: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.lxe")
    code = """const session = await open(model, await WebAssembly.compile(engine));
await tell(() => session.inputs.map(({ name, type, shape, mostRows }) => [name, type, ...shape, mostRows].join(" ")));
const { scores } = session.run(feeds);
await tell(() => [scores.type, scores.dims, Array.from(scores.data)]);
const again = [1, 2, 3].map(() => session.run(feeds).scores.data.join());
await tell(() => again.every((each) => each === scores.data.join()));
const response = await open(new Response(model), engine.buffer);
await tell(() => response.run(feeds).scores.data.join() === scores.data.join());
"""
    inputs, scores, again, response = _ask(wasm, tmp_path, FEEDS + code).splitlines()
    assert sorted(json.loads(inputs)) == [
        "attention_mask int64 batch rows 8",
        "input_ids int64 batch rows 8",
        "visual_attention_mask int64 batch rows 6",
        "visual_feats float32 batch rows 12 6",
    ]
    kind, dims, values = json.loads(scores)
    feeds = make_feeds(1, tokens=3, objects=1) | {"input_ids": np.array([[1, 2, 3]])}
    here = answer_here(tmp_path / "model.lxe", feeds | {"visual_feats": np.full((1, 1, 12), 0.5, np.float32)})
    assert (kind, dims) == ("float32", [1, here.shape[1]])
    assert is_near(np.array([values]), here, 1e-6)
    assert (again, response) == ("true", "true")


def test_a_page_asks_about_what_it_has_seen(wasm: Path, tmp_path: Path) -> None:
    """As in a plain run, to the bit; a look that fails leaves no image."""
    write_model(tmp_path / "model.lxe")
    code = """const session = await open(model, engine);
const { visual_feats, visual_attention_mask, ...question } = feeds, image = { visual_feats, visual_attention_mask };
await tell(() => session.ask(question));
session.see(image);
const dims = [1, 5], said = { data: [1, 1, 0, 1, 1], dims };
const longer = { input_ids: { data: [4, 5, 6, 7, 8], dims }, attention_mask: said };
for (const asked of [question, longer]) {
  const expected = session.run({ ...asked, ...image }).scores;
  const found = [1, 2].map(() => session.ask(asked).scores);
  await tell(() => found.every(({ data, dims }) => data.join() === expected.data.join() && dims[1] === 5));
}
await tell(() => session.see({ ...image, visual_feats: { data: new Float32Array(11), dims: [1, 1, 11] } }));
await tell(() => session.ask(question));
await tell(() => session.see(feeds));
await tell(() => session.see({}));
"""
    said = _ask(wasm, tmp_path, FEEDS + code).splitlines()
    not_seen = "asked before an image was seen: call see first, or run"
    assert said[:4] == [not_seen, "true", "true", "visual_feats is 11 wide, expected 12"]
    assert said[4:] == [
        not_seen,
        "all inputs are given to see: give those of the image alone",
        "there is no input to see",
    ]


def test_what_does_not_fit_is_one_sentence(wasm: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.lxe")
    code = """const session = await open(model, engine);
const { input_ids, ...others } = feeds;
await tell(() => session.run(others));
await tell(() => session.run({ ...others, input_ids: { data: [1, 2], dims: [1, 3] } }));
await tell(() => session.run({ ...others, input_ids: { data: [1, 2], dims: [2, 1] } }));
await tell(() => session.run({ ...others, input_ids: { data: [1, 2, 999], dims: [1, 3] } }));
await tell(() => open(model.subarray(0, 500), engine));
await tell(() => open(model.map((byte, place) => (place === model.length - 1 ? byte ^ 1 : byte)), engine));
await tell(() => session.run(feeds).scores.dims);
"""
    said = _ask(wasm, tmp_path, FEEDS + code).splitlines()
    assert said[0] == "input_ids is missing"
    assert said[1] == "input_ids is batch x rows, but was given 2 values as 1 x 3"
    assert said[2].startswith("inputs have ")
    assert said[3].startswith("an id is 999, expected 0 to ")
    assert said[4].startswith("is cut short or too long")
    assert said[5] == "its weights are damaged"
    assert said[6] == "[1,5]"


def test_more_memory_than_32_bits_count_is_refused(wasm: Path, tmp_path: Path) -> None:
    """The model's only large tensor has 2^32 values, which are none at all in 32 bits."""
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 1 << 16), 1 << 16))
    program.scores(program.linear(x, pack.dense(np.ones((4, 1 << 16), np.float32), "int8")))
    program.write(tmp_path / "model.lxe")
    said = _ask(wasm, tmp_path, "await tell(() => open(model, engine));")
    assert re.fullmatch(r"[^\n]*(no memory|would need \d+ MB)[^\n]*\n", said)


def test_the_package_has_all_builds_of_these_sources(builds: Path) -> None:
    """Their imports and exports are compared: another version of the compiler makes other bytes."""
    names = [f"{name}.wasm" for name in ("engine", *BUILDS)]
    shipped, built = (_list_functions([folder / name for name in names]) for folder in (WEB, builds))
    assert shipped == built
    assert all((WEB / name).stat().st_size < 170_000 for name in names)


def test_a_build_is_chosen_by_what_the_machine_has(builds: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.lxe")
    code = """say(findBuilds().map(({ file }) => file));
say([chooseBuild().threads, chooseBuild({ threads: true }).threads]);
WebAssembly.validate = () => false;
await tell(() => chooseBuild());
"""
    found, threads, none = _ask(builds / "engine.wasm", tmp_path, code).splitlines()
    assert all((builds / name).is_file() for name in json.loads(found))
    assert json.loads(found)[-1] == "engine.wasm"
    assert json.loads(threads) == [False, True]
    assert none == "this browser has no SIMD in WebAssembly: use a newer one"


@pytest.mark.parametrize("packer", [pack.quantised, pack.blocks])
def test_relaxed_products_of_bytes_are_exact_or_within_half_a_step(builds: Path, tmp_path: Path, packer) -> None:
    """Inputs are 0..127: they are exact in 7 bits, and rounded in 8 bits, as in the other builds."""
    rng = np.random.default_rng(0)
    weight, x = rng.integers(-127, 128, (8, 32)), rng.integers(0, 128, 32)
    weight[:, 0], x[:2] = 127, (0, 127)
    program = Program()
    read = program.load(program.floats("x", program.rows("mask", 4), 32))
    program.scores(program.linear(read, packer(weight.astype(np.float32))))
    program.write(tmp_path / "model.lxe")
    code = f"""const feeds = {{ x: {{ data: {x.tolist()}, dims: [1, 1, 32] }}, mask: {{ data: [1], dims: [1, 1] }} }};
for (const {{ file }} of findBuilds()) {{
  const session = await open(model, read(`{builds}/${{file}}`));
  say(Array.from(session.run(feeds).scores.data));
}}
"""
    expected, half_steps = weight @ x, np.abs(weight).sum(1) * (127 / 255 / 2)
    answers = [np.array(json.loads(line)) for line in _ask(builds / "engine.wasm", tmp_path, code).splitlines()]
    assert len(answers) >= 2
    assert all((np.abs(found - expected) <= half_steps).all() for found in answers)


def test_threads_change_no_bit(builds: Path, tmp_path: Path) -> None:
    """A build without threads ignores their number."""
    write_model(tmp_path / "model.lxe")
    code = f"""const find = async (name, threads) => {{
  const session = await open(model, read(`{builds}/${{name}}.wasm`), {{ threads }});
  const answers = [1, 2, 3].map(() => session.run(feeds).scores.data.join());
  session.close();
  return [session.threads, ...answers].join(" ");
}};
say((await find("engine", 3)) === (await find("engine-threads", 1)));
say((await find("engine-threads", 2)).replace(/^2/, "1") === (await find("engine", 1)));
"""
    assert _ask(builds / "engine.wasm", tmp_path, FEEDS + code).split() == ["true", "true"]


def test_a_model_is_written_as_it_arrives(wasm: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.lxe")
    code = """const answer = (length) => new Response(model, { headers: { "content-length": String(length) } });
const seen = [], onProgress = (done, total) => seen.push([done, total]);
const session = await open(answer(model.length), engine, { onProgress });
say(seen.at(-1).join() === [model.length, model.length].join());
say(session.run(feeds).scores.data.join() === (await open(model, engine)).run(feeds).scores.data.join());
await tell(() => open(answer(model.length - 1), engine));
"""
    whole, same, longer = _ask(wasm, tmp_path, FEEDS + code).splitlines()
    assert (whole, same) == ("true", "true")
    assert "is longer than the" in longer
