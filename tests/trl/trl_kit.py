"""Short trainings of the tiny policy on house rules through TRL, each in a process of its own that has TRL loaded."""

import hashlib
import json
import multiprocessing
import os
import socket
import traceback
from pathlib import Path

K, G, BATCH, T = 2, 4, 4, 2  # prompts, group, problems a generation batch, slow steps a cycle
FST = {"population": K, "slow_steps": T, "max_prompt_tokens": 96, "reflection": {"kind": "offline"}}


class Three:
    """An optimizer of a user's own: three prompts, whatever they are worth."""

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        from fst_plugin.optimizer import Evolution
        from fst_plugin.prompts import Population, Prompt
        from fst_plugin.rollouts import Cell

        evaluate([Cell(population.best, problem) for problem in problems[:2]])
        return Evolution(Population(tuple(Prompt(f"Be {how}.") for how in ("brief", "exact", "kind"))))


def arguments(out, fst=FST, **more):
    """FSTGRPOConfig for the tiny policy on CPU."""
    from fst_trl import FSTGRPOConfig

    quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, "bf16": False}
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": BATCH * G,
        "num_generations": G,
        "max_completion_length": 12,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "model_init_kwargs": {"dtype": "float32"},
        **quiet,
        **more,
    }
    return FSTGRPOConfig(fst=fst, **settings)


def policy():
    from fst_envs.house import policy as shipped

    return str(shipped.path("rules"))


def house(train=24, val=0, multi_turn=False):
    from fst_trl import from_env

    name = "SecondTry" if multi_turn else "HouseRules"
    given = {"train_size": train, "val_size": val, "multi_turn": multi_turn}
    return from_env(f"fst_envs:fst/{name}-v0", {"book": 0}, **given)


def trainer(out, kind="FSTGRPOTrainer", data=None, args=None, **more):
    """A trainer on the tiny policy. kind: a class, or as `trainer_class` takes it."""
    import torch

    torch.set_num_threads(1)
    cls = trainer_class(kind) if isinstance(kind, str) else kind
    return cls(model=policy(), args=args or arguments(out), **(data or house()), **more)


def with_tools():
    """The policy's tokenizer with a chat template that knows tools."""
    import trl
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(policy(), padding_side="left")
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    return tokenizer


def trainer_class(kind):
    """By its name in fst_trl or in trl; "GMPO": the mixin before one of TRL's own subclasses."""
    import fst_trl
    import trl

    if kind == "GMPO":
        from trl.experimental.gmpo import GMPOTrainer

        return type("Mixed", (fst_trl.FastSlowHooks, GMPOTrainer), {})
    return getattr(fst_trl if kind in fst_trl.__all__ else trl, kind)


def weights_digest(model):
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def traced(cls, file, die_in=None):
    """The trainer class, with one JSON line a generation batch; die_in: ("phase", cycle, calls) or ("step", batch)."""

    from fst_plugin.prompts import text_digest

    class Traced(cls):
        def _generate_and_score_completions(self, inputs):
            fst = getattr(self, "fst", None)
            if fst and fst.rollouts.asking:
                self.calls = getattr(self, "calls", 0) + 1
                if die_in and die_in[0] == "phase" and (fst.weights.state.cycle + 1, self.calls) >= tuple(die_in[1:]):
                    os._exit(9)
                return super()._generate_and_score_completions(inputs)
            self.calls = 0
            before, output = weights_digest(self.model), super()._generate_and_score_completions(inputs)
            if self.model.training:
                total = len(inputs) * self.accelerator.num_processes
                line = {
                    "update": self.state.global_step,
                    "weights": before,
                    "problems": [json.dumps(row["prompt"]) for row in inputs],
                    "rewards": list(self._logs["rewards"][self.reward_func_names[0]])[-total:],
                    "advantages": list(self._logs["advantages"])[-total:],
                }
                if fst:
                    line["population"], line["batch"] = [text_digest(text) for text in fst.texts], fst.batch
                    if self.accelerator.is_main_process:
                        line["cycle"] = fst.weights.state.cycle
                    line["prompts"] = [digest for _, digest in fst._marks]
                with open(f"{file}.{self.accelerator.process_index}", "a") as lines:
                    print(json.dumps(line), file=lines)
                if die_in and die_in[0] == "step" and self.state.global_step >= die_in[1]:
                    os._exit(9)
            return output

    return Traced


def away(completions, **_):
    raise OSError("the grader is away")


def _run(out, trace, kind, fst, steps, data, resume, die_in, lora, broken_on, environment, args, pipe):
    os.environ.update(environment)
    with open(f"{trace}.log", "a", buffering=1) as log:  # nothing of a training on the tests' own output
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        try:
            more = {"processing_class": with_tools()} if data["multi_turn"] else {}
            if lora:
                from peft import LoraConfig

                more["peft_config"] = LoraConfig(r=lora, target_modules="all-linear")
            cls = traced(trainer_class(kind), trace, die_in)
            made = house(**data)
            if broken_on is not None and environment.get("RANK") == str(broken_on):
                made["reward_funcs"] = away
            one = trainer(out, cls, made, arguments(out, fst, max_steps=steps, **args), **more)
            one.train(resume_from_checkpoint=resume)
            found = {"weights": weights_digest(one.model), "history": one.state.log_history}
            found |= {"best": one.state.best_model_checkpoint}
            if getattr(one, "fst", None) and one.accelerator.is_main_process:
                fast = one.fst.weights
                found |= {"cycle": fast.state.cycle, "observed": len(fast.state.rewards)}
                found |= {"scored": [[e.step, e.problem, e.prompt] for e in fast.slow.entries]}
                found |= {"heard": sorted({e.rollout.feedback for e in fast.slow.entries})}
            pipe.send(json.loads(json.dumps(found, default=str)))
        except BaseException:
            pipe.send({"error": traceback.format_exc()})
            os._exit(1)


def run(
    out,
    *,
    kind="FSTGRPOTrainer",
    fst=FST,
    steps=6,
    rows=24,
    val=0,
    multi_turn=False,
    resume=None,
    die_in=None,
    lora=0,
    processes=1,
    broken_on=None,
    stops=False,
    **args,
):
    """Trains. Returns {"weights", "history", "trace"} of the first process, "traces" of all of them; with `die_in`,
    only the traces; with `stops`, the errors that ended the processes. broken_on: a process whose rewards raise."""
    data = {"train": rows, "val": val, "multi_turn": multi_turn}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fst_trl.trainer", "fst_trl.environments", "peft"])
    out = Path(out)
    trace = out.with_name(f"{out.name}.{len(list(out.parent.glob(f'{out.name}.*.log')))}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {k: str(v) for k, v in names.items()} if processes > 1 else {}
        receive, send = context.Pipe(duplex=False)
        given = (str(out), str(trace), kind, fst, steps, data, resume, die_in, lora, broken_on, environment, args, send)
        started.append((context.Process(target=_run, args=given), receive))
        started[-1][0].start()
        send.close()
    found = []
    for process, receive in started:
        try:
            found.append(receive.recv())
        except EOFError:
            found.append({})
        process.join(60)
        wanted = 9 if die_in else int(stops)
        assert process.exitcode == wanted, f"{found[-1].get('error')}\n{trace}.log"
    files = [Path(f"{trace}.{rank}") for rank in range(processes)]
    traces = [[json.loads(line) for line in f.read_text().splitlines()] if f.exists() else [] for f in files]
    if stops:
        return {"errors": [one["error"] for one in found]}
    return {**found[0], "trace": traces[0], "traces": traces, "log": Path(f"{trace}.log").read_text()}
