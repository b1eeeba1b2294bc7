"""House rules with the tiny policy through TRL, on CPU: RL alone, prompts alone, or FST. Less than a minute.

    python examples/trl_house_rules.py fst 0        # arm (rl, prompts or fst), seed, and where to: runs/trl/fst_0
    fst prompts runs/trl/fst_0 --best

A script of your own changes in three lines: FSTGRPOConfig for GRPOConfig, its `fst`, FSTGRPOTrainer for GRPOTrainer.
"""

import sys

import torch
from fst_envs.house import policy
from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env

BATCH, GROUP = 16, 8  # problems a step, completions a problem


def main(arm="fst", seed=0, out="runs/trl", steps=24, every=6):
    """Trains one arm into `out`/<arm>_<seed>, and returns the trainer. The seed also picks the rule book."""
    torch.set_num_threads(1)  # a model this small gains nothing from more
    args = FSTGRPOConfig(
        output_dir=f"{out}/{arm}_{seed}",
        fst={
            "enabled": arm != "rl",
            "population": 4,  # K prompts share each group of 8
            "slow_steps": 6,  # T, a fast phase every 6 steps
            "max_prompt_tokens": 128,
            "reflection": {"kind": "offline"},  # "policy", the default: the trained model itself writes the prompts
            "seed": seed,
        },
        seed=seed,
        max_steps=steps,
        per_device_train_batch_size=BATCH * GROUP,
        num_generations=GROUP,
        max_completion_length=12,
        learning_rate=0.0 if arm == "prompts" else 3e-4,
        lr_scheduler_type="constant",
        loss_type="cispo",  # the paper's
        epsilon_high=4.0,
        beta=0.001,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        per_device_eval_batch_size=72,
        num_generations_eval=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    data = from_env("fst_envs:fst/HouseRules-v0", {"book": seed}, train_size=BATCH * steps, val_size=36)
    trainer = FSTGRPOTrainer(model=str(policy.path("rules")), args=args, **data)
    trainer.train()
    return trainer


if __name__ == "__main__":
    arm, seed, out = [*sys.argv[1:], *["fst", "0", "runs/trl"][len(sys.argv) - 1 :]]
    main(arm, int(seed), out)
