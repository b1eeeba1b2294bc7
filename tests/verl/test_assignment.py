"""Parts of fst_verl that need torch at most."""

import json

import numpy as np
import pytest
from fst_verl import assignment
from fst_verl.prompt_store import digest_of

from fst_plugin.prompts import text_digest
from fst_plugin.rollouts import problem_id

CHAT = [{"role": "user", "content": "q"}]


TEXTS = ("a", "b")
POPULATION = {"name": "population", "path": None, "kwargs": {}, "placement": "system"}


def column(**changes):
    given = {"split": "train", "step": 3, "problem": "p", **changes}
    return assignment.RowColumn("single_turn_agent", digest_of(TEXTS), **given)


def test_a_column_travels_as_plain_data():
    sent = column(offset=3, sampling="training", on_error="record").to_row()
    assert json.loads(json.dumps(sent)) == sent
    assert assignment.RowColumn(**sent).to_row() == sent


def test_a_column_leaves_out_what_stands_at_its_default():
    sent = column().to_row()
    assert sorted(sent) == ["inner", "problem", "prompts", "split", "step"]
    assert assignment.RowColumn(**sent) == column(offset=0, sampling="row", on_error="raise")
    assert column(offset=1).to_row() == {**sent, "offset": 1}


def test_a_session_gets_the_prompt_of_its_index():
    out = column().assign(CHAT, 1, POPULATION, TEXTS)
    assert out.messages == [{"role": "system", "content": "b"}, *CHAT]
    assert (out.digest, out.rank) == (text_digest("b"), 1)


def test_small_groups_are_dealt_the_prompts_in_turn():
    ranks = [column(offset=i).assign(CHAT, 0, POPULATION, TEXTS).rank for i in range(4)]
    assert ranks == [0, 1, 0, 1]


class UpperCase:
    """A user's own provider."""

    def __init__(self, prompts, placement, mark):
        self.mark = mark

    def assign(self, request):
        from fst_plugin import Assignment

        return Assignment([{"role": "system", "content": f"{self.mark}{request.step}{request.split}"}], "own", 0)


def test_a_users_own_provider_by_dotted_path():
    spec = {"name": "population", "path": f"{__name__}.UpperCase", "kwargs": {"mark": "!"}, "placement": "system"}
    out = column().assign(CHAT, 0, spec, TEXTS)
    assert out.messages[0]["content"] == "!3train" and out.digest == "own"


def test_a_row_names_nothing_that_is_imported():
    with pytest.raises(TypeError, match="provider"):
        column(provider={"path": "timeit.timeit"})
    assert not any(isinstance(value, dict) for value in column().to_row().values())


@pytest.mark.parametrize("fst", [None, {"enabled": False}, {"enabled": False, "drift": False}])
def test_rows_cannot_ask_for_our_loops_in_a_run_without_fast_weights(fst):
    from omegaconf import OmegaConf

    with pytest.raises(ValueError, match="agent_name"):
        assignment.context_of(OmegaConf.create({"fst": fst} if fst else {}))


def config(**env):
    """verl's, as far as the rows' agent loops are concerned; env: `data.env`."""
    from omegaconf import OmegaConf

    rollout = {"agent": {"default_agent_loop": "own"}}
    return OmegaConf.create({"data": {"env": env or None}, "actor_rollout_ref": {"rollout": rollout}})


EPISODE = {"env_id": "fst_envs:fst/SecondTry-v0", "env_kwargs": {}, "index": 0, "split": "train", "task_id": None}


def test_a_row_is_rolled_out_by_the_loop_that_it_names_else_by_the_configs():
    assert assignment.inner_loops(None, None, 2, config()) == ["own", "own"]
    assert assignment.inner_loops(["a", "b"], None, 2, config()) == ["a", "b"]
    env = {"id": EPISODE["env_id"], "multi_turn": True}
    assert assignment.inner_loops(["fst_episode", "b"], [EPISODE, None], 2, config(**env)) == ["fst_episode", "b"]


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({}, "this run plays no episodes"),
        ({"id": EPISODE["env_id"], "multi_turn": False}, "this run plays no episodes"),
        ({"id": "fst_envs:fst/HouseRules-v0", "multi_turn": True}, "which the config does not, so it is not imported"),
    ],
)
def test_a_row_cannot_ask_for_an_episode_that_the_config_does_not(env, reason):
    with pytest.raises(ValueError, match=reason):
        assignment.inner_loops(["own", "fst_episode"], [None, EPISODE], 2, config(**env))


def test_the_provider_is_the_one_of_the_workers_own_config():
    from omegaconf import OmegaConf

    config = OmegaConf.create({"fst": {"enabled": True, "context": {**POPULATION, "placement": "user"}}})
    assert assignment.context_of(config) == {**POPULATION, "placement": "user"}


def test_without_prompts_the_messages_stay():
    out = assignment.RowColumn("own", "", "val", 3, "p").assign(CHAT, 0, POPULATION, ())
    assert out.messages == CHAT and out.digest == ""


def test_fast_phase_rollouts_use_the_training_temperature():
    class Rollout:
        temperature, top_p, top_k = 0.7, 0.9, 40

    sampling = assignment.training_sampling({"temperature": 0, "top_p": 1, "top_k": -1, "logprobs": True}, Rollout)
    assert sampling == {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "logprobs": True}


def advantages(rewards, index, lengths, config=None):
    torch = pytest.importorskip("torch")
    from fst_verl.loss import per_problem_advantage

    width = max(lengths)
    mask = torch.tensor([[1.0] * n + [0.0] * (width - n) for n in lengths])
    token_rewards = torch.zeros(len(rewards), width)
    token_rewards[:, 0] = torch.tensor(rewards)
    out, _ = per_problem_advantage(token_rewards, mask, np.array(index, dtype=object), config=config)
    return out, mask


def test_one_advantage_group_a_problem_whatever_the_prompt():
    out, mask = advantages([1.0, 0.0, 1.0, 0.0], ["p"] * 4, [2, 2, 2, 2])
    assert out[0, 0] == -out[1, 0] == out[2, 0] and out[0, 0] > 0
    assert out[0, 0] == pytest.approx(0.5 / 0.57735, rel=1e-4)  # (r - mean) / std, one group: its weight is 1


def test_problems_weigh_the_same_and_flat_groups_are_dropped():
    torch = pytest.importorskip("torch")
    rewards, index = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0], ["p", "p", "q", "q", "flat", "flat"]
    out, mask = advantages(rewards, index, [1, 1, 5, 3, 4, 4])
    assert not out[4:].any()
    losses = torch.rand(out.shape)  # any per-token losses l_t
    token_mean = (out * losses * mask).sum() / mask.sum()
    plain = torch.tensor([1.0, -1.0, 1.0, -1.0]) * 0.5 / 0.7071068
    per_problem = [
        (plain[rows, None] * losses[rows] * mask[rows]).sum() / mask[rows].sum() for rows in ([0, 1], [2, 3])
    ]
    assert token_mean == pytest.approx(float(sum(per_problem) / 2), rel=1e-4)


def test_without_division_by_the_spread_as_verls_own_setting_says():
    out, _ = advantages([1.0, 0.0, 1.0, 0.0], ["p"] * 4, [2, 2, 2, 2], {"norm_adv_by_std_in_grpo": False})
    assert [float(row[0]) for row in out] == [0.5, -0.5, 0.5, -0.5]


def test_only_flat_groups_give_no_gradient():
    out, _ = advantages([1.0, 1.0, 0.0, 0.0], ["p", "p", "q", "q"], [2, 2, 2, 2])
    assert not out.any()


def test_seed_arm_is_told_apart_only_in_metrics():
    pytest.importorskip("verl")
    from fst_verl.validation import BEST, SEED, PairedLoader, relabel

    batch = {"raw_prompt": np.array([CHAT, CHAT], dtype=object), "data_source": np.array(["gsm", "gsm"], dtype=object)}
    loader = PairedLoader(
        [batch], [BEST, SEED], lambda arm, inner, problem: {"arm": arm, "inner": inner, "problem": problem}, config()
    )
    (sent,) = list(loader)
    assert [c["arm"] for c in sent["fst"]] == [BEST, BEST, SEED, SEED]
    assert [c["inner"] for c in sent["fst"]] == ["own"] * 4
    assert {c["problem"] for c in sent["fst"]} == {problem_id(CHAT, source="gsm")}
    assert list(sent["data_source"]) == ["gsm"] * 4  # what reward functions see
    sent["uid"] = np.array(["1", "2", "3", "4"], dtype=object)  # as verl does after it was handed the batch
    sources, counts = relabel(loader.arm_of(), ["gsm"] * 4, ["1", "2", "3", "4"], {("gsm", "3"): 4, ("gsm", "1"): 4})
    assert sources == ["gsm", "gsm", "gsm/seed_prompt", "gsm/seed_prompt"]
    assert counts == {("gsm/seed_prompt", "3"): 4, ("gsm", "1"): 4}
