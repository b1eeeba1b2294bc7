"""The engine's part of the fast-phase benchmark, on real vLLM on CPU inside verl.

It times the rollouts of one fast phase as the phase asks for them, and then the same rollouts as one batch. One launch;
run by fast_phase.py --vllm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rule_world import gepa

from fst_plugin.optimizer import Evolution
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Cell, Rollout

WIDTH = 64


class Measured:
    """A prompt optimizer that times the shipped one.

    out: file for the figures.
    budget: rollouts of the phase.
    width: rollouts that the engine runs at a time.
    max_tokens: of a prompt.
    """

    def __init__(self, out: str, budget: int, width: int = WIDTH, max_tokens: int = 128):
        self.out, self.budget, self.width, self.max_tokens = out, budget, width, max_tokens

    def evolve(self, population: Any, problems: Any, evaluate: Any, *, cycle: int, seed: int, traces: Any = ()) -> Any:
        batches: list[list[Cell]] = []
        inside = 0.0

        def timed(cells: Sequence[Cell]) -> list[Rollout]:
            nonlocal inside
            began = time.perf_counter()
            rollouts = evaluate(cells)
            inside += time.perf_counter() - began
            batches.append(list(cells))
            return rollouts

        optimizer = gepa(OfflineReflection(), budget=self.budget, width=self.width, max_tokens=self.max_tokens)
        evaluate([Cell(population.best, p) for p in problems[:16]])  # warm up
        began = time.perf_counter()
        optimizer.evolve(population, problems, timed, cycle=cycle, seed=seed, traces=traces)
        took = time.perf_counter() - began
        everything = [cell for batch in batches for cell in batch]
        began = time.perf_counter()
        evaluate(everything)
        bare = time.perf_counter() - began
        figures = {
            "rollouts": len(everything),
            "batches": [len(batch) for batch in batches],
            "seconds": took,
            "generating": inside,
            "one_batch": bare,
            "engine_utilization": bare / inside,
            "with_all_else": bare / took,
            "rollouts_per_s": len(everything) / took,
            "bare_rollouts_per_s": len(everything) / bare,
        }
        Path(self.out).write_text(json.dumps(figures))
        return Evolution(population)


def measure(model: Path | None = None, budget: int = 960) -> dict[str, Any]:
    """One launch of verl on the demo's task.

    model: folder; default: the tiny policy.
    """
    from fst_envs.house import policy
    from fst_verl.experiments.demo import Setup, arguments

    model = (model or policy.path("rules")).absolute()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [
            *(a for a in arguments("fst", 0, Setup(steps=1, batch=32), model, Path(folder)) if "train_size" not in a),
            "data.env.train_size=192",
            "trainer.val_before_train=false",
            "trainer.critic_warmup=2",
            "trainer.test_freq=-1",
            f"actor_rollout_ref.rollout.max_num_seqs={WIDTH}",
            "fst.fast.path=fast_phase_vllm.Measured",
            f"+fst.fast.kwargs.out={out}",
            f"+fst.fast.kwargs.budget={budget}",
        ]
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "verl.trainer.main_ppo", *command],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode:
            raise RuntimeError(f"verl ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return json.loads(out.read_text())
