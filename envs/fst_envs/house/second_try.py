"""Second try: house rules with a hint. After a wrong answer come the rule that corrects it and the request once more.

A small multi-turn environment. The first try is right only if the model knows the rule book, from a prompt or from
training. A later try is also right if the model does what the hint says, which needs no knowledge. It speaks the
language of the house rules, so the tiny policy can play it.

Invariant: the reward of an episode is that of its one right answer, 1.0 on the first try and `later` after a hint, or 0
without one.
"""

from __future__ import annotations

from typing import Any

from .rules import HouseRules


class SecondTry(HouseRules):
    """Multi-turn; each wrong answer except the last brings a hint and another turn.

    tries: number of answers allowed, 1 or more; default 2 (ours).
    later: reward of a right answer after a hint, 0 to 1; default 0.5 (ours).
    kwargs: as in `HouseRules`.
    Raises ValueError for tries or later out of range.
    """

    def __init__(self, tries: int = 2, later: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        if tries < 1:
            raise ValueError(f"tries={tries}: use 1 or more")
        if not 0.0 <= later <= 1.0:
            raise ValueError(f"later={later}: use 0 to 1, the reward of a right answer after a hint")
        self.tries, self.later = tries, later
        self._request, self._tried = "", 0

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        self._request, extra = super().load(index, split)
        self._tried = 0
        return self._request, extra

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        self._tried += 1
        _, reward, _, feedback = super().respond(text)
        if reward:
            return "", reward if self._tried == 1 else self.later, True, feedback
        if self._tried < self.tries:
            return f"{feedback}\n{self._request}", 0.0, False, feedback
        return "", 0.0, True, feedback
