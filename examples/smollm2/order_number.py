"""Find the order number in a customer's message and write it after a #: an instruction that SmolLM2-135M can follow.

The reward is 0 until the form is known. The question does not give the form; only feedback does. Feedback is one of two
sentences, and neither contains the message's number.
"""

from __future__ import annotations

import random
import re
from typing import Any

import gymnasium
from fst_envs import ReasoningEnv
from fst_envs.base import SPLITS, split_seed

SEEN = (
    "Hi, my order {n} has not arrived yet.",
    "Where is order {n}?",
    "I want to return order {n} please.",
    "Order {n} came damaged.",
    "Can you cancel order {n} for me?",
    "My package for order {n} is late.",
    "I never ordered {n}.",
)
UNSEEN = ("Please check on {n} for me.", "The box for {n} was empty.", "Thanks, {n} came today.")
FORM = 'Always start your reply with # and the order number. Example: "My order 5521 is wrong" -> #5521'
NUMBER = "The number after # must be the order number of the message."
_MARKED = re.compile(r"#([0-9]+)")


class OrderNumber(ReasoningEnv):
    """Single turn; reward 1.0 if the reply has one number after a # and it is the order's, else 0.0.

    Each split has a quarter of the numbers; training shares no sentence with validation and test.
    """

    private_answers = True

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        rng = random.Random(split_seed(split, index))
        self.number = str(rng.randrange(1000 + SPLITS[split], 10000, len(SPLITS)))
        sentences = UNSEEN if split in ("val", "test") else SEEN
        return rng.choice(sentences).format(n=self.number), {"answer": f"#{self.number}"}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        marked = set(_MARKED.findall(text))
        if marked == {self.number}:
            return "", 1.0, True, "Correct."
        return "", 0.0, True, NUMBER if marked else FORM


gymnasium.register("smollm2/OrderNumber-v0", entry_point="order_number:OrderNumber")
