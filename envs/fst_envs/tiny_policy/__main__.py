"""`python -m fst_envs.tiny_policy DIR [--seed N] [--force]`: builds the tiny policy and prints how reliable it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(folder: Path, seed: int = 0, force: bool = False) -> None:
    """Builds into `folder` (or finds it up to date), reports progress on stderr and the result on stdout."""
    from .build import build

    def progress(step: int, steps: int, figures: dict[str, float]) -> None:
        print(f"\rstep {step}/{steps}  loss {figures['loss']:.2f}  values {figures['values']:.2f}", end="", file=sys.stderr)

    report = build(folder, seed=seed, force=force, progress=progress)
    print("" if report.cached else "\n", end="", file=sys.stderr)
    print(report)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fst_envs.tiny_policy", description="Build the tiny policy.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the model goes (Hugging Face format)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="train even if DIR is up to date")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse()
    main(arguments.folder, arguments.seed, arguments.force)
