"""Pre-training of the tiny policy in plain torch: two to three minutes on one core, no weight set by hand.

- Several independent requests share one system prompt in one sequence: a block mask keeps them apart and positions
  restart after the system prompt, so that each reads as a chat of its own. The loss is on answers only.
- Lessons in order: drills (few words, then all), bare requests, the full language. Without the drills the policy
  stays at copying any value of the prompt.
- Matrices are moved by orthogonalised momentum, everything else by AdamW, the query and key biases faster.
- Doubt: in the last stretch a share of each stated value's target is spread evenly over all values. That is what
  leaves the policy middling instead of certain.

Invariant: the result is a function of (recipe, seed) on a given machine and torch build; the clock has no part in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fst_envs.house import language as lang

from . import chats
from .chats import Chat
from .dialect import IM_END, IM_START, PAD, RULES, Dialect

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import LlamaForCausalLM

_IGNORE = -100

Progress = Callable[[int, int, dict[str, float]], None]
"""Called now and then with (steps done, steps in all, {"loss": ..., "values": share of values right})."""


@dataclass(frozen=True)
class Recipe:
    """Pre-training settings (all ours).

    steps: optimizer steps. chats: chats a step; drills are short, so twice as many.
    drills, bare: shares of the steps spent on drills and then on bare requests.
    doubt: share of a stated value's target that is spread evenly, from `doubt_from` (share of the steps) on.
    matrix_rate, rate, bias_rate: peak learning rates of matrices, of the rest, of query and key biases.
    """

    steps: int = 600
    chats: int = 16
    drills: float = 0.25
    bare: float = 0.15
    doubt: float = 0.25
    doubt_from: float = 0.7
    matrix_rate: float = 0.02
    rate: float = 2e-3
    bias_rate: float = 0.03


@dataclass(frozen=True)
class Batch:
    """Packed chats. Shapes: ids, positions, labels, guess, kind (B, N); mask (B, 1, N, N), added to attention scores.

    labels: -100 where nothing is learnt. guess: 1 where the value has to be guessed. kind: 0 where the token is no
    value, else 1 + its index in LOOKUP_KINDS. turn: number of the request, 0 for the system prompt, -1 for padding.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    guess: Tensor
    kind: Tensor
    turn: Tensor
    mask: Tensor


def pack(chosen: Sequence[Chat], dialect: Dialect = RULES) -> Batch:
    """Chats as one batch, padded on the right."""
    import torch

    rows = [_row(chat, dialect) for chat in chosen]
    longest = max(len(row) for row in rows)
    filler = (dialect.ids[PAD], 0, _IGNORE, 0, 0, -1)
    table = torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
    ids, positions, labels, guess, kind, turn = table.unbind(-1)
    seen = (turn[:, None, :] == 0) | (turn[:, None, :] == turn[:, :, None])
    seen &= torch.ones(longest, longest, dtype=torch.bool).tril()
    mask = torch.zeros(len(rows), 1, longest, longest).masked_fill_(~seen[:, None], -1e9)
    return Batch(ids, positions, labels, guess, kind, turn, mask)


def _block(dialect: Dialect, role: str, text: str) -> list[int]:
    ids = dialect.ids
    return [ids[IM_START], ids[role], ids["\n"], *dialect.encode(text), ids[IM_END], ids["\n"]]


def _row(chat: Chat, dialect: Dialect) -> list[tuple[int, int, int, int, int, int]]:
    """(id, position, label, guess, kind, turn) of every token of a chat."""
    ids, head = dialect.ids, _block(dialect, "system", chat.system)
    row = [(token, i, _IGNORE, 0, 0, 0) for i, token in enumerate(head)]
    for number, turn in enumerate(chat.turns, 1):
        asked = [*_block(dialect, "user", turn.user), ids[IM_START], ids["assistant"], ids["\n"]]
        kind, values = 1 + dialect.kinds.index(turn.kind), set(dialect.value_ids[turn.kind])
        said = [*dialect.encode(turn.answer), ids[IM_END]]
        row += [(token, len(head) + i, _IGNORE, 0, 0, number) for i, token in enumerate(asked)]
        for i, token in enumerate(said, len(head) + len(asked)):
            value = token in values
            label = token if value or not turn.drill else _IGNORE
            row.append((token, i, label, int(value and not turn.known), kind if value else 0, number))
    return row


def answer_log_probs(model: LlamaForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities (M, vocabulary) of the M learnt tokens, and the boolean (B, N-1) that selects them."""
    hidden = model.model(
        input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    learnt = batch.labels[:, 1:] != _IGNORE
    return model.lm_head(hidden[:, :-1][learnt]).float().log_softmax(-1), learnt


def _loss(log_probs: Tensor, batch: Batch, learnt: Tensor, doubt: float, dialect: Dialect) -> tuple[Tensor, float]:
    import torch

    labels, guess, kind = (t[:, 1:][learnt] for t in (batch.labels, batch.guess, batch.kind))
    stated = -log_probs.gather(-1, labels[:, None])[:, 0]
    even = torch.zeros_like(stated)
    for index, values in enumerate(dialect.value_ids.values(), 1):
        even = torch.where(kind == index, -log_probs[:, values].mean(-1), even)
    spread = torch.where(guess == 1, 1.0, torch.where(kind > 0, doubt, 0.0))
    known = (kind > 0) & (guess == 0)
    right = (log_probs.argmax(-1) == labels)[known].float().mean().item() if known.any() else float("nan")
    return ((1 - spread) * stated + spread * even).mean(), right


def lesson(rng: random.Random, recipe: Recipe, step: int) -> list[Chat]:
    """The chats of one step."""
    done = step / recipe.steps
    if done < recipe.drills:
        words = lang.WORDS[: chats.FIRST_WORDS] if done < 0.7 * recipe.drills else lang.WORDS
        return [chats.drill(rng, words) for _ in range(2 * recipe.chats)]
    make = chats.bare if done < recipe.drills + recipe.bare else chats.full
    return [make(rng) for _ in range(recipe.chats)]


Lesson = Callable[[random.Random, Recipe, int], list[Chat]]


def pretrain(
    model: LlamaForCausalLM,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    dialect: Dialect = RULES,
    chats_of: Lesson = lesson,
) -> None:
    """Trains `model` in place. chats_of: the chats of a step, in `dialect`."""
    import torch

    rng = random.Random(seed)
    groups = _Optimizer(model, recipe)
    model.train()
    for step in range(recipe.steps):
        done = step / recipe.steps
        batch = pack(chats_of(rng, recipe, step), dialect)
        log_probs, learnt = answer_log_probs(model, batch)
        loss, right = _loss(log_probs, batch, learnt, recipe.doubt if done >= recipe.doubt_from else 0.0, dialect)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        groups.step(min(1.0, (step + 1) / 30) * min(1.0, max(0.03, 2 * (1 - done))))
        if progress and ((step + 1) % 25 == 0 or step + 1 == recipe.steps):
            progress(step + 1, recipe.steps, {"loss": loss.item(), "values": right})
    model.eval()


class _Optimizer:
    """Orthogonalised momentum for the matrices of the blocks, AdamW for the rest (two rates)."""

    def __init__(self, model: torch.nn.Module, recipe: Recipe):
        import torch

        named = list(model.named_parameters())
        self.matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        biases = [p for name, p in named if name.endswith(("q_proj.bias", "k_proj.bias"))]
        apart = {id(p) for p in (*self.matrices, *biases)}
        rest = [p for _, p in named if id(p) not in apart]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.matrix_rate = recipe.matrix_rate
        groups: list[dict[str, Any]] = [
            {"params": rest, "lr": recipe.rate, "peak": recipe.rate},
            {"params": biases, "lr": recipe.bias_rate, "peak": recipe.bias_rate},
        ]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, scale: float) -> None:
        """One update at `scale` times the peak rates."""
        import torch

        for group in self.adam.param_groups:
            group["lr"] = scale * group["peak"]
        self.adam.step()
        with torch.no_grad():
            for matrix, velocity in zip(self.matrices, self.momentum, strict=True):
                assert matrix.grad is not None
                velocity.lerp_(matrix.grad, 0.1)
                update = _orthogonal(matrix.grad.lerp(velocity, 0.9))
                update *= max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.sub_(update, alpha=scale * self.matrix_rate)


def _orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: Newton-Schulz iteration with the usual quintic coefficients."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
