"""What an output of a session under fast weights carries into the queue."""

import asyncio

import pytest

pytest.importorskip("verl")

from fst_verl.agent_loop import marked  # noqa: E402
from fst_verl.compat import names  # noqa: E402

MARK = {"digest": "d", "rank": 0, "problem": "p"}


def output(kind=None, **more):
    given = {"prompt_ids": [1], "response_ids": [2, 3], "response_mask": [1, 1], "metrics": {}, "extra_fields": {}}
    return (kind or names.AgentLoopOutput)(**given | more)


def in_the_queue(outputs, reward, monkeypatch):
    """The rows that verl's rollout worker puts for these outputs of a session that it scores."""
    from verl.trainer.ppo.v1 import agent_loop_tq

    rows = []
    kind = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class

    class Worker(kind):
        def __init__(self):
            self.processor, self.distillation_enabled = None, False

        async def _compute_score(self, outputs, kwargs):
            outputs[-1].reward_score = reward
            outputs[-1].extra_fields["reward_extra_info"] = {"acc": reward}

    async def put(keys, fields, **_):
        rows.extend(fields.get("extra_fields").tolist())

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", put)
    row = {"uid": "u", "session_id": 0, "global_steps": 1}
    asyncio.run(Worker()._agent_loop_postprocess(outputs, False, **row))
    return rows


def test_once_verl_has_scored_a_session_the_marks_of_its_outputs_have_the_reward(monkeypatch):
    outputs = [marked(output(), MARK), marked(output(), MARK)]
    rows = in_the_queue(outputs, 0.3, monkeypatch)
    assert [row["fst"] for row in rows] == [MARK | {"score": pytest.approx(0.3)}] * 2
    assert rows[1]["reward_extra_info"] == {"acc": 0.3}


def test_the_reward_of_a_mark_is_the_one_in_the_queue_to_the_last_bit():
    made = marked(output(reward_score=0.1), MARK).as_dict()
    assert made["extra_fields"]["fst"]["score"] == made["rm_scores"].sum().item() != 0.1


def test_a_session_that_nobody_has_scored_yet_has_a_mark_without_a_reward():
    made = marked(output(), MARK).as_dict()
    assert made["extra_fields"]["fst"] == MARK and "rm_scores" not in made


def test_an_output_goes_on_as_it_was_but_for_its_mark():
    before = output(response_logprobs=[-0.5, -0.25], num_turns=3, extra_fields={"turn_scores": [1]})
    expected = before.as_dict()
    made = marked(before, MARK).as_dict()
    assert made.pop("extra_fields") == expected.pop("extra_fields") | {"fst": MARK | {"episode": True}}
    assert made.keys() == expected.keys() and made["num_turns"] == 3
    assert made["rollout_log_probs"].tolist() == [-0.5, -0.25] and made["responses"].tolist() == [2, 3]


def test_an_output_of_a_class_of_its_own_stays_one():
    class Own(names.AgentLoopOutput):
        def as_dict(self):
            return {"own": True, **super().as_dict()}

    made = marked(output(Own, reward_score=1.0), MARK)
    assert type(made) is Own and made.as_dict()["own"] and made.as_dict()["extra_fields"]["fst"] == MARK


@pytest.mark.parametrize(("turns", "episode"), [(0, False), (2, False), (4, True)])
def test_a_mark_tells_an_episode_from_one_answer(turns, episode):
    from fst_verl.batches import rollout

    made = marked(output(num_turns=turns), MARK)
    assert made.extra_fields["fst"] == MARK | ({"episode": True} if episode else {})
    assert rollout(1.0, "text", made.extra_fields).episode is episode
