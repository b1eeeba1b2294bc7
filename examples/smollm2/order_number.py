"""Find the order number in a customer's message and write it after a #: an instruction that SmolLM2-135M can follow.

The reward is 0 until the form is known. The question does not give the form; only feedback does. Feedback is one of two
sentences, and neither contains the message's number.
"""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from typing import Any

import gymnasium
from fst_envs import ReasoningEnv
from fst_envs.base import SPLITS, split_seed

FORM = 'Always start your reply with # and the order number. Example: "My order 5521 is wrong" -> #5521'


class Marked(ReasoningEnv):
    """Single turn; reward 1.0 if the one text that the reply marks is what the message names, else 0.0.

    seen, unseen: sentences of training, and of validation and test.
    marked: what a reply marks.
    form, other: feedback on a reply that marks nothing, and on one that marks something else.
    """

    private_answers = True
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    marked: re.Pattern[str]
    form: str
    other: str

    @abstractmethod
    def draw(self, rng: random.Random, split: str) -> tuple[str, str]:
        """What a message names, and how a right reply marks it."""

    def fill(self, sentence: str, rng: random.Random) -> str:
        """A sentence with what the message names."""
        return sentence.format(self.wanted)

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        rng = random.Random(split_seed(split, index))
        self.wanted, answer = self.draw(rng, split)
        sentences = self.unseen if split in ("val", "test") else self.seen
        return self.fill(rng.choice(sentences), rng), {"answer": answer}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        found = set(self.marked.findall(text))
        if found == {self.wanted}:
            return "", 1.0, True, "Correct."
        return "", 0.0, True, self.other if found else self.form


class OrderNumber(Marked):
    """Each split has a quarter of the numbers; training shares no sentence with validation and test."""

    seen = (
        "Hi, my order {} has not arrived yet.",
        "Where is order {}?",
        "I want to return order {} please.",
        "Order {} came damaged.",
        "Can you cancel order {} for me?",
        "My package for order {} is late.",
        "I never ordered {}.",
    )
    unseen = ("Please check on {} for me.", "The box for {} was empty.", "Thanks, {} came today.")
    marked = re.compile(r"#([0-9]+)")
    form = FORM
    other = "The number after # must be the order number of the message."

    def draw(self, rng: random.Random, split: str) -> tuple[str, str]:
        number = str(rng.randrange(1000 + SPLITS[split], 10000, len(SPLITS)))
        return number, f"#{number}"


gymnasium.register("smollm2/OrderNumber-v0", entry_point="order_number:OrderNumber")
