"""Laws of pre-trained answers: a copied row scores as it did before, and an answer without one starts from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LxmertForPreTraining

from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import DataError
from lxcompress.models import lxmert
from lxcompress.models.answers import convert, find_rows, read_answers
from lxcompress.models.checkpoints import save_model
from lxcompress.models.start import NewLayers, load_start
from tests.complain import complain
from tests.models.original import CONFIG, TINY, draw, pretrained_shapes, released, some_inputs
from tests.real import real

PRETRAINED = ("2", "gray", "man", "no", "red", "traffic light", "yes")
LABELS = ("", "Red", "the traffic light.", "two", "grey", "a man", "unheard of", "no")
ROWS = (None, 4, 5, 0, 1, 2, None, 3)
assert len(PRETRAINED) == TINY.answers


@pytest.fixture
def listed(tmp_path) -> Path:
    path = tmp_path / "all_ans.json"
    path.write_text(json.dumps([{"ans": answer, "dsets": ["vqa"]} for answer in PRETRAINED]), encoding="utf-8")
    return path


@pytest.fixture(params=["release", "folder", "old folder"])
def pretrained(request, tmp_path) -> tuple[str, LxmertForPreTraining]:
    """A pre-trained model as its authors and as transformers save it, and transformers' model of it."""
    tensors = draw(pretrained_shapes(TINY))
    whole = LxmertForPreTraining(CONFIG).eval()
    whole.load_state_dict({name.replace("bert.", "lxmert.", 1): tensor for name, tensor in tensors.items()})
    if "folder" in request.param:
        whole.save_pretrained(tmp_path / "folder")
        if request.param == "old folder":
            (tmp_path / "folder" / "model.safetensors").unlink()
            torch.save(whole.state_dict(), tmp_path / "folder" / "pytorch_model.bin")
        return str(tmp_path / "folder"), whole
    torch.save(released(tensors), tmp_path / "model_LXRT.pth")
    return str(tmp_path / "model_LXRT.pth"), whole


@pytest.mark.parametrize(
    ("label", "converted"),
    [
        ("", ""),
        ("Yes", "yes"),
        ("yes.", "yes"),
        ("yes .", "yes"),
        ("yes..", "yes."),
        (".", ""),
        ("A dog", "dog"),
        ("an  owl", "owl"),
        ("the end", "end"),
        ("a an the dog", "dog"),
        ("the a dog", "a dog"),
        ("the a man", "man"),
        ("A Woman.", "woman"),
        ("another", "another"),
        ("a", "a"),
        ("three", "3"),
        ("the ten.", "10"),
        ("eleven", "eleven"),
        ("zero", "zero"),
        ("Grey", "gray"),
        ("grey cat", "grey cat"),
    ],
)
def test_a_label_is_written_as_pre_training_wrote_it(label, converted) -> None:
    assert convert(label) == converted


def test_rows_are_found_by_what_a_label_says() -> None:
    assert find_rows(LABELS, PRETRAINED) == ROWS
    assert find_rows(PRETRAINED, PRETRAINED) == tuple(range(len(PRETRAINED)))


@pytest.mark.parametrize(("name", "all_of_them", "found"), [("vqa", 3129, 3124), ("gqa", 1842, 1736)])
def test_how_many_published_answers_were_pre_trained(name, all_of_them, found) -> None:
    answers = read_answers(real("vocab", "all_ans.json"))
    labels = json.loads(real("vocab", f"{name}_trainval_label2ans.json").read_text(encoding="utf-8"))
    rows = find_rows(labels, answers)
    assert (len(answers), len(labels), sum(row is not None for row in rows)) == (9500, all_of_them, found)
    assert len({row for row in rows if row is not None}) == found
    if name == "vqa":
        lost = [label for label, row in zip(labels, rows, strict=True) if row is None]
        assert lost == ["", "visilab", "5 star", "1 4", "1 world"]


def test_a_copied_answer_scores_as_in_the_pre_trained_model_and_another_scores_zero(pretrained, listed) -> None:
    start, whole = pretrained
    model, weights = load_start(start, LABELS, 0, layers=NewLayers(listed))
    inputs = some_inputs(CONFIG, 6)
    with torch.no_grad():
        before = whole(**inputs._asdict()).question_answering_score
        after = model.family.answer(model.module, inputs)
    assert after.shape == (6, len(LABELS))
    for label, row in enumerate(ROWS):
        expected = torch.zeros(6) if row is None else before[:, row]
        assert torch.allclose(after[:, label], expected, atol=1e-6)
        for part in ("weight", "bias"):
            name = f"{lxmert.FAMILY.anatomy.output_layer}{part}"
            kept = whole.state_dict()[name]
            assert torch.equal(weights[name][label], torch.zeros_like(kept[0]) if row is None else kept[row])
    for name in ("logit_fc.0.weight", "logit_fc.0.bias", "logit_fc.2.weight", "logit_fc.2.bias"):
        assert torch.equal(weights[f"answer_head.{name}"], whole.state_dict()[f"answer_head.{name}"])


def test_all_else_is_the_start_of_a_fresh_head_and_no_seed_moves_it(pretrained, listed) -> None:
    start, _ = pretrained
    fresh = load_start(start, LABELS, 0)[1]
    copied, other = (load_start(start, LABELS, seed, layers=NewLayers(listed))[1] for seed in (0, 1))
    assert fresh.keys() == copied.keys()
    assert all(
        torch.equal(fresh[name], copied[name]) for name in fresh if not name.startswith(lxmert.FAMILY.anatomy.head)
    )
    assert all(torch.equal(other[name], copied[name]) for name in copied)


def test_the_last_bias_is_that_of_the_answers_without_a_row(pretrained, listed) -> None:
    start, whole = pretrained
    bias = f"{lxmert.FAMILY.anatomy.output_layer}bias"
    copied = load_start(start, LABELS, 0, layers=NewLayers(listed, -3.5))[1][bias]
    kept = whole.state_dict()[bias]
    assert copied.tolist() == [-3.5 if row is None else kept[row].item() for row in ROWS]
    assert load_start(start, LABELS, 0, layers=NewLayers(last_bias=0.0))[1][bias].tolist() == [0.0] * len(LABELS)
    fresh, zero = load_start(start, LABELS, 0)[1], load_start(start, LABELS, 0, layers=NewLayers(last_bias=0.0))[1]
    assert [name for name in fresh if not torch.equal(fresh[name], zero[name])] == [bias]


def test_a_start_without_such_a_head_is_refused(toy_start, listed, tmp_path) -> None:
    complain(lambda: load_start(str(toy_start), LABELS, 0, layers=NewLayers(listed)), toy_start, "has no answer head")
    alone = {name: tensor for name, tensor in draw(pretrained_shapes(TINY)).items() if "answer" not in name}
    torch.save(alone, tmp_path / "alone.pth")
    complain(
        lambda: load_start(str(tmp_path / "alone.pth"), LABELS, 0, layers=NewLayers(listed)),
        "alone.pth",
        "has no answer head",
        "model_LXRT.pth",
    )


def test_a_list_of_another_length_is_refused(pretrained, listed) -> None:
    listed.write_text(json.dumps([{"ans": answer} for answer in PRETRAINED[:-1]]), encoding="utf-8")
    complain(lambda: load_start(pretrained[0], LABELS, 0, layers=NewLayers(listed)), listed, "6 answers", "gives 7")


def test_a_list_with_none_of_the_answers_is_refused(pretrained, listed) -> None:
    complain(lambda: load_start(pretrained[0], ("blue",), 0, layers=NewLayers(listed)), listed, "none of the 1", "blue")


def test_a_head_over_one_image_is_not_copied_into_one_over_two(pretrained, listed, tmp_path) -> None:
    complain(
        lambda: load_start(pretrained[0], LABELS, 0, layers=NewLayers(listed), images=2),
        listed,
        "reads 1 images per question, but the data have 2",
    )
    model, weights = load_start(pretrained[0], PRETRAINED, 0, images=2)
    save_model(tmp_path / "pair", model, weights, shipped_vocabulary())
    pair = str(tmp_path / "pair")
    complain(
        lambda: load_start(pair, LABELS, 0, layers=NewLayers(listed)),
        pair,
        "reads 2 images per question, but the data have 1",
    )
    _, again = load_start(pair, PRETRAINED, 0, layers=NewLayers(listed), images=2)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "damaged or not JSON"),
        ("[" * 100_000, "damaged or not JSON"),
        ("{}", "expected a list of answers, got dict"),
        ("[]", "expected a list of answers"),
        ('["red"]', "entry 0 has no text"),
        ('[{"ans": "red"}, {"ans": 3}]', "entry 1 has no text"),
        ('[{"ans": "red"}, {"ans": "blue"}, {"ans": "red"}]', "entry 2 repeats 'red' of entry 0"),
    ],
)
def test_a_list_that_is_none_is_refused(text, said, listed) -> None:
    listed.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_answers(listed)
    assert str(listed) in str(caught.value)
    assert said in str(caught.value)
    assert "all_ans.json" in str(caught.value)


def test_a_list_that_is_absent_is_refused(tmp_path) -> None:
    complain(lambda: read_answers(tmp_path / "absent.json"), "absent.json", "no such file")
