"""How reliably a policy follows rule books it has never seen: measured on house rules, without sampling.

For every (prompt, request) the probability of the one right answer, end token included, is read off one forward pass:
its mean is the expected accuracy at temperature 1. Greedy accuracy counts the answers whose every token is the most
likely one. Books and requests are those of `HouseRules`: held-out pairs, validation phrasings.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from fst_envs.house import language as lang
from fst_envs.house.rules import draw_book

from . import graphs
from .chats import Chat, Turn
from .dialect import RULES, Dialect
from .train import answer_log_probs, pack

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

TASKS: dict[str, tuple[str, ...]] = {
    "codes": ("codes",),
    "places": ("places",),
    "codes+places": ("codes", "places"),
    "codes+format": ("codes", "format"),
    "codes+closing": ("codes", "closing"),
    "all kinds": lang.KINDS,
}
LISTED = (0, 1, 6, 12)  # ours: how many per-word rules the prompt lists; 0 is the seed prompt alone


def accuracy(model: LlamaForCausalLM, chats: list[Chat], dialect: Dialect = RULES) -> tuple[float, float]:
    """(expected accuracy at temperature 1, greedy accuracy) over chats of one request each."""
    import torch

    batch = pack(chats, dialect)
    with torch.no_grad():
        log_probs, learnt = answer_log_probs(model, batch)
    labels, chat = batch.labels[:, 1:][learnt], learnt.nonzero()[:, 0]
    total = torch.zeros(len(chats))
    total.index_add_(0, chat, log_probs.gather(-1, labels[:, None])[:, 0])
    wrong = torch.zeros(len(chats))
    wrong.index_add_(0, chat, (log_probs.argmax(-1) != labels).float())
    return total.exp().mean().item(), (wrong == 0).float().mean().item()


def questions(kinds: tuple[str, ...], listed: int, seed: int, books: int = 10, words: int = 12) -> list[Chat]:
    """`books * words` one-request chats: the seed prompt, then `listed` per-word rules, one of them the one asked for,
    with the book's general rules before them; with listed=0 the seed prompt alone."""
    chats = []
    for number in range(books):
        rng = random.Random(f"measure {seed} {number}")
        book = draw_book(rng.getrandbits(32), kinds, words)
        general = book.rules()[: -len(book.values)]
        for word, (kind, _) in book.values.items():
            shown = [word, *rng.sample([w for w in book.values if w != word], max(0, listed - 1))][:listed]
            rng.shuffle(shown)
            stated = [lang.rule(*book.values[w], word=w) for w in shown]
            system = "\n".join([lang.SEED_PROMPT, *(general if listed else []), *stated])
            request = rng.choice(lang.requests(kind, "val")).format(w=word)
            chats.append(Chat(system, (Turn(request, book.answer(word), kind),)))
    return chats


def reliability(model: LlamaForCausalLM, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """task -> number of rules listed ("0", "1", ...) -> {"sampled": ..., "greedy": ...}, accuracies in 0..1."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for task, kinds in TASKS.items():
        table[task] = {}
        for listed in LISTED:
            sampled, greedy = accuracy(model, questions(kinds, listed, seed))
            table[task][str(listed)] = {"sampled": round(sampled, 4), "greedy": round(greedy, 4)}
    return table


def graph_reliability(model: LlamaForCausalLM, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """As `reliability`: star graphs of each degree -> sentences listed of the two that tell the form -> accuracies."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for degree in graphs.DEGREES:
        found = {told: accuracy(model, graphs.questions(told, degree, seed=seed), graphs.GRAPHS) for told in (0, 1, 2)}
        table[f"degree {degree}"] = {
            str(t): {"sampled": round(s, 4), "greedy": round(g, 4)} for t, (s, g) in found.items()
        }
    return table
