"""Which K prompts are carried on."""

from __future__ import annotations

import pytest

from fst_plugin.evolve.selection import frontier, select
from fst_plugin.prompts import Prompt, Score


def scored(text, *means):
    return Prompt(text, scores={str(i): Score(m) for i, m in enumerate(means) if m is not None})


def test_select_takes_the_best_and_what_covers_the_rest():
    best = scored("best", 1, 1, 0, 0, 0)
    twin = scored("like the best", 1, 1, 0, 0, 0)
    other = scored("other", 0, 0, 1, 0, 0)
    assert [p.text for p in select([other, twin, best], 2)] == ["best", "other"]
    assert [p.text for p in select([other, twin, best], 3)] == ["best", "like the best", "other"]
    assert frontier([best, other])["2"] == (1,) and frontier([best, other])["4"] == (0, 1)


def test_select_does_not_cover_the_same_twice():
    a, b = scored("a", 1, 1, 1, 0, 0, 0), scored("b", 0, 0, 0, 1, 1, 0)
    c, d = scored("like b", 0, 0, 0, 1, 1, 0), scored("d", 0, 0, 0, 0, 0, 1)
    assert [p.text for p in select([a, b, c, d], 3)] == ["a", "b", "d"]


def test_select_breaks_ties_by_length_then_age():
    a, b, c = scored("aa", 1, 0), scored("b", 0, 1), scored("c", 0, 1)
    assert [p.text for p in select([a, b, c], 3)] == ["b", "c", "aa"]
    assert [p.text for p in select([a, c, b], 2)] == ["c", "aa"]


def test_select_ignores_problems_that_were_not_scored():
    partial = scored("partial", None, 1.0)
    full = scored("full", 1.0, 0.0)
    assert [p.text for p in select([full, partial], 1)] == ["partial"]
    assert [p.text for p in select([full, full], 4)] == ["full"]
    with pytest.raises(ValueError, match="0 candidates"):
        select([], 1)
