"""RL alone and FST on a small language model with two tasks, three seeds; and what examples are worth to it.

    python benchmarks/language_model.py MODEL --json FILE [--seeds 3] [--tasks city order] [--arms rl hybrid ...]
    python benchmarks/language_model.py MODEL --json FILE --arms rl rl_told --rates 5e-5 1e-4 2e-4
    python benchmarks/language_model.py MODEL --json FILE --base      # before any training, a minute a task
    python benchmarks/language_model.py MODEL --json FILE --alone     # a fast phase before it, two minutes each
    python benchmarks/language_model.py --json FILE ...       # the tables of what is finished, of several files too

MODEL: what examples/smollm2/make_model.py writes. SmolLM2-135M through TRL, on CPU, all parameters trained: 9 steps of
4 problems x 8 rollouts, T=3, K=4, fast phases of at most 64 rollouts. A run takes six to ten minutes of one core, and
4 GB. A finished one is in the (first) file and is not repeated. Validated on 32 problems, each tried once, with
sentences that training never shows.

rl: RL alone. rl_told: RL whose system message states the form. instructions: prompts evolve by reflection on feedback,
which states the form. hybrid: the same, beside the steps. examples: every second child shows one more solved problem
instead. base: the untrained model under the form's sentence and 0 to 4 solved training problems, as turns, and as lines
of the system message. alone: the untrained model after one fast phase of 192 rollouts, with examples and without.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fst_plugin import examples
from fst_plugin.config import parse
from fst_plugin.context import place
from fst_plugin.evolve import ReflectiveOptimizer
from fst_plugin.policy import Policy
from fst_plugin.prompts import Population, Prompt
from fst_plugin.record.atomic import write_json
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Cell, Problem, Rollout, problem_id, scored

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "smollm2"))

TASKS = {"city": "city_name:smollm2/CityName-v0", "order": "order_number:smollm2/OrderNumber-v0"}
ARMS: dict[str, dict[str, Any]] = {
    "rl": {"enabled": False},
    "rl_told": {"enabled": False},
    "instructions": {},
    "hybrid": {"fast": {"budget": 64, "when": "hybrid"}},
    "examples": {"components": ["instructions", "examples"]},
}
"""Arm -> its `fst` settings, besides those of all."""
SEED_PROMPT = "Read the message."
PROBLEMS, GROUP, CYCLE, STEPS, TESTED = 4, 8, 3, 9, 32
PART = 8  # rollouts of a backward pass: more take more memory
RATE = 1e-4  # where no other is named
SHOWN = (1, 2, 4)  # examples
ANCHORS, ALONE = 48, 192  # problems and rollouts of a fast phase for the untrained model
ALONE_ARMS = ("instructions", "examples")


def fst_of(arm: str, seed: int) -> dict[str, Any]:
    shared = {"population": 4, "slow_steps": CYCLE, "max_prompt_tokens": 192, "seed": seed}
    return {**shared, "reflection": {"kind": "offline"}, "fast": {"budget": 64}, **ARMS[arm]}


def form_of(task: str) -> str:
    return str(importlib.import_module(TASKS[task].partition(":")[0]).FORM)


def told(task: str, arm: str) -> str:
    """The system message that a training begins with."""
    return f"{SEED_PROMPT}\n{form_of(task)}" if arm == "rl_told" else SEED_PROMPT


def named(task: str, arm: str, rate: float, seed: int) -> str:
    """A run's name in the file: city/rl/0, or city/rl@5e-05/0."""
    return f"{task}/{arm}{'' if rate == RATE else f'@{rate:g}'}/{seed}"


def train(model: str, task: str, arm: str, seed: int, rate: float) -> dict[str, Any]:
    """One run: rewards of its validations, step -> reward, under the best and the seed prompt; rewards in training,
    step by step; fast rollouts; the last population's texts; seconds.
    """
    import torch
    from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env
    from transformers import PrinterCallback

    from fst_plugin.analysis import read

    torch.set_num_threads(1)
    began = time.monotonic()
    data = from_env(TASKS[task], train_size=PROBLEMS * STEPS, val_size=TESTED)
    for name in ("train_dataset", "eval_dataset"):
        opening = {"role": "system", "content": told(task, arm)}
        data[name] = data[name].map(lambda row: {"prompt": [opening, *row["prompt"]]})  # noqa: B023
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/{arm}_{seed}"
        args = FSTGRPOConfig(
            output_dir=out,
            fst=fst_of(arm, seed),
            seed=seed,
            max_steps=STEPS,
            per_device_train_batch_size=PART,
            gradient_accumulation_steps=PROBLEMS * GROUP // PART,
            steps_per_generation=PROBLEMS * GROUP // PART,
            num_generations=GROUP,
            max_completion_length=10,
            learning_rate=rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            loss_type="cispo",
            epsilon_high=4.0,
            beta=0.001,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"},
            eval_strategy="steps",
            eval_steps=CYCLE,
            eval_on_start=True,
            per_device_eval_batch_size=16,
            num_generations_eval=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
        )
        trainer = FSTGRPOTrainer(model=model, args=args, **data)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        run = read.read(out)
    return {
        "best": run.reward(),
        "seed_prompt": run.reward(seed_prompt=True),
        "rewards": [round(step.data["reward"], 4) for step in run.trained],
        "fast_rollouts": int(max(run.total("rollouts_fast").values(), default=0)),
        "prompts": [prompt.text for prompt in run.population],
        "seconds": round(time.monotonic() - began),
    }


class Untrained:
    """The model before any training, with one task's problems: `splits` holds their rows."""

    def __init__(self, model: str, task: str, sizes: Mapping[str, int]):
        import torch
        from fst_envs import make
        from fst_envs.instances import load_splits
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        self.network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.env, self.splits = make(TASKS[task]), load_splits(TASKS[task], {}, sizes)

    def judged(self, rows: Sequence[Mapping[str, Any]], prompts: Sequence[str]) -> list[tuple[str, float, str]]:
        """Answer, reward and feedback for each row, under its prompt."""
        import torch

        chats = [place(row["prompt"], prompt) for row, prompt in zip(rows, prompts, strict=True)]
        given = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            said = self.network.generate(**given, max_new_tokens=10, do_sample=True, temperature=1.0, top_k=0)
        texts = self.tokenizer.batch_decode(said[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        found = []
        for row, text in zip(rows, texts, strict=True):
            self.env.reset(options={"index": row["extra_info"]["index"], "split": row["extra_info"]["split"]})
            _, reward, _, _, info = self.env.step(text)
            found.append((text, float(reward), str(info["feedback"])))
        return found

    def reward(self, prompt: str) -> float:
        """Share of the validation problems that it solves under a prompt."""
        rows = self.splits["val"]
        return sum(reward for _, reward, _ in self.judged(rows, [prompt] * len(rows))) / len(rows)


def base(model: str, task: str) -> dict[str, float]:
    """Share of the validation problems that the untrained model solves, by how many examples and how they are shown."""
    import torch

    untrained = Untrained(model, task, {"train": max(SHOWN), "val": 2 * TESTED})
    solved = [
        examples.Example(row["prompt"][-1]["content"], row["reward_model"]["ground_truth"])
        for row in untrained.splits["train"]
    ]
    form, found = form_of(task), {}
    for count, turns in [(0, True), *((n, how) for n in SHOWN for how in (True, False))]:
        some = solved[:count]
        lines = "\n".join([SEED_PROMPT, form, *(f'Example: "{one.question}" -> {one.answer}' for one in some)])
        prompt = examples.joined(f"{SEED_PROMPT}\n{form}", some) if turns else lines
        torch.manual_seed(0)
        found[f"{count} as {'turns' if turns else 'lines'}" if count else "none"] = untrained.reward(prompt)
    return found


def alone(model: str, task: str, arm: str, seed: int) -> dict[str, Any]:
    """Prompts of the untrained model, evolved in one fast phase: the lead's reward on the validation problems, the
    rollouts of the phase, the population's texts, seconds.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    began = time.monotonic()
    untrained = Untrained(model, task, {"train": ANCHORS, "val": 2 * TESTED})
    rows, problems = {}, []
    for row in untrained.splits["train"]:
        answer, messages = row["reward_model"]["ground_truth"], tuple(row["prompt"])
        problems.append(Problem(problem_id(messages, answer), messages, answer, private=True))
        rows[problems[-1].id] = row

    def evaluate(cells: Sequence[Cell]) -> list[Rollout]:
        found: list[Rollout] = []
        for begin in range(0, len(cells), 2 * TESTED):
            some = cells[begin : begin + 2 * TESTED]
            judged = untrained.judged([rows[cell.problem.id] for cell in some], [cell.prompt.text for cell in some])
            found += [scored(reward, text, feedback) for text, reward, feedback in judged]
        return found

    config = parse({**fst_of(arm, seed), "fast": {"budget": ALONE}})
    policy = Policy.of_tokenizer(untrained.tokenizer, config.max_prompt_tokens or 0, 1024)
    start = Population((Prompt(SEED_PROMPT),))
    phase = ReflectiveOptimizer(OfflineReflection(), config, policy)
    found = phase.evolve(start, problems, evaluate, cycle=0, seed=seed)
    texts = [prompt.text for prompt in found.population.prompts]
    torch.manual_seed(0)
    return {
        "best": untrained.reward(texts[0]),
        "fast_rollouts": int(found.metrics["rollouts"]),
        "prompts": texts,
        "seconds": round(time.monotonic() - began),
    }


def show(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """A row a task, arm and rate: every seed's validations under the best prompt, the last one under the seed prompt,
    the mean reward of its training, and what was spent.
    """
    steps = range(CYCLE, STEPS + 1, CYCLE)
    table = Table("task", "arm", "seeds", *(f"step {n}" for n in steps), "seed prompt", "in training", "fast rollouts")
    kinds = {name.rpartition("/")[0] for name in runs if not name.startswith(("base/", "alone/"))}
    order = {f"{task}/{arm}": (at, n) for at, task in enumerate(TASKS) for n, arm in enumerate(ARMS)}
    for kind in sorted(kinds, key=lambda kind: (*order[kind.partition("@")[0]], float(kind.partition("@")[2] or RATE))):
        own = {name.rpartition("/")[2]: run for name, run in sorted(runs.items()) if name.rpartition("/")[0] == kind}
        scores = [[f"{run['best'][str(step)]:.2f}" for run in own.values()] for step in steps]
        unaided = [f"{(run['seed_prompt'] or run['best'])[str(STEPS)]:.2f}" for run in own.values()]
        unaided = ["–"] if "/rl_told" in kind else unaided  # its system message is another one
        trained = [f"{sum(run['rewards']) / len(run['rewards']):.2f}" for run in own.values()]
        spent = [str(run["fast_rollouts"]) for run in own.values()]
        table.add_row(*kind.split("/"), *(", ".join(some) for some in (list(own), *scores, unaided, trained, spent)))
    Console(width=150).print(table)
    for name, found in runs.items():
        if name.startswith("base/"):
            print(name, ", ".join(f"{shown}: {score:.2f}" for shown, score in found.items()))
    for kind in sorted({name.rpartition("/")[0] for name in runs if name.startswith("alone/")}):
        own = [run for name, run in sorted(runs.items()) if name.rpartition("/")[0] == kind]
        print(kind, ", ".join(f"{run['best']:.2f} after {run['fast_rollouts']} rollouts" for run in own))


def planned(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is asked for: name -> how to run it."""
    if args.base:
        for task in args.tasks:
            yield f"base/{task}", partial(base, args.model, task)
        return
    arms = [arm for arm in args.arms if arm in ALONE_ARMS or not args.alone]
    for seed, task, arm in itertools.product(range(args.seeds), args.tasks, arms):
        if args.alone:
            yield f"alone/{task}/{arm}/{seed}", partial(alone, args.model, task, arm, seed)
        for rate in args.rates if not args.alone else ():
            yield named(task, arm, rate, seed), partial(train, args.model, task, arm, seed, rate)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of the model; without one, only the table is printed")
    parser.add_argument("--json", type=Path, required=True, nargs="+", help="files of finished runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rates", nargs="+", type=float, default=[RATE])
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--base", action="store_true", help="the untrained model, nothing else")
    instead.add_argument("--alone", action="store_true", help="a fast phase for the untrained model, nothing else")
    args = parser.parse_args(given)
    if args.alone and not set(args.arms) & set(ALONE_ARMS):
        parser.error(f"--alone has the arms {' and '.join(ALONE_ARMS)}")
    files = [path for path in args.json if path.exists()]
    runs = {name: run for path in files for name, run in json.loads(path.read_text(encoding="utf-8"))["runs"].items()}
    for name, run in planned(args) if args.model else ():
        if name not in runs:
            runs[name] = json.loads(json.dumps(run()))  # steps as text, as in the file
            write_json(args.json[0], {"runs": runs})
            print(f"{name}: {runs[name].get('best', runs[name])}", flush=True)
    show(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
