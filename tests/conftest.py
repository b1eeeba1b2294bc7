"""Child processes find what the tests share, as this one does (`pythonpath` in pyproject.toml)."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = [str(ROOT / "tests" / "support"), str(ROOT / "recipes")]
os.environ["PYTHONPATH"] = os.pathsep.join([*SHARED, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("VERL_PLATFORM", "cpu")  # of what is imported here; launched runs ask for it by +fst_cpu
