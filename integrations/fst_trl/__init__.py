"""Fast-Slow Training inside an unmodified TRL: `FSTGRPOTrainer` takes the place of `GRPOTrainer`.

compat         every name of TRL that is used here
config         FSTGRPOConfig, and all that can be wrong with a trainer's arguments
trainer        the trainer, and the mixin for one of your own; one line a hook
fast_slow      what the hooks do: evolve -> assign -> step, as a plain object
fast_rollouts  evolve: fast-phase rollouts through TRL's own generation and reward functions
order          the coming batches, known ahead
rows           rows of TRL's datasets as the method's problems
run_log        the run as `fst report` and `fst compare` read it
environments   an environment id as a trainer's data and rewards
"""

from .config import FSTGRPOConfig
from .environments import from_env
from .trainer import FastSlowHooks, FSTGRPOTrainer

__all__ = ["FSTGRPOConfig", "FSTGRPOTrainer", "FastSlowHooks", "from_env"]
