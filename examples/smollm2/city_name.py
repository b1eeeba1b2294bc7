"""Find the city in a customer's message and write it in square brackets: a second instruction for SmolLM2-135M."""

from __future__ import annotations

import random
import re

import gymnasium
from fst_envs.base import SPLITS
from order_number import Marked

CITIES = (
    "Amsterdam Athens Atlanta Baltimore Bangkok Barcelona Beijing Belgrade Berlin Boston Brussels"
    " Budapest Cairo Calgary Chicago Copenhagen Dallas Delhi Denver Dublin Edinburgh Florence Frankfurt"
    " Geneva Glasgow Hamburg Havana Helsinki Houston Istanbul Jakarta Kyoto Lima Lisbon Liverpool London"
    " Madrid Manchester Manila Melbourne Miami Montreal Moscow Mumbai Munich Nairobi Naples Oslo Ottawa"
    " Paris Philadelphia Phoenix Portland Prague Rome Seattle Seoul Shanghai Stockholm Sydney Tokyo"
    " Toronto Venice Vienna Warsaw Zurich"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
FORM = 'Always start your reply with the city in square brackets. Example: "I am in Milan" -> [Milan]'


class CityName(Marked):
    """Each split has a quarter of the cities; training shares no sentence with validation and test."""

    seen = (
        "Please send it to {} on {}.",
        "I live in {}. Do you ship on {}?",
        "My parcel to {} is late since {}.",
        "Can you deliver to {} by {}?",
        "We moved to {} last {}.",
        "Is there a shop in {} that opens on {}?",
        "On {1} the driver went to {0} instead.",
    )
    unseen = ("I am in {} until {}.", "On {1}, how far is {0} from you?", "Nobody in {} got a letter on {}.")
    marked = re.compile(r"\[([^\[\]]*)\]")
    form = FORM
    other = "The word in square brackets must be the city of the message."

    def draw(self, rng: random.Random, split: str) -> tuple[str, str]:
        city = rng.choice(CITIES[SPLITS[split] :: len(SPLITS)])
        return city, f"[{city}]"

    def fill(self, sentence: str, rng: random.Random) -> str:
        return sentence.format(self.wanted, rng.choice(DAYS))


gymnasium.register("smollm2/CityName-v0", entry_point="city_name:CityName")
