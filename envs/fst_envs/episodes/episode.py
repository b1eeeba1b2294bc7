"""`Episode`: plays one episode of an environment outside the event loop and survives faults of the world.

    episode = Episode("fst_envs:fst/StarGraph-v0", {"degree": 5}, step_timeout_s=30)
    observation, info = await episode.reset(3, "train")
    observation, reward, terminated, truncated, info = await episode.step("<path>1,2</path>")
    await episode.close()

Faults are: whatever the environment raises except its user's errors (`USAGE`), a call that takes too long, a dead
process. After a fault a fresh environment takes over. It gets the same instance and the same texts, and must repeat
what was said before. This is tried up to `retries` times per call, with growing pauses; then `EnvironmentFault` is
raised.

Invariants: a fault never becomes a reward; an environment is never used for two episodes, nor after a fault. A text
counts as uncheckable (reward 0, `info["error"]`) only if 1 + retries fresh environments all choke on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gymnasium as gym

from ..base import EnvironmentFault
from .host import TIMEOUTS, Call, Host
from .player import USAGE

logger = logging.getLogger(__name__)
T = TypeVar("T")
Turn = tuple[str, float, bool, bool, dict[str, Any]]

STEP_TIMEOUT_S = 120.0  # ours: environments may queue for one process that checks their answers
RESET_TIMEOUT_S = 300.0  # ours: making an environment may import a library or load a data set
RETRIES = 3  # ours: if one attempt in twenty fails, one call in 160,000 does
BACKOFF_S = 0.5  # ours; doubles with every retry


class EpisodeLost(EnvironmentFault):
    """A fresh environment did not repeat what the episode had seen, so it can't go on: play it again from `reset`."""


class Episode:
    """One episode at a time of one environment; `reset` starts another one.

    env_id, env_kwargs: as in `make`.
    step_timeout_s: limit on one step, seconds; default 120 (ours).
    reset_timeout_s: limit on making and resetting the environment, seconds; default 300 (ours).
    retries: fresh environments to try per call after a fault; default 3 (ours).
    backoff_s: pause before the first retry, seconds; doubles with each one; default 0.5 (ours).
    isolate: play in a child process, which is killed if a call takes too long. (A thread can't be killed: a call that
        hangs in one is left behind.) It costs a tenth of a second and 20 MB per episode under way. Infos then hold
        JSON values only. Default False (ours).

    `faults` and `attempts` count over the life of the object: faults met, and environments made.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: Mapping[str, Any] | None = None,
        *,
        step_timeout_s: float = STEP_TIMEOUT_S,
        reset_timeout_s: float = RESET_TIMEOUT_S,
        retries: int = RETRIES,
        backoff_s: float = BACKOFF_S,
        isolate: bool = False,
    ):
        if step_timeout_s <= 0 or reset_timeout_s <= 0:
            raise ValueError(
                f"step_timeout_s={step_timeout_s}, reset_timeout_s={reset_timeout_s}: use seconds above 0 for both"
            )
        if retries < 0 or backoff_s < 0:
            raise ValueError(f"retries={retries}, backoff_s={backoff_s}: use 0 or more for both")
        self.env_id, self.env_kwargs = env_id, dict(env_kwargs or {})
        self.step_timeout_s, self.reset_timeout_s = step_timeout_s, reset_timeout_s
        self.retries, self.backoff_s, self.isolate = retries, backoff_s, isolate
        self.faults = 0
        self.attempts = 0
        self._host: Host | None = None
        self._named: tuple[int, str] | None = None  # (index, split); None: no episode is under way
        self._first: str | None = None  # what `reset` returned
        self._played: list[tuple[str, Turn]] = []  # (text, what `step` returned)

    async def reset(self, index: int, split: str = "train") -> tuple[str, dict[str, Any]]:
        """Starts the episode of instance `index` of `split`. Returns (observation, info), info with "task_id".

        Raises at once what a wrong id, argument, split or index raises; EnvironmentFault after `retries`.
        """
        await self.close()
        self._named, self._first, self._played = (index, split), None, []
        observation, info = await self._robustly(self._begin)
        self._first = observation
        return observation, info

    async def step(self, text: str) -> Turn:
        """Plays one text. Returns (observation, reward, terminated, truncated, info), info with "feedback".

        Raises ResetNeeded if no episode is under way, TypeError for an action that is not a str, EnvironmentFault after
        `retries`, EpisodeLost if no fresh environment can be brought to where the episode stood.
        """
        if self._named is None or self._first is None:
            raise gym.error.ResetNeeded("step() outside an episode: call reset() first")
        if not isinstance(text, str):
            raise TypeError(f"an action is a str, got {type(text).__name__}")
        turn = await self._robustly(lambda: self._turn(text))
        self._played.append((text, turn))
        if turn[2] or turn[3]:
            self._named = None
        return turn

    async def close(self) -> None:
        """Closes the environment; a fault while closing is logged. The object may be reset again."""
        self._named, host, self._host = None, self._host, None
        if host is not None:
            try:
                await self._result(host.call("close", (), self.step_timeout_s))
            except Exception as e:
                logger.warning("%s could not be closed: %r", self.env_id, e)
            finally:
                host.end()

    async def __aenter__(self) -> Episode:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _robustly(self, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        tried = 0
        while True:
            try:
                return await do()
            except BaseException as e:  # also if the caller cancels: the call is still under way in its thread
                self._drop()
                if isinstance(e, EpisodeLost) or not _is_fault(e):
                    self._named = None
                    raise
                self.faults += 1
                logger.warning("%s %s: fault %d: %r", self.env_id, self._named, self.faults, e)
                if tried == self.retries:
                    where = "instance {} of {!r}".format(*self._named or (None, None))
                    self._named = None
                    raise EnvironmentFault(
                        f"{self.env_id} {self.env_kwargs}, {where}: {tried + 1} attempts failed, the last with "
                        f"{type(e).__name__}: {e}"
                    ) from e
            await self._sleep(self.backoff_s * 2**tried)
            tried += 1

    async def _begin(self) -> tuple[str, dict[str, Any]]:
        """Makes a fresh environment and brings it to where the episode stood."""
        assert self._named is not None
        self.attempts += 1
        self._host = Host(self.isolate)
        observation, info = await self._call("reset", self.env_id, self.env_kwargs, *self._named)
        if self._first is not None and observation != self._first:
            raise EpisodeLost(f"{self.env_id}: a fresh environment made another question of instance {self._named}")
        for number, (text, before) in enumerate(self._played, 1):
            if (await self._call("step", text))[:4] != before[:4]:
                raise EpisodeLost(f"{self.env_id}: a fresh environment answered turn {number} differently")
        return observation, info

    async def _turn(self, text: str) -> Turn:
        chokes = 0
        while True:
            if self._host is None:
                await self._begin()
            turn: Turn = await self._call("step", text)
            if not turn[4].get("error"):
                self.faults += chokes  # a fresh environment could check the text, so the text was not to blame
                return turn
            if chokes == self.retries:
                return turn
            chokes += 1
            self._drop()

    async def _call(self, op: str, *args: Any) -> Any:
        assert self._host is not None
        timeout = self.step_timeout_s if op == "step" else self.reset_timeout_s
        return tuple(await self._result(self._host.call(op, args, timeout)))

    def _drop(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.abandon()

    async def _result(self, call: Call) -> Any:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(call.future), call.timeout)
        except TIMEOUTS as e:
            raise call.late(e) from e

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BlockingEpisode(Episode):
    """An `Episode` for code without an event loop: drive its coroutines with `run`."""

    async def _result(self, call: Call) -> Any:
        try:
            return call.future.result(call.timeout)
        except TIMEOUTS as e:
            raise call.late(e) from e

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine of a `BlockingEpisode` to its end, blocking; works inside a running event loop too."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("only coroutines of a BlockingEpisode can be run this way")


def _is_fault(e: BaseException) -> bool:
    if isinstance(e, (EnvironmentFault, *TIMEOUTS)):
        return True
    return isinstance(e, Exception) and not isinstance(e, USAGE)


Policy = Callable[[list[dict[str, str]]], "str | Awaitable[str]"]


@dataclass
class Played:
    """A played episode.

    task_id: hash of its question.
    messages: the chat; the environment is the "user".
    rewards, feedback: one per turn.
    stop: "terminated" or "truncated" if the environment ended it, "max_turns" if `play` did.
    """

    task_id: str
    messages: list[dict[str, str]]
    rewards: list[float] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    stop: str = "max_turns"


async def play(episode: Episode, policy: Policy, index: int, split: str = "train", *, max_turns: int = 100) -> Played:
    """Plays an episode to its end, and closes its environment. A lost episode is played again, up to `retries` times.

    policy: a function or coroutine function from the chat so far to the next text.
    index, split: name the instance.
    max_turns: texts after which to stop; default 100 (ours).
    Raises what `Episode` raises.
    """
    lost = 0
    while True:
        try:
            return await _play(episode, policy, index, split, max_turns)
        except EpisodeLost:
            lost += 1
            if lost > episode.retries:
                raise
        finally:
            await episode.close()


async def _play(episode: Episode, policy: Policy, index: int, split: str, max_turns: int) -> Played:
    observation, info = await episode.reset(index, split)
    played = Played(info["task_id"], [{"role": "user", "content": observation}])
    for _ in range(max_turns):
        said = policy(list(played.messages))
        text = said if isinstance(said, str) else await said
        observation, reward, terminated, truncated, info = await episode.step(text)
        played.messages.append({"role": "assistant", "content": text})
        played.rewards.append(reward)
        played.feedback.append(info["feedback"])
        if terminated or truncated:
            played.stop = "terminated" if terminated else "truncated"
            break
        played.messages.append({"role": "user", "content": observation})
    return played
