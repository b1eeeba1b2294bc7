"""The three searches in real trainings, and what a population is worth when the weights have moved on.

    python benchmarks/fast_phase_runs.py --seeds 8 --json FILE [--out FOLDER]

House rules with the tiny policy through TRL, on CPU. A book has 24 rules, of which a prompt of 64 tokens holds half.
frontier: GEPA's search; before: the default one, both before a cycle's steps; hybrid: the default one beside them.
Validated every T steps under the best prompt.

Then every population that `before` carried is tried under the weights of every border between cycles. A population's
age is how many slow steps the weights have made since it evolved. At the same weights, `behind`: the newest
population's mean score less that of one of this age, which holds what the later search has found, too; `by the
weights`: what of it is the weights' doing, that is `behind` less what the same two were apart under the weights with
which the older one evolved. In brackets a 95 % bootstrap interval of the mean over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from fst_envs.house import policy
from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

from fst_plugin.analysis.curves import Interval, bootstrap
from fst_plugin.context import place
from fst_plugin.record.atomic import write_json
from fst_plugin.record.cycles import read_record

SEARCHES: dict[str, dict[str, Any]] = {
    "frontier": {"parents": "frontier"},
    "before": {},
    "hybrid": {"when": "hybrid"},
}
"""Name -> `fst.fast`."""
STEPS, CYCLE, BATCH, GROUP, ANSWER = 24, 6, 16, 8, 12  # slow steps, T, problems a step, answers a problem, tokens
TESTED, TRIES = 72, 4  # validation problems, and answers to each under a prompt
BASE = policy.path("rules")
Scores = Mapping[int, Mapping[int, float]]
"""Steps that the weights have made -> steps after which the population evolved -> its mean score."""


def data(seed: int) -> dict[str, Any]:
    book = {"book": 300 + seed, "words": 24}
    return from_env("fst_envs:fst/HouseRules-v0", book, train_size=BATCH * STEPS, val_size=TESTED)


def train(search: str, seed: int, out: Path) -> dict[str, Any]:
    """One training into `out`. Returns its validations, step -> reward, and how many fast rollouts it made."""
    args = FSTGRPOConfig(
        output_dir=str(out),
        fst={
            "population": 4,
            "slow_steps": CYCLE,
            "max_prompt_tokens": 64,
            "reflection": {"kind": "offline"},
            "fast": SEARCHES[search],
            "validate_seed": False,
            "seed": seed,
        },
        seed=seed,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH * GROUP,
        num_generations=GROUP,
        max_completion_length=ANSWER,
        gradient_checkpointing=False,
        learning_rate=3e-4,
        lr_scheduler_type="constant",
        loss_type="cispo",
        epsilon_high=4.0,
        beta=0.001,
        eval_strategy="steps",
        eval_steps=CYCLE,
        per_device_eval_batch_size=TESTED * TRIES,
        num_generations_eval=TRIES,
        logging_steps=1,
        save_strategy="steps",
        save_steps=CYCLE,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    trainer = FSTGRPOTrainer(model=str(BASE), args=args, **data(seed))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    rewards = {line["step"]: line["eval_reward"] for line in trainer.state.log_history if "eval_reward" in line}
    return {"validations": rewards, "fast_rollouts": trainer.fst.weights.state.counters.rollouts_fast}


@torch.no_grad()
def score(model: Any, tokenizer: Any, given: Mapping[str, Any], prompt: str) -> float:
    """Mean reward of sampled answers to the validation problems; the same random numbers every time."""
    torch.manual_seed(1)
    rows = list(given["eval_dataset"]) * TRIES
    asked = tokenizer.apply_chat_template(
        [place(row["prompt"], prompt) for row in rows],
        add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True,
    )  # fmt: skip
    done = model.generate(**asked, do_sample=True, top_k=0, max_new_tokens=ANSWER, pad_token_id=tokenizer.pad_token_id)
    said = tokenizer.batch_decode(done[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    completions = [[{"role": "assistant", "content": text}] for text in said]
    infos = [row["extra_info"] for row in rows]
    return mean(given["reward_funcs"](completions, extra_info=infos, log_extra=lambda *_: None))


def scores(seed: int, run: Path) -> Scores:
    """A run's populations under its weights, at the borders of its cycles."""
    cycles = {cycle.number * CYCLE: [p.text for p in cycle.population] for cycle in read_record(run).cycles}
    found: dict[int, dict[int, float]] = {}
    for step in cycles:
        model = AutoModelForCausalLM.from_pretrained(run / f"checkpoint-{step}" if step else BASE).eval()
        tokenizer, given = AutoTokenizer.from_pretrained(BASE, padding_side="left"), data(seed)
        known = {text: score(model, tokenizer, given, text) for text in {*chain.from_iterable(cycles.values())}}
        found[step] = {evolved: mean(known[text] for text in texts) for evolved, texts in cycles.items()}
    return found


def by_age(runs: Sequence[Scores]) -> dict[int, dict[str, Any]]:
    """Age of a population, in steps -> how many pairs, how far it is behind, and what of it is by the weights."""
    behind: dict[int, list[float]] = defaultdict(list)
    moved: dict[int, list[float]] = defaultdict(list)
    pairs: dict[int, int] = defaultdict(int)
    for found in runs:
        ages: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for now in found:
            for then in (step for step in found if step < now):
                lead, before = (found[at][now] - found[at][then] for at in (now, then))
                ages[now - then].append((lead, lead - before))
        for age, some in ages.items():
            pairs[age] += len(some)
            behind[age].append(mean(lead for lead, _ in some))
            moved[age].append(mean(by for _, by in some))
    return {
        age: {"pairs": pairs[age], "behind": over(behind[age]), "by the weights": over(moved[age])}
        for age in sorted(behind)
    }


def over(values: Sequence[float]) -> Interval:
    return bootstrap(values, mean)


def text(figure: Interval, digits: int = 3, sign: str = "") -> str:
    low_high = f" [{figure.low:{sign}.{digits}f}, {figure.high:{sign}.{digits}f}]" if figure.low is not None else ""
    return f"{figure.value:{sign}.{digits}f}{low_high}"


def tables(result: Mapping[str, Any]) -> list[Table]:
    """What `main` prints. result: "runs": search -> seed -> of `train`; "scores": seed -> of `scores`."""
    runs = result["runs"]
    steps = sorted(next(iter(runs["before"].values()))["validations"])
    found = Table("search", *(f"step {step}" for step in steps), "all four", "fast rollouts")
    curves = {name: {s: [own["validations"][t] for t in steps] for s, own in runs[name].items()} for name in runs}

    def row(name: str, of: Mapping[Any, Sequence[float]], sign: str, *more: str) -> None:
        each = [over([curve[i] for curve in of.values()]) for i in range(len(steps))]
        found.add_row(name, *(text(i, 3, sign) for i in (*each, over([mean(c) for c in of.values()]))), *more)

    for name, of in curves.items():
        row(name, of, "", text(over([own["fast_rollouts"] for own in runs[name].values()]), 0))
    for ours, theirs in (("before", "frontier"), ("hybrid", "before")):
        apart = {
            seed: [a - b for a, b in zip(curves[ours][seed], curves[theirs][seed], strict=True)]
            for seed in curves[ours]
        }
        row(f"{ours} less {theirs}", apart, "+")
    ages = Table("age, steps", "pairs", "behind", "by the weights")
    for age, own in by_age(list(result["scores"].values())).items():
        ages.add_row(str(age), str(own["pairs"]), *(text(own[key], 3, "+") for key in ("behind", "by the weights")))
    return [found, ages]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write every score here")
    parser.add_argument("--out", type=Path, default=Path("runs/fast_phase_runs"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"runs": {name: {} for name in SEARCHES}, "scores": {}}
    for seed in range(args.seeds):
        for search in SEARCHES:
            result["runs"][search][seed] = train(search, seed, args.out / f"{search}_{seed}")
        result["scores"][seed] = scores(seed, args.out / f"before_{seed}")
        if args.json:
            write_json(args.json, json.loads(json.dumps(result)))
    for table in tables(result):
        Console(width=170).print(table)


if __name__ == "__main__":
    main()
