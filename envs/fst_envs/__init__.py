"""Text environments: each is a gymnasium.Env from str to str with feedback that a reflection can read.

Ids live in Gymnasium's registry and name the module that registers them, so a fresh worker process finds them:
`gymnasium.make("fst_envs:fst/StarGraph-v0", degree=5)`.

Invariants: importing this package imports no environment; environments know nothing of training.
"""

from __future__ import annotations

import gymnasium as _gym

from .base import SPLITS, WINDOW, ReasoningEnv, content_id, split_seed
from .contract import ContractError, EnvironmentFault
from .make import TextEnv, make
from .spaces import UnicodeText

ENVIRONMENTS = {
    "fst/HouseRules-v0": "fst_envs.house.rules:HouseRules",
    "fst/SecondTry-v0": "fst_envs.house.second_try:SecondTry",
    "fst/StarGraph-v0": "fst_envs.star_graph:StarGraph",
    "fst/ReasoningGym-v0": "fst_envs.reasoning.env:ReasoningGym",
    "fst/CodeIO-v0": "fst_envs.files.paper_tasks:CodeIO",
    "fst/HoVer-v0": "fst_envs.files.paper_tasks:HoVer",
    "fst/Polaris-v0": "fst_envs.files.paper_tasks:Polaris",
    "fst/Physics-v0": "fst_envs.files.paper_tasks:Physics",
    "fst/Gem-v0": "fst_envs.adapters.gem:Gem",
    "fst/TextArena-v0": "fst_envs.adapters.textarena:TextArena",
    "fst/OpenEnv-v0": "fst_envs.adapters.openenv:OpenEnv",
    "fst/SkyRLGym-v0": "fst_envs.adapters.skyrl:SkyRLGym",
}

for _id, _entry_point in ENVIRONMENTS.items():
    if _id not in _gym.registry:
        _gym.register(_id, entry_point=_entry_point)

__all__ = [
    "ENVIRONMENTS",
    "SPLITS",
    "WINDOW",
    "ContractError",
    "EnvironmentFault",
    "ReasoningEnv",
    "TextEnv",
    "UnicodeText",
    "content_id",
    "make",
    "split_seed",
]
