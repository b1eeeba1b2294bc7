"""Prompt texts by digest in the transfer queue."""

import asyncio

import pytest

pytest.importorskip("verl")

from fake_queue import FakeQueue  # noqa: E402
from fst_verl import prompt_store  # noqa: E402
from fst_verl.agent_loop import ContextLoop  # noqa: E402
from fst_verl.assignment import RowColumn  # noqa: E402
from fst_verl.prompt_store import PARTITION, PromptsLost, PromptStore, texts_of  # noqa: E402

from fst_plugin import Prompt  # noqa: E402
from fst_plugin.prompts import Population  # noqa: E402

A, B, SURROGATE = Prompt("be brief"), Prompt("be kind"), Prompt("ünï \ud800")


@pytest.fixture
def queue(monkeypatch):
    prompt_store._fetching.cache_clear()
    yield FakeQueue(monkeypatch)
    prompt_store._fetching.cache_clear()


def count(queue, name):
    return sum(call[0] == name for call in queue.calls)


def test_a_worker_gets_the_texts_by_the_digest_in_their_order(queue):
    both, one, odd = PromptStore().put((B, A), (A,), (SURROGATE,))
    assert both == Population((B, A)).digest
    assert asyncio.run(texts_of(both)) == (B.text, A.text) and asyncio.run(texts_of(one)) == (A.text,)
    assert asyncio.run(texts_of(odd)) == (SURROGATE.text,)
    assert asyncio.run(texts_of("")) == ()


def test_a_set_is_stored_once_and_fetched_once_by_however_many_rollouts(queue):
    store = PromptStore()
    (digest,) = store.put((A, B))
    assert store.put((A, B), (A, B)) == [digest, digest] and count(queue, "put") == 1

    async def rollouts():
        return await asyncio.gather(*(texts_of(digest) for _ in range(100)))

    assert set(asyncio.run(rollouts())) == {(A.text, B.text)}
    asyncio.run(texts_of(digest))  # of a later batch
    assert count(queue, "get") == 1


def test_a_rollout_that_is_cancelled_does_not_take_the_texts_from_the_others(queue):
    (digest,) = PromptStore().put((A,))

    async def rollouts():
        first, second = (asyncio.ensure_future(texts_of(digest)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(rollouts()) == (A.text,)


def test_what_is_kept_can_still_be_had_and_the_rest_is_stored_anew(queue):
    store = PromptStore()
    kept, gone = store.put((A,), (B,))
    store.forget({kept})
    assert set(queue.rows[PARTITION]) == {kept}
    store.put((A,), (B,))
    assert set(queue.rows[PARTITION]) == {kept, gone} and count(queue, "put") == 2


def test_a_set_of_an_earlier_process_is_forgotten_too(queue):
    PromptStore().put((A,))  # the queue's own checkpoint has brought it back
    PromptStore().forget(())
    assert queue.rows[PARTITION] == {} and queue.tags[PARTITION] == {}


def test_a_digest_that_cannot_be_found_stops_worker_and_trainer_and_says_what_to_do(queue):
    store = PromptStore()
    store.refuse_lost()
    with pytest.raises(PromptsLost, match="prompts 0123 of a row are not in .*fst_prompts.*resume"):
        asyncio.run(texts_of("0123"))
    with pytest.raises(PromptsLost, match="prompts 0123.*trainer.resume_mode=disable"):
        store.refuse_lost()


def test_texts_that_the_digest_does_not_name_are_not_used(queue):
    store = PromptStore()
    (digest,) = store.put((A,))
    queue.rows[PARTITION][digest]["texts"] = [B.text]
    other = Population((B,)).digest
    with pytest.raises(PromptsLost, match=f"{digest} of a row.*has digest {other}"):
        asyncio.run(texts_of(digest))
    with pytest.raises(PromptsLost):
        store.refuse_lost()


def test_a_set_that_could_not_be_had_is_asked_for_again(queue):
    with pytest.raises(PromptsLost):
        asyncio.run(texts_of(Population((A,)).digest))
    (digest,) = PromptStore().put((A,))
    assert asyncio.run(texts_of(digest)) == (A.text,)


@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_a_rollout_whose_prompts_are_lost_never_runs_without_them(queue, on_error):
    from types import SimpleNamespace

    from omegaconf import OmegaConf

    context = {"name": "population", "path": None, "kwargs": {}, "placement": "system"}
    config = OmegaConf.create({"fst": {"context": context}, "actor_rollout_ref": {"rollout": {}}})
    loop = ContextLoop(tokenizer=SimpleNamespace(pad_token_id=3), trainer_config=SimpleNamespace(config=config))
    row = {"raw_prompt": [], "fst": RowColumn("single_turn_agent", "0123", "train", 1, "p", on_error=on_error).to_row()}
    if on_error == "raise":
        with pytest.raises(PromptsLost):
            asyncio.run(loop.run({}, **row))
    else:
        assert "prompts 0123" in asyncio.run(loop.run({}, **row)).extra_fields["fst"]["error"]
