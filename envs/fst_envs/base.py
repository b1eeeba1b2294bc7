"""`ReasoningEnv`: a gymnasium.Env from text to text, written with two hooks.

Training needs three things that plain gymnasium.Env lacks: to name an instance, so that another process can play the
same problem; to keep the instances of its splits apart; and text that says what was wrong with an answer. The contract,
which any other gymnasium.Env may also follow:

- `reset(seed=s)` draws an instance. `reset(options={"index": i, "split": s})` names one, the same in every process.
- `reset` puts `task_id` (a hash of the question), `index` and `split` into its info.
- `step` puts `feedback` (what a reflection may read), `task_id` and `error` into its info.
- An episode ends by `terminated`, never by `truncated`.

Invariant: text that the model wrote never makes `step` raise; a fault of the world (see `FAULTS`) always does.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.error import ResetNeeded

from .contract import LOAD, RESPOND, ContractError, EnvironmentFault, env_title, returned
from .spaces import UnicodeText

logger = logging.getLogger(__name__)
_warned: set[tuple[str, str]] = set()

SPLITS: Mapping[str, int] = {"train": 0, "val": 1, "test": 2, "anchor": 3}
WINDOW = 2**28  # ours: seeds per split; four windows fit into the 32 bits that older generators take as a seed


FAULTS: tuple[type[BaseException], ...] = (EnvironmentFault, ContractError, OSError, ImportError)
"""What `respond` raises if the world or the environment's code is to blame, not the model's text (OSError covers
connections and timeouts)."""


def split_seed(split: str, index: int) -> int:
    """The seed of instance `index` of `split`. Every split has its own window of 2**28 seeds.

    Raises ValueError for an unknown split, IndexError for an index outside the window.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    if not 0 <= index < WINDOW:
        raise IndexError(f"index {index} is outside the window of a split: use 0 to {WINDOW - 1}")
    return SPLITS[split] * WINDOW + index


def content_id(question: str) -> str:
    """16 hex digits that name a question by its text (blake2b-64): two splits share a task iff they share an id."""
    return hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def unchecked(env: object, e: Exception) -> tuple[str, str]:
    """(error, feedback) for an answer on which `env` raised `e`.

    It is also logged, since it may be a bug of the environment: each kind of exception once as a warning, then at debug
    level.
    """
    kind = (type(env).__name__, type(e).__name__)
    logger.log(logging.DEBUG if kind in _warned else logging.WARNING, "%s could not check an answer: %r", kind[0], e)
    _warned.add(kind)
    return repr(e)[:200], f"The answer could not be checked ({type(e).__name__})."


class ReasoningEnv(gym.Env[str, str]):
    """Base of text environments: write `load` and `respond`.

    split: where instances come from unless `reset` names another split; default "train" (ours).
    size: how many instances each split has, 1 to 2**28; default 2**28 (ours).
    """

    private_answers = False
    """Whether each instance has an answer of its own, so that a prompt which states it gives it away.

    False (ours): instances share answers, as they share class labels."""

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, split: str = "train", size: int = WINDOW):
        split_seed(split, 0)
        if not 1 <= size <= WINDOW:
            raise ValueError(f"size={size}: use 1 to {WINDOW} instances per split")
        self.split, self.size = split, size
        self.observation_space, self.action_space = UnicodeText(), UnicodeText()
        self.task_id: str | None = None  # of the episode under way; None between episodes

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        """Sets up instance `index` of `split`; must depend on these two and the constructor's arguments alone.

        Returns (question, extra): extra is added to the info of `reset` and holds JSON values; its "answer" is the gold
        answer.
        """
        raise ContractError(f"{env_title(self)}: load(index, split) is not written: it must return (question, extra)")

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        """Judges the model's text. Returns (observation, reward, done, feedback); done is True if single-turn.

        An exception means that the text could not be checked, reward 0, unless it is one of `FAULTS`.
        """
        raise ContractError(
            f"{env_title(self)}: respond(text) is not written: it must return (observation, reward, done, feedback)"
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode. Returns (question, info).

        seed: draws the instance if `options` names none.
        options: {"index": int, "split": str}, both optional.
        Raises ValueError for unknown options or splits, IndexError for an index outside 0..size-1.
        """
        super().reset(seed=seed)
        named = dict(options or {})
        split = named.pop("split", self.split)
        index = named.pop("index", None)
        if named:
            raise ValueError(f"unknown reset option {sorted(named)}: use 'index' and 'split'")
        index = int(self.np_random.integers(self.size)) if index is None else int(index)
        split_seed(split, 0)
        if not 0 <= index < self.size:
            raise IndexError(
                f"index {index} is outside the split, which has {self.size} instances: 0 to {self.size - 1}"
            )
        self.task_id = None
        question, extra = returned(f"{env_title(self)}: load", self.load(index, split), LOAD)
        self.task_id = content_id(question)
        private = {"private_answer": True} if self.private_answers else {}
        return question, {**extra, **private, "task_id": self.task_id, "index": index, "split": split}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Plays one turn.

        Raises ResetNeeded outside an episode, TypeError for an action that is not a str, ContractError for a wrong
        shape of what `respond` returns, EnvironmentFault for a reward that is not finite.
        """
        if self.task_id is None:
            raise ResetNeeded("step() outside an episode: call reset() first")
        if not isinstance(action, str):
            raise TypeError(f"an action is a str, got {type(action).__name__}")
        error = None
        try:
            result = self.respond(action)
        except FAULTS:
            raise
        except Exception as e:  # the verifier choked on the model's text
            error, feedback = unchecked(self, e)
            result = ("", 0.0, True, feedback)
        observation, reward, done, feedback = returned(f"{env_title(self)}: respond", result, RESPOND)
        info = {"feedback": feedback, "task_id": self.task_id, "error": error}
        if done:
            self.task_id = None
        return observation, reward, done, False, info
