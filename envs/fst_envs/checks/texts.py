"""Plays texts: gold answers, texts that answer nothing, the gold answers of other instances; and in another process.

No scale of rewards is asked for. A gold answer must score better than every text that answers nothing, and such a text
must not be paid: it may cost something, or get the lowest reward that the environment gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import gymnasium as gym

from ..episodes.episode import BlockingEpisode, run
from .instances import Infos
from .report import Report, median_ms, shown

MAX_TURNS = 20  # ours: an episode is left after this many equal texts
HOSTILE = ("<answer>π\x00\u202e\ud800</answer>", "[" * 5000)
"""Texts that answer nothing and that a verifier may well choke on (ours)."""
WRONG = ("", "banana", "<answer>banana</answer>", r"\boxed{banana}", *HOSTILE)
"""Texts that answer nothing (ours); the gold answers of other instances are tried besides these."""
GOLD_FORMS = ("{}", "<answer>{}</answer>", r"\boxed{{{}}}")
"""Forms in which an environment may want its gold answer; the one that scores best counts."""


@dataclass
class Texts:
    """What texts earned in whole episodes.

    gold: index -> (gold answer in the form that scored best, its reward).
    wrong: text that answers nothing -> the highest reward that it got.
    swapped: index -> reward of the gold answer of the instance before it, if theirs differ.
    rewards: of all episodes.
    errors: text -> what the environment raised on it.
    silent, made: texts that got blank feedback, or feedback made from the reward.
    seconds: of every step.
    turns: of the longest episode.
    """

    env: gym.Env[str, str]
    gold: dict[int, tuple[str, float]] = field(default_factory=dict)
    wrong: dict[str, float] = field(default_factory=dict)
    swapped: dict[int, float] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    turns: int = 0

    def play(self, index: int, text: str) -> float:
        """The reward of an episode in which every turn says `text`."""
        self.env.reset(options={"index": index, "split": "train"})
        total = 0.0
        for turn in range(1, MAX_TURNS + 1):
            self.turns = max(self.turns, turn)
            began = time.perf_counter()
            _, reward, terminated, truncated, info = self.env.step(text)
            self.seconds.append(time.perf_counter() - began)
            total += float(reward)
            if info["feedback_made"]:
                self.made.add(text)
            if info["error"]:
                self.errors[text] = info["error"]
            if not info["feedback"].strip():
                self.silent.add(text)
            if terminated or truncated:
                break
        self.rewards.append(total)
        return total

    def play_wrong(self, index: int) -> None:
        for text in WRONG:
            self.wrong[text] = max(self.play(index, text), self.wrong.get(text, float("-inf")))

    def play_gold(self, index: int, answer: Any) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        forms = [form.format(text) for form in GOLD_FORMS]
        scores = {form: self.play(index, form) for form in forms}
        best = max(forms, key=lambda form: scores[form])
        self.gold[index] = best, scores[best]

    def play_swapped(self, answers: Mapping[int, Any]) -> None:
        for before, index in pairwise(self.gold):
            if answers[before] != answers[index]:
                self.swapped[index] = self.play(index, self.gold[before][0])


def texts(report: Report, env: gym.Env[str, str], infos: Infos) -> Mapping[int, str]:
    """Plays all kinds of texts; sets gold, rewards, feedback and step_ms. Returns index -> gold answer, as played."""
    played = Texts(env)
    for index in list(infos)[:2]:
        played.play_wrong(index)
    known = {index: info["answer"] for index, info in infos.items() if info.get("answer") is not None}
    for index, answer in known.items():
        played.play_gold(index, answer)
    played.play_swapped(known)
    report.gold = round(len(known) / max(1, len(infos)), 3)
    report.rewards = min(played.rewards), max(played.rewards)
    report.step_ms = median_ms(played.seconds)
    _errors(report, played)
    _scores(report, played)
    if played.turns > 1:
        longest = f"{played.turns} turns" if played.turns < MAX_TURNS else f"at least {MAX_TURNS} turns"
        report.notes.append(f"episodes took up to {longest}: set data.env.multi_turn=true")
    _feedback(report, played)
    return {index: text for index, (text, _) in played.gold.items()}


def _errors(report: Report, played: Texts) -> None:
    if not played.errors:
        return
    examples = ", ".join(f"{shown(text)}: {error}" for text, error in list(played.errors.items())[:3])
    found = report.problems if set(played.errors) - set(HOSTILE) else report.notes
    found.append(
        f"errors: {len(played.errors)} of the texts could not be checked ({examples}): they score 0 and nobody learns "
        "why; catch what a text may raise, and say in the feedback what was wrong"
    )


def _scores(report: Report, played: Texts) -> None:
    if not played.gold:
        report.notes.append("no gold answers")
    floor = max(0.0, min(played.rewards)) if played.gold else 0.0
    paid = {shown(text): score for text, score in played.wrong.items() if score > floor}
    if paid:
        report.problems.append(
            f"wrong: texts that answer nothing score {paid}: give them 0 or less, or the lowest reward of all"
        )
    gold = {index: score for index, (text, score) in played.gold.items() if text not in played.errors}
    best_wrong = max((score for score in played.wrong.values() if score <= floor), default=floor)
    missed = {index: score for index, score in gold.items() if score <= best_wrong}
    if missed:
        report.problems.append(
            f"gold: the gold answers of train instances {list(missed)} score {_range(missed)}, no more than texts that "
            f"answer nothing ({best_wrong:g}): a gold answer must score best, written as it is, in <answer> or in "
            r"\boxed{}"
        )
        return
    if gold and set(gold.values()) != {1.0}:
        said = f"gold answers score {_range(gold)}, not 1"
        report.notes.append(f"{said}: set fst.fast.perfect_score to the highest reward")
    right = [score >= gold[index] for index, score in played.swapped.items() if index in gold]
    if right and all(right):
        report.problems.append("wrong: the gold answers of other instances score as well")
    elif any(right):
        report.notes.append(f"{sum(right)} of {len(right)} gold answers of another instance score as well")


def _range(scores: Mapping[int, float]) -> str:
    low, high = min(scores.values()), max(scores.values())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _feedback(report: Report, played: Texts) -> None:
    if silent := sorted(shown(text) for text in played.silent & set(WRONG)):
        report.problems.append(f"feedback: blank for {silent}: say what was wrong")
    report.feedback = "made" if played.made & set(WRONG) else "own"
    if report.feedback == "made":
        report.notes.append("feedback is made from reward and observation: the environment gives none")


def other_process(report: Report, env: gym.Env[str, str], infos: Infos, gold: Mapping[int, str]) -> None:
    """Plays the same in a child with another hash seed: a fresh environment per instance, in reverse order."""
    there = BlockingEpisode(report.env_id, report.kwargs, isolate=True, retries=0)
    differ: list[str] = []
    try:
        for index in reversed(list(infos)[:4]):
            said = run(there.reset(index, "train"))
            if any(said[1].get(key) != infos[index].get(key) for key in ("task_id", "answer")):
                differ.append(f"instance {index}")
                continue
            text = gold.get(index, WRONG[2])
            env.reset(options={"index": index, "split": "train"})
            here = env.step(text)
            if tuple(run(there.step(text))[:4]) != tuple(here[:4]):
                differ.append(f"the answer {shown(text)} to instance {index}")
    finally:
        run(there.close())
    if differ:
        report.problems.append(f"determinism: another process gives a different result for {', '.join(differ)}")
