"""Short distillations of the tiny policy: what the prompt says goes into the weights."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.trl
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "trl_distill.py"
CODE = """
import trl_distill as one, trl_house_rules
trl_house_rules.main("prompts", 0, {out!r}, steps=2, every=2)
trainer = one.main({out!r} + "/prompts_0", 0, {out!r} + "/distilled", steps=8)
losses = [h["self_distillation/distillation_loss"] for h in trainer.state.log_history
          if "self_distillation/distillation_loss" in h]
print("losses", *losses)
"""


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_eight_steps_bring_the_model_without_the_prompt_near_the_model_under_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(out=str(tmp_path))], cwd=EXAMPLE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("losses ")]
    losses = [float(word) for word in line.split()[1:]]
    assert len(losses) == 8 and sum(losses[-2:]) < 0.75 * sum(losses[:2])

    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "distilled")
    assert saved.config.model_type == "llama"
