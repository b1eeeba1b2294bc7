"""A run's prompts for use elsewhere: plain JSON that says how to send them, and a DSPy program under the best one.

The JSON holds the best prompt, the population, an example chat with the prompt in place, and, if asked for, what
`fst_plugin.router.Router` picks a prompt by. Prompts and problem texts are data: nothing in the files is executed.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

from .. import examples
from ..context import Placement, place
from ..prompts import Population, Prompt
from ..record.archive import known_scores
from ..record.cycles import Record
from ..record.problems import read_problems
from ..router import Anchor, anchors_of

FORMAT = 1
"""Of the JSON file (ours)."""
PROBLEM = "<the problem>"
OWN_SYSTEM = "<the row's own system message>"


class ExportError(ValueError):
    """A run cannot be exported as asked. The message says why and how to go on."""


def exported(record: Record, placement: str | None = None, router: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The content of the JSON file, and lines for people on what is left out.

    placement: where prompts go, if it should not be as the run had it.
    router: also what a router needs.

    Raises ExportError if the run does not say where prompts go, or has nothing to route by; ValueError if it has no
    state yet.
    """
    best, population = record.best(), record.population
    where = _placement(record, placement)
    content: dict[str, Any] = {
        "format": FORMAT,
        "placement": where,
        "best": _prompt(best),
        "population": [_prompt(prompt) for prompt in population],
        "example": {"messages": _example(best, where)},
    }
    if not router:
        return content, []
    anchors, unknown = anchors_of_run(record)
    notes = [f"{unknown} of {unknown + len(anchors)} anchors are left out: their texts are not recorded"]
    return {**content, "router": {"anchors": [asdict(anchor) for anchor in anchors]}}, notes if unknown else []


def write_dspy(path: Path, prompt: Prompt, signature: str = "question -> answer") -> None:
    """Writes the state of a `dspy.Predict` with the prompt as its instructions, and its examples as demos, as
    `dspy.Predict.load` takes it. DSPy trims blanks around instructions, and frames the messages with its own field
    marks.

    path: ends in .json.

    Raises ExportError if DSPy cannot read the signature, or examples do not fit it.
    """
    import dspy

    instructions, solved = examples.split(prompt.text)
    try:
        read = dspy.Signature(signature, instructions)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ExportError(f"--signature {signature}: not one of DSPy, such as 'question -> answer': {error}") from None
    if not read.input_fields or not read.output_fields:
        raise ExportError(f"--signature {signature}: it needs fields on both sides, such as 'question -> answer'")
    program = dspy.Predict(read)
    if solved:
        fields = [*read.input_fields, *read.output_fields]
        if len(fields) > 2:
            raise ExportError(f"--signature {signature}: the prompt shows examples: give one field on each side")
        program.demos = [dspy.Example(**dict(zip(fields, astuple(one), strict=True))) for one in solved]
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))


def _prompt(prompt: Prompt) -> dict[str, Any]:
    score = prompt.mean_score if prompt.scores else None
    found = {"digest": prompt.digest, "text": prompt.text, "mean_score": score, "problems": len(prompt.scores)}
    instructions, solved = examples.split(prompt.text)
    parts = {"instructions": instructions, "examples": [asdict(example) for example in solved]}
    return {**found, **parts} if solved else found


def _placement(record: Record, asked: str | None) -> Placement:
    assert record.state is not None
    found = asked or record.state.placement
    if found not in ("system", "append", "user"):
        what = f"--placement {asked}" if asked else f"{record.folder} does not say where prompts go"
        raise ExportError(f"{what}: name it with --placement system, append or user (fst.context.placement of the run)")
    return found  # type: ignore[return-value]


def _example(prompt: Prompt, placement: Placement) -> list[Any]:
    own = [{"role": "system", "content": OWN_SYSTEM}] if placement == "append" else []
    return place([*own, {"role": "user", "content": PROBLEM}], prompt.text, placement)


def anchors_of_run(record: Record) -> tuple[list[Anchor], int]:
    """What a router over a run's prompts rests on: their scores of the last fast phase, and of the slow steps since, up
    to the last checkpoint. Also how many scored problems are left out, since they have no text.

    Raises ExportError if there is nothing to route by.
    """
    population = record.population
    if len(population) < 2:
        raise ExportError(f"{record.folder} holds one prompt, so there is nothing to route: leave out --router")
    known = known_scores(Population(population), record.slow_scores())
    scored = [replace(prompt, scores=dict(known[prompt.digest])) for prompt in population]
    anchors, unknown = anchors_of(scored, read_problems(record.folder))
    if not anchors:
        raise ExportError(
            f"{record.folder} has none of the {unknown} problems' texts that its prompts were scored on: name the run's"
            " own folder, not a checkpoint's (a run of an earlier version kept none), or leave out --router"
        )
    return anchors, unknown


__all__ = ["FORMAT", "ExportError", "anchors_of_run", "exported", "write_dspy"]
