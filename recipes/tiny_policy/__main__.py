"""`python -m tiny_policy DIR [--reads rules|graphs] [--seed N] [--force]`: builds a tiny policy and prints how
reliable it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from .builder import KINDS, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tiny_policy", description="Build the tiny policy.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the model goes (Hugging Face format)")
    parser.add_argument("--reads", choices=list(KINDS), default="rules", help="its language")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="train even if DIR is up to date")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.seed, arguments.force, arguments.reads)
