"""A router picks the prompt that did best on like problems, and the best one where it knows nothing."""

import json
import sys

import pytest

from fst_plugin.prompts import Prompt, Score
from fst_plugin.router import EXTRA, Anchor, Router, anchors_of

FRUIT = tuple(Anchor(f"How many {fruit} are in the basket?", (0.0, 1.0)) for fruit in ("pears", "plums", "figs"))
CODES = tuple(
    Anchor(f"What is the code for the {thing}", (1.0, 0.5)) for thing in ("invoice", "parcel", "stamp", "form")
)


def router(**more):
    return Router(("Best.", "Second."), (*FRUIT, *CODES), **more)


def export(path, **changes):
    prompts = [{"text": "Best."}, {"text": "Second."}]
    content = {"format": 1, "placement": "user", "population": prompts, "router": {"anchors": []}}
    content["router"]["anchors"] = [{"text": a.text, "scores": a.scores} for a in (*FRUIT, *CODES)]
    path.write_text(json.dumps(content | changes))
    return path


def test_like_problems_go_to_the_prompt_that_did_best_on_them():
    pytest.importorskip("sklearn")
    assert router().pick("How many plums and figs are in the basket?") == 1
    assert router().pick("What is the code for the parcel") == 0


def test_a_problem_like_no_anchor_goes_to_the_prompt_with_the_highest_mean():
    pytest.importorskip("sklearn")
    assert router().estimates("ΩΩΩ") == pytest.approx([4 / 7, 5 / 7])
    even = Router(("Best.", "Second."), (Anchor("one", (1.0, 0.0)), Anchor("two", (0.0, 1.0))))
    assert even.pick("ΩΩΩ") == 0, "of equal ones the best prompt"


def test_an_estimate_is_drawn_towards_the_mean_as_far_as_the_anchors_are_unlike():
    pytest.importorskip("sklearn")
    twice = Router(("Best.", "Second."), (Anchor("pears", (0.0, 1.0)), Anchor("ΩΩ", (1.0, None))))
    assert twice.estimates("pears") == pytest.approx([(0.5 + 0.0) / 2, 1.0])  # similarity 1, prior 1


def test_a_prompt_without_a_score_is_never_picked():
    pytest.importorskip("sklearn")
    assert Router(("a", "b"), (Anchor("pears", (0.0, None)),)).pick("pears") == 0


def test_texts_of_any_script_are_compared():
    pytest.importorskip("sklearn")
    anchors = (Anchor("苹果一共有多少个", (0.0, 1.0)), Anchor("发票的编号是什么", (1.0, 0.0)))
    assert [Router(("a", "b"), anchors).pick(text) for text in ("发票的编号", "有多少个苹果")] == [0, 1]


def test_an_export_is_read_and_the_picked_prompt_put_where_the_run_had_it(tmp_path):
    pytest.importorskip("sklearn")
    found = Router.load(export(tmp_path / "export.json"))
    chat = [{"role": "system", "content": "x"}, {"role": "user", "content": FRUIT[0].text}]
    assert found.place(chat) == [{"role": "user", "content": f"Second.\n\n{FRUIT[0].text}"}]


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"router": None}, "holds no router"),
        ({"format": 9}, "format"),
        ({"placement": "auto"}, "placement"),
        ({"population": [{}]}, "population.0.text"),
        ({"population": [{"text": "one"}]}, "each of its prompts"),
        ({"router": {"anchors": []}}, "needs anchors"),
    ],
)
def test_what_is_not_an_export_with_a_router_is_refused(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named):
        Router.load(export(tmp_path / "export.json", **changes))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json.*fst export RUN --router"):
        Router.load(tmp_path / "broken.json")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ModuleNotFoundError, match="a router needs") as failed:
        router().pick("x")
    assert EXTRA in str(failed.value)


def test_anchors_without_a_text_are_left_out_and_counted():
    first = Prompt("a", scores={"p": Score(1.0), "q": Score(0.0), "blank": Score(1.0)})
    second = Prompt("b", scores={"p": Score(0.5), "gone": Score(1.0)})
    found, unknown = anchors_of([first, second], {"p": "text p", "q": "text q", "blank": " \n"})
    assert found == [Anchor("text p", (1.0, 0.5)), Anchor("text q", (0.0, None))] and unknown == 2
