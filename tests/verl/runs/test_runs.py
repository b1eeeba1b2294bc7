"""Real verl and vLLM on CPU. Few launches (a minute or two each), as much checked in each as it shows."""

import json
from collections import defaultdict

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

from fst_plugin.record.calls import read_calls  # noqa: E402

K, G, T, BATCH = 2, 4, 2, 4
FST = (
    "+fst=default",
    f"fst.population={K}",
    f"fst.slow_steps={T}",
    "fst.fast.passes=4",
    "fst.max_prompt_tokens=64",
    "fst.reflection.kind=offline",
    f"actor_rollout_ref.rollout.n={G}",
    "algorithm.adv_estimator=probe_grpo",
)


def by_uid(sent):
    groups = defaultdict(list)
    for entry in sent:
        groups[entry["uid"]].append(entry)
    return groups


def slow_rows(run):
    """step -> the groups of training rollouts sent in it; a fast-phase cell is a group of one. Of a step that a kill
    cut off and the next life did again, under the same uids, what was sent last."""
    steps = defaultdict(list)
    for group in by_uid(run.sent()).values():
        if len(group) >= G:
            steps[group[0]["step"]].append(sorted(group[-G:], key=lambda e: e["session"]))
    return steps


def anchor_rows(run):
    """step -> indices of the problems rolled out in the fast phase before it; validation's are 100 and up."""
    steps = defaultdict(set)
    for group in by_uid(run.sent()).values():
        if len(group) == 1 and group[0]["index"] < 100:
            steps[group[0]["step"]].add(group[0]["index"])
    return steps


def batch_of(step):
    return set(range(BATCH * (step - 1), BATCH * step))


def prompts_of(run, cycle):
    record = run.out / "checkpoints" / "fst" / f"cycle_{cycle:04d}" / "evolution.json"
    return [p["text"] for p in json.loads(record.read_text())["population"]["prompts"]]


def template_ids(world, system, index):
    from transformers import AutoTokenizer

    chat = [{"role": "system", "content": system}] if system else []
    chat.append({"role": "user", "content": f"What is {index} plus {index}?"})
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False))


def test_killed_twice_a_run_goes_on_with_the_same_prompts_and_batches(world, launch):
    arguments = [*FST, "trainer.total_training_steps=5", "trainer.save_freq=1", "trainer.test_freq=5"]
    run = launch("fst", *arguments)
    checkpoints = run.out / "checkpoints"
    phase = checkpoints / "fst" / "cycle_0001"
    run.kill_when(lambda: any(read_calls(phase)))  # in the fast phase before step 3
    assert not (phase / "evolution.json").exists(), "the phase was over before it could be killed"
    paid = len(list(read_calls(phase)))
    identity = (phase / "identity.json").read_text()

    run = launch("fst", *arguments)
    run.kill_when(lambda: 3 in run.metrics())  # in slow step 4
    assert (phase / "identity.json").read_text() == identity and "discarding" not in run.text()
    assert f"{paid} calls answered from the record" in run.text()
    state = json.loads((checkpoints / "global_step_3" / "fst" / "state.json").read_text())
    assert len(state["pending"]) == BATCH  # step 4's batch, fetched ahead
    known = (checkpoints / "global_step_3" / "fst" / "traces.jsonl").read_text().splitlines()
    assert len(known) == BATCH * len(state["population"]["prompts"])  # step 3's scores, by problem and prompt

    run = launch("fst", *arguments).finish()
    assert [p["text"] for p in state["population"]["prompts"]] == prompts_of(run, 1)
    assert sorted(run.metrics()) in ([4, 5], [5])  # on a slow machine step 4 is over before its processes are killed

    # look-ahead: T batches are the anchor set and then, in order, the slow batches; none skipped, none twice
    slow, anchors = slow_rows(run), anchor_rows(run)
    for step in range(1, 6):
        assert {g[0]["index"] for g in slow[step]} == batch_of(step)
    assert anchors[1] <= batch_of(1) | batch_of(2)
    assert anchors[1] & batch_of(1) and anchors[1] & batch_of(2)

    # later phases score on the last cycle's problems, where the carried prompts' scores are known: never sent again
    for step in (3, 5):
        last, coming = batch_of(step - 2) | batch_of(step - 1), batch_of(step) | batch_of(step + 1)
        assert anchors[step] <= last | coming and anchors[step] & last
        carried = {tuple(template_ids(world, text, i)) for text in prompts_of(run, (step - 3) // T) for i in last}
        fast = [e for g in by_uid(run.sent()).values() if len(g) == 1 for e in g if e["step"] == step]
        assert not carried & {tuple(e["ids"]) for e in fast}

    # K prompts in a group, in the token ids that were sent, G/K rollouts each
    for step in (1, 2, 3, 4, 5):
        prompts = prompts_of(run, (step - 1) // T)
        for group in slow[step]:
            for entry in group:
                assert entry["ids"] == template_ids(world, prompts[entry["session"] % len(prompts)], entry["index"])
    assert max(len(prompts_of(run, cycle)) for cycle in range(3)) == K

    # one advantage group a problem, across its prompts
    groups = run.groups()
    assert groups and all(len(g["rewards"]) == G for g in groups)
    assert all(abs(sum(g["advantages"])) < 1e-4 for g in groups)

    # fast-phase rollouts at the training temperature, validation at its own
    assert {e["temperature"] for g in by_uid(run.sent()).values() for e in g if len(g) == 1 and e["index"] < 100} == {
        1.0
    }
    assert {e["temperature"] for e in run.sent() if e["index"] >= 100} == {0.0}

    metrics = run.metrics()[5]
    expected = ("cycle", "population", "anchor_best", "anchor_mean", "rollouts", "rollouts_fast_total", "seconds")
    expected += ("rollouts_slow_total", "reflection_calls_total", "reflection_failures_total", "prompt_tokens_best")
    expected += tuple(f"reward_prompt_{rank}" for rank in range(len(prompts_of(run, 2))))
    assert [name for name in expected if f"fst/{name}" not in metrics] == []
    assert 0 < metrics["fst/group_mean"] < 1 and 0 <= metrics["fst/group_solved"] <= 1
    assert metrics["fst/cycle"] == 2 and metrics["fst/rollouts_slow_total"] == 5 * BATCH * G
    sources = {key.split("/reward/")[0] for key in metrics if key.startswith("val-") and "/reward/mean@" in key}
    assert sources == {"val-core/sums", "val-core/sums/seed_prompt"}
    best = (checkpoints / "fst" / "best_prompt.txt").read_text()
    assert best == prompts_of(run, 2)[0]
    seed = "You are a helpful assistant."
    validated = {tuple(e["ids"]) for e in run.sent() if e["index"] >= 100}
    assert validated == {tuple(template_ids(world, text, i)) for text in (best, seed) for i in range(100, 104)}


def test_off_sends_the_very_tokens_of_plain_verl(world, launch):
    common = ["actor_rollout_ref.rollout.n=2", "algorithm.adv_estimator=grpo", "trainer.total_training_steps=1"]
    off = launch("off", "+fst=default", "fst.enabled=false", *common).finish()
    plain = launch("plain", *common).finish()
    sent = [sorted((e["index"], e["session"], e["ids"]) for e in run.sent()) for run in (off, plain)]
    assert len(sent[0]) == 2 * BATCH and sent[0] == sent[1]
    assert sent[0][0][2] == template_ids(world, None, 0)
    assert not any(key.startswith("fst/") for key in off.metrics()[1])
    assert not (off.out / "checkpoints" / "fst").exists()


def test_ppo_with_a_critic_and_groups_of_one(world, launch):
    run = launch(
        "ppo",
        *(a for a in FST if not a.startswith(("actor_rollout_ref.rollout.n", "algorithm", "fst.reflection"))),
        "fst.reflection.kind=policy",
        "algorithm.adv_estimator=gae",
        "reward.custom_reward_function.name=plain_score",
        f"critic.model.path={world / 'model'}",
        "critic.ppo_mini_batch_size=4",
        "critic.ppo_micro_batch_size_per_gpu=4",
        "trainer.total_training_steps=2",
        "data.max_prompt_length=900",  # so that a reflection fits
        "actor_rollout_ref.rollout.max_model_len=910",
    ).finish()
    assert {1, 2} == set(run.metrics()) and "critic/vf_loss" in run.metrics()[2]
    assert run.metrics()[1]["fst/reflection_calls"] > 0  # the policy itself was asked
    prompts = prompts_of(run, 0)
    rows = {e["index"]: e["ids"] for e in run.sent() if e["step"] == 2}
    assert set(rows) == batch_of(2)
    for place, index in enumerate(sorted(rows)):  # groups smaller than K: dealt over the batch's problems
        assert rows[index] == template_ids(world, prompts[place % len(prompts)], index)


def test_colocate_async(world, launch):
    run = launch("async", *FST, "trainer.v1.trainer_mode=colocate_async", "trainer.total_training_steps=4").finish()
    assert sorted(run.metrics()) == [1, 2, 3, 4]
    assert run.metrics()[4]["fst/cycle"] == 1
    trained = [g[0]["index"] for groups in slow_rows(run).values() for g in groups]
    assert len(trained) == len(set(trained)) and set(range(4 * BATCH)) <= set(trained)
    prompts = {text for cycle in (0, 1) for text in prompts_of(run, cycle)}
    for groups in slow_rows(run).values():
        for group in groups:
            sent = {tuple(e["ids"]) for e in group}
            assert sent <= {tuple(template_ids(world, text, group[0]["index"])) for text in prompts}
