"""Hydra's own record of a run: `.hydra/config.yaml` and `.hydra/overrides.yaml`, as data from strangers.

Read with YAML's safe loader, without aliases (Hydra writes none, and a few nested ones stand for more nodes than there
is memory), up to MAX_BYTES. A file that is none of this is a RunError that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .run import RunError

MAX_BYTES = 4_000_000
"""Longest YAML file that is read; verl's own config has 30 kB (ours)."""


def read_config(folders: Sequence[Path]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Config and command-line overrides from the first folder that has a `.hydra`; empty if none has.

    Raises RunError, naming the file, if one is not what Hydra writes.
    """
    for folder in folders:
        for hydra in (folder / ".hydra", *sorted(folder.glob("*/.hydra"))):
            if (hydra / "config.yaml").exists():
                config = _read(hydra / "config.yaml", dict)
                overrides = _read(hydra / "overrides.yaml", list) if (hydra / "overrides.yaml").exists() else []
                return config, tuple(map(str, overrides))
    return {}, ()


def _read(path: Path, kind: type) -> Any:
    fix = "restore it or move it away"
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise RunError(f"{path} has {size} bytes, more than the {MAX_BYTES} of a config: {fix}")
        found = _load(path.read_text(encoding="utf-8"))
    except RunError:
        raise
    except Exception as error:  # whatever a YAML parser makes of bytes: also RecursionError, OverflowError
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(f"{path} cannot be read as YAML ({reason}): {fix}") from error
    if found is not None and not isinstance(found, kind):
        what = "keys" if kind is dict else "a list"
        raise RunError(f"{path} holds a {type(found).__name__}, not {what} (is it cut?): {fix}")
    return found or kind()


def _load(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise ValueError("it has aliases, which Hydra never writes")
            return super().compose_node(parent, index)

    return yaml.load(text, Loader=Loader)  # noqa: S506 (a SafeLoader)


def rollouts_per_step(config: Mapping[str, Any]) -> int | None:
    """Rollouts of a slow step as a verl config says; None if it does not, or if groups are filtered."""
    try:
        batch, group = config["data"]["train_batch_size"], config["actor_rollout_ref"]["rollout"]["n"]
        filtered = (config.get("algorithm", {}).get("filter_groups") or {}).get("enable")
    except (KeyError, TypeError, AttributeError):
        return None
    return batch * group if isinstance(batch, int) and isinstance(group, int) and not filtered else None


__all__ = ["MAX_BYTES", "read_config", "rollouts_per_step"]
