"""The process in which the reasoning-gym library runs: builds items, scores answers.

Requests and answers are JSON (see `episodes.child`). Some of the library's scorers call `eval` on what the model wrote,
others `sympy.parse_expr`, which evaluates it. So that they never execute it:

- `ast.literal_eval` replaces `eval` in the modules of `LITERAL`;
- an answer to a task of `EXPRESSION` reaches the scorer only if all its tokens are those of a formula;
- while any scorer runs, an audit hook refuses other code compiled from a string.

Invariants: what the model wrote is never executed; an item depends on (task, config, seed, size, index) alone, since
the global generators are seeded before each and the hash seed of the process is fixed. An item that is not a function
of its seed, or whose gold answer is not a closed formula, is replaced by another.
"""

from __future__ import annotations

import ast
import copy
import json
import random
import re
import sys
from collections import OrderedDict
from typing import Any

import numpy as np

from ..episodes.child import serve
from . import codeio
from .codeio import Unbuildable

LITERAL = frozenset({"string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "number_sorting"})
_ARITHMETIC = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|[-+*/()]|\s)*")
_NAMES = "sin cos tan cot sec csc sinh cosh tanh asin acos atan exp log ln sqrt pi Abs".split()
_FORMULA = re.compile(rf"(?:[0-9]+(?:\.[0-9]*)?|(?:{'|'.join(_NAMES)}|[A-Za-z])(?![A-Za-z0-9_])|[-+*/()^,]|\s)*")
EXPRESSION = {
    "countdown": _ARITHMETIC,
    "simple_integration": _FORMULA,
    "intermediate_integration": _FORMULA,
    "polynomial_multiplication": _FORMULA,
}
EVALUATES_ITS_QUESTION = frozenset({"bitwise_arithmetic"})  # its scorer evaluates the library's text, not the model's
MAX_EXPRESSION = 2000  # ours, characters

RETRIES, RETRY_STRIDE = 7, 2**25  # ours: the item a stride of seeds away replaces one that cannot be built
_CACHED_DATASETS, _CACHED_ITEMS = 8, 256

_datasets: OrderedDict[str, Any] = OrderedDict()
_items: OrderedDict[str, tuple[Any, dict[str, Any]]] = OrderedDict()
_scoring_of: str | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _scoring_of is None or _scoring_of in EXPRESSION or _scoring_of in EVALUATES_ITS_QUESTION:
        return
    if event == "exec" and getattr(args[0], "co_filename", "") == "<string>":
        raise PermissionError("a scorer tried to execute text")


def _dataset(task: str, config: dict[str, Any], seed: int, size: int) -> Any:
    from reasoning_gym.factory import create_dataset

    key = json.dumps([task, config, seed, size], sort_keys=True)
    if key not in _datasets:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        _datasets[key] = dataset = create_dataset(task, seed=seed, size=size, **copy.deepcopy(config))
        if task in LITERAL:
            sys.modules[type(dataset).__module__].eval = ast.literal_eval  # type: ignore[attr-defined]
    _datasets.move_to_end(key)
    while len(_datasets) > _CACHED_DATASETS:
        _datasets.popitem(last=False)
    return _datasets[key]


def _build(task: str, config: dict[str, Any], seed: int, size: int, index: int) -> tuple[Any, dict[str, Any]]:
    dataset = _dataset(task, config, seed, size)
    if task == "codeio":
        return dataset, codeio.build(dataset, seed, index)
    random.seed(seed + index)
    np.random.seed((seed + index) % 2**32)
    try:
        item = dataset[index]
    except Exception as e:
        _datasets.clear()  # some datasets change when an item fails
        raise Unbuildable(repr(e)) from e
    if task in EXPRESSION and not EXPRESSION[task].fullmatch(item["answer"]):
        raise Unbuildable("its gold answer is not a closed formula")
    return dataset, item


def _item(task: str, config: dict[str, Any], seed: int, size: int, index: int) -> tuple[Any, dict[str, Any]]:
    key = json.dumps([task, config, seed, size, index], sort_keys=True)
    if key not in _items:
        for attempt in range(RETRIES + 1):
            try:
                _items[key] = _build(task, config, seed + attempt * RETRY_STRIDE, size, index)
                break
            except Unbuildable as e:
                if attempt == RETRIES:
                    raise Unbuildable(f"item {index} of {task}: {e}") from e
    _items.move_to_end(key)
    while len(_items) > _CACHED_ITEMS:
        _items.popitem(last=False)
    return _items[key]


def _score(task: str, dataset: Any, item: dict[str, Any], text: str) -> dict[str, Any]:
    global _scoring_of
    allowed = EXPRESSION.get(task)
    if allowed and not (len(text) <= MAX_EXPRESSION and allowed.fullmatch(text)):
        return {"score": 0.0, "refused": "only numbers and operators" if allowed is _ARITHMETIC else "only a formula"}
    if allowed is _ARITHMETIC and "**" in text:
        return {"score": 0.0, "refused": "only numbers and the operators + - * / ( )"}
    _scoring_of = task
    try:
        return {"score": float(dataset.score_answer(text, copy.deepcopy(item)))}
    except Exception as e:
        return {"raised": repr(e)[:200]}
    finally:
        _scoring_of = None


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Serves op "tasks", "check", "load" or "score"; an answer with "error" says why a request can't be served."""
    op = request["op"]
    if op == "tasks":
        from reasoning_gym.factory import DATASETS

        return {"tasks": sorted(DATASETS)}
    where = {key: request[key] for key in ("task", "config", "seed", "size")}
    if op == "check":
        try:
            _dataset(**where)
        except Exception as e:
            return {"error": f"{type(e).__name__}: {e}"}
        return {}
    try:
        dataset, item = _item(index=request["index"], **where)
    except Unbuildable as e:
        return {"error": str(e)}
    if op == "load":
        answer = item["answer"]
        return {"question": str(item["question"]), "answer": None if answer is None else str(answer)}
    return _score(request["task"], dataset, item, request["text"])


if __name__ == "__main__":
    import reasoning_gym  # noqa: F401 (so that its import counts as part of the start)

    sys.addaudithook(_audit)
    serve(handle)
