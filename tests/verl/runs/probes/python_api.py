"""A run started through verl's Python API: no Hydra application, and so none of its callbacks."""

import sys

from hydra import compose, initialize_config_module
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo

if __name__ == "__main__":
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=sys.argv[1:])
    run_ppo(config, TaskRunnerV1)
