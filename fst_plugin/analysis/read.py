"""Reads a run from disk: its logs (logs.py), the live folder `<default_local_dir>/fst`, and Hydra's record of the
config (hydra_record.py). Nothing is written. Files that are still being written are read as far as they go; what is
damaged is an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..record.cycles import live_folder, read_record
from ..record.steps import STEPS_FILE
from .hydra_record import read_config
from .hydra_record import rollouts_per_step as configured
from .logs import last_step, read_logs
from .run import Run, RunError

ATTRIBUTION_FILE = "attribution.json"
_ARM_SEED = re.compile(r"(?P<arm>.+?)[_-](?:seed[_-]?)?(?P<seed>\d+)")


def parse_name(name: str) -> tuple[str, int]:
    """Arm and seed of a run from its name: "fst_0", "rl-seed1"; the whole name and 0 if it has no number."""
    match = _ARM_SEED.fullmatch(name)
    return (match["arm"], int(match["seed"])) if match else (name, 0)


def read(spec: str, rollouts_per_step: int | None = None) -> Run:
    """Reads one run from `[NAME=]PATH[,PATH ...]`.

    A PATH is a run's folder (its log as the one *.jsonl in it, its live `fst` folder in it or in a folder of it), or
    one of these files or folders by itself: `metrics.jsonl,checkpoints`. Several logs (of a run that was resumed) are
    laid over each other, the later one winning, and over what the live folder kept of every life of the run; that
    alone is enough. NAME is "<arm>_<seed>"; without it, the first PATH's own name. Raises RunError if nothing usable is
    there.
    """
    name, _, rest = spec.partition("=") if "=" in spec and not Path(spec).exists() else ("", "", spec)
    paths = [Path(part).expanduser() for part in (rest.split(",") if not Path(rest).exists() else [rest])]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise RunError(f"{missing[0]} does not exist: name a run's folder, or its log and its checkpoint folder")
    logs = [log for path in paths for log in _logs(path)]
    live = next((found for path in paths if (found := live_folder(path)) is not None), None)
    if not logs and not (live and (live / STEPS_FILE).exists()):
        raise RunError(
            f"{rest} holds no log of verl's file logger: add trainer.logger=[console,file] to the run (TRL: train with"
            " fst_trl's trainer), or name the log next to the folder, as LOG.jsonl,FOLDER"
        )
    name = name or (paths[0].stem if paths[0].is_file() else paths[0].resolve().name)
    arm, seed = parse_name(name)
    folders = list(dict.fromkeys([p if p.is_dir() else p.parent for p in paths] + ([live] if live else [])))
    config, overrides = read_config(folders)
    steps, left_out = read_logs(logs, live)
    try:
        record = read_record(live, journals=True) if live else None
    except ValueError as error:
        raise RunError(str(error)) from error
    return Run(
        name=name,
        arm=arm,
        seed=seed,
        where=rest,
        steps=steps,
        population=record.population if record else (),
        seed_digest=record.state.seed_digest if record and record.state else None,
        cycles=record.cycles if record else (),
        config=config,
        overrides=overrides,
        attribution=_read_attribution(folders),
        rollouts_per_step=rollouts_per_step or configured(config),
        left_out=left_out,
    )


def read_all(specs: Sequence[str], rollouts_per_step: int | None = None) -> list[Run]:
    """`read` for each; raises RunError also where two runs are the same arm and seed."""
    runs = [read(spec, rollouts_per_step) for spec in specs]
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        other = seen.setdefault((run.arm, run.seed), run)
        if other is not run:
            raise RunError(
                f"{run.where} and {other.where} are both arm {run.arm!r}, seed {run.seed}: tell them apart, as"
                f" {run.arm}_{run.seed + 1}={run.where}"
            )
    return runs


# ------------------------------------------------------------------------------------------------------------- files


def _logs(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [] if live_folder(path) == path else sorted(path.glob("*.jsonl"))
    if len(found) > 1:
        names = ", ".join(f.name for f in found)
        raise RunError(f"{path} holds several logs ({names}): name those of the run, as LOG.jsonl,{path}")
    return found


def _read_attribution(folders: Sequence[Path]) -> dict[str, Any]:
    path = next((folder / ATTRIBUTION_FILE for folder in folders if (folder / ATTRIBUTION_FILE).exists()), None)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is not a JSON object ({error}): restore it or move it away") from error


__all__ = ["ATTRIBUTION_FILE", "last_step", "parse_name", "read", "read_all", "read_logs"]
