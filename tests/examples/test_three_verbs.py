"""The README's first example: whole cycles on the core alone, in a process that could not import an RL stack."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "three_verbs.py"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reward_rises_and_the_last_population_beats_the_seed_prompt(seed):
    example = runpy.run_path(str(EXAMPLE))
    rewards, population = example["main"](seed)
    assert len(rewards) == 1 + example["STEPS"]
    early, late = sum(rewards[1:4]) / 3, sum(rewards[-3:]) / 3
    assert rewards[0] + 0.3 < early < late, "prompts lift it at once, weights in the end"
    rules = {f"Write {word} {code}." for word, code in example["CODES"].items()}
    found = [sum(rule in prompt.text for rule in rules) for prompt in population.prompts]
    assert not any(rule in example["SEED"].text for rule in rules)
    assert found[0] >= 5
    assert population.best.mean_score > rewards[0] + 0.3


def test_it_needs_no_rl_stack():
    code = f"""if True:
        import sys, runpy
        for name in ("torch", "ray", "verl", "vllm", "trl", "transformers"):
            sys.modules[name] = None
        runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "best prompt" in done.stdout, done.stderr
