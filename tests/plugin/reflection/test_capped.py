"""A server that sends too much is given up before its answer is parsed."""

from __future__ import annotations

import gzip
import subprocess
import sys

import pytest
from stub_lm import Reply, stub_lm

from fst_plugin.config import ReflectionConfig
from fst_plugin.prompts import Prompt
from fst_plugin.reflection import DSPyReflection, ReflectionRequest
from fst_plugin.reflection.capped import LARGEST_BODY, capped_engine
from fst_plugin.rollouts import Problem, Rollout

dspy = pytest.importorskip("dspy")

NEW = Reply("<prompt>New.</prompt>")
SETTINGS = {"temperature": 1.0, "max_tokens": 16000, "timeout": 5.0}
ASK = """
import resource, sys
from fst_plugin.config import ReflectionConfig
from fst_plugin.prompts import Prompt
from fst_plugin.reflection import DSPyReflection, ReflectionRequest
from fst_plugin.rollouts import Problem, Rollout

records = ((Problem("p", ({"role": "user", "content": "a task"},)), Rollout(0.0, "an answer", "Say A1.")),)
reflection = DSPyReflection(ReflectionConfig(model="openai/stub", api_base=sys.argv[1]))
peaks = []
for slot in range(2):
    found = reflection.propose([ReflectionRequest(Prompt("Old."), records, slot, 0, 500)])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(repr(found[0]), reflection.trouble.count["large"], (peaks[1] - peaks[0]) // 1024)
"""


def requests(count=1):
    records = ((Problem("p", ({"role": "user", "content": "a task"},)), Rollout(0.0, "an answer", "Say A1.")),)
    return [ReflectionRequest(Prompt(f"Old {i}."), records, i, 0, 500) for i in range(count)]


def test_an_answer_of_twenty_megabytes_costs_next_to_no_memory():
    body = b'{"choices": [' + b"[]," * 7_000_000 + b"[]]}"  # parsed, it takes half a gigabyte
    with stub_lm(lambda number, asked: Reply(body=body) if number else NEW) as stub:
        done = subprocess.run([sys.executable, "-c", ASK, stub.url], capture_output=True, text=True, timeout=120)
    answer, large, megabytes = done.stdout.split()
    assert (answer, large) == ("''", "1") and int(megabytes) < 60


def test_what_counts_is_the_unpacked_size_and_others_of_the_batch_are_answered():
    packed = gzip.compress(b'{"choices": "' + b" " * 20_000_000 + b'"}')
    assert len(packed) < LARGEST_BODY
    bomb = Reply(body=packed, headers={"Content-Encoding": "gzip"})
    with stub_lm(lambda number, asked: bomb if "Old 1." in asked else NEW) as stub:
        reflection = DSPyReflection(ReflectionConfig(model="openai/stub", api_base=stub.url))
        assert reflection.propose(requests(3)) == ["New.", "", "New."]
    assert reflection.trouble.count["large"] == 1 and str(LARGEST_BODY) in reflection.trouble.last["large"]
    assert len(stub.asked) == 3  # what is too large is not asked for again


def test_a_large_page_of_an_error_is_given_up_too():
    with stub_lm(lambda number, asked: Reply(body=b"x" * (LARGEST_BODY + 1), status=500)) as stub:
        reflection = DSPyReflection(ReflectionConfig(model="openai/stub", api_base=stub.url, retries=0))
        assert reflection.propose(requests()) == [""]
    assert reflection.trouble.count["large"] == 1


def test_every_server_that_dspy_asks_itself_is_held_to_the_limit(monkeypatch):
    for name in ("OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    own = [dspy.LM(m, **SETTINGS) for m in ("openai/gpt-5", "anthropic/claude-x", "hosted_vllm/x", "ollama_chat/x")]
    assert all(capped_engine(lm) is not None for lm in own)
    assert capped_engine(dspy.LM("bedrock/x", **SETTINGS)) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway.invalid/v1")
    assert capped_engine(dspy.LM("openai/gpt-5", **SETTINGS)) is None


def test_a_provider_that_the_user_declared_is_asked_where_it_was_declared():
    with stub_lm(lambda number, asked: NEW) as stub:
        access = dspy.lm15.AccessPolicy(provider="mine", base_url=stub.url, env_keys=())
        dspy.lm15.register_provider(
            dspy.lm15.ProviderDefinition.chat(access, compat=dspy.lm15.OpenAIChatCompat(), placeholder_key="none")
        )
        try:
            reflection = DSPyReflection(ReflectionConfig(model="mine/x"))
            assert reflection.propose(requests()) == ["New."], reflection.trouble
        finally:
            dspy.lm15.unregister_provider("mine")


def test_a_model_that_takes_its_length_by_another_name_can_be_asked():
    with stub_lm(lambda number, asked: NEW) as stub:
        settings = ReflectionConfig(model="openai/gpt-5", api_base=stub.url, temperature=1.0, max_tokens=16000)
        assert DSPyReflection(settings).propose(requests()) == ["New."]
