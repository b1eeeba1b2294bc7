"""A language model reflects through DSPy: against a real server on localhost, well-behaved and not."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time

import pytest
from stub_lm import Reply, stub_lm

from fst_plugin.config import ReflectionConfig
from fst_plugin.prompts import Prompt
from fst_plugin.reflection import DSPyReflection, ReflectionFailed, ReflectionRequest
from fst_plugin.rollouts import Problem, Rollout

dspy = pytest.importorskip("dspy")

NEW = Reply("<prompt>New.</prompt>")


def requests(count, cycle=0):
    records = ((Problem("p", ({"role": "user", "content": "a task"},)), Rollout(0.0, "an answer", "Say A1.")),)
    return [ReflectionRequest(Prompt(f"Old {i}."), records, i, 0, 500, cycle=cycle) for i in range(count)]


def reflect(stub, **settings):
    return DSPyReflection(ReflectionConfig(model="openai/stub", api_base=stub.url, **settings))


def test_it_asks_for_every_request_and_reads_the_prompts():
    state, before = random.getstate(), dspy.settings.lm
    with stub_lm(lambda number, asked: Reply(f"Sure.\n<prompt>Better than {asked.splitlines()[2]}</prompt>")) as stub:
        reflection = reflect(stub)
        assert reflection.propose(requests(2)) == ["Better than Old 0.", "Better than Old 1."]
        assert reflection.propose(requests(2)) == ["Better than Old 0.", "Better than Old 1."]
    assert len(stub.asked) == 4  # the same question is asked again: nothing is cached
    for part in ("a task", "an answer", "Say A1.", "At most 500 characters"):
        assert part in stub.asked[0]
    assert random.getstate() == state and dspy.settings.lm is before and not reflection.trouble.count["failures"]


@pytest.mark.parametrize(
    ("reply", "prompt", "kind"),
    [
        (Reply(r'{"prompt": "Use \boxed{}, \frac{1}{2}."}'), r"Use \boxed{}, \frac{1}{2}.", None),
        (Reply("thoughts</think><prompt>New.</prompt>"), "New.", None),
        (Reply('{"prompt": {"a": 1, "b": 2}}'), "", "unusable"),
        (Reply("I cannot help with that."), "", "unusable"),
        (Reply("<prompt>New, and", finish="length"), "", "cut"),
        (Reply("<prompt>New.</prompt> Als", finish="length"), "", "cut"),
        (Reply("<prompt>" + "y" * 20_000_000 + "</prompt>"), "", "large"),
        (Reply("no such model", status=404), None, "failures"),
    ],
)
def test_an_answer_is_a_prompt_or_counts_as_what_it_is(reply, prompt, kind, caplog):
    began = time.monotonic()
    with stub_lm(lambda number, asked: reply) as stub:
        reflection = reflect(stub)
        assert reflection.propose(requests(1)) == [prompt]
    counts = {name: count for name, count in reflection.trouble.count.items() if count}
    assert counts == ({kind: 1} if kind else {}) and set(reflection.trouble.last) == set(counts)
    assert not [r for r in caplog.records if "truncated" in r.getMessage()]  # one line a phase, not one an answer
    assert len(stub.asked) == 1 and time.monotonic() - began < 20


def test_it_works_where_an_event_loop_runs_and_leaves_that_loop_alone():
    async def inside(reflection):
        return reflection.propose(requests(1)), asyncio.get_running_loop()

    with stub_lm(lambda number, asked: NEW) as stub:
        found, loop = asyncio.run(inside(reflect(stub)))
    assert found == ["New."] and loop is not None


def test_calls_run_side_by_side_within_bounds():
    running, peak, lock = 0, 0, threading.Lock()

    def answer(number, asked):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.2)
        with lock:
            running -= 1
        return NEW

    with stub_lm(answer) as stub:
        assert reflect(stub, concurrency=3).propose(requests(9)) == ["New."] * 9
    assert peak == 3


def test_one_failure_is_one_none_and_leaks_nothing(monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "top-secret-0815")

    def answer(number, asked):
        return Reply("key top-secret-0815 \x1b[31mrefused", status=401) if "Old 1." in asked else NEW

    with stub_lm(answer) as stub, caplog.at_level(logging.DEBUG, logger="fst_plugin"):
        reflection = reflect(stub)
        assert reflection.propose(requests(3)) == ["New.", None, "New."]
    assert "key *** \\x1b[31mrefused" in reflection.trouble.last["failures"]
    assert not [r for r in caplog.records if r.name.startswith("fst_plugin")]  # the phase says it, once
    assert "top-secret" not in repr(vars(reflection)) + reflection.describe()


def test_a_key_comes_from_the_environment_only(monkeypatch):
    monkeypatch.delenv("FST_TEST_KEY", raising=False)
    reflection = DSPyReflection(ReflectionConfig(model="openai/some-model"), api_key_env="FST_TEST_KEY")
    assert reflection.propose(requests(2)) == [None, None]
    assert "FST_TEST_KEY" in reflection.trouble.last["failures"] and reflection.trouble.count["failures"] == 2
    with pytest.raises(TypeError):
        DSPyReflection(ReflectionConfig(model="openai/some-model"), api_key="k")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="model string"):
        DSPyReflection()


def test_a_long_retry_after_is_not_waited_for_and_keeps_the_providers_word():
    slow = Reply("Rate limit reached: 3 a day", status=429, headers={"Retry-After": "3600"})
    with stub_lm(lambda number, asked: slow) as stub:
        began = time.monotonic()
        reflection = reflect(stub, timeout_s=30)
        assert reflection.propose(requests(2)) == [None, None]
    assert "Rate limit reached: 3 a day" in reflection.trouble.last["failures"]
    assert time.monotonic() - began < 20 and len(stub.asked) == 2 and not reflection.trouble.count["timeouts"]


def test_what_passes_is_asked_again():
    busy = Reply("busy", status=429, headers={"Retry-After": "0"})
    with stub_lm(lambda number, asked: NEW if number else busy) as stub:
        assert reflect(stub).propose(requests(1)) == ["New."] and len(stub.asked) == 2
    with stub_lm(lambda number, asked: Reply("down", status=500)) as stub:
        assert reflect(stub, retries=1).propose(requests(1)) == [None] and len(stub.asked) == 2
    with stub_lm(lambda number, asked: Reply("no", status=400)) as stub:
        assert reflect(stub).propose(requests(1)) == [None] and len(stub.asked) == 1


def test_a_server_that_hangs_is_given_up_for_the_phase_and_tried_with_one_request_in_the_next():
    awake = threading.Event()
    with stub_lm(lambda number, asked: NEW if awake.is_set() else Reply(wait=60)) as stub:
        reflection = reflect(stub, timeout_s=2, concurrency=4)
        began = time.monotonic()
        assert reflection.propose(requests(10)) == [None] * 10
        assert time.monotonic() - began < 20 and len(stub.asked) == 4 and reflection.trouble.count["timeouts"] == 3
        assert "3 time-out(s) in a row" in reflection.trouble.last["failures"]
        assert reflection.propose(requests(10)) == [None] * 10 and len(stub.asked) == 4
        assert reflection.trouble.count["failures"] == 10 and "hung" in reflection.trouble.last["failures"]
        assert reflection.propose(requests(10, cycle=1)) == [None] * 10 and len(stub.asked) == 5
        awake.set()
        assert reflection.propose(requests(10, cycle=2)) == ["New."] * 10 and len(stub.asked) == 15


def test_what_is_given_up_is_cancelled():
    with stub_lm(lambda number, asked: Reply(wait=60)) as stub:
        assert reflect(stub, timeout_s=0.5, concurrency=2).propose(requests(4)) == [None] * 4
        ended = time.monotonic()
        time.sleep(1)
    assert max(stub.begun) <= ended
    assert not [thread for thread in threading.enumerate() if thread.name == "fst-reflection"]


def test_a_ping_is_one_real_call():
    with stub_lm(lambda number, asked: NEW) as stub:
        reflect(stub).ping()
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply("Incorrect API key provided: sk-12345678abc", status=401), "Incorrect API key provided: "),
        (Reply("The model `stub` does not exist", status=404), "The model `stub` does not exist"),
        (Reply("<prompt>Be", finish="length"), "raise fst.reflection.max_tokens"),
    ],
)
def test_a_ping_that_fails_says_why_and_names_the_keys(reply, said):
    with stub_lm(lambda number, asked: reply) as stub:
        with pytest.raises(ReflectionFailed, match="fst.reflection.model") as failed:
            reflect(stub).ping()
    assert said in str(failed.value) and "sk-12345678abc" not in str(failed.value)


def test_a_ping_of_a_server_that_is_not_there_fails():
    settings = ReflectionConfig(model="openai/some-model", api_base="http://127.0.0.1:9/v1", retries=0, timeout_s=5)
    with pytest.raises(ReflectionFailed, match="http://127.0.0.1:9/v1"):
        DSPyReflection(settings).ping()
