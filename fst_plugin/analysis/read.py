"""Reads a run from disk: verl's file logger (JSONL of {"step", "data"}), the live folder `<default_local_dir>/fst`, and
Hydra's record of the config. Nothing is written. Files that are still being written are read as far as they go; what is
damaged is an error that names it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..prompts import Population, Prompt
from ..record.cycles import CANDIDATES_FILE, LEDGER_FILE
from ..record.journal import CALLS_FILE, EVOLUTION_FILE, IDENTITY_FILE
from ..record.state import STATE_FILE
from .run import Cycle, Run, RunError, Step

ATTRIBUTION_FILE = "attribution.json"
_ARM_SEED = re.compile(r"(?P<arm>.+?)[_-](?:seed[_-]?)?(?P<seed>\d+)")


def parse_name(name: str) -> tuple[str, int]:
    """Arm and seed of a run from its name: "fst_0", "rl-seed1"; the whole name and 0 where it has no number."""
    match = _ARM_SEED.fullmatch(name)
    return (match["arm"], int(match["seed"])) if match else (name, 0)


def read(spec: str, rollouts_per_step: int | None = None) -> Run:
    """Reads one run from `[NAME=]PATH[,PATH ...]`.

    A PATH is a run's folder (its log as the one *.jsonl in it, its live `fst` folder in it or in a folder of it), or
    one of these files or folders by itself: `metrics.jsonl,checkpoints`. Several logs (of a run that was resumed) are
    laid over each other, the later one winning. NAME is "<arm>_<seed>"; without it, the first PATH's own name.
    Raises RunError where nothing usable is there.
    """
    name, _, rest = spec.rpartition("=") if "=" in spec and not Path(spec).exists() else ("", "", spec)
    paths = [Path(part).expanduser() for part in (rest.split(",") if not Path(rest).exists() else [rest])]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise RunError(f"{missing[0]} does not exist: name a run's folder, or its log and its checkpoint folder")
    logs = [log for path in paths for log in _logs(path)]
    live = next((found for path in paths if (found := _live(path)) is not None), None)
    if not logs:
        raise RunError(
            f"{rest} holds no log of verl's file logger: add trainer.logger=[console,file] to the run, or name the log"
            " beside the folder, as LOG.jsonl,FOLDER"
        )
    name = name or (paths[0].stem if paths[0].is_file() else paths[0].resolve().name)
    arm, seed = parse_name(name)
    folders = list(dict.fromkeys([p if p.is_dir() else p.parent for p in paths] + ([live] if live else [])))
    config, overrides = _read_config(folders)
    return Run(
        name=name,
        arm=arm,
        seed=seed,
        where=rest,
        steps=_read_logs(logs),
        population=_read_population(live),
        seed_digest=_load(live / STATE_FILE).get("seed_digest") if live and (live / STATE_FILE).exists() else None,
        cycles=_read_cycles(live),
        config=config,
        overrides=overrides,
        attribution=_first_json(folders, (ATTRIBUTION_FILE,)),
        rollouts_per_step=rollouts_per_step or _configured(config),
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
    found = sorted(path.glob("*.jsonl"))
    if len(found) > 1:
        names = ", ".join(f.name for f in found)
        raise RunError(f"{path} holds several logs ({names}): name those of the run, as LOG.jsonl,{path}")
    return found


def _live(path: Path) -> Path | None:
    """The live folder of a run: `path` itself, or its `fst`, or that of one of its folders."""
    if not path.is_dir():
        return None
    near = [path, path / "fst", *sorted(p / "fst" for p in path.iterdir() if not p.name.startswith("global_step_"))]
    return next((p for p in near if (p / STATE_FILE).exists() or any(p.glob(f"cycle_*/{IDENTITY_FILE}"))), None)


def _read_logs(logs: Sequence[Path]) -> tuple[Step, ...]:
    found: dict[int, dict[str, float]] = {}
    for log in logs:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                step, data = int(entry["step"]), dict(entry["data"])
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):  # the run is being written, or was killed
                    continue
                raise RunError(f"{log}, line {number} is no {{step, data}} of verl's file logger ({error})") from error
            found.setdefault(step, {}).update({k: float(v) for k, v in data.items() if _is_number(v)})
    if not found:
        raise RunError(f"{', '.join(map(str, logs))}: the log is empty; wait for the run's first validation or step")
    return tuple(Step(step, found[step]) for step in sorted(found))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON ({error}): restore it or move it away") from error


def _read_config(folders: Sequence[Path]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Config and command-line overrides as Hydra recorded them; empty where no folder has them."""
    for folder in folders:
        for hydra in (folder / ".hydra", *sorted(folder.glob("*/.hydra"))):
            if (hydra / "config.yaml").exists():
                return dict(_yaml(hydra / "config.yaml") or {}), tuple(map(str, _yaml(hydra / "overrides.yaml") or ()))
    return {}, ()


def _yaml(path: Path) -> Any:
    import yaml  # type: ignore[import-untyped]

    if not path.exists():
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f"{path} is not YAML ({error}): restore it or move it away") from error


def _configured(config: Mapping[str, Any]) -> int | None:
    """Rollouts of a slow step as a verl config says; None where it does not, or where groups are filtered."""
    try:
        batch, group = config["data"]["train_batch_size"], config["actor_rollout_ref"]["rollout"]["n"]
        filtered = (config.get("algorithm", {}).get("filter_groups") or {}).get("enable")
    except (KeyError, TypeError, AttributeError):
        return None
    return batch * group if isinstance(batch, int) and isinstance(group, int) and not filtered else None


def _first_json(folders: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                data = _load(folder / name)
                if not isinstance(data, dict):
                    raise RunError(f"{folder / name} is no JSON object: restore it or move it away")
                return data
    return {}


def _read_population(live: Path | None) -> tuple[Prompt, ...]:
    if live is None or not (live / STATE_FILE).exists():
        return ()
    return _population(live / STATE_FILE, lambda data: data["population"])


def _population(path: Path, pick: Callable[[Any], Any]) -> tuple[Prompt, ...]:
    try:
        return Population.from_json(pick(_load(path))).prompts
    except RunError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} holds no population that can be read ({error}): restore it or move it away") from error


def _read_cycles(live: Path | None) -> tuple[Cycle, ...]:
    if live is None:
        return ()
    return tuple(_read_cycle(folder) for folder in sorted(live.glob("cycle_*")) if folder.is_dir())


def _read_cycle(folder: Path) -> Cycle:
    number = folder.name.removeprefix("cycle_")
    if not number.isdigit():
        raise RunError(f"{folder} is no cycle_NNNN: move it away")
    outcome = folder / EVOLUTION_FILE
    finished = outcome.exists()
    data = _load(outcome) if finished else {}
    rollouts, reflections = _read_calls(folder / CALLS_FILE)
    candidates, verdicts, margins = _read_candidates(folder / CANDIDATES_FILE)
    return Cycle(
        number=int(number),
        finished=finished,
        population=_population(outcome, lambda d: d["population"]) if finished else (),
        candidates=candidates,
        verdicts=verdicts,
        margins=margins,
        evidence=_first_json([folder], (LEDGER_FILE,)).get("evidence") or {},
        metrics={k: float(v) for k, v in data.get("metrics", {}).items() if _is_number(v)},
        warnings=tuple(map(str, data.get("warnings", ()))),
        identity=_first_json([folder], (IDENTITY_FILE,)),
        rollouts=rollouts,
        reflections=reflections,
    )


def _read_candidates(path: Path) -> tuple[tuple[Prompt, ...], dict[str, str], dict[str, float]]:
    """New prompts of a cycle, their verdicts, and the margins of their tests; a torn last line is left out."""
    if not path.exists():
        return (), {}, {}
    entries = [_parse(line, path) for line in path.read_bytes().split(b"\n")[:-1]]
    try:
        prompts = tuple(Prompt.from_json(entry) for entry in entries)
        verdicts = {p.digest: str(entry["verdict"]) for p, entry in zip(prompts, entries, strict=True)}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} holds no prompts that can be read ({error}): restore it or move it away") from error
    tested = {p.digest: entry.get("margin") for p, entry in zip(prompts, entries, strict=True)}
    return prompts, verdicts, {digest: float(m) for digest, m in tested.items() if _is_number(m)}


def _parse(line: bytes, path: Path) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): restore it or move it away") from error


def _read_calls(path: Path) -> tuple[int | None, int | None]:
    """Rollouts and reflection answers in a journal; a torn last line was never answered and is left out."""
    if not path.exists():
        return None, None
    rollouts = reflections = 0
    for line in path.read_bytes().split(b"\n")[:-1]:
        call = _parse(line, path)
        try:
            kind, size = call["kind"], len(call["answer"])
        except (KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}): restore it or move it away") from error
        if kind == "evaluate":
            rollouts += size
        else:
            reflections += size
    return rollouts, reflections


__all__ = ["ATTRIBUTION_FILE", "parse_name", "read", "read_all"]
