"""Writes train.parquet and val.parquet: word problems in the schema of verl's own GSM8K preprocessing."""

import random
import sys
from pathlib import Path

import pandas

NAMES = ("Ann", "Ben", "Cleo", "Dan")
THINGS = ("apples", "books", "coins", "shells")


def row(index: int, split: str) -> dict:
    rng = random.Random(f"{split} {index}")
    a, b, c = (rng.randint(1, 9) for _ in range(3))
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    question = f"{name} has {a} {thing}, gets {b} more and gives {c} away. How many {thing} are left?"
    return {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": question}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(a + b - c)},
        "extra_info": {"index": index, "split": split},
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in (("train", 256), ("val", 32)):
        pandas.DataFrame([row(i, split) for i in range(size)]).to_parquet(folder / f"{split}.parquet")
