"""The trainer's settings, and all that can be wrong with them, before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fst_plugin import adapter
from fst_plugin import config as core
from fst_plugin.config import ConfigProblem, FSTConfig

from .compat import names

_GRPOConfig: Any = names.GRPOConfig


@dataclass
class FSTGRPOConfig(_GRPOConfig):
    """GRPOConfig and the settings of the fast weights.

    fst: the keys of `fst config`, nested, such as {"population": 4, "reflection": {"kind": "policy"}}; None, or
        "enabled": False: plain GRPO.
    """

    _VALID_DICT_FIELDS = [*_GRPOConfig._VALID_DICT_FIELDS, "fst"]  # on a command line: as JSON

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
    found += adapter.part_problems(config) + _data(arguments.get("train_dataset"), args)
    for name, data in _datasets(arguments.get("eval_dataset")):
        found += _rows(name, data)
    off = {"remove_unused_columns": "fast rollouts need the columns that reward functions read"}
    off["ignore_data_skip"] = "a resumed run could not tell which problems come next"
    found += [ConfigProblem(key, f"{why}: set it to False") for key, why in off.items() if getattr(args, key)]
    if config.drift:
        found.append(ConfigProblem("fst.drift", "is not measured with TRL: leave it out, and set beta to see TRL's KL"))
    return found


def _datasets(given: Any) -> list[tuple[str, Any]]:
    if isinstance(given, Mapping) and not hasattr(given, "column_names"):  # a datasets.DatasetDict has them
        return [(f"eval_dataset[{name!r}]", data) for name, data in given.items()]
    return [] if given is None else [("eval_dataset", given)]


def _data(data: Any, args: Any) -> list[ConfigProblem]:
    if data is None:
        return [ConfigProblem("train_dataset", "is missing: prompts evolve on its problems, so give one")]
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        why = "is iterable: a fast phase looks at the coming problems; give one that can be indexed (load it whole)"
        return [ConfigProblem("train_dataset", why)]
    batch = args.generation_batch_size // args.num_generations
    if len(data) < batch:
        return [ConfigProblem("train_dataset", f"has {len(data)} rows, fewer than the {batch} of a generation batch")]
    return _rows("train_dataset", data)


def _rows(name: str, data: Any) -> list[ConfigProblem]:
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return []  # an evaluation may be a stream
    for place in adapter.sampled_places(len(data)):
        row = data[place]
        if not isinstance(row.get("prompt"), (list, tuple)):
            kind = "no prompt" if row.get("prompt") is None else "a prompt that is plain text"
            fix = 'give it as messages: [{"role": "user", "content": ...}]'
            return [ConfigProblem(name, f"row {place} has {kind}, with no place for a system message: {fix}")]
        if row.get("image") is not None or row.get("images"):
            return [ConfigProblem(name, f"row {place} has images, which fst_trl does not support: use fst_verl")]
    return []
