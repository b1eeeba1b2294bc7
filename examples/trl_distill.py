"""An evolved prompt put into the tiny policy's weights through TRL, on CPU. Less than a minute.

    python examples/trl_house_rules.py prompts 0                   # evolves prompts into runs/trl/prompts_0
    python examples/trl_distill.py runs/trl/prompts_0 0            # run, its rule book, and where to

The model in the last folder answers without a prompt as it did under the evolved one.
"""

import sys
from pathlib import Path

import torch
from fst_envs.house import policy
from fst_trl import from_env
from fst_trl.distill import FSTDistillConfig, distill

from fst_plugin.record.cycles import read_record

BATCH, GROUP = 16, 8  # problems a step, answers a problem


def main(run="runs/trl/prompts_0", book=0, out="runs/trl/distilled_0", steps=24):
    """Distils the best prompt of `run` into `out`, and returns the trainer."""
    torch.set_num_threads(1)  # a model this small gains nothing from more
    record = read_record(Path(run))
    args = FSTDistillConfig(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=BATCH * GROUP,
        num_generations=GROUP,
        max_completion_length=12,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    data = from_env("fst_envs:fst/HouseRules-v0", {"book": book}, train_size=BATCH * steps, val_size=0)
    placement = record.state.placement  # where the run put its prompts
    return distill(policy.path("rules"), data["train_dataset"], record.best().text, args, placement=placement)


if __name__ == "__main__":
    run, book, out = [*sys.argv[1:], *["runs/trl/prompts_0", "0", "runs/trl/distilled_0"][len(sys.argv) - 1 :]]
    main(run, int(book), out)
