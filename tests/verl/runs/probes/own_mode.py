"""A trainer mode of another package, which knows nothing of fast weights: registered through verl's own door."""

import os

from verl.trainer.ppo.v1 import PPOTrainer, register_trainer


@register_trainer("own_mode")
class OwnTrainer(PPOTrainer):
    """Sends every step's batch, waits for it, trains, and brings the servers up to date."""

    def on_init_end(self):
        self.checkpoint_manager.update_weights(self.global_steps)

    def on_sample_end(self):
        self.checkpoint_manager.abort_replicas()
        self.checkpoint_manager.sleep_replicas()

    def on_step_end(self):
        self.checkpoint_manager.update_weights(self.global_steps)
        self.checkpoint_manager.resume_generation_replicas()
        with open(os.path.join(os.environ["PROBE_DIR"], "own_steps.txt"), "a") as file:
            file.write(f"{self.global_steps}\n")
