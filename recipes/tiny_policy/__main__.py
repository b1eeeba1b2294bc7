"""`python -m tiny_policy DIR [--reads rules|graphs] [--seed N]`: trains a tiny policy and prints how reliable it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fst_envs.house import policy

from .builder import KINDS, build


def main(arguments: list[str] | None = None) -> None:
    """Progress goes to stderr, the reliability table to stdout."""
    parser = argparse.ArgumentParser(prog="tiny_policy", description="Train a tiny policy.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the model goes (Hugging Face format)")
    parser.add_argument("--reads", choices=list(KINDS), default="rules", help="its language")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        build(given.folder, reads=given.reads, seed=given.seed, progress=_show)
    except FileExistsError as error:
        sys.exit(str(error))
    print(policy.table(given.folder))


def _show(step: int, steps: int, figures: dict[str, float]) -> None:
    line = f"\rstep {step}/{steps}  loss {figures['loss']:.2f}  values {figures['values']:.2f}"
    print(line, end="\n" if step == steps else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
