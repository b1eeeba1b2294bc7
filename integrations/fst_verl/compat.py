"""Every verl name this package uses, in one table. `names.X` imports X on first use; tests resolve the whole table
against each supported verl."""

from __future__ import annotations

import importlib
from typing import Any

SUPPORTED = ("0.9.0", "0.9.1")

MODES = ("sync", "colocate_async", "separate_async")
"""verl's own trainer modes; a test looks for the hooks in the trainer of each."""

OLD_NAMES = {"fst_sync": "sync", "fst_colocate_async": "colocate_async"}
"""What trainers of ours were called, before every mode got fast weights under its own name -> that name; accepted."""

ESTIMATOR = "fst_grpo"
"""Name of our advantage estimator in verl's registry (see `loss`)."""

TABLE: dict[str, str] = {
    # name here -> module:attribute in verl, or a module
    "register_trainer": "verl.trainer.ppo.v1:register_trainer",
    "get_trainer_cls": "verl.trainer.ppo.v1:get_trainer_cls",
    "trainer_base": "verl.trainer.ppo.v1.trainer_base",
    "CheckpointEngine": "verl.checkpoint_engine:CheckpointEngine",
    "CheckpointEngineRegistry": "verl.checkpoint_engine:CheckpointEngineRegistry",
    "ReplayBuffer": "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer",
    "ReplayBufferAsync": "verl.trainer.ppo.v1.replay_buffer:ReplayBufferAsync",
    "AgentLoopBase": "verl.experimental.agent_loop.agent_loop:AgentLoopBase",
    "AgentLoopOutput": "verl.experimental.agent_loop.agent_loop:AgentLoopOutput",
    "agent_loop_registry": "verl.experimental.agent_loop.agent_loop:_agent_loop_registry",
    "register_agent_loop": "verl.experimental.agent_loop.agent_loop:register",
    "register_adv_est": "verl.trainer.ppo.core_algos:register_adv_est",
    "ContinuousTokenBuilder": "verl.utils.tokenizer.continuous_token:ContinuousTokenBuilder",
    "create_continuous_token_builder": ("verl.utils.tokenizer.continuous_token_wiring:create_continuous_token_builder"),
    "collate_fn": "verl.utils.dataset.rl_dataset:collate_fn",
    "normalize_token_ids": "verl.utils.tokenizer:normalize_token_ids",
    "tensordict_utils": "verl.utils.tensordict_utils",
    "PlatformBase": "verl.plugin.platform:PlatformBase",
    "PlatformRegistry": "verl.plugin.platform:PlatformRegistry",
    "get_platform": "verl.plugin.platform:get_platform",
    "set_platform": "verl.plugin.platform:set_platform",
    "vLLMColocateWorkerExtension": "verl.workers.rollout.vllm_rollout.utils:vLLMColocateWorkerExtension",
    "ServerAdapter": "verl.workers.rollout.vllm_rollout.vllm_rollout:ServerAdapter",
    "global_process_group": "verl.utils.distributed:initialize_global_process_group_ray",
    "load_valuehead_model": "verl.utils.model:load_valuehead_model",
    "need_critic": "verl.trainer.ppo.utils:need_critic",
    "need_reference_policy": "verl.trainer.ppo.utils:need_reference_policy",
    "upsample_batch": "verl.trainer.ppo.padding_utils:upsample_batch_to_divisible_size",
    "hdfs_io": "verl.utils.hdfs_io",
    "fsdp2_sharded_save_to_cpu": "verl.utils.fsdp_utils:fsdp2_sharded_save_to_cpu",
    "validate_config": "verl.utils.config:validate_config",
}

LOOP_METHODS: dict[str, tuple[str, ...]] = {
    # name here -> its names on AgentLoopBase, newest verl first
    "merge_context": ("ct_merge_context_msg", "ct_merge_non_assistant_msg"),
    "merge_assistant": ("ct_merge_assistant_token",),
    "cap_prompt": ("_cap_text_prompt_length",),
}

TRAINER_METHODS = (
    # methods of verl's V1 trainers that ours extends; each calls super()
    "__init__",
    "_init_dataloader",
    "_load_checkpoint",
    "_save_checkpoint",
    "_fetch_one_gen_batch",
    "_submit_batch_to_rollout",
    "on_sample_begin",
    "on_sample_end",
    "on_step_end",
    "step",
    "_validate",
    "_val_metrics_update",
    "_compute_advantage",
    "_compute_metrics",
    "_dump_generations",
)

TRAINER_CALLS = (
    # methods of a running trainer that are called from outside
    "_balance_batch",
    "_compute_old_log_prob",
    "_compute_ref_log_prob",
    "_compute_reward_colocate",
)

SEPARATE_CALLS = (
    # of a trainer with rollout servers of their own besides those on its devices
    "switch_to_trainer",
    "switch_to_rollout",
)

TRAINER_ATTRIBUTES = (
    # attributes of a running trainer that are read
    "config",
    "tokenizer",
    "processor",
    "global_steps",
    "local_trigger_step",
    "parameter_sync_step",
    "train_dataset",
    "train_dataloader",
    "val_dataloader",
    "agent_loop_manager",
    "checkpoint_manager",
    "reward_loop_manager",
    "total_training_steps",
    "trainer_mode",
    "use_reference_policy",
)


def module_of(name: str) -> str:
    """The module of verl that holds `name`; importing it is left to verl."""
    return TABLE[name].partition(":")[0]


def resolve(name: str) -> Any:
    """The verl object behind `name`. Raises ImportError that names both if this verl does not have it."""
    module, _, attribute = TABLE[name].partition(":")
    try:
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"fst_verl needs {TABLE[name]} and this verl does not have it ({error});"
            f" supported: verl {', '.join(SUPPORTED)}"
        ) from error


def loop_method(loop: Any, name: str) -> Any:
    """A method of verl's agent loops under whatever name this verl has it. Raises ImportError if it has none."""
    for theirs in LOOP_METHODS[name]:
        if hasattr(loop, theirs):
            return getattr(loop, theirs)
    raise ImportError(
        f"fst_verl needs a method of AgentLoopBase named {' or '.join(LOOP_METHODS[name])} and this verl has none;"
        f" supported: verl {', '.join(SUPPORTED)}"
    )


def token_builder(loop: Any) -> Any:
    """A continuous-token builder for an agent loop of verl 0.9.0, which has one only if data.continuous_token.enable
    is set; later ones always have theirs."""
    return names.create_continuous_token_builder(
        loop.tokenizer,
        model_family="auto",
        model_path=loop.config.actor_rollout_ref.model.path,
        chat_template_kwargs=loop.apply_chat_template_kwargs,
    )


class _Names:
    def __getattr__(self, name: str) -> Any:
        if name not in TABLE:
            raise AttributeError(name)
        value = resolve(name)
        setattr(self, name, value)
        return value


names = _Names()
