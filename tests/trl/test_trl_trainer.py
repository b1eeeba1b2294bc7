"""A trainer on the tiny policy, for a step or none."""

import json
from types import SimpleNamespace

import pytest
from trl_kit import BATCH, FST, G, K, arguments, house, trainer

SEED = "You are a helpful assistant."


def recorded(seen, reward=0.0, feedback=None):
    def reward_of(prompts, completions, completion_ids, log_extra, **_):
        seen.extend(zip(prompts, completion_ids, strict=True))
        if feedback is not None:
            log_extra("feedback", [feedback] * len(prompts))
        return [reward] * len(prompts)

    return reward_of


def rule_followed(seen):
    """A reward for having the rule in the prompt, which the feedback states."""

    def reward_of(prompts, completion_ids, log_extra, **_):
        seen.extend(zip(prompts, completion_ids, strict=True))
        log_extra("feedback", ["Write parcel B4."] * len(prompts))
        return [float("B4" in prompt[0]["content"]) for prompt in prompts]

    return reward_of


def make(tmp_path, reward_funcs, fst=FST, data=None, **more):
    args = arguments(tmp_path / "run", fst, max_steps=1, per_device_eval_batch_size=8, num_generations_eval=2, **more)
    return trainer(tmp_path, data={**(data or house(2 * BATCH, 4)), "reward_funcs": reward_funcs}, args=args)


def systems(seen):
    return {prompt[0]["content"] for prompt, _ in seen}


def test_an_evaluation_before_training_is_under_the_seed_prompt(tmp_path):
    seen = []
    one = make(tmp_path, recorded(seen))
    figures = one.evaluate()
    assert systems(seen) == {SEED} and len(seen) == 2 * 8
    assert figures["eval_reward"] == figures["eval_seed_prompt_reward"] == 0.0


def test_without_validate_seed_there_is_one_evaluation(tmp_path):
    seen = []
    make(tmp_path, recorded(seen), {**FST, "validate_seed": False}).evaluate()
    assert len(seen) == 8


def test_several_evaluation_sets_are_each_validated_under_both_prompts(tmp_path):
    data = house(2 * BATCH, 4)
    data["eval_dataset"] = {name: data["eval_dataset"] for name in ("one", "two")}
    figures = make(tmp_path, recorded([]), data=data).evaluate()
    assert {"eval_one_seed_prompt_reward", "eval_two_seed_prompt_reward"} <= set(figures)


def test_saved_weights_have_their_prompts(tmp_path):
    one = make(tmp_path, recorded([]))
    one.evaluate()
    one.save_model(str(tmp_path / "final"))
    assert (tmp_path / "final" / "fst" / "best_prompt.txt").read_text() == SEED


@pytest.mark.parametrize("mode", ["server", "colocate"])
def test_vllm_is_sent_every_prompt_of_a_group(mode, tmp_path, monkeypatch):
    """A server is sent every `num_generations`-th prompt by TRL: a group's rollouts would all run under the first."""
    from trl.generation import vllm_generation

    seen, sent = [], []
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    one = make(tmp_path, rule_followed(seen))
    one.use_vllm, one._last_loaded_step = True, 0
    one.vllm_generation = stub(vllm_generation.VLLMGeneration, mode, one, sent)
    one.train()
    slow = seen[-BATCH * G :]
    assert len(one.fst.weights.population) == K
    for prompt, (marker, *_) in slow:
        assert sent[marker] == one._tokenize_prompts([prompt])[0][0]
    for g in range(0, BATCH * G, G):
        group = [prompt for prompt, _ in slow[g : g + G]]
        assert len({json.dumps(prompt[1:]) for prompt in group}) == 1
        assert len({prompt[0]["content"] for prompt in group}) == K


def stub(cls, mode, one, sent):
    """TRL's vLLM generation with a stand-in for the engine: a completion is the place of its prompt in the last call,
    and eos."""
    eos = one.processing_class.eos_token_id

    def answers(prompts, n):
        sent[:] = prompts
        return [[i, eos] for i in range(len(prompts)) for _ in range(n)]

    class Client:
        def generate(self, prompts, n, **_):
            done = answers(prompts, n)
            return {"prompt_ids": prompts, "completion_ids": done, "logprobs": [[[0.0], [0.0]] for _ in done]}

    class Engine:
        def generate(self, prompts, sampling_params, **_):
            ids = [prompt["prompt_token_ids"] for prompt in prompts]
            logprob = {0: SimpleNamespace(rank=1, logprob=0.0)}
            return [
                SimpleNamespace(
                    prompt_token_ids=given, outputs=[SimpleNamespace(token_ids=done, logprobs=[logprob, logprob])]
                )
                for given, done in zip(ids, answers(ids, sampling_params.n), strict=True)
            ]

    made = cls.__new__(cls)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_completion_length")
    made.__dict__.update({name: getattr(one.args, name) for name in names})
    made.__dict__.update(mode=mode, accelerator=one.accelerator, model=one.model, logprobs=0, generation_kwargs={})
    made.__dict__.update(structured_outputs_regex=None, vllm_client=Client(), llm=Engine(), tensor_parallel_size=1)
    made.__dict__.update(enable_sleep_mode=False, sync_weights=lambda: None)
    return made


def test_other_problems_than_the_sampler_said_are_refused(tmp_path):
    from fst_trl import FSTGRPOTrainer

    class Shuffled(FSTGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            return super()._generate_and_score_completions(inputs if self.fst.rollouts.asking else inputs[::-1])

    args = arguments(tmp_path / "run", max_steps=1)
    one = trainer(tmp_path, Shuffled, {**house(2 * BATCH), "reward_funcs": recorded([])}, args)
    with pytest.raises(RuntimeError, match="TRL serves other problems than its sampler said"):
        one.train()


USER_ONLY = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"


def test_under_a_template_without_a_system_role_the_prompt_precedes_the_first_user_message(tmp_path):
    seen = []
    one = make(tmp_path, recorded(seen))
    one.processing_class.chat_template = USER_ONLY
    one.evaluate()
    assert all(len(prompt) == 1 and prompt[0]["content"].startswith(f"{SEED}\n\n") for prompt, _ in seen)


def test_a_placement_that_the_template_cannot_send_is_refused(tmp_path):
    from fst_plugin.config import ConfigError

    one = make(tmp_path, recorded([]), {**FST, "context": {"placement": "system"}})
    one.processing_class.chat_template = USER_ONLY
    with pytest.raises(ConfigError, match="fst.context.placement: system: the chat template has no system role"):
        one.train()


def test_system_messages_that_differ_stay_and_are_told_and_the_prompt_follows_them(tmp_path, capsys):
    from datasets import Dataset

    chats = [
        [{"role": "system", "content": f"Be {'quick' if i % 2 else 'calm'}."}, {"role": "user", "content": f"pipe {i}"}]
        for i in range(2 * BATCH)
    ]
    data, seen = Dataset.from_list([{"prompt": chat} for chat in chats]), []
    make(tmp_path, recorded(seen), data={"train_dataset": data, "eval_dataset": data}).evaluate()
    assert "2 different system messages: 'Be calm.' in rows 0, 2, 4, ...; 'Be quick.'" in capsys.readouterr().out
    assert systems(seen) == {f"Be {how}.\n\nFollow the instructions carefully." for how in ("quick", "calm")}


def test_the_policy_is_asked_for_prompts_as_the_settings_of_the_chat_template_have_it(tmp_path):
    one = make(tmp_path, recorded([]), chat_template_kwargs={"thinking": True})
    one.processing_class.chat_template = USER_ONLY + "{% if thinking %}<think>{% endif %}"
    one.evaluate()
    assert one.fst.weights.policy.opened == "<think>"


def test_a_cap_that_leaves_no_room_for_the_problems_is_refused(tmp_path):
    from fst_plugin.config import ConfigError

    with pytest.raises(ConfigError, match="fst.max_prompt_tokens: a prompt of 99999 tokens and a problem"):
        make(tmp_path, recorded([]), {**FST, "max_prompt_tokens": 99_999}).train()


def test_a_fast_phase_that_fails_names_the_cause_and_leaves_no_trainer_half_asked(tmp_path):
    from fst_plugin.fast_weights import FastPhaseFailed

    def broken(prompts, **_):
        raise OSError("the grader is away")

    one = make(tmp_path, broken)
    with pytest.raises(FastPhaseFailed, match="the grader is away"):
        one.train()
    assert not one.fst.rollouts.asking


def test_a_fast_phase_computes_no_log_probabilities_and_the_step_after_it_does(tmp_path):
    from fst_trl import FSTGRPOTrainer

    asked = []

    class Counting(FSTGRPOTrainer):
        def _get_per_token_logps_and_entropies(self, *given, **named):
            asked.append(self.fst.rollouts.asking)
            return super()._get_per_token_logps_and_entropies(*given, **named)

    seen, args = [], arguments(tmp_path / "run", max_steps=1, beta=0.1)
    one = trainer(tmp_path, Counting, {**house(2 * BATCH), "reward_funcs": rule_followed(seen)}, args)
    one.train()
    assert len(seen) > BATCH * G  # the fast phase's rollouts too
    assert asked and not any(asked) and one.beta == 0.1
    assert next(h["kl"] for h in one.state.log_history if "kl" in h) is not None


def test_feedback_is_of_the_rollouts_that_it_was_given_on_in_a_phase_of_several_batches(tmp_path):
    """More cells than a generation batch holds: each batch's feedback begins anew."""
    heard, times = [], 2 * BATCH * G
    one = make(tmp_path, recorded([], feedback="Say it."))
    evaluate = one.fst.rollouts.evaluate

    def several(cells):
        heard.extend(evaluate([*cells] * times))
        return heard[-len(cells) :]

    one.fst.rollouts.evaluate = several
    one.train()
    assert len(heard) >= times and {rollout.feedback for rollout in heard} == {"Say it."}


def test_an_evaluation_before_training_does_not_stand_in_its_way(tmp_path):
    one = make(tmp_path, recorded([]))
    one.evaluate()
    one.train()
    assert one.state.global_step == 1 and one.fst.batch == 1


def test_a_second_training_of_one_trainer_does_not_go_on_from_the_firsts_checkpoint(tmp_path):
    one = make(tmp_path, recorded([]))
    one.args.save_strategy, one.args.save_steps = "steps", 1
    one.train()
    one.args.max_steps = 2
    one.train(resume_from_checkpoint=True)
    assert one.fst.batch == 2
    one.train()
    assert one.fst.weights.state.counters.rollouts_slow == 2 * BATCH * G


def test_a_fast_phase_shows_neither_in_the_steps_figures_nor_in_its_random_numbers(tmp_path):
    import random

    import numpy
    import torch

    def drawn():
        return torch.rand(1).item(), random.random(), numpy.random.random()

    one, seen = make(tmp_path, recorded([])), []
    one._metrics["train"]["entropy"].append(1.0)
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
    for _ in range(2):
        with one.fst.rollouts._apart(seed=3):
            one._metrics["train"]["entropy"].append(9.0)
            one.state.num_input_tokens_seen += 5
            seen.append(drawn())
    assert seen[0] == seen[1]
    assert dict(one._metrics["train"]) == {"entropy": [1.0]} and one.state.num_input_tokens_seen == 0
    after = drawn()
    torch.set_rng_state(before[0]), random.setstate(before[1]), numpy.random.set_state(before[2])
    assert drawn() == after
