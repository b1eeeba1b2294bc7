"""From a reflection's answers to prompts that are worth rollouts.

A reflection may be down, return nonsense, a megabyte, the prompt it was given, or control tokens. What comes out here
is clean, new (more than known lines in another order), and within the cap in the policy's tokens; everything else is
counted and costs no rollout. A reflection never breaks a phase: its exceptions are failures; only a journal that does
not fit does.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from .. import examples
from ..examples import Example
from ..policy import Policy
from ..prompts import Prompt
from ..record.journal import JournalError
from ..reflection.base import Reflection, ReflectionRequest, Trouble
from ..reflection.text import clean, without_hidden
from ..rewards import RewardBar
from ..rollouts import Problem, Rollout
from .leaks import leaked

Records = tuple[tuple[Problem, Rollout], ...]

EXAMPLE = "example"
"""Origin of a prompt that shows one more solved problem than its parent."""

_READ_LIMIT = 8  # an answer longer than this many times the cap in characters is not even looked at


@dataclass
class Proposer:
    """Asks `reflection` for prompts and vets what it says.

    cycle: goes into the prompts.
    policy: whose prompts are made: their cap in its tokens, its control tokens.
    seed: of the phase.
    private: problems whose answers no prompt may carry.
    bar: tells which rollouts are solved, as far as is known.
    refused: prompts that did.
    count: calls, failures, skipped, long, leaks, hidden (characters dropped), shown (children with another example).
    failed_rounds: rounds in a row that failed throughout.
    trouble: of the reflection, over all batches.
    """

    reflection: Reflection
    policy: Policy
    cycle: int
    seed: int
    private: Sequence[Problem] = ()
    bar: Callable[[], RewardBar] = RewardBar
    refused: list[Prompt] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    failed_rounds: int = 0
    trouble: Trouble = field(default_factory=Trouble)
    _seen: set[str] = field(default_factory=set)

    def know(self, text: str) -> None:
        """Marks a text as already seen."""
        self._seen.add(_essence(text))

    def propose(
        self, round_number: int, parents: Sequence[tuple[Prompt, Records]], mates: Sequence[Prompt | None] = ()
    ) -> list[Prompt | None]:
        """One new prompt per parent, in order; None if nothing usable came. All go out as one batch; what is too
        long gets one more, to be shortened. mates: a second parent for each, or None."""
        if not parents:
            return []
        seed = _derive(self.seed, round_number)
        mates = mates or [None] * len(parents)
        kept = [examples.split(parent.text)[1] for parent, _ in parents]
        caps = [self._cap(solved) for solved in kept]
        requests = [
            ReflectionRequest(
                _told(parent),
                records,
                slot,
                seed,
                self._max_chars(parent.text, records, cap),
                self.bar(),
                self.cycle,
                mate and _told(mate),
            )
            for slot, ((parent, records), mate, cap) in enumerate(zip(parents, mates, caps, strict=True))
        ]
        answers = self._ask(requests)
        failed = sum(answer is None for answer in answers)
        self.failed_rounds = self.failed_rounds + 1 if failed == len(answers) else 0
        long: dict[int, str] = {}
        texts = [self._vet(i, answer, long, caps[i]) for i, answer in enumerate(answers)]
        if long:
            self._shorten(requests, texts, long, caps)
        prompts = []
        for text, solved, (parent, _), mate in zip(texts, kept, parents, mates, strict=True):
            made_from = tuple(prompt.digest for prompt in (parent, mate) if prompt)
            whole = None if text is None else Prompt(examples.joined(text, solved), made_from, "reflection", self.cycle)
            prompts.append(whole and self._unless_known(whole, text or ""))
        return prompts

    def show(self, parent: Prompt, solved: Sequence[tuple[Problem, Rollout]], rng: random.Random) -> Prompt | None:
        """The parent with one more solved problem among its examples, in place of one of them if there are
        `examples.MOST` or no room for more; None if none of `solved` makes a new prompt. No reflection is asked."""
        instructions, old = examples.split(parent.text)
        for problem, rollout in rng.sample(solved, len(solved)):
            new = examples.of(problem, replace(rollout, response=self._said(rollout.response)))
            if new is None or new.question in {one.question for one in old}:
                continue
            for some in _with_one_more(old, new, rng):
                child = Prompt(examples.joined(instructions, some), (parent.digest,), EXAMPLE, self.cycle)
                if self.policy.refuse(child.text) is None and _essence(child.text) not in self._seen:
                    self.know(child.text)
                    self.count["shown"] += 1
                    return child
        return None

    def _said(self, response: str) -> str:
        """A response without the thinking before its answer; "" if the thinking never ends."""
        for opening, closing in self.policy.thinking:
            if closing in response:
                response = response.rpartition(closing)[2]
            elif opening in response or self.policy.opened == opening:
                return ""
        return response

    def _cap(self, solved: Sequence[Example]) -> int:
        """Tokens that instructions may have beside these examples."""
        beside = self.policy.count_tokens(examples.joined("", solved)) if solved else 0
        return max(1, self.policy.max_tokens - beside)

    def _unless_known(self, prompt: Prompt, said: str) -> Prompt | None:
        """said: what of it a reflection wrote. The rest gives no answer away: no chat has its own problem's example."""
        if _essence(prompt.text) in self._seen:
            self.count["skipped"] += 1
            return None
        self.know(prompt.text)
        if leaked(said, self.private) is None:
            return prompt
        self.count["leaks"] += 1
        self.refused.append(prompt)
        return None

    def _ask(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        self.count["calls"] += len(requests)
        try:
            answers = list(self.reflection.propose(requests))
            if len(answers) != len(requests):
                raise ValueError(f"{len(answers)} answers to {len(requests)} requests")
        except JournalError:
            raise
        except Exception as error:
            self.trouble.note("failures", error, len(requests))
            answers = [None] * len(requests)
        else:
            self.trouble.add(getattr(self.reflection, "trouble", Trouble()))
        self.count["failures"] += sum(answer is None for answer in answers)
        return answers

    def _vet(self, index: int, answer: str | None, long: dict[int, str], cap: int) -> str | None:
        """The clean text, or None. Puts a text that is over the cap, in tokens, into `long`."""
        if answer is None:
            return None
        if not isinstance(answer, str):
            self.count["skipped"] += 1
            return None
        if len(answer) > _READ_LIMIT * 4 * self.policy.max_tokens:
            self.count["long"] += 1
            return None
        answer, dropped = without_hidden(answer)
        self.count["hidden"] += dropped
        try:
            text = clean(answer, self.policy.special_tokens)
        except ValueError:
            self.count["skipped"] += 1
            return None
        if self.policy.count_tokens(text) > cap:
            long[index] = text
            return None
        return text

    def _shorten(
        self,
        requests: Sequence[ReflectionRequest],
        texts: list[str | None],
        long: dict[int, str],
        caps: Sequence[int],
    ) -> None:
        """One attempt to bring texts under the cap: the reflection is asked to improve them within fewer characters."""
        again = []
        for index, text in long.items():
            fits = int(0.95 * len(text) * caps[index] / self.policy.count_tokens(text))
            old = requests[index]
            parent = Prompt(text, (old.parent.digest,), "reflection", self.cycle)
            again.append(ReflectionRequest(parent, old.records, old.slot, old.seed, max(1, fits), old.bar, self.cycle))
        still_long: dict[int, str] = {}
        for index, answer in zip(long, self._ask(again), strict=True):
            texts[index] = self._vet(index, answer, still_long, caps[index])
            if answer is None:
                self.count["long"] += 1
        self.count["long"] += len(still_long)

    def _max_chars(self, parent: str, records: Records, cap: int) -> int:
        """The cap in characters, from how many characters a token of such texts has. cap: in tokens."""
        sample = "\n".join([parent, *(rollout.feedback for _, rollout in records)])[:20_000]
        tokens = self.policy.count_tokens(sample)
        return max(1, int(cap * (len(sample) / tokens if sample.strip() and tokens else 4.0)))


def _essence(text: str) -> str:
    """What two prompts share that say the same: their lines in any order, whatever case and white space."""
    lines = {" ".join(line.split()).casefold() for line in text.splitlines()}
    return "\n".join(sorted(lines - {""}))


def _told(prompt: Prompt) -> Prompt:
    """A prompt as a reflection gets it: its instructions alone."""
    instructions, solved = examples.split(prompt.text)
    return replace(prompt, text=instructions) if solved else prompt


def _with_one_more(old: Sequence[Example], new: Example, rng: random.Random) -> Iterator[list[Example]]:
    """With `new` after the old ones, then with fewer and fewer of these."""
    kept = rng.sample(old, min(len(old), examples.MOST - 1))
    for count in range(len(kept), -1, -1):
        yield [*(one for one in old if one in kept[:count]), new]


def _derive(seed: int, number: int) -> int:
    digest = hashlib.blake2b(f"reflection-{seed}-{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


__all__ = ["Proposer"]
