"""python benchmarks/reflection.py --json FILE [--lm openai/<model> --api-base URL]

How well a reflection turns feedback into prompts, on cases whose right rules are known (reflection_cases.json). The
offline reflection is the one to compare with; --lm adds a language model, asked as by fst.reflection.kind=lm, with the
key from the environment as there. With kind=policy the policy is asked the same question.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fst_plugin.config import ReflectionConfig
from fst_plugin.prompts import Prompt
from fst_plugin.reflection import DSPyReflection, OfflineReflection, Reflection, ReflectionRequest, Trouble, clean
from fst_plugin.rewards import RewardBar
from fst_plugin.rollouts import Problem, Rollout, problem_id

CASES = Path(__file__).with_name("reflection_cases.json")
MAX_CHARS = 1200
"""Longest prompt that is of use, as in benchmarks/fast_phase.py (ours)."""


@dataclass(frozen=True)
class Case:
    """One reflection whose right outcome is known.

    id, what: its name, and what is hard about it.
    parent: the prompt to improve.
    records: how it went: task, answer, score (1 is solved) and feedback, "" if there is none.
    rules: patterns, each of which a good prompt holds. wrong: patterns that none holds. Case counts for nothing.
    good: a prompt that is right.
    """

    id: str
    what: str
    parent: str
    records: tuple[Mapping[str, Any], ...]
    rules: tuple[str, ...]
    wrong: tuple[str, ...]
    good: str

    def request(self, slot: int) -> ReflectionRequest:
        records = []
        for one in sorted(self.records, key=lambda record: record["score"]):  # failures first, as in a run
            messages = ({"role": "user", "content": one["task"]},)
            rollout = Rollout(one["score"], one["answer"], one["feedback"])
            records.append((Problem(problem_id(messages), messages), rollout))
        return ReflectionRequest(Prompt(self.parent), tuple(records), slot, 0, MAX_CHARS, RewardBar(1.0))

    def value(self, text: str) -> float:
        """Share of the rules that `text` holds, less its wrong ones."""
        return (_held(self.rules, text) - _held(self.wrong, text)) / len(self.rules)


def _held(patterns: Sequence[str], text: str) -> int:
    return sum(re.search(pattern, text, re.IGNORECASE) is not None for pattern in patterns)


def read(path: Path) -> list[Case]:
    made = json.loads(path.read_text(encoding="utf-8"))
    return [Case(**{name: tuple(v) if isinstance(v, list) else v for name, v in one.items()}) for one in made]


def verdict(case: Case, answer: str | None) -> str:
    """ "right": every rule and nothing wrong; "helps": better than the parent by its rules; "useless": not so;
    "refused": a run would not try it; "unreadable": no prompt could be read; "failed": no answer."""
    if answer is None:
        return "failed"
    if not answer:
        return "unreadable"
    try:
        text = clean(answer)
    except ValueError:
        return "refused"
    if len(text) > MAX_CHARS or text.split() == case.parent.split():
        return "refused"
    if case.value(text) == 1:
        return "right"
    return "helps" if case.value(text) > case.value(case.parent) else "useless"


def judge(reflection: Reflection, cases: Sequence[Case], proposals: int) -> list[dict[str, Any]]:
    """One row a case: the share of its proposals that hold the right rules, that help (those among them), that are
    refused, and that could not be read or had no answer; and the proposals. All are asked for at once."""
    asked = reflection.propose([case.request(slot) for case in cases for slot in range(proposals)])
    rows = []
    for number, case in enumerate(cases):
        answers = asked[number * proposals : (number + 1) * proposals]
        verdicts = [verdict(case, answer) for answer in answers]
        share = {name: verdicts.count(name) / proposals for name in dict.fromkeys(verdicts)}
        rows.append(
            {
                "case": case.id,
                "right": share.get("right", 0.0),
                "helps": share.get("right", 0.0) + share.get("helps", 0.0),
                "refused": share.get("refused", 0.0),
                "unreadable": share.get("unreadable", 0.0) + share.get("failed", 0.0),
                "answers": answers,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cases", type=Path, default=CASES, help="cases of your own, in the same form")
    parser.add_argument("--proposals", type=int, default=8, help="to each case")
    parser.add_argument("--lm", help="a DSPy model string")
    parser.add_argument("--api-base")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-tokens", type=int, default=4096)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one answer")
    parser.add_argument("--concurrency", type=int, default=8, help="calls in flight")
    given = parser.parse_args()
    asked: list[Reflection] = [OfflineReflection()]
    if given.lm:
        settings = ReflectionConfig(
            model=given.lm,
            api_base=given.api_base,
            temperature=given.temperature,
            max_tokens=given.max_tokens,
            timeout_s=given.timeout,
            concurrency=given.concurrency,
        )
        asked.append(DSPyReflection(settings))
    cases = read(given.cases)
    result = {}
    for one in asked:
        result[one.describe()] = rows = judge(one, cases, given.proposals)
        show(Console(), one, rows)
    if given.json:
        found = {"proposals": given.proposals, "cases": [asdict(case) for case in cases], "reflections": result}
        given.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(console: Console, reflection: Reflection, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ("right", "helps", "refused", "unreadable")
    table = Table("case", *columns, title=reflection.describe(), title_justify="left")
    for row in rows:
        table.add_row(row["case"], *(f"{row[name]:.2f}" for name in columns))
    console.print(table)
    trouble = getattr(reflection, "trouble", Trouble())
    for kind, words in trouble.last.items():
        console.print(f"{trouble.count[kind]} {kind}, the last: {words}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
