"""What fast weights were run with, one table: `fst check` reads it, and so does the README's table (a test compares).

Tested means a whole run of verl 0.9.1 on CPU, by a test of `tests/verl/runs` that stands next to the value. What is not
tested is accepted and named; what cannot work is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fst_plugin.config import ConfigProblem

from . import modes

MODEL_KEY, POOL_KEY = "reward.reward_model.enable", "reward.reward_model.enable_resource_pool"
COPIES_KEY, FOLDER = "trainer.default_hdfs_dir", "a folder"
OWN_TRAINERS = "trains with trainers of its own, which would run without fast weights: use verl.trainer.main_ppo"
NO_TRAINING = "does not train by RL: fast weights have no part in it"
REPLAY = (
    "trains on rollouts that were made under the prompts of an earlier run, whatever has evolved since: set it to"
    " false, or fst.enabled=false to replay them"
)
LACKS = "which verl's V1 trainers do not hand to it (plain verl fails, too): use another, such as"
PREFIX = "would take the first prompt of a group for that of all its rollouts, which have several: set it to false"
BASELINE = f"needs the policy's sum_pi_squared, {LACKS} grpo"


@dataclass(frozen=True)
class Row:
    """One setting of verl.

    what: in words. key: config key; None: the command's main module.
    tested: value that a whole run was made with -> the test that makes it.
    untested: some of the others that are accepted, for the reader; so is every value that is not named here.
    refused: value (of a main module: how it begins) -> what is wrong and how to fix it.
    """

    what: str
    key: str | None
    tested: Mapping[Any, str]
    untested: tuple[Any, ...] = ()
    refused: Mapping[Any, str] = field(default_factory=dict)

    def reason(self, value: Any) -> str:
        """Why this value is refused; empty if it is accepted."""
        if self.key is None:
            return next((why for start, why in self.refused.items() if str(value).startswith(start)), "")
        return self.refused.get(value, "")


RUN = "test_runs.py::test_killed_twice_a_run_goes_on_with_the_same_prompts_and_batches"
TEMPLATES = "test_templates.py::test_without_a_system_role_prompts_precede_the_question"
TOOLS = "test_templates.py::test_rows_keep_their_personas_and_tools_and_the_prompt_follows"
PPO = "test_runs.py::test_ppo_with_a_critic_and_groups_of_one"
ASYNC = "test_runs.py::test_colocate_async"
FILTER = "test_support_cells.py::test_groups_without_a_signal_are_replaced"
SEPARATE = (
    "test_mode_runs.py::test_with_servers_of_their_own_a_killed_run_goes_on_and_rollouts_under_way_keep_their_prompts"
)
MODEL = "test_support_cells.py::test_verls_own_reward_model_on_devices_of_its_own"
APART = "test_mode_runs.py::test_without_servers_on_the_trainers_devices_every_group_runs_under_the_evolved_prompts"
DYNAMIC = "test_support_cells.py::test_rollout_correction_dynamic_batches_and_a_reward_model_on_a_server"
RLOO = (
    "test_support_cells.py"
    "::test_rloo_with_a_teacher_with_sequences_weighed_and_rejected_and_the_kl_divergence_in_the_reward"
)
OPO = "test_support_cells.py::test_a_run_that_is_profiled_and_copied_elsewhere_can_be_validated_alone"
NODES = "test_two_nodes.py::test_both_nodes_send_the_same_prompts_and_a_run_that_lost_one_goes_on_with_them"
TWO_RANKS = "test_support_cells.py::test_lora_on_two_ranks_where_each_problem_weighs_the_same"

TABLE = (
    Row(
        "main module",
        None,
        tested={"verl.trainer.main_ppo": RUN},
        untested=("a recipe's own",),
        refused={
            "verl.experimental.": OWN_TRAINERS,
            "verl.trainer.main_eval": NO_TRAINING,
            "verl.trainer.main_generation": NO_TRAINING,
            "verl.trainer.sft_": NO_TRAINING,
        },
    ),
    Row(
        "verl's V1 trainers",
        "trainer.use_v1",
        tested={True: RUN},
        refused={False: "picks verl's old trainers, which fast weights do not go with: set it to true"},
    ),
    Row(
        "trainer",
        modes.KEY,
        tested={"sync": RUN, "colocate_async": ASYNC, "separate_async": SEPARATE},
        untested=("another package's",),
    ),
    Row(
        "servers on the trainer's devices, in separate_async",
        "actor_rollout_ref.hybrid_engine",
        tested={True: SEPARATE, False: APART},
    ),
    Row(
        "advantages",
        "algorithm.adv_estimator",
        tested={
            "grpo": TEMPLATES,
            "fst_grpo": TWO_RANKS,
            "gae": PPO,
            "rloo": RLOO,
            "gpg": APART,
            "reinforce_plus_plus": MODEL,
            "opo": OPO,
        },
        refused={
            "remax": f"needs reward baselines, {LACKS} rloo",
            "gdpo": f"needs prompts and the parts of a reward, {LACKS} grpo",
            "optimal_token_baseline": BASELINE,
            "tir_optimal_token_baseline": BASELINE,
        },
    ),
    Row(
        "training engine",
        "actor_rollout_ref.actor.strategy",
        tested={"fsdp2": RUN},
        untested=("fsdp", "megatron", "veomni", "torchtitan"),
    ),
    Row("rollout engine", "actor_rollout_ref.rollout.name", tested={"vllm": RUN}, untested=("sglang", "trtllm")),
    Row("device", "trainer.device", tested={"cpu": RUN}, untested=("cuda", "npu")),
    Row("hosts (2: Ray nodes on one machine)", "trainer.nnodes", tested={1: RUN, 2: NODES}, untested=("3 or more",)),
    Row("devices of a host", "trainer.n_gpus_per_node", tested={1: RUN, 2: TWO_RANKS}, untested=("3 or more",)),
    Row("LoRA", "actor_rollout_ref.model.lora_rank", tested={0: RUN, 8: TWO_RANKS}, untested=("other ranks",)),
    *(
        Row("sequence parallel (Ulysses)", f"actor_rollout_ref.actor.{key}", tested={1: RUN}, untested=("2 or more",))
        for key in ("ulysses_sequence_parallel_size", "fsdp_config.ulysses_sequence_parallel_size")
    ),
    *(
        Row(
            "routing replay",
            f"actor_rollout_ref.actor.{engine}.router_replay.mode",
            tested={"disabled": RUN},
            untested=("R2", "R3"),
        )
        for engine in ("megatron", "veomni")
    ),
    Row(
        "routing of the rollouts kept, for R3",
        "actor_rollout_ref.rollout.enable_rollout_routing_replay",
        tested={False: RUN},
        untested=("true",),
    ),
    Row(
        "prefix shared within a group",
        "actor_rollout_ref.actor.use_prefix_grouper",
        tested={False: RUN},
        refused={True: PREFIX},
    ),
    Row("dynamic batch size", "actor_rollout_ref.actor.use_dynamic_bsz", tested={False: RUN, True: DYNAMIC}),
    Row(
        "rollout correction",
        "algorithm.rollout_correction.rollout_is",
        tested={"token": DYNAMIC, "sequence": RLOO},
    ),
    Row(
        "rejection of rollouts",
        "algorithm.rollout_correction.rollout_rs",
        tested={"seq_mean_k1": RLOO},
        untested=("verl's other measures",),
    ),
    Row("KL divergence in the reward", "algorithm.use_kl_in_reward", tested={False: RUN, True: RLOO}),
    Row("group filter of DAPO", "algorithm.filter_groups.enable", tested={False: RUN, True: FILTER}),
    Row(
        "failed groups replaced",
        "trainer.v1.sampler.sync_refill_failed_groups",
        tested={False: RUN},
        untested=("true",),
    ),
    Row("teacher (on-policy distillation)", "distillation.enabled", tested={False: RUN, True: RLOO}),
    Row("verl's own reward model", MODEL_KEY, tested={False: RUN, True: MODEL}),
    Row("that model on devices of its own", POOL_KEY, tested={True: MODEL}, untested=("false",)),
    Row(
        "profiler",
        "global_profiler.tool",
        tested={"torch": OPO},
        untested=("nsys", "npu", "torch_memory", "precision_debugger"),
    ),
    Row("validation alone", "trainer.val_only", tested={False: RUN, True: OPO}),
    Row("checkpoints copied elsewhere", COPIES_KEY, tested={FOLDER: OPO}, untested=("hdfs://...",)),
    Row("rollouts of an earlier run", "skip.rollout_tq.enable", tested={False: RUN}, refused={True: REPLAY}),
    Row(
        "agent loop",
        "actor_rollout_ref.rollout.agent.default_agent_loop",
        tested={"single_turn_agent": RUN, "tool_agent": TOOLS},
        untested=("your own",),
    ),
)


def refused(config: DictConfig) -> list[ConfigProblem]:
    """The settings of a config that cannot work, each with its reason."""
    return [
        ConfigProblem(row.key, f"{_shown(value)} {why}")
        for row, value in _values(config)
        if row.key and (why := row.reason(value))
    ]


def refused_module(module: str) -> list[ConfigProblem]:
    """Why fast weights do not go with a command's main module; empty if they may."""
    why = TABLE[0].reason(module)
    return [ConfigProblem(module, why)] if why else []


def untested(config: DictConfig, module: str) -> list[str]:
    """What of a command is accepted and was never run here, as `key=value`."""
    found = [] if module in TABLE[0].tested else [f"main module {module}"]
    return found + [
        f"{row.key}={_shown(value)}"
        for row, value in _values(config)
        if value not in row.tested and not row.reason(value)
    ]


def markdown() -> str:
    """The table, as the README and the docs print it."""
    lines = ["| | tested on CPU | accepted, untested | refused |", "|---|---|---|---|"]
    for row in TABLE:
        name = f"{row.what}: `{row.key}`" if row.key else row.what
        cells = [", ".join(_worded(_shown(value)) for value in values) for values in (row.tested, row.untested)]
        cells.append(", ".join(map(_code, _refusals(row))))
        lines.append(f"| {name} | " + " | ".join(cell or "–" for cell in cells) + " |")
    return "\n".join(lines)


def reasons() -> str:
    """Why what is refused is, as the docs print it."""
    found: dict[str, list[str]] = {}
    for row in TABLE:
        for value, why in _refusals(row).items():
            named = f"{row.key}={value}" if value in ("true", "false") else value
            found.setdefault(why, []).append(_code(named))
    return "\n".join(f"- {', '.join(values)}: {why}." for why, values in found.items())


def _refusals(row: Row) -> dict[str, str]:
    """Value as the reader sees it -> reason."""
    more = "*" if row.key is None else ""
    return {f"{_shown(value)}{more}": why for value, why in row.refused.items()}


def _code(text: str) -> str:
    return f"`{text}`"


def _worded(value: str) -> str:
    return value if " " in value else _code(value)


def _values(config: DictConfig) -> Iterator[tuple[Row, Any]]:
    for row in TABLE:
        value = None if row.key is None else OmegaConf.select(config, row.key)
        if row.key == POOL_KEY and not OmegaConf.select(config, MODEL_KEY):
            continue  # of a model that there is not
        if row.key == modes.KEY:
            value = modes.mode_of(config)
        if row.key == COPIES_KEY and value and not str(value).startswith("hdfs:"):
            value = FOLDER
        if value is not None:
            yield row, value


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
