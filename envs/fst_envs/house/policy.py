"""The trained tiny policies, as package data: `path("rules")` is a folder for `actor_rollout_ref.model.path`.

Each is a Llama of about 0.35 M parameters in Hugging Face's format (float32). Its `card.json` says how it was made, how
reliably it does what its prompt says, and what its files digest to. `recipes/tiny_policy` is the program that trains
them and writes the card. Nothing is imported here but the standard library, and nothing is written.

Invariant: `path` returns only a folder whose files are the ones that the card names.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

KINDS = {
    "rules": "house rules and second try, as in `house.language`",
    "graphs": "small star graphs: degree 2 to 4, two edges an arm, nodes up to 15",
}
"""Name of a policy -> what it reads."""
CARD_FILE = "card.json"
FOLDER = Path(__file__).parent / "policies"


def path(reads: str = "rules") -> Path:
    """The folder of a policy, checked; it may be read-only, since verl, vLLM and transformers only read it.

    reads: a name of `KINDS`. Raises ValueError for another one, and for a file that is not as the card says.
    """
    if reads not in KINDS:
        raise ValueError(f"no policy reads {reads!r}: use one of {', '.join(KINDS)}")
    folder = FOLDER / reads
    verify(folder)
    return folder


def card(folder: Path) -> dict[str, Any]:
    """What the card in a policy's folder says.

    reads, parameters, vocabulary: what it reads, and its size in weights and in tokens.
    made: by what, seed, steps, seconds of pre-training, library versions.
    sha256: file name -> hex digest.
    accuracy: task -> number of rules listed -> "sampled" or "greedy" -> share of right answers, 0 to 1.

    Raises ValueError if there is no card.
    """
    file = folder / CARD_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file} is missing: this is not the folder of a tiny policy") from None


def verify(folder: Path) -> None:
    """Raises ValueError, which names the file, if one is missing or does not digest to what the card says."""
    for name, wanted in card(folder)["sha256"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing: install the package anew")
        if (found := digest(file)) != wanted:
            raise ValueError(f"{file} is not the file of its card (sha256 {found}, not {wanted}): install it anew")


def digest(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def table(folder: Path) -> str:
    """How reliable the policy is, as text: a row per task, a column per number of rules that the prompt lists."""
    known = card(folder)
    made = known["made"]
    counts = list(next(iter(known["accuracy"].values())))
    rows = [
        f"{task:<16}" + "".join(f"{cell['sampled']:>8.2f} /{cell['greedy']:>4.2f}" for cell in by_count.values())
        for task, by_count in known["accuracy"].items()
    ]
    return "\n".join(
        [
            f"tiny policy {known['reads']}: {known['parameters']:,} parameters, {known['vocabulary']} tokens,"
            f" {made['steps']} steps of pre-training from seed {made['seed']}",
            "Accuracy on what it has not seen, at temperature 1 / greedy; 0 rules: the seed prompt alone.",
            f"{'rules listed':<16}" + "".join(f"{count:>14}" for count in counts),
            *rows,
        ]
    )
