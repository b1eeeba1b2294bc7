"""What TRL logs, as the steps of a run that `fst report` and `fst compare` read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fst_plugin.record.atomic import set_aside
from fst_plugin.record.steps import STEPS_FILE, append_step

from .compat import TrainerCallback

READ_AS = {"kl": "actor/kl_loss", "completions/mean_length": "response_length/mean"}
"""TRL's name of a figure -> the one that `fst_plugin.analysis` reads; the others keep theirs."""
SEED = "_seed_prompt_reward"


class RunLog(TrainerCallback):
    """Begins the fast weights, and keeps what is logged in `output_dir`.

    fst: the trainer's `FastSlow`; None: plain GRPO, logged for a comparison.
    """

    def __init__(self, fst: Any):
        self.fst, self._logged = fst, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._logged, own = state.global_step, Path(args.output_dir) / STEPS_FILE
        if state.is_world_process_zero and state.global_step == 0 and own.exists():
            print(f"fst: {own} is of an earlier run: moved to {set_aside(own)}")
        if self.fst is not None:
            self.fst.begin()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        data = _validation(args, logs) or {READ_AS.get(name, name): value for name, value in logs.items()}
        if "step_time" in logs:  # TRL's mean over the steps since the last one logged
            data["timing_s/step"] = logs["step_time"] * (state.global_step - self._logged)
            self._logged = state.global_step
        if self.fst is not None:
            self.fst.weights.log_step(state.global_step, data)
            return
        done, share = state.global_step * args.gradient_accumulation_steps, args.steps_per_generation
        data["fst/rollouts_slow_total"] = -(-done // (share * args.num_iterations)) * args.generation_batch_size
        append_step(Path(args.output_dir), state.global_step, data)


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
