"""python benchmarks/gpu/table.py FILE.json ... > docs/gpu.md

The page of the GPU's figures, from what the parts of the benchmark wrote.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Part = Mapping[str, Any]

HEAD = """\
# On a GPU

Made by `python benchmarks/gpu/table.py benchmarks/gpu/results/*.json`, from what `bash benchmarks/gpu/run.sh` measured
through TRL, with generation by transformers. A training is one process on one GPU; several GPUs, and vLLM and verl on a
GPU, are untested."""
WHAT = {
    "plain": "TRL's GRPOTrainer",
    "off": "FSTGRPOTrainer, `enabled=False`",
    "on": "FSTGRPOTrainer, K=4 prompts",
    "bare": "TRL's GRPOTrainer, system message of one word",
}
ARMS = {
    "rl": "RL alone",
    "told": "RL alone, told the rule",
    "prompts": "prompts alone",
    "fst": "FST",
}


def where(part: Part) -> str:
    """One sentence about the machine."""
    found = part["machine"]
    versions = ", ".join(f"{name} {found[name]}" for name in ("fst_plugin", "torch", "transformers", "trl", "python"))
    card = f"{found['device']}, {found['cores']} CPU cores, load {found['load']:g} when it began"
    return f"{card}; {versions}; {found['date']}."


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(map(str, row))} |"


def span(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and the range of several: 0.52 (0.40 to 0.61)."""
    mean, low, high = (f"{one:,.{digits}f}" for one in (statistics.fmean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def model(part: Part) -> str:
    found, shape = part["sizes"], part["sizes"]["model"]
    size = f"{found['parameters'] / 1e9:.2f} B parameters ({shape['num_hidden_layers']} layers)"
    return f"Qwen2's shape with random weights, {size}, {found['dtype']}; {found['answer']} tokens a completion"


def step(part: Part) -> Iterator[str]:
    sizes, arms = part["sizes"], part["arms"]
    yield "## A slow step"
    yield (
        f"{model(part)}; {sizes['problems']} problems × {sizes['group']} completions, system messages of"
        f" {sizes['prompt']} tokens. The arms take turns in one process, {part['rounds']} rounds of {sizes['steps']}"
        " steps, the first of which does not count. The fast phase of the third arm makes no rollouts."
    )
    rows = []
    for arm, found in arms.items():
        each = found["ratio_of_each_round"]
        took = f"{min(found['seconds']):.2f} to {max(found['seconds']):.2f}"
        ratios = f"{min(each):.3f} to {max(each):.3f}"
        rows.append((WHAT[arm], len(found["seconds"]), f"{found['median']:.2f}", took, f"{found['ratio']:.3f}", ratios))
    yield "\n".join(table(("trainer", "steps", "median, s", "range, s", "÷ the first", "of each round"), rows))


def phase(part: Part) -> Iterator[str]:
    count, again, batches = part["rollouts"], part["again"], part["batches"]
    yield "## A fast phase"
    yield (
        f"{model(part)}. One fast phase of the shipped search: {count} rollouts, in {len(batches)} batches of"
        f" {min(batches)} to {max(batches)}, while training waits. Then the same rollouts, all asked for at once."
        " Every completion has the same length, so no batch waits for a long one."
    )
    ways = {
        "the phase": part["seconds"],
        "of it, inside TRL's generation and rewards": part["generating"],
        "at once, in batches as large as a slow step's": again["training_batches"],
        "at once, as one batch": again["one_batch"],
    }
    best = min(again.values())
    rows = [(name, f"{took:.1f}", f"{count / took:.1f}", f"{best / took:.2f}") for name, took in ways.items()]
    yield "\n".join(table(("", "seconds", "rollouts a second", "share of the best rate"), rows))


def smollm2(part: Part) -> Iterator[str]:
    sizes = part["sizes"]
    yield "## SmolLM2-135M"
    yield (
        f"[The example's task](../examples/smollm2), float32; {sizes['steps']} steps of {sizes['problems']} problems ×"
        f" {sizes['group']} completions, T={sizes['cycle']}, K=4; validation every {sizes['cycle']} steps on"
        f" {sizes['validation']} problems, each tried {sizes['tries']} times. {part['jobs']} runs at a time share"
        " the GPU, so seconds are comparable within this table alone. Told the rule: its sentence, which the feedback"
        " gives away, is in the system message. KL: TRL's estimate at the last step, nats a token. Means, and ranges"
        " over seeds."
    )
    done, failed = defaultdict(list), []
    for run in part["runs"]:
        failed.append(run) if "error" in run else done[run["arm"], run["rate"]].append(run)
    rows = []
    for (arm, rate), runs in sorted(done.items(), key=lambda one: (list(ARMS).index(one[0][0]), one[0][1])):
        several = {name: [run[name] for run in runs] for name in runs[0]}
        own, seed = several["best_prompt"], several["seed_prompt"]
        rows.append(
            (
                ARMS[arm],
                f"{rate:g}" if rate else "–",
                len(runs),
                span([curve[0] for curve in own]),
                ", ".join(reached(run, sizes["cycle"]) for run in sorted(runs, key=lambda run: run["seed"])),
                span([max(curve) for curve in own]),
                span([curve[-1] for curve in own]),
                span([curve[-1] for curve in seed]) if all(seed) else "–",
                span(several["kl"], 3),
                span(several["slow_rollouts"], 0),
                span(several["fast_rollouts"], 0),
                span(several["seconds"], 0),
            )
        )
    head = "arm, rate, seeds, first, half right at step, best, last, last under the seed prompt, KL"
    yield "\n".join(table([*head.split(", "), "slow rollouts", "fast rollouts", "seconds"], rows))
    if part["left"] or failed:
        yield f"Not run, for want of time: {part['left']}. Failed: {len(failed)}."
    evolved = sorted((run["seed"], run["prompt"]) for (arm, _), runs in done.items() if arm == "fst" for run in runs)
    if evolved:
        yield f"FST's best prompt at the end, seed {evolved[0][0]}:"
        yield "\n".join(f"    {line}" for line in evolved[0][1].splitlines())


def reached(run: Part, cycle: int) -> str:
    """The first validated step with half of the answers right."""
    return next((str(cycle * i) for i, score in enumerate(run["best_prompt"]) if score >= 0.5), "never")


SECTIONS = {"step": step, "phase": phase, "smollm2": smollm2}


def page(parts: Sequence[Part]) -> str:
    """The page, its sections in a fixed order. Raises KeyError for a file of another program."""
    blocks = [HEAD]
    for part in sorted(parts, key=lambda one: list(SECTIONS).index(one["part"])):
        blocks += [*SECTIONS[part["part"]](part), where(part)]
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    print(page([json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]), end="")
