"""The prompts of a cycle as a table and an artifact, in the loggers that take them."""

from __future__ import annotations

import json
from typing import Any

from fst_plugin.fast_weights import FastWeights
from fst_plugin.record.cycles import POPULATION_FILE, read_candidates

COLUMNS = ("cycle", "digest", "parent", "origin", "verdict", "rank", "score", "anchors", "tokens", "text")


def prompt_rows(fst: FastWeights) -> list[list[Any]]:
    """One row a prompt of the running cycle, in the order of COLUMNS: those carried by rank, then the others."""
    cycle = fst.state.cycle
    found = []
    carried = {prompt.digest for prompt in fst.population.prompts}
    for rank, prompt in enumerate(fst.population.prompts):
        parent = prompt.parents[0] if prompt.parents else ""
        tokens = fst.policy.count_tokens(prompt.text)
        row = [cycle, prompt.digest, parent, prompt.origin, "carried", rank, prompt.mean_score]
        found.append([*row, len(prompt.scores), tokens, prompt.text])
    for data in read_candidates(fst.folder / f"cycle_{cycle:04d}"):
        if data["digest"] not in carried:
            parent = data["parents"][0] if data["parents"] else ""
            tokens = fst.policy.count_tokens(data["text"])
            row = [cycle, data["digest"], parent, data["origin"], data["verdict"], -1, data["mean_score"]]
            found.append([*row, len(data["scores"]), tokens, data["text"]])
    return found


def log_cycle(fst: FastWeights, config: Any, step: int) -> None:
    """Table of prompts and the population as an artifact, where the run logs to W&B; nothing elsewhere. A failure of
    the logger is one line, never the end of a run."""
    loggers = config.trainer.logger
    if "wandb" not in ([loggers] if isinstance(loggers, str) else list(loggers)):
        return
    try:
        import wandb

        if wandb.run is None:
            return
        wandb.log({"fst/prompts": wandb.Table(columns=list(COLUMNS), data=prompt_rows(fst))}, step=step, commit=False)
        artifact = wandb.Artifact(f"fst-population-{wandb.run.id}", type="fst-population")
        with artifact.new_file(POPULATION_FILE) as file:
            json.dump(fst.population.to_json(), file, indent=2)
        wandb.run.log_artifact(artifact)
    except Exception as error:
        fst.log(f"fst: the table of prompts was not logged: {type(error).__name__}: {error}")
