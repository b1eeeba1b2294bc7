"""Find the city in a customer's message and write it in square brackets: a second instruction for SmolLM2-135M.

As in `order_number`, the question does not give the form, feedback does, and it never contains the message's city.
"""

from __future__ import annotations

import random
import re
from typing import Any

import gymnasium
from fst_envs import ReasoningEnv
from fst_envs.base import SPLITS, split_seed

CITIES = (
    "Amsterdam Athens Atlanta Baltimore Bangkok Barcelona Beijing Belgrade Berlin Boston Brussels"
    " Budapest Cairo Calgary Chicago Copenhagen Dallas Delhi Denver Dublin Edinburgh Florence Frankfurt"
    " Geneva Glasgow Hamburg Havana Helsinki Houston Istanbul Jakarta Kyoto Lima Lisbon Liverpool London"
    " Madrid Manchester Manila Melbourne Miami Montreal Moscow Mumbai Munich Nairobi Naples Oslo Ottawa"
    " Paris Philadelphia Phoenix Portland Prague Rome Seattle Seoul Shanghai Stockholm Sydney Tokyo"
    " Toronto Venice Vienna Warsaw Zurich"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
SEEN = (
    "Please send it to {c} on {d}.",
    "I live in {c}. Do you ship on {d}?",
    "My parcel to {c} is late since {d}.",
    "Can you deliver to {c} by {d}?",
    "We moved to {c} last {d}.",
    "Is there a shop in {c} that opens on {d}?",
    "On {d} the driver went to {c} instead.",
)
UNSEEN = ("I am in {c} until {d}.", "On {d}, how far is {c} from you?", "Nobody in {c} got a letter on {d}.")
FORM = 'Always start your reply with the city in square brackets. Example: "I am in Milan" -> [Milan]'
CITY = "The word in square brackets must be the city of the message."
_MARKED = re.compile(r"\[([^\[\]]*)\]")


class CityName(ReasoningEnv):
    """Single turn; reward 1.0 if the reply has one text in square brackets and it is the city, else 0.0.

    Each split has a quarter of the cities; training shares no sentence with validation and test.
    """

    private_answers = True

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        rng = random.Random(split_seed(split, index))
        self.city = rng.choice(CITIES[SPLITS[split] :: len(SPLITS)])
        sentences = UNSEEN if split in ("val", "test") else SEEN
        return rng.choice(sentences).format(c=self.city, d=rng.choice(DAYS)), {"answer": f"[{self.city}]"}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        marked = set(_MARKED.findall(text))
        if marked == {self.city}:
            return "", 1.0, True, "Correct."
        return "", 0.0, True, CITY if marked else FORM


gymnasium.register("smollm2/CityName-v0", entry_point="city_name:CityName")
