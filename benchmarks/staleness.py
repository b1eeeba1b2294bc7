"""What a prompt is worth when the weights have moved on: a run's prompts of each cycle under its weights of each cycle.

    python examples/paper_claims/run.py --only search
    python benchmarks/staleness.py runs/paper_claims/search/*_before_? [--json FILE]

The weights are those of the checkpoints, the prompts the populations of the cycles, the mean over each. A
population's age is how many slow steps the weights have made since it evolved. At the same weights, `behind`: the
newest population's score less that of one of this age, which holds what the later search has found, too; `by the
weights`: what of it is the weights' doing, that is `behind` less what the same two were apart under the weights with
which the older one evolved. Scores are mean rewards of sampled answers to the run's validation problems. In brackets
a 95 % bootstrap interval over runs, each the mean of its pairs. Runs of several turns are left out, by name.
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
from fst_envs.instances import load_splits
from fst_envs.score import compute_score
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from fst_plugin.analysis.curves import Interval, bootstrap
from fst_plugin.context import place
from fst_plugin.record.atomic import write_json
from fst_plugin.record.cycles import read_record

SAMPLES = 4
"""Answers to each problem under each prompt (ours)."""
Scores = Mapping[int, Mapping[int, float]]
"""Steps that the weights have made -> steps after which the population evolved -> its mean score."""


class Task:
    """A run's validation problems, and what an answer earns.

    setup: the run's own, of its result.json.
    """

    def __init__(self, setup: Mapping[str, Any]):
        given = OmegaConf.to_container(OmegaConf.from_dotlist([one.lstrip("+") for one in setup["task"]]))
        assert isinstance(given, dict)
        env = given["data"]["env"]
        self.turns = bool(env.get("multi_turn"))
        self.answer = int(given["data"].get("max_response_length", 12))
        self.named = {"id": env["id"], "kwargs": env.get("kwargs", {})}
        self.rows = load_splits(env["id"], env.get("kwargs"), {"val": int(setup["val_size"])})["val"] * SAMPLES

    @torch.no_grad()
    def score(self, model: Any, tokenizer: Any, prompt: str) -> float:
        """Mean reward of sampled answers under a prompt; the same random numbers every time."""
        torch.manual_seed(1)
        asked = tokenizer.apply_chat_template(
            [place(row["prompt"], prompt) for row in self.rows],
            add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True,
        )  # fmt: skip
        done = model.generate(**asked, do_sample=True, top_k=0, max_new_tokens=self.answer)
        said = tokenizer.batch_decode(done[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        pairs = zip(said, self.rows, strict=True)
        return mean(compute_score("", text, None, row["extra_info"], self.named)["score"] for text, row in pairs)


def scores(run: Path, task: Task, base: Path, steps: int) -> Scores:
    """A run's populations under its weights, at the borders of its cycles of this many steps."""
    cycles = {cycle.number * steps: [p.text for p in cycle.population] for cycle in read_record(run).cycles}
    found: dict[int, dict[int, float]] = {}
    for step in cycles:
        weights = run / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface" if step else base
        model = AutoModelForCausalLM.from_pretrained(weights).eval()
        tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
        known = {text: task.score(model, tokenizer, text) for text in {*chain.from_iterable(cycles.values())}}
        found[step] = {evolved: mean(known[text] for text in texts) for evolved, texts in cycles.items()}
    return found


def by_age(runs: Sequence[Scores]) -> dict[int, dict[str, Any]]:
    """Age of a population, in steps -> how many pairs, how far it is behind, and what of it is by the weights."""
    behind: dict[int, list[list[float]]] = defaultdict(list)
    moved: dict[int, list[list[float]]] = defaultdict(list)
    for found in runs:
        ages: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for now in found:
            for then in (step for step in found if step < now):
                lead, before = (found[at][now] - found[at][then] for at in (now, then))
                ages[now - then].append((lead, lead - before))
        for age, pairs in ages.items():
            behind[age].append([lead for lead, _ in pairs])
            moved[age].append([by for _, by in pairs])
    return {
        age: {
            "pairs": sum(map(len, behind[age])),
            "behind": bootstrap([mean(own) for own in behind[age]], mean),
            "by the weights": bootstrap([mean(own) for own in moved[age]], mean),
        }
        for age in sorted(behind)
    }


def text(figure: Interval) -> str:
    return f"{figure.value:+.3f}" + (f" [{figure.low:+.3f}, {figure.high:+.3f}]" if figure.low is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs that kept their checkpoints")
    parser.add_argument("--base", type=Path, help="the base model (the tiny policy)")
    parser.add_argument("--json", type=Path, help="write every score here")
    args = parser.parse_args()
    from fst_envs.house import policy

    console, found = Console(), {}
    for run in args.runs:
        setup = json.loads((run / "result.json").read_text(encoding="utf-8"))["job"]["setup"]
        task = Task(setup)
        if task.turns:
            console.print(f"left out, as it has several turns: {run.name}", markup=False)
            continue
        found[run.name] = scores(run, task, args.base or policy.path("rules"), int(setup["slow_steps"]))
    ages = by_age(list(found.values()))
    table = Table("age, steps", "pairs", "behind", "by the weights")
    for age, own in ages.items():
        table.add_row(str(age), str(own["pairs"]), *(text(own[name]) for name in ("behind", "by the weights")))
    console.print(table)
    if args.json:
        write_json(args.json, {"scores": found})


if __name__ == "__main__":
    main()
