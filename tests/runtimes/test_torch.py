"""A torch session answers as the ticket, to the last bit where the file kept them all, on the threads it was given."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VisualBertConfig

from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import MeasureError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.measure.artifacts import measure_artifacts
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.models.start import load_start
from lxcompress.runtimes import open_session
from lxcompress.runtimes.torch import open_compiled, open_torch
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.tickets import load_ticket
from tests.complain import complain
from tests.models.families import TOYS, Toy, save_start, some_inputs
from tests.runtimes.broken import check_broken_inputs_are_refused

SHAPES = ((1, 3), (1, 20), (6, 9), (17, 5))
"""Questions, and their tokens."""


COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]


@pytest.fixture(scope="module", params=[name for name, toy in TOYS.items() if toy.is_of_transformers])
def toy(request) -> Toy:
    return TOYS[request.param]


@pytest.fixture(scope="module")
def ticket(toy, tmp_path_factory) -> Path:
    """A ticket of half of a toy's weights."""
    return draw_ticket(toy, tmp_path_factory.mktemp("ticket"))


def draw_ticket(toy: Toy, root: Path) -> Path:
    model, weights = load_start(str(save_start(toy, root / "start")), ANSWERS, 0)
    save_model(root / "model", model, weights, shipped_vocabulary())
    prune_model(str(root / "model"), root / "ticket", PruneOptions(criterion="low-magnitude", sparsity=0.5))
    return root / "ticket"


@pytest.fixture(scope="module")
def exported(ticket, tmp_path_factory) -> dict[str, Path]:
    """format-precision -> its artifact."""
    root, source, found = tmp_path_factory.mktemp("exported"), open_source(ticket), {}
    for format, precision in (
        ("bitmask", "fp32"),
        ("bitmask", "int8"),
        ("transformers", "fp32"),
        ("transformers", "fp16"),
    ):
        found[f"{format}-{precision}"] = root / f"{format}-{precision}"
        export(source, found[f"{format}-{precision}"], ExportOptions(format, precision))
    return found


@pytest.fixture(scope="module")
def model(ticket) -> Model:
    """The ticket's model in torch's own memory: the last digits of a product depend on how its weights are aligned,
    and those of a safetensors file lie as they lie in it.
    """
    found = load_ticket(ticket).model
    copied = {name: tensor.clone() for name, tensor in found.weights.items()}
    found.module.load_state_dict(copied, strict=True, assign=True)
    return found


def answer(model: Model, inputs) -> np.ndarray:
    with torch.no_grad():
        return model.family.answer(model.module, inputs).numpy()


@pytest.mark.parametrize(("questions", "tokens"), SHAPES)
def test_a_bitmask_of_all_digits_answers_to_the_last_one(toy, model, exported, questions, tokens) -> None:
    inputs = some_inputs(toy, questions, tokens)
    scores = open_torch(exported["bitmask-fp32"], threads=torch.get_num_threads()).answer(inputs.numpy())
    assert scores.dtype == np.float32
    assert scores.shape == (questions, len(ANSWERS))
    np.testing.assert_array_equal(scores, answer(model, inputs))


@pytest.mark.parametrize(("questions", "tokens"), SHAPES)
def test_a_transformers_folder_answers_as_the_ticket(toy, model, exported, questions, tokens) -> None:
    inputs = some_inputs(toy, questions, tokens)
    for name, most in (("transformers-fp32", 1e-5), ("transformers-fp16", 2e-2), ("bitmask-int8", 0.1)):
        scores = open_torch(exported[name], threads=1).answer(inputs.numpy())
        np.testing.assert_allclose(scores, answer(model, inputs), atol=most, err_msg=name)


def test_half_precision_files_are_computed_in_float32(toy, exported) -> None:
    session = open_torch(exported["transformers-fp16"], threads=1)
    assert {tensor.dtype for tensor in session.model.weights.values()} == {torch.float32}
    rounded = session.model.weights[session.model.family.anatomy.words]
    assert torch.equal(rounded, rounded.half().float())


def test_a_folder_and_a_file_in_it_are_the_same(toy, exported) -> None:
    feeds = some_inputs(toy).numpy()
    for name, file in (("bitmask-fp32", "bitmask.safetensors"), ("transformers-fp32", "model.safetensors")):
        from_folder = open_session(exported[name], threads=1, runtime="torch").answer(feeds)
        from_file = open_session(exported[name] / file, threads=1, runtime="torch").answer(feeds)
        np.testing.assert_array_equal(from_folder, from_file)


def test_an_answer_is_the_same_each_time_and_leaves_no_gradients(toy, exported) -> None:
    session, feeds = open_torch(exported["bitmask-fp32"], threads=1), some_inputs(toy).numpy()
    np.testing.assert_array_equal(session.answer(feeds), session.answer(feeds))  # dropout would differ
    assert not session.model.module.training
    assert all(weight.grad is None for weight in session.model.module.parameters())


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_given_while_it_answers_and_no_longer(toy, exported, threads) -> None:
    session, seen = open_torch(exported["bitmask-fp32"], threads=threads), []
    session.model.module.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    session.answer(some_inputs(toy).numpy())
    with pytest.raises(MeasureError):
        session.answer({})
    assert seen == [threads]
    assert torch.get_num_threads() == before


def test_other_inputs_are_refused_by_name(toy, exported) -> None:
    session, feeds = open_torch(exported["bitmask-fp32"], threads=1), some_inputs(toy).numpy()
    fewer = {name: value for name, value in feeds.items() if name != "visual_pos"}
    complain(lambda: session.answer(fewer), exported["bitmask-fp32"], "but was given", kind=MeasureError)
    beyond = {**feeds, "input_ids": feeds["input_ids"] + 1_000_000}
    complain(lambda: session.answer(beyond), "failed while answering", kind=MeasureError)
    check_broken_inputs_are_refused(session, feeds)
    narrow = {**feeds, "visual_feats": feeds["visual_feats"][..., :-1]}
    complain(lambda: session.answer(narrow), "failed while answering", kind=MeasureError)


def test_what_cannot_be_loaded_is_one_sentence(toy, exported, tmp_path) -> None:
    complain(lambda: open_torch(tmp_path / "absent", threads=1), tmp_path / "absent", kind=MeasureError)
    complain(lambda: open_torch(tmp_path, threads=1), tmp_path, kind=MeasureError)
    for name in ("config.json", "bitmask.safetensors"):
        (tmp_path / name).write_bytes((exported["bitmask-fp32"] / name).read_bytes())
    raw = bytearray((tmp_path / "bitmask.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "bitmask.safetensors").write_bytes(raw)
    complain(lambda: open_torch(tmp_path, threads=1), "bitmask.safetensors", "SHA-256", kind=MeasureError)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> tuple[Toy, Path]:
    """An artifact that compiles soon: one layer."""
    root, toy = tmp_path_factory.mktemp("single"), TOYS["visual_bert"]
    config = VisualBertConfig.from_dict({**toy.config.to_dict(), "num_hidden_layers": 1})
    export(open_source(draw_ticket(replace(toy, config=config), root)), root / "out", ExportOptions("bitmask"))
    return toy, root / "out"


@pytest.mark.native
def test_it_is_measured_in_a_process_of_its_own(single) -> None:
    (measured,) = measure_artifacts([single[1]], threads=1, runs=3, warmup=1)
    assert measured.task.runtime == "torch"
    assert all(value > 0 for value in measured.latency.values)


@pytest.mark.native
@pytest.mark.skipif(not COMPILERS, reason="no C++ compiler is here, which torch.compile needs")
def test_it_compiles_once_for_any_length(single, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    toy, folder = single
    model = load_ticket(folder).model
    session = open_compiled(folder, threads=1)
    with torch.compiler.set_stance("fail_on_recompile"):
        for tokens, regions in ((3, 2), (9, 5), (20, 36)):
            inputs = some_inputs(toy, 1, tokens, regions)
            np.testing.assert_allclose(session.answer(inputs.numpy()), answer(model, inputs), atol=1e-5)


def test_a_machine_without_a_compiler_is_told_what_to_install(single, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    complain(lambda: open_compiled(single[1], threads=1), "no-such-compiler", "apt install g++", kind=MeasureError)


def test_what_torch_cannot_compile_is_one_sentence(single) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        raise FileNotFoundError("it has no headers\nand so on")

    with torch.compiler.set_stance("default", force_backend=broken):
        complain(
            lambda: open_compiled(single[1], threads=1),
            "torch.compile cannot compile it here (",
            "it has no headers",
            "give the runtime torch instead",
            kind=MeasureError,
        )
