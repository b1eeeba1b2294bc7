"""RESULTS.md from results.json: every figure next to its goal, met or not.

python examples/paper_claims/make_results.py runs/paper_claims/results.json [-o examples/paper_claims/RESULTS.md]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import NOT_ASKED
from plan import REFLECTION_S

from fst_plugin.record.atomic import write_text

FOUND = {
    "final": "last validation",
    "steps_ratio": "steps to RL's peak over RL's",
    "rollouts_ratio": "rollouts over RL's",
    "kl_ratio_at_matched_reward": "KL over RL's at matched reward",
    "fast_rollouts": "fast rollouts",
}
"""Figure of a search -> its column."""
NEVER = "never"
"""Infinity in results.json: of steps, never reached; of scores, those of RL are 0."""


Met = Callable[[str, Mapping[str, Any]], bool | None]


def _below(limit: float) -> Met:
    return lambda task, f: f["median"] != NEVER and f["median"] <= limit


def _gained(task: str, f: Mapping[str, Any]) -> bool | None:
    return None if f["low"] is None else f["low"] > 0


def _plastic(task: str, f: Mapping[str, Any]) -> bool | None:
    return f["median"] == NEVER or f["median"] > 1 if task.endswith("fst over rl") else None


def _continued(task: str, f: Mapping[str, Any]) -> bool | None:
    return f["median"] == NEVER or f["median"] >= 1.5 if task in ("stage_2", "stage_3") else None


CLAIMS: dict[str, tuple[str, str, Met]] = {
    "steps_ratio": ("data efficiency: slow steps to RL's peak, FST over RL", "≤ 1/3", _below(1 / 3)),
    "rollouts_ratio": ("data efficiency: rollouts in all to RL's peak, FST over RL", "≤ 0.6", _below(0.6)),
    "asymptote_gain": ("higher ceiling: asymptote of FST less RL's", "> 0, interval clear of 0", _gained),
    "kl_ratio_at_matched_reward": ("closer to base: KL at matched reward, FST over RL", "≤ 0.3", _below(0.3)),
    "plasticity_ratio": ("plasticity: score after a fresh RL pass on another task", "fst over rl: > 1", _plastic),
    "continual_ratio": ("continual: score at the end of a stage, FST over RL", "stages 2 and 3: ≥ 1.5", _continued),
    "star_graph_ratio": ("base reward 0: first validation above 0, FST over RL", "≤ 1/5", _below(1 / 5)),
    "attribution": (
        "attribution: both > fast only, slow only > base; shown is both",
        "holds",
        lambda task, f: bool(f["holds"]),
    ),
}
"""Key -> (claim, goal, is it met? None if the goal says nothing of this figure)."""


def verdict(key: str, task: str, figure: Mapping[str, Any]) -> str:
    """ "yes", "no", or "-" if there is nothing to judge."""
    met = None if figure["median"] is None else CLAIMS[key][2](task, figure)
    return "-" if met is None else _yes(met)


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def text(figure: Mapping[str, Any] | None, digits: int = 2) -> str:
    """ "0.31 [0.25, 0.40]"; the reason if there is no figure."""
    if figure is None:
        return "-"
    if figure["median"] is None:
        return _cell(figure.get("reason", "-"))
    shown = [v if isinstance(v, str) else "?" if v is None else f"{v:.{digits}f}" for v in
             (figure["median"], figure["low"], figure["high"])]  # fmt: skip
    interval = "" if figure["low"] is None and figure["high"] is None else f" [{shown[1]}, {shown[2]}]"
    return shown[0] + interval + (f" (without {', '.join(missing)})" if (missing := figure.get("missing")) else "")


def _asked(figure: Mapping[str, Any]) -> bool:
    """Was this run asked for? What was is shown, with its reason if there is no figure."""
    return not str(figure.get("reason") or "").endswith(NOT_ASKED)


def _cell(value: str) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)] + [""]


def make(found: Mapping[str, Any]) -> str:
    """The whole text."""
    settings = found["settings"]
    seeds = len(settings["seeds"])
    lines = [
        "# Results",
        "",
        "Made by `examples/paper_claims/make_results.py` from results.json, which `examples/paper_claims/run.py` wrote."
        f" Claims: {', '.join(settings['claims'])}. Seeds: {seeds}. Model: {settings['model']}. Medians over seeds"
        + (", in brackets a 95% bootstrap interval over them." if seeds > 1 else "; one seed has no interval."),
        "",
    ]
    if settings["model"] == "tiny policy":
        lines += [
            "What each learns from: RL sees rewards and nothing else. The reflection reads feedback sentences, each of"
            " which states the rule that was broken, and composes prompts from them; no language model reflects. What"
            " decides such figures is how much of the task a prompt can hold and how reliably the policy follows it.",
            "",
        ]
    rows = []
    for key, (claim, goal, _) in CLAIMS.items():
        for task, figure in found[key].items():
            if _asked(figure):
                shown = text(figure)
                if key in ("plasticity_ratio", "continual_ratio"):
                    shown = shown.replace(NEVER, "∞")
                if first := figure.get("first"):
                    steps = [f"{arm} at {', '.join(map(str, first[arm]))}" for arm in first if first[arm]]
                    shown = "; ".join([shown, *steps])
                rows.append([claim, _cell(task), shown, goal, verdict(key, task, figure)])
    lines += ["## Claims", "", *_table(["claim", "task", "measured", "goal", "met"], rows)]
    for task, figure in found["attribution"].items():
        if cells := figure.get("cells"):
            lines += [f"## Weights and prompt: {task}", ""]
            lines += [
                "Share of the validation problems passed, each tried once, with a 95% Wilson interval.",
                "",
            ]
            lines += _table(
                ["weights / prompt", "passed", "problems"], [[c, text(f), str(f["n"])] for c, f in cells.items()]
            )
    starts = [[name, text(own)] for name, own in found["starts"].items() if _asked(own)]
    if starts:
        lines += ["## Plasticity", "", "Score after the fresh RL pass, by the weights it started from.", ""]
        lines += _table(["weights of", "score"], starts)
    stages = [
        [_cell(name), text(own["score"]), text(own["lost"])]
        for name, own in found["stages"].items()
        if _asked(own["score"])
    ]
    if stages:
        lines += ["## Continual run", "", "Scores on a stage's own task.", ""]
        lines += _table(["stage: arm", "at the stage's end", "lost of it by the end of the run"], stages)
    lines += [
        "## Learning rate of RL",
        "",
        "Chosen by the peak of the first seed's validations on the first task, for all tasks. FST is not swept;"
        " rl_equal is RL at FST's own rate, 3e-4.",
        "",
    ]
    tried = [
        [task, rate, f"{r['peak']:.3f}", f"{r['final']:.3f}", "chosen" if float(rate) == own["chosen"] else ""]
        for task, own in found["learning_rates"].items()
        for rate, r in own["tried"].items()
    ]
    lines += _table(["task", "rate", "peak", "last", ""], tried) if tried else ["Nothing was swept.", ""]
    if found["ablations"]:
        lines += ["## Ablations", ""]
        head = ["ablation", "what", "last validation", "steps to RL's peak over RL's", "rollouts over RL's"]
        rows = [
            [name, own["what"], own["reason"], "", ""] if "reason" in own else
            [name, own["what"], text(own["final"]), text(own["steps_ratio"]), text(own["rollouts_ratio"])]
            for name, own in found["ablations"].items()
        ]  # fmt: skip
        lines += _table(head, rows)
    if found["search"]:
        lines += ["## Search and clock", "", *_searches(found["search"])]
    if found["failed"]:
        lines += [
            "## Runs that failed",
            "",
            *_table(["run", "why"], [[k, _cell(v)] for k, v in found["failed"].items()]),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _searches(found: Mapping[str, Any]) -> list[str]:
    """What each search found, beside RL; and what a step after the first cycle took."""
    head = ["task", "search", *FOUND.values()]
    rows, timed = [], []
    for task, searches in found.items():
        for name, own in searches.items():
            if "reason" in own:
                rows.append([task, name, own["reason"], *[""] * (len(FOUND) - 1)])
            elif "final" in own:
                rows.append([task, name, *(text(own[key], 0 if key == "fast_rollouts" else 2) for key in FOUND)])
            if seconds := own.get("seconds", own if "all" in own else None):
                timed.append((task, name, seconds))
    parts = list(timed[0][2]) if timed else []
    return [
        "frontier: GEPA's search, before a cycle's steps. before: the default one (`fst.fast.parents=thompson`), before"
        " them too. hybrid: the same beside the steps (`fst.fast.when=hybrid`).",
        "",
        *_table(head, rows),
        "Seconds of a step after the first cycle, without validation and checkpoints: means of a run, medians over"
        f" seeds. slow: without the fast phase; all: with it. A reflection takes {REFLECTION_S} s, as with a language"
        " model that answers so late. hybrid over before: medians of the seeds' own ratios. A run shared two cores with"
        " another one: seeds differ by more than searches, and a run beside one that waits had more of them.",
        "",
        *_table(["task", "search", *parts], [[t, n, *(text(own.get(part)) for part in parts)] for t, n, own in timed]),
    ]


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "RESULTS.md")
    args = parser.parse_args(given)
    write_text(args.out, make(json.loads(args.results.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
