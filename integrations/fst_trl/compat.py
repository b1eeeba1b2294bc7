"""Every name of TRL and its libraries that this package uses, in one table; tests resolve all of it."""

from __future__ import annotations

from fst_plugin.imports import Names

NEEDS = "fst_trl needs TRL 1.16: pip install 'fst-plugin[trl]'"

TABLE = {
    "GRPOConfig": "trl:GRPOConfig",
    "GRPOTrainer": "trl:GRPOTrainer",
    "TrainerCallback": "transformers:TrainerCallback",
    "get_last_checkpoint": "transformers.trainer_utils:get_last_checkpoint",
    "broadcast_object_list": "accelerate.utils:broadcast_object_list",
    "gather_object": "accelerate.utils:gather_object",
    "Dataset": "datasets:Dataset",
}
names = Names(TABLE, NEEDS)

TRAINER_METHODS = """
    __init__ train evaluate log save_model _load_best_model _get_train_sampler _generate_and_score_completions
    _generate_single_turn _get_per_token_logps_and_entropies _calculate_rewards
""".split()
"""Methods of GRPOTrainer that ours extends; each calls super()."""

TRAINER_CALLS = """
    _generate _generate_and_score_completions _tokenize_prompts add_callback evaluation_loop get_eval_dataloader
""".split()
"""Methods of a running trainer that are called from outside."""

TRAINER_ATTRIBUTES = """
    _metrics _pending_extra_logs _pending_metrics _tokenizer _train_batch_size accelerator args environment_factories
    eval_dataset max_completion_length model num_generations num_generations_eval num_iterations reward_func_names
    reward_funcs reward_weights rollout_func state tools train_dataset
""".split()
"""Attributes of a running trainer that are read, or set for a time and put back."""
