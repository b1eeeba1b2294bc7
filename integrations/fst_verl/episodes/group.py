"""All sessions of a group succeed together or fail together.

When one session of a group raises, verl marks the group as failed but keeps the trajectories of the others: trained
on, they would be compared with a part of their group, a lone one with nothing. A whole failed group is what verl
drops, or replaces if its config says so.

Here every session hands its output over only after all of its siblings have finished, and fails with them. verl
starts the sessions of a group one after the other as tasks of one event loop, so each has entered before any of them
can have left: no count is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class GroupFailed(RuntimeError):
    """A sibling of this session failed; its own error says why."""


class Group:
    """The sessions of one group in this process."""

    def __init__(self) -> None:
        self.playing = 0
        self.error: BaseException | None = None
        self._over = asyncio.Event()

    def check(self) -> None:
        """Raises GroupFailed if a sibling has failed: what this session still does would be thrown away."""
        if self.error is not None:
            raise GroupFailed(f"another session of this group failed: {type(self.error).__name__}: {self.error}")


_groups: dict[str, Group] = {}


async def finish_together(uid: str, session: Callable[[Group], Awaitable[T]]) -> T:
    """What `session` returns, once every session of group `uid` has finished.

    Must be reached without giving up the event loop on the way. Raises the session's own error, or GroupFailed.
    """
    group = _groups.setdefault(uid, Group())
    group.playing += 1
    try:
        result = await session(group)
    except BaseException as error:
        if not isinstance(error, GroupFailed):
            group.error = group.error or error
        raise
    finally:
        group.playing -= 1
        if group.playing == 0:
            group._over.set()
            _groups.pop(uid, None)
    await group._over.wait()
    group.check()
    return result
