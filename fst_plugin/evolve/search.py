"""What a search believes of its prompts, and whom it tries next. Knows nothing of rollouts or reflections.

What is known of a prompt is its *gain*: its reward less the old population's on the same problem. While a child's tests
are few it is pulled towards its parent's gain. Whom to improve and whom to test again is drawn by Thompson's rule: each
prompt in proportion to the chance that it is the best.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..prompts import Prompt
from .evidence import MIN_DIFFERENCES, Margin, shrunk

PRIOR = 6.0
"""How many rollouts its parent's gain counts for in what is believed of a child (ours)."""
STAYS = 1.0
"""Standard errors that another old prompt must be ahead by for the lead to pass to it (ours)."""


@dataclass
class Contender:
    """A prompt in the search.

    new: not of the old population.
    expected: what was believed of its parent's gain when it was made; 0 without one.
    shown: ids of the problems that reflections have read on the way to it.
    gains: problem id -> reward less the old population's.
    tests: how often it was tested.
    """

    prompt: Prompt
    new: bool
    expected: float = 0.0
    shown: frozenset[str] = frozenset()
    gains: dict[str, float] = field(default_factory=dict)
    tests: int = 0

    @property
    def weight(self) -> float:
        """How many rollouts the belief rests on."""
        return len(self.gains) + PRIOR * self.new

    @property
    def gain(self) -> float:
        """What is believed of it; 0 of an old prompt that was never scored."""
        return (sum(self.gains.values()) + PRIOR * self.new * self.expected) / (self.weight or 1.0)


class Search:
    """The prompts of one search.

    old: the population that it began with.
    explore: draw by Thompson's rule; else always the one with the highest gain.
    seed: of the draws.
    """

    def __init__(self, old: Iterable[Prompt], *, explore: bool, seed: int):
        self.contenders = {prompt.text: Contender(prompt, new=False) for prompt in old}
        self._explore, self._seed, self._draws = explore, seed, 0

    def add(self, child: Prompt, parent: Prompt, shown: Iterable[str], mate: Prompt | None = None) -> None:
        """A child whose reflection has read the problems `shown` (ids). mate: its second parent."""
        above = self.contenders[parent.text]
        read = above.shown | frozenset(shown) | (self.contenders[mate.text].shown if mate else frozenset())
        self.contenders[child.text] = Contender(child, True, above.gain, read)

    def revive(self, prompt: Prompt) -> None:
        """An earlier prompt, of which nothing is known any more."""
        self.contenders[prompt.text] = Contender(prompt, new=True)

    def drop_unless_better(self, prompt: Prompt) -> None:
        """Unless its tests put it ahead of the old population by more than their standard error."""
        gains = self.contenders[prompt.text].gains.values()
        if not gains or statistics.fmean(gains) <= self._spread() / math.sqrt(len(gains)):
            del self.contenders[prompt.text]

    def tell(self, prompt: Prompt, gains: dict[str, float]) -> None:
        """How a tested prompt did. gains: of all problems that it has met."""
        contender = self.contenders[prompt.text]
        contender.gains = gains
        contender.tests += 1

    def draw(self, among: Iterable[Contender], count: int) -> list[Contender]:
        """`count` of those with a score, one may come up several times. Of equals the newest: while all score the same,
        the search goes deeper rather than round in circles."""
        scored = [contender for contender in among if contender.gains]
        self._draws += 1
        rng = random.Random(f"draw-{self._seed}-{self._draws}")
        spread = self._spread() if self._explore else 0.0
        drawn = []
        for _ in range(count if scored else 0):
            beliefs = [c.gain + spread / math.sqrt(c.weight) * rng.gauss(0, 1) for c in scored]
            drawn.append(scored[max(range(len(scored)), key=lambda i: (beliefs[i], i))])
        return drawn

    def survivors(self, count: int) -> list[Prompt]:
        """At most `count` distinct tested children, to be tested again."""
        drawn = self.draw((c for c in self.contenders.values() if c.new), 4 * count)
        return list({c.prompt.text: c.prompt for c in drawn}.values())[:count]

    def ranked(self) -> list[Contender]:
        """All with a score, the highest gain first; of equals the shorter, then the older."""
        scored = [c for c in self.contenders.values() if c.gains]
        return sorted(scored, key=lambda c: (-c.gain, len(c.prompt.text)))

    def lead(self, now: Contender) -> Contender:
        """The old prompt that leads: `now`, unless another is ahead of it by more than luck, on problems that both have
        met. If nothing is known of `now`, the best of the others."""
        others = [c for c in self.ranked() if not c.new and c is not now]
        if not now.gains:
            return others[0] if others else now
        for other in others:
            more = [gain - now.gains[problem] for problem, gain in other.gains.items() if problem in now.gains]
            if len(more) >= MIN_DIFFERENCES:
                if statistics.fmean(more) > STAYS * statistics.stdev(more) / math.sqrt(len(more)):
                    return other
        return now

    def ahead(self, one: Contender) -> Margin:
        """How far it is ahead of the old population."""
        return Margin(one.gain, self._spread() / math.sqrt(one.weight))

    def difference(self, one: Contender, other: Contender) -> Margin:
        """How far one is ahead of the other."""
        return self.ahead(one).less(self.ahead(other))

    def earned(self, best: Contender, old: Contender) -> Margin | None:
        """How far the best new prompt is ahead of an old one, less the luck that it was picked for. None if its tests
        cannot tell."""
        tested = [c for c in self.contenders.values() if c.new and c.gains]
        found = shrunk([list(c.gains.values()) for c in tested], tested.index(best))
        return None if found is None else found.less(self.ahead(old))

    def _spread(self) -> float:
        """Standard deviation of a single gain."""
        gains = [gain for c in self.contenders.values() for gain in c.gains.values()]
        return statistics.pstdev(gains) if gains else 0.0


__all__ = ["Contender", "Search"]
