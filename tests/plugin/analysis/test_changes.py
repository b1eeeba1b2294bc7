"""What a prompt changed in its parent, in bounded time."""

import random
import time

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from fst_plugin.analysis.report import changes  # noqa: E402


def both_hold(pieces, old, new):
    kept = {kind: "".join(p for k, p in pieces if k != kind) for kind in ("added", "removed")}
    return kept == {"added": old, "removed": new}


@pytest.mark.parametrize(
    "old, new",
    [
        ("", "a"),
        ("a", ""),
        ("a\nb\n", "a\nc\nb\n"),
        ("one two three", "one 2 three"),
        ("x" * 50, "y z"),
        ("a\r\n\tb", "a\n b"),
    ],
)
def test_a_difference_holds_both_texts(old, new):
    pieces = changes.difference(old, new)
    assert "".join(p for kind, p in pieces if kind != "added") == old
    assert "".join(p for kind, p in pieces if kind != "removed") == new


def test_a_difference_is_small_where_little_changed():
    assert changes.difference("Write cow as E3.\nBe brief.", "Write cow as E4.\nBe brief.") == [
        ("same", "Write cow as "),
        ("removed", "E3."),
        ("added", "E4."),
        ("same", "\nBe brief."),
    ]
    assert changes.difference("a b", "a b\nnew") == [("same", "a b"), ("added", "\nnew")]


LINES = "same line\n" * 4000
RANDOM = random.Random(0)


def noise(of, count, mark="\n"):
    return "".join(f"{RANDOM.randrange(of)}{mark}" for _ in range(count))


@pytest.mark.parametrize(
    "old, new",
    [
        (LINES, LINES),
        (LINES, f"first\n{LINES}last\n"),
        (noise(2, 4000), noise(2, 4000)),
        (noise(50, 4000), noise(50, 4000)),
        (noise(2, 490), noise(2, 490)),
        (noise(2, 4000, " "), noise(2, 4000, " ")),
        (noise(2, 490, " "), noise(2, 490, " ")),
        ("word " * 4000, "word " * 4000 + "end"),
    ],
    ids=["equal", "around", "noise", "varied noise", "small noise", "words", "few words", "one word more"],
)
def test_no_two_texts_take_long_to_compare(old, new):
    began = time.process_time()
    pieces = changes.difference(old, new)
    assert time.process_time() - began < 2.0, "4,000 equal lines took 14 s"
    assert both_hold(pieces, old, new)


def test_a_line_around_many_equal_ones_is_told_apart_from_them():
    assert changes.difference(LINES, f"{LINES}last\n") == [("same", LINES), ("added", "last\n")]


def test_what_did_not_change_is_counted_and_left_out():
    old = "".join(f"line {i}\n" for i in range(100))
    new = old.replace("line 50\n", "line fifty\n")
    shown = changes.shortened(changes.difference(old, new))
    assert [kind for kind, _ in shown] == ["gap", "same", "removed", "added", "same", "gap"]
    assert shown[0] == ("gap", "48 unchanged lines") and shown[-1] == ("gap", "47 unchanged lines")
    assert shown[1][1] == "line 48\nline 49\nline "
    few = [("same", "a\nb\n"), ("added", "c\n")]
    assert changes.shortened(few) == few
