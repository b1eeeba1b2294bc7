"""The trainer's settings, and all that can be wrong with them, before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fst_plugin import adapter
from fst_plugin import config as core
from fst_plugin.config import ConfigProblem, FSTConfig

from .compat import GRPOConfig

REFUSED = {
    "remove_unused_columns": "fast rollouts need the columns that reward functions read: set it to False",
    "ignore_data_skip": "a resumed run could not tell which problems come next: set it to False",
}


@dataclass
class FSTGRPOConfig(GRPOConfig):
    """GRPOConfig and the settings of the fast weights.

    fst: the keys of `fst config`, nested, such as {"population": 4, "reflection": {"kind": "policy"}}; None, or
        "enabled": False: plain GRPO.
    """

    _VALID_DICT_FIELDS = [*GRPOConfig._VALID_DICT_FIELDS, "fst"]  # on a command line: as JSON

    fst: dict[str, Any] | str | None = field(default=None, metadata={"help": "Fast weights; None: plain GRPO."})


def settings_of(args: Any) -> FSTConfig | None:
    """The fast weights' settings in a trainer's args; None if it has none. Raises ConfigError."""
    node = getattr(args, "fst", None)
    return None if node is None else core.parse(node)


def problems(arguments: Mapping[str, Any]) -> list[ConfigProblem]:
    """Every problem of a trainer's arguments, by name; empty if there are none, or if fast weights are off."""
    args: Any = arguments.get("args")
    if getattr(args, "fst", None) is None:
        return []
    config, found = core.inspect(args.fst)
    if not config.enabled:
        return found
    found += adapter.part_problems(config)
    given = {
        "train_dataset": _train(arguments.get("train_dataset"), args),
        **dict(_eval(arguments.get("eval_dataset"))),
    }
    given |= {key: why for key, why in REFUSED.items() if getattr(args, key)}
    if config.drift:
        given["fst.drift"] = "is not measured with TRL: leave it out, and set beta to see TRL's KL"
    return found + [ConfigProblem(key, why) for key, why in given.items() if why]


def _train(data: Any, args: Any) -> str:
    if data is None:
        return "is missing: prompts evolve on its problems, so give one"
    if not _indexed(data):
        return "is iterable: a fast phase looks at the coming problems; give one that can be indexed (load it whole)"
    batch = args.generation_batch_size // args.num_generations
    return _rows(data) if len(data) >= batch else f"has {len(data)} rows, fewer than the {batch} of a generation batch"


def _eval(given: Any) -> Iterator[tuple[str, str]]:
    several = isinstance(given, Mapping) and not hasattr(given, "column_names")  # a datasets.DatasetDict has them
    for name, data in given.items() if several else [(None, given)]:
        if _indexed(data):  # an evaluation may be a stream
            yield f"eval_dataset[{name!r}]" if several else "eval_dataset", _rows(data)


def _indexed(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _rows(data: Any) -> str:
    """What is wrong with the first unusable row; "" if all that are looked at can be used."""
    for place in adapter.sampled_places(len(data)):
        row = data[place]
        if not isinstance(row.get("prompt"), (list, tuple)):
            kind = "no prompt" if row.get("prompt") is None else "a prompt that is plain text"
            fix = 'give it as messages: [{"role": "user", "content": ...}]'
            return f"row {place} has {kind}, with no place for a system message: {fix}"
        if row.get("image") is not None or row.get("images"):
            return f"row {place} has images, which fst_trl does not support: use fst_verl"
    return ""
