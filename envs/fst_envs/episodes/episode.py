"""`Episode`: plays one episode of an environment off the event loop and survives faults of the world.

    episode = Episode("fst_envs:fst/StarGraph-v0", {"degree": 5}, step_timeout_s=30)
    observation, info = await episode.reset(3, "train")
    observation, reward, terminated, truncated, info = await episode.step("<path>1,2</path>")
    await episode.close()

What counts as a fault: what the environment raises beside its user's errors (`USAGE`), a call that takes too long, a
dead process. After a fault a fresh environment takes over: same instance, same texts so far, and only if it then says
what was said before; with growing pauses, up to `retries` times per call, then `EnvironmentFault`.

Invariants: a fault never becomes a reward; an environment is never used for two episodes, nor after a fault; all calls
of one environment come from one thread. A text counts as uncheckable (reward 0, `info["error"]`) only when 1 + retries
fresh environments all choke on it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gymnasium as gym

from ..base import EnvironmentFault
from .child import Child
from .player import RAISED, USAGE, Player

logger = logging.getLogger(__name__)
T = TypeVar("T")
Turn = tuple[str, float, bool, bool, dict[str, Any]]

STEP_TIMEOUT_S = 120.0  # ours: environments that share one checking process queue before it
RESET_TIMEOUT_S = 300.0  # ours: making an environment may import a library or load a data set
RETRIES = 3  # ours: where one attempt in twenty fails, one call in 160,000 does
BACKOFF_S = 0.5  # ours; doubles with every retry
IDLE_CHILDREN = 8  # ours: processes kept for the next isolated episodes
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)  # three types before Python 3.11


class EpisodeLost(EnvironmentFault):
    """A fresh environment did not repeat what the episode had seen, so it can't go on: play it again from `reset`."""


class Episode:
    """One episode at a time of one environment; `reset` starts another one.

    env_id, env_kwargs: as in `make`.
    step_timeout_s, reset_timeout_s: limits in seconds on one call of the environment, making it counts as reset.
    retries: fresh environments tried per call after a fault; default 3 (ours).
    backoff_s: pause before the first retry, seconds; doubles with each one; default 0.5 (ours).
    isolate: play in a child process, which is killed when a call takes too long (a thread can't be: a call that hangs
        in it is left behind). Costs a process per episode under way: a tenth of a second and 20 MB. Infos then hold
        JSON values only.
    `faults` and `attempts` count over the life of the object: faults met and environments made.
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
                f"step_timeout_s={step_timeout_s}, reset_timeout_s={reset_timeout_s}: both must be above 0"
            )
        if retries < 0 or backoff_s < 0:
            raise ValueError(f"retries={retries}, backoff_s={backoff_s}: neither may be negative")
        self.env_id, self.env_kwargs = env_id, dict(env_kwargs or {})
        self.step_timeout_s, self.reset_timeout_s = step_timeout_s, reset_timeout_s
        self.retries, self.backoff_s, self.isolate = retries, backoff_s, isolate
        self.faults = 0
        self.attempts = 0
        self._host: _Host | None = None
        self._named: tuple[int, str] | None = None  # the instance; None: no episode under way
        self._first: str | None = None  # what `reset` said
        self._played: list[tuple[str, Turn]] = []  # (text, what it brought)

    async def reset(self, index: int, split: str = "train") -> tuple[str, dict[str, Any]]:
        """Starts the episode of instance `index` of `split`. Returns (observation, info), info with "task_id".

        Raises what a wrong id, argument, split or index raises, at once; EnvironmentFault after `retries`.
        """
        await self.close()
        self._named, self._first, self._played = (index, split), None, []
        observation, info = await self._robustly(self._begin)
        self._first = observation
        return observation, info

    async def step(self, text: str) -> Turn:
        """Plays one text. Returns (observation, reward, terminated, truncated, info), info with "feedback".

        Raises ResetNeeded where no episode is under way, TypeError for an action that is not a str, EnvironmentFault
        after `retries`, EpisodeLost where the environment can't be brought back to where the episode stood.
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
        """Ends the environment; faults on the way are logged. The object may be reset again."""
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
            except BaseException as e:  # cancelled by the caller as well: the call is still under way in its thread
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
        """Makes a fresh environment and brings it to where the episode stands."""
        assert self._named is not None
        self.attempts += 1
        self._host = _Host(self.isolate)
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
                self.faults += chokes  # a fresh environment could check the text, so it was not to blame
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

    async def _result(self, call: _Call) -> Any:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(call.future), call.timeout)
        except _TIMEOUTS as e:
            raise call.late(e) from e

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BlockingEpisode(Episode):
    """An `Episode` for code without an event loop: drive its coroutines with `run`."""

    async def _result(self, call: _Call) -> Any:
        try:
            return call.future.result(call.timeout)
        except _TIMEOUTS as e:
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
    if isinstance(e, (EnvironmentFault, *_TIMEOUTS)):
        return True
    return isinstance(e, Exception) and not isinstance(e, USAGE)


@dataclass(frozen=True)
class _Call:
    """A call under way. timeout: seconds to wait for it; None where the child process keeps the time."""

    op: str
    future: concurrent.futures.Future[Any]
    timeout: float | None

    def late(self, e: BaseException) -> BaseException:
        if self.future.done():  # the environment's own timeout
            return e
        return EnvironmentFault(f"{self.op} took longer than {self.timeout:g} s; its thread was left behind")


class _Host:
    """The thread in which all calls of one environment run: libraries may be bound to the thread they started in."""

    def __init__(self, isolate: bool):
        self.isolate = isolate
        self.player: Player | _Remote = _Remote() if isolate else Player()
        self._calls: queue.SimpleQueue[tuple[_Call, tuple[Any, ...]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="fst-episode", daemon=True).start()

    def call(self, op: str, args: tuple[Any, ...], timeout: float) -> _Call:
        if isinstance(self.player, _Remote):
            self.player.timeout = timeout
        call = _Call(op, concurrent.futures.Future(), None if self.isolate else timeout)
        self._calls.put((call, args))
        return call

    def end(self) -> None:
        self._calls.put(None)

    def abandon(self) -> None:
        """Closes the environment after whatever is under way, if that ever ends; waits for nothing."""
        if isinstance(self.player, _Remote):
            self.player.kill()
        else:
            self.call("close", (), 0.0)
        self.end()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, args = item
            call.future.set_running_or_notify_cancel()
            try:
                call.future.set_result(getattr(self.player, call.op)(*args))
            except BaseException as e:
                call.future.set_exception(e)
            del item, call, args


class _Remote:
    """A `Player` in a child process."""

    def __init__(self) -> None:
        self.timeout = STEP_TIMEOUT_S
        self._child: Child | None = None
        self._world: tuple[str, ...] = ()

    def reset(self, *args: Any) -> Any:
        self._world = _world()
        with _idle_lock:
            fit = next((entry for entry in _idle if entry[0] == self._world), None)
            if fit is not None:
                _idle.remove(fit)
        self._child = fit[1] if fit is not None else Child("fst_envs.episodes.player", private=False)
        return self._ask("reset", args)

    def step(self, text: str) -> Any:
        return self._ask("step", (text,))

    def close(self) -> None:
        child = self._child
        if child is not None:
            self._ask("close", ())
            self._child = None
            with _idle_lock:
                _idle.append((self._world, child))
                over = _idle.pop(0)[1] if len(_idle) > IDLE_CHILDREN else None
            if over is not None:
                over.kill()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _ask(self, op: str, args: tuple[Any, ...]) -> Any:
        assert self._child is not None
        answer = self._child.ask({"op": op, "args": args}, self.timeout)
        if "message" in answer:
            raise RAISED.get(answer["raised"], EnvironmentFault)(answer["message"])
        return answer["result"]


def _world() -> tuple[str, ...]:
    """What a child took over from this process when it started, as far as imports depend on it."""
    return (os.getcwd(), *sys.path)


_idle: list[tuple[tuple[str, ...], Child]] = []
_idle_lock = threading.Lock()

Policy = Callable[[list[dict[str, str]]], "str | Awaitable[str]"]


@dataclass
class Played:
    """What an episode was. messages: the chat, "user" is the environment; rewards, feedback: one per turn.

    stop: "terminated" or "truncated" as the environment said, "max_turns" where `play` ended it.
    """

    task_id: str
    messages: list[dict[str, str]]
    rewards: list[float] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    stop: str = "max_turns"


async def play(episode: Episode, policy: Policy, index: int, split: str = "train", *, max_turns: int = 100) -> Played:
    """Plays an episode to its end with `policy`, a function or coroutine function from the chat so far to a text.

    max_turns: default 100 (ours). A lost episode is played again from its start, up to the episode's `retries`.
    Raises what `Episode` raises; the environment is closed either way.
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
