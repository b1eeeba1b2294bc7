"""The most that a recipe costs, in rollouts and tokens, computed from its own arguments.

    python recipes/qwen3_8b_8gpu/cost.py                           # the table in README.md
    python recipes/qwen3_8b_8gpu/cost.py fst.fast.budget=480       # with further verl arguments, for every task
    python recipes/qwen3_8b_8gpu/cost.py --mean-response 900       # tokens for a mean length that you measured

RL's rollouts are exact: steps x batch x G. The fast phase's are its budget, which it may not use up. Validation is
under both the best prompt and the seed prompt. Tokens are generated tokens: every answer is as long as
data.max_response_length, or as --mean-response says. Needs verl; starts nothing.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ONE_FILE = ("TRAIN_FILE", "VAL_FILE")
TASKS = {
    "codeio": ONE_FILE,
    "math": ONE_FILE,
    "hover": ONE_FILE,
    "continual": tuple(f"{task}_{split}" for task in ("HOVER", "CODEIO", "PHYSICS") for split in ("TRAIN", "VAL")),
}
"""Recipe -> the files that its run.sh takes."""
LEAST_TEST = 3
"""Problems of a new prompt's first test at least, in GEPA's search, which `+fst=paper` has."""
ENVIRONMENT = ("OUT", "REFLECTION_MODEL", "HOVER_SIZE", "CODEIO_SIZE", "PHYSICS_SIZE")
"""What the recipes read from the environment."""


@dataclass(frozen=True)
class Cost:
    """The cost of one run.

    steps: RL steps.
    slow, fast, validation: rollouts.
    reflections: calls, at most.
    response: tokens per answer.
    """

    steps: int
    slow: int
    fast: int
    validation: int
    reflections: int
    response: int

    @property
    def tokens(self) -> int:
        """Tokens that the policy generates."""
        return (self.slow + self.fast + self.validation) * self.response


def arguments(task: str, extra: list[str]) -> list[str]:
    """The verl arguments of a task's run.sh."""
    command = [str(HERE / task / "run.sh"), "MODEL", *TASKS[task], *extra]
    environment = {k: v for k, v in os.environ.items() if k not in ENVIRONMENT}
    done = subprocess.run(
        command, env={**environment, "LAUNCH": "printf %s\\0"}, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


def cost(config: Any, mean_response: int | None = None) -> Cost:
    """The cost of a composed verl config; with fst.enabled=false, that of RL alone."""
    fst, rollout, trainer = config.fst, config.actor_rollout_ref.rollout, config.trainer
    steps, batch = int(trainer.total_training_steps), int(config.data.train_batch_size)
    cycles = math.ceil(steps / fst.slow_steps) if fst.enabled else 0
    problems = min(fst.fast.anchors or batch * fst.slow_steps, batch * fst.slow_steps)
    budget = fst.fast.budget or math.ceil(fst.fast.passes * problems)
    validations = int(trainer.val_before_train) + steps // trainer.test_freq + bool(steps % trainer.test_freq)
    tasks = len(config.data.env.get("tasks") or [None])  # all are validated from the first step to the last
    arms = 2 if fst.enabled and fst.validate_seed else 1
    return Cost(
        steps=steps,
        slow=steps * batch * rollout.n,
        fast=cycles * budget,
        validation=validations * config.data.env.val_size * tasks * rollout.val_kwargs.n * arms,
        reflections=cycles * (budget // (fst.fast.minibatch or LEAST_TEST)),
        response=mean_response or int(config.data.max_response_length),
    )


def table(rows: list[tuple[str, Cost]]) -> str:
    head = (
        "run",
        "RL steps",
        "slow rollouts",
        "fast rollouts",
        "validation rollouts",
        "reflection calls",
        "tokens (millions)",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, c in rows:
        counts = [f"{n:,}" for n in (c.steps, c.slow, c.fast, c.validation, c.reflections, round(c.tokens / 1e6))]
        lines.append("| " + " | ".join([name, *counts]) + " |")
    return "\n".join(lines)


def main() -> None:
    from fst_verl.check import compose

    parser = argparse.ArgumentParser(description="The most that the recipes cost.")
    parser.add_argument("--mean-response", type=int, default=None, help="mean tokens per answer, as measured")
    known, extra = parser.parse_known_args()
    rows = []
    for task in TASKS:
        for arm, switch in (("FST", []), ("RL alone", ["fst.enabled=false"])):
            config = compose([a for a in arguments(task, [*extra, *switch]) if not a.startswith("hydra.")])
            rows.append((f"{task}, {arm}", cost(config, known.mean_response)))
    print(table(rows))


if __name__ == "__main__":
    main()
