"""Runs each adapter's tests against the real library, in a virtual environment of its own.

    python tests/adapters/run.py FOLDER [NAME ...]      # names as in LIBRARIES; default: all

The libraries' pins clash with each other and with verl's, so each gets a virtual environment FOLDER/NAME with the
library, gymnasium, pytest and this project, without the project's other dependencies, which fst_envs does not need. It
is kept, and made again if its requirements change. Exit status 0: every adapter's tests passed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = ("gymnasium>=1.0", "pytest>=8")
LIBRARIES = {  # name -> (what to install, module that must import)
    "gem": (("gem-llm==0.1.0",), "gem.envs"),
    "textarena": (("textarena==0.7.4",), "textarena"),
    "openenv": (("openenv==0.10.0",), "openenv.core"),
    "skyrl-gym": (("skyrl-gym==0.4.0",), "skyrl_gym"),
    "math": (("math-verify[antlr4_13_2]==0.9.0", "pint==0.25.3", "pyarrow>=16"), "math_verify"),
}
TESTS = {name: (f"tests/adapters/test_adapter_{name.replace('-', '_')}.py",) for name in LIBRARIES}
TESTS["math"] = ("tests/envs/files/test_math_answers.py", "tests/envs/files/test_paper_tasks.py")


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of a library's virtual environment, which is made if it is missing or out of date."""
    requirements, module = LIBRARIES[name]
    home, python = folder / name, folder / name / "bin" / "python"
    wanted = hashlib.sha256(repr((BASE, requirements, sys.version_info[:2], str(ROOT))).encode()).hexdigest()
    stamp = home / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    venv.create(home, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *BASE, *requirements], check=True)
    subprocess.run([str(python), "-c", f"import {module}"], check=True, stdout=subprocess.DEVNULL)
    stamp.write_text(wanted)
    return python


def run(folder: Path, name: str) -> bool:
    """Whether the tests of an adapter ran and passed."""
    began = time.monotonic()
    python = python_of(folder, name)
    made = time.monotonic() - began
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "envs", "tests/adapters"))
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-rs", *TESTS[name]]
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}).returncode
    print(f"{name}: {'passed' if status == 0 else f'exit status {status}'} ({made:.0f} s to install)", flush=True)
    return status == 0


def main(folder: str, *names: str) -> int:
    unknown = [name for name in names if name not in LIBRARIES]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; use {', '.join(LIBRARIES)}")
    return 0 if all([run(Path(folder).absolute(), name) for name in names or LIBRARIES]) else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
