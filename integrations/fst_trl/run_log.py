"""What TRL logs, as the run log that `fst report` and `fst compare` read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fst_plugin.record import run_log

from .compat import names

READ_AS = {"kl": "actor/kl_loss", "completions/mean_length": "response_length/mean"}
"""TRL's name of a figure -> the one that `fst_plugin.analysis` reads; the others keep theirs."""
SEED = "_seed_prompt_reward"
_TrainerCallback: Any = names.TrainerCallback


class RunLog(_TrainerCallback):
    """Begins the fast weights, and writes the log, into `output_dir`.

    fst: the trainer's `FastSlow`; None: plain GRPO, logged for a comparison.
    """

    def __init__(self, fst: Any):
        self.fst, self._logged = fst, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._logged = state.global_step
        if state.is_world_process_zero:
            moved = run_log.begin(Path(args.output_dir), fresh=state.global_step == 0)
            if moved:
                print(f"fst: the log of an earlier run was moved to {moved}")
        if self.fst is not None:
            self.fst.begin()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        data = {READ_AS.get(name, name): value for name, value in logs.items()} | _validation(args, logs)
        if "step_time" in logs:  # TRL's mean over the steps since the last one logged
            data["timing_s/step"] = logs["step_time"] * (state.global_step - self._logged)
            self._logged = state.global_step
        if self.fst is None:
            done, share = state.global_step * args.gradient_accumulation_steps, args.steps_per_generation
            data["fst/rollouts_slow_total"] = -(-done // (share * args.num_iterations)) * args.generation_batch_size
        run_log.append(Path(args.output_dir), state.global_step, data)


def _validation(args: Any, logs: Mapping[str, Any]) -> dict[str, float]:
    """The rewards of an evaluation, under the names of validation scores."""
    samples, found = args.num_generations_eval or args.num_generations, {}
    if "eval_reward" in logs:  # TRL's name for every evaluation set; the set's own is in the other keys
        source = next((name.removesuffix("_runtime") for name in logs if name.endswith("_runtime")), "eval")
        found[f"val-core/{source}/reward/mean@{samples}"] = logs["eval_reward"]
    for name in logs:
        if name.endswith(SEED):
            found[f"val-core/{name.removesuffix(SEED)}/seed_prompt/reward/mean@{samples}"] = logs[name]
    return found
