"""A prompt put into the weights, against RL alone with the same rollouts: score without a prompt, and KL to the base.

    python benchmarks/distill.py [--json FILE] [--seeds 3] [--out FOLDER]

House rules with the tiny policy through TRL, on CPU; a seed is also a rule book. Prompts evolve with the weights at
rest, the best one is distilled (`fst_trl.distill`), and RL alone gets as many rollouts as both have taken: of the fast
phases, of the slow steps whose scores the second one read, and of the distillation. Both are measured on the same
held-out problems, sampled, without an evolved prompt: reward, and KL(model | base) per token of the model's own
answers. RL alone runs at each learning rate, as does the distillation; every one is shown.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from fst_envs.house import policy
from fst_trl import from_env
from fst_trl.distill import FSTDistillConfig, distill
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from fst_plugin.context import place

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import trl_house_rules as example  # noqa: E402

BATCH, GROUP, ANSWER = example.BATCH, example.GROUP, 12  # problems a step, answers a problem, tokens
STEPS, EVOLVING, SAMPLES, TESTED = 24, 12, 4, 72
RATES = (3e-4, 1e-3, 3e-3)
BASE = policy.path("rules")


def data(book: int, steps: int) -> dict[str, Any]:
    return from_env("fst_envs:fst/HouseRules-v0", {"book": book}, train_size=BATCH * steps, val_size=TESTED)


def settings(out: Path, rate: float, seed: int, steps: int) -> dict[str, Any]:
    """What both trainers have in common."""
    return {
        "output_dir": str(out),
        "seed": seed,
        "max_steps": steps,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": BATCH * GROUP,
        "num_generations": GROUP,
        "max_completion_length": ANSWER,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }


def evolve(out: Path, seed: int) -> tuple[str, int]:
    """The best prompt of two fast phases on the base weights, and the rollouts that it rests on: theirs, and those of
    the slow steps before the second one, which reads their scores."""
    state = example.main("prompts", seed, str(out), steps=EVOLVING, every=EVOLVING).fst.weights.state
    return state.population.best.text, state.counters.rollouts_fast + (state.cycle_start - 1) * BATCH * GROUP


@torch.no_grad()
def measured(model: Any, base: Any, tokenizer: Any, given: dict[str, Any], prompt: str | None = None) -> dict[str, Any]:
    """Mean reward of sampled answers to the held-out problems, and KL(model | base) per token in nats, on those
    answers."""
    torch.manual_seed(1)
    rows = [row for row in given["eval_dataset"] for _ in range(SAMPLES)]
    chats = [place(row["prompt"], prompt) if prompt else row["prompt"] for row in rows]
    asked = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    done = model.generate(**asked, do_sample=True, top_k=0, max_new_tokens=ANSWER, pad_token_id=tokenizer.pad_token_id)
    begin = asked["input_ids"].shape[1]
    answers = done[:, begin:]
    ended = (answers == tokenizer.eos_token_id).int()
    counts = (ended.cumsum(1) - ended) == 0  # up to the end mark, with it
    texts = [tokenizer.decode(a[c], skip_special_tokens=True) for a, c in zip(answers, counts, strict=True)]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    rewards = given["reward_funcs"](
        completions, extra_info=[row["extra_info"] for row in rows], log_extra=lambda *_: None
    )
    mask = torch.cat([asked["attention_mask"], counts.long()], 1)
    places = {"input_ids": done, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    ours, theirs = (m(**places).logits[:, begin - 1 : -1].log_softmax(-1) for m in (model, base))
    kl = (ours.exp() * (ours - theirs)).sum(-1)
    return {"score": mean(rewards), "kl": float((kl * counts).sum() / counts.sum())}


def one_seed(seed: int, out: Path) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(BASE, padding_side="left")
    base = AutoModelForCausalLM.from_pretrained(BASE).eval()
    prompt, evolving = evolve(out, seed)
    given = data(seed, STEPS)
    found: dict[str, Any] = {
        "base": measured(base, base, tokenizer, given),
        "base, prompted": measured(base, base, tokenizer, given, prompt),
    }
    same = STEPS + math.ceil(evolving / (BATCH * GROUP))
    longer = data(seed, same)
    for rate in RATES:
        args: Any = FSTDistillConfig(**settings(out / f"distilled_{seed}_{rate:g}", rate, seed, STEPS))
        model = distill(BASE, given["train_dataset"], prompt, args).model.eval()
        found[f"distilled, {rate:g}"] = measured(model, base, tokenizer, given)
        more: Any = {"loss_type": "cispo", "epsilon_high": 4.0, "beta": 0.001}
        args = GRPOConfig(**settings(out / f"rl_{seed}_{rate:g}", rate, seed, same), **more)
        taught = {"train_dataset": longer["train_dataset"], "reward_funcs": longer["reward_funcs"]}
        trainer = GRPOTrainer(model=str(BASE), args=args, **taught)
        trainer.train()
        found[f"RL alone, {rate:g}"] = measured(trainer.model.eval(), base, tokenizer, given)
    cost = {"evolving": evolving, "distillation": STEPS * BATCH * GROUP, "RL alone": same * BATCH * GROUP}
    return {"arms": found, "rollouts": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write every figure here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/distill"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [one_seed(seed, args.out) for seed in range(args.seeds)]
    for arm in seeds[0]["arms"]:
        for figure in ("score", "kl"):
            values = [found["arms"][arm][figure] for found in seeds]
            print(f"{arm}: {figure} {mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})")
    print("rollouts:", [found["rollouts"] for found in seeds])
    if args.json:
        Path(args.json).write_text(json.dumps({"steps": STEPS, "seeds": seeds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
