"""Pre-training of the tiny policy in plain torch: seconds-long, deterministic given the seed, counted in steps.

Several independent requests share one system prompt in one sequence: a block mask keeps them apart and positions
restart after the system prompt, so each reads as a chat of its own. The loss is on the answers only.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import language as lang
from .chats import Chat, Stage, sample_chat

if TYPE_CHECKING:
    import torch

_IDS = {token: i for i, token in enumerate(lang.vocabulary())}
_VALUES = {kind: [_IDS[v] for v in values] for kind, values in lang.VALUES.items()}


@dataclass(frozen=True)
class Recipe:
    """Pre-training settings, all ours.

    steps, batch: optimizer steps and chats a step. lr: peak learning rate. plain: share of the steps spent on bare
    requests with few rules. doubt: share of the target that is spread evenly over all values in the last
    `doubt_from` part: what keeps the policy middling instead of certain. rules: most rules listed in a prompt.
    """

    steps: int = 1000
    batch: int = 24
    lr: float = 2e-3
    muon_lr: float = 0.02
    plain: float = 0.3
    plain_rules: int = 4
    doubt: float = 0.25
    doubt_from: float = 0.7
    rules: int = 14
    turns: int = 8


def encode(text: str) -> list[int]:
    return [_IDS.get(token, _IDS[lang.UNK]) for token in lang.tokenize(text.replace(lang.UNK, "~"))]


def _block(role: str, text: str) -> list[int]:
    return [_IDS[lang.IM_START], _IDS[role], _IDS["\n"], *encode(text), _IDS[lang.IM_END], _IDS["\n"]]


def _pack(chat: Chat):
    head = _block("system", chat.system)
    ids, seg, pos, label, kind = list(head), [0] * len(head), list(range(len(head))), [-100] * len(head), [0] * len(head)
    for i, turn in enumerate(chat.turns, 1):
        user = _block("user", turn.user) + [_IDS[lang.IM_START], _IDS["assistant"], _IDS["\n"]]
        reply = [*encode(turn.answer), _IDS[lang.IM_END]]
        ids += user + reply
        seg += [i] * (len(user) + len(reply))
        pos += range(len(head), len(head) + len(user) + len(reply))
        label += [-100] * len(user) + reply
        k = 1 + lang.LOOKUP_KINDS.index(turn.kind) + (0 if turn.known else 10)
        kind += [0] * len(user) + [k if t in _VALUES[turn.kind] else 0 for t in reply]
    return ids, seg, pos, label, kind


def make_batch(chats):
    import torch

    rows = [_pack(c) for c in chats]
    n = max(len(r[0]) for r in rows)

    def pad(j, v):
        return torch.tensor([r[j] + [v] * (n - len(r[j])) for r in rows])

    ids, seg, pos, label, kind = pad(0, 0), pad(1, -1), pad(2, 0), pad(3, -100), pad(4, 0)
    ok = (seg[:, None, :] == 0) | (seg[:, None, :] == seg[:, :, None])
    ok &= torch.ones(n, n, dtype=torch.bool).tril()
    mask = torch.zeros(len(rows), 1, n, n).masked_fill_(~ok[:, None], -1e9)
    return ids, pos, label, kind, mask
