"""All tasks of the reasoning-gym library behind one id, single turn.

`gymnasium.make("fst_envs:fst/ReasoningGym-v0", task="path_star", config={"degree": 10})`. The library is an optional
dependency and runs in a child process (`reasoning.child` says why). What this adapter changes:

- The library seeds an item by seed + index, so neighbouring seeds share nearly all items: here every split has its own
  distant window. (Tasks with few distinct items still repeat across splits: de-duplicate by `task_id`.)
- The answer is in the last <answer>...</answer>, else in the last \\boxed{...}; only feedback says so, unless `hint`.
- Many scorers give partial credit for a substring: here rewards are 0 or 1 unless `binary` is False.
- `codeio` answers are compared as JSON values, not as text.
- An answer that holds nan or inf scores 0, unless the gold answer does: comparisons with them pass scorers by accident.
- Tasks whose scorer can't be trusted are refused (`DENIED`).

Invariants: whatever the library does stays in its process; a fault of that process is never a reward.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from gymnasium.error import DependencyNotInstalled

from ..answers import HINT, NO_ANSWER, find_answer, first_difference, holds_non_finite, read_json, short
from ..base import EnvironmentFault, ReasoningEnv, split_seed
from ..episodes.child import Child, TextToBlame
from ..names import unknown_task

logger = logging.getLogger(__name__)

DENIED: Mapping[str, str] = {
    "game_of_life_halting": "its scorer pays the full reward for any answer",
    "puzzle24": "its scorer takes any four numbers that make 24, whatever the question gives",
    "composite": "it mixes other tasks: make one environment per task",
}
EAGER: Mapping[str, int] = {"acre": 20_000, "gsm_symbolic": 20_000, "list_functions": 20_000, "word_ladder": 20_000}
"""Tasks whose dataset takes time and memory in proportion to its size -> the largest size allowed (ours)."""
MAX_SIZE = 2**25  # ours: leaves room in a split's window for the seeds of replacement items

LOAD_TIMEOUT = 60.0  # ours, seconds: the slowest datasets take a few seconds
SCORE_TIMEOUT = 10.0  # ours, seconds: the slowest scorers take well under a second

_child = Child("fst_envs.reasoning.child")
_TASKS = {"op": "tasks"}


def tasks() -> list[str]:
    """The names of all tasks that can be played. Raises DependencyNotInstalled without the library."""
    _require_library()
    return [name for name in _child.fetch(_TASKS, LOAD_TIMEOUT)["tasks"] if name not in DENIED]


class ReasoningGym(ReasoningEnv):
    """One task of reasoning-gym; single turn.

    task: the library's name of the task.
    config: settings of the task, as the library names them, without "seed" and "size".
    split: as in `ReasoningEnv`.
    size: as in `ReasoningEnv`, at most 2**25 or the task's limit in `EAGER`; default 10,000 (ours). The items of `acre`
        depend on it.
    binary: reward 1.0 for a full score, else 0.0; default True (ours). If False, the library's score, 0 to 1.
    hint: say in the question where the answer must stand; default False (ours): only feedback says it.
    show_answer: quote a correct answer in the feedback on a wrong one; default True (ours).

    Raises DependencyNotInstalled without the library, ValueError for a task or config that cannot be played.
    """

    private_answers = True

    def __init__(
        self,
        task: str,
        config: Mapping[str, Any] | None = None,
        split: str = "train",
        size: int = 10_000,
        binary: bool = True,
        hint: bool = False,
        show_answer: bool = True,
    ):
        super().__init__(split=split, size=size)
        self.task, self.config = task, dict(config or {})
        self.binary, self.hint, self.show_answer = binary, hint, show_answer
        self._request: dict[str, Any] = {}
        self._answer: str | None = None
        self._check()

    def _check(self) -> None:
        if self.task in DENIED:
            raise ValueError(f"task={self.task!r} is refused: {DENIED[self.task]}")
        limit = EAGER.get(self.task, MAX_SIZE)
        if self.size > limit:
            raise ValueError(f"size={self.size}: use at most {limit} for {self.task}")
        for key in ("seed", "size"):
            if key in self.config:
                raise ValueError(f"config[{key!r}] is set by the environment: leave it out (size is an argument)")
        known = tasks()
        if self.task not in known:
            raise ValueError(unknown_task(self.task, known, "reasoning-gym", "fst/ReasoningGym-v0"))
        problem = _child.fetch({"op": "check", **self._where(self.split)}, LOAD_TIMEOUT).get("error")
        if problem:
            raise ValueError(f"reasoning-gym refuses config={self.config} for task={self.task!r}: {problem}")

    def _where(self, split: str) -> dict[str, Any]:
        return {"task": self.task, "config": self.config, "seed": split_seed(split, 0), "size": self.size}

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        self._request = {**self._where(split), "index": index}
        item = _child.fetch({"op": "load", **self._request}, LOAD_TIMEOUT)
        if "error" in item:
            raise EnvironmentFault(f"reasoning-gym could not build {item['error']}")
        self._answer = item["answer"]
        question = item["question"].strip() + (HINT if self.hint else "")
        return question, {"source": f"reasoning_gym/{self.task}", "answer": self._answer}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        answer = find_answer(text)
        if answer is None:
            return "", 0.0, True, NO_ANSWER
        score, remark = self._score(answer)
        if score >= 1.0:
            return "", 1.0, True, "Correct."
        feedback = f"Incorrect. The answer was {short(answer, 200)}." + (f" {remark}" if remark else "")
        if self.show_answer and self._answer:
            feedback += f" A correct answer is {short(self._answer, 300)}."
        return "", 0.0 if self.binary else score, True, feedback

    def _score(self, answer: str) -> tuple[float, str]:
        if holds_non_finite(answer) and not holds_non_finite(self._answer or ""):
            return 0.0, "An answer here holds only finite numbers."
        if self.task == "codeio" and self._answer is not None:
            difference = _difference(self._answer, answer)
            if not difference:
                return 1.0, ""
            if self.binary:
                return 0.0, difference
        try:
            result = _child.judge({"op": "score", **self._request, "text": answer}, SCORE_TIMEOUT, _TASKS)
        except TextToBlame:
            return 0.0, "It took too much time or memory to check."
        if "error" in result:
            raise EnvironmentFault(f"reasoning-gym could not build {result['error']}")
        if "raised" in result:
            logger.debug("reasoning-gym could not check an answer to %s: %s", self.task, result["raised"])
            return 0.0, "It could not be checked."
        refused = result.get("refused")
        return min(1.0, max(0.0, result["score"])), f"An answer here holds {refused}." if refused else ""


def _require_library() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        raise DependencyNotInstalled("fst/ReasoningGym-v0 needs reasoning-gym: pip install 'fst-plugin[reasoning-gym]'")


def _difference(expected: str, given: str) -> str | None:
    """Where two JSON texts first differ, None if they do not."""
    try:
        wanted = read_json(expected)
    except ValueError:  # the library also writes NaN
        return None if expected.strip() == given.strip() else "It differs from the expected text."
    try:
        return first_difference(wanted, read_json(given))
    except ValueError as e:
        return f"It is not a JSON value: {e}."
