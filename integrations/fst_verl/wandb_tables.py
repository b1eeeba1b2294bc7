"""The prompts of a cycle as a table and an artifact, in the loggers that take them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from fst_plugin.fast_weights import FastWeights
from fst_plugin.record.cycles import POPULATION_FILE, prompt_rows, read_cycle
from fst_plugin.secrets import described

COLUMNS = ("cycle", "digest", "parent", "origin", "verdict", "rank", "score", "anchors", "tokens", "text")


def table_rows(fst: FastWeights) -> list[list[Any]]:
    """One row a prompt of the running cycle, in the order of COLUMNS; rank -1 for those that were not carried on."""
    cycle = replace(read_cycle(fst.folder / f"cycle_{fst.state.cycle:04d}"), population=fst.population.prompts)
    found = []
    for row in prompt_rows(cycle):
        prompt, rank = row.prompt, -1 if row.rank is None else row.rank
        facts = [row.cycle, prompt.digest, row.parent, prompt.origin, row.verdict, rank, prompt.mean_score]
        found.append([*facts, len(prompt.scores), fst.policy.count_tokens(prompt.text), prompt.text])
    return found


def log_cycle(fst: FastWeights, config: Any, step: int) -> None:
    """Logs a table of prompts, and the population as an artifact, if the run logs to W&B. A failure of the logger is
    one line, never the end of a run."""
    loggers = config.trainer.logger
    if "wandb" not in ([loggers] if isinstance(loggers, str) else list(loggers)):
        return
    try:
        import wandb

        if wandb.run is None:
            return
        wandb.log({"fst/prompts": wandb.Table(columns=list(COLUMNS), data=table_rows(fst))}, step=step, commit=False)
        artifact = wandb.Artifact(f"fst-population-{wandb.run.id}", type="fst-population")
        with artifact.new_file(POPULATION_FILE) as file:
            json.dump(fst.population.to_json(), file, indent=2)
        wandb.run.log_artifact(artifact)
    except Exception as error:
        fst.log(f"fst: the table of prompts was not logged: {described(error)}")
