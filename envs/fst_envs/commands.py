"""The `fst env` commands: list, show, check, play and export environments; where the tiny policies are.

Invariant: what an environment says is shown as data, without markup, and with control characters as escapes.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import unicodedata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

app = typer.Typer(help="Text environments: look at them, check them, play them.", no_args_is_help=True)
console = Console()


def register(fst: typer.Typer) -> None:
    """Adds `env` to the `fst` command (entry-point group `fst.commands`)."""
    fst.add_typer(app, name="env")


_errors = Console(stderr=True)

Kwargs = Annotated[str, typer.Option("--kwargs", help="arguments of the environment, JSON: '{\"degree\": 3}'")]
Split = Annotated[str, typer.Option(help="train, val, test or anchor")]
EnvId = Annotated[
    str, typer.Argument(metavar="ID", help="module:namespace/Name-v0, or one of the package: fst/StarGraph-v0")
]

EXTRAS = {  # id -> (extra that brings its library, module of the library)
    "fst/ReasoningGym-v0": ("reasoning-gym", "reasoning_gym"),
    "fst/Gem-v0": ("gem", "gem"),
    "fst/TextArena-v0": ("textarena", "textarena"),
    "fst/OpenEnv-v0": ("openenv", "openenv"),
    "fst/SkyRLGym-v0": ("skyrl-gym", "skyrl_gym"),
    "fst/Polaris-v0": ("math", "math_verify"),
    "fst/Physics-v0": ("math", "math_verify"),
}


def visible(text: str) -> str:
    """A text with control, format and surrogate characters as escapes, except the line feed."""
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else ascii(c)[1:-1] for c in text)


def _say(label: str, text: Any, style: str = "bold") -> None:
    shown = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str)
    if label:
        console.print(Text(visible(label), style=style), end=" ")
    console.print(visible(shown), markup=False, highlight=False, soft_wrap=True)


def _fail(message: str) -> typer.Exit:
    _errors.print(visible(message), style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _about(env_id: str, e: Exception) -> str:
    """What an environment raised, with its id said once."""
    said = str(e) or type(e).__name__
    return said if env_id in said else f"{env_id}: {said}"


def _full(env_id: str) -> str:
    from . import ENVIRONMENTS

    return f"fst_envs:{env_id}" if env_id in ENVIRONMENTS else env_id


def _kwargs(text: str) -> dict[str, Any]:
    try:
        kwargs = json.loads(text)
    except ValueError as e:
        raise _fail(f"--kwargs {text!r} is not JSON: {e}") from None
    if not isinstance(kwargs, dict):
        raise _fail(f"--kwargs {text!r} must be a JSON object, such as '{{\"degree\": 3}}'")
    return kwargs


def _make(env_id: str, kwargs: str) -> Any:
    from .make import make

    try:
        return make(_full(env_id), **_kwargs(kwargs))
    except typer.Exit:
        raise
    except Exception as e:
        raise _fail(_about(env_id, e)) from None


@app.command("list")
def list_(
    env_id: Annotated[str, typer.Argument(metavar="[ID]", help="name the tasks of this environment instead")] = "",
) -> None:
    """Lists the package's environments and adapters, and whether what they need is installed."""
    from . import ENVIRONMENTS

    if env_id:
        for task in _tasks(env_id):
            typer.echo(visible(task))
        return
    table = Table("id", "what", "extra", "installed")
    for name, entry_point in ENVIRONMENTS.items():
        extra, module = EXTRAS.get(name, ("", ""))
        there = "" if not module else "yes" if importlib.util.find_spec(module) else "no"
        table.add_row(name, escape(_what(entry_point, list(ENVIRONMENTS.values()))), extra, there)
    console.print(table)


def _tasks(env_id: str) -> list[str]:
    from . import ENVIRONMENTS

    module = ENVIRONMENTS.get(env_id.rpartition(":")[2], "").partition(":")[0]
    tasks = getattr(importlib.import_module(module), "tasks", None) if module else None
    if tasks is None:
        raise _fail(f"{env_id} has no list of tasks; fst/ReasoningGym-v0, fst/Gem-v0 and fst/TextArena-v0 have one")
    try:
        return list(tasks())
    except Exception as e:
        raise _fail(_about(env_id, e)) from None


def _what(entry_point: str, all_: list[str]) -> str:
    """The first line of a module's docstring; of the class's, if the module has several environments."""
    module, _, name = entry_point.partition(":")
    found: Any = importlib.import_module(module)
    if sum(other.startswith(f"{module}:") for other in all_) > 1:
        found = getattr(found, name)
    return (found.__doc__ or "").strip().partition("\n")[0].partition(": `")[0]


@app.command()
def show(
    env_id: EnvId,
    index: Annotated[int, typer.Option(help="which instance")] = 0,
    split: Split = "train",
    kwargs: Kwargs = "{}",
) -> None:
    """Shows one instance: its question and its info."""
    env = _make(env_id, kwargs)
    try:
        question, info = env.reset(options={"index": index, "split": split})
    except Exception as e:
        raise _fail(_about(env_id, e)) from None
    finally:
        env.close()
    for key, value in info.items():
        _say(f"{key}:", value)
    console.print()
    _say("", question)


@app.command()
def play(
    env_id: EnvId,
    index: Annotated[int, typer.Option(help="which instance")] = 0,
    split: Split = "train",
    kwargs: Kwargs = "{}",
) -> None:
    """Plays an episode by hand: each line is an answer (\\n in it is a line break); Ctrl-D ends it."""
    env = _make(env_id, kwargs)
    try:
        observation, _ = env.reset(options={"index": index, "split": split})
        done = False
        while not done:
            _say("", observation)
            try:
                text = console.input("[bold green]> [/bold green]")
            except (EOFError, KeyboardInterrupt):
                break
            observation, reward, terminated, truncated, info = env.step(text.replace("\\n", "\n"))
            _say("reward", f"{reward:g}")
            _say("feedback", info["feedback"])
            done = terminated or truncated
    except typer.Exit:
        raise
    except Exception as e:
        raise _fail(_about(env_id, e)) from None
    finally:
        env.close()


@app.command()
def check(
    env_id: Annotated[str, typer.Argument(metavar="[ID]", help="an environment; or --all")] = "",
    all_: Annotated[
        bool,
        typer.Option(
            "--all", help="every environment of the package that needs no arguments, every reasoning-gym task"
        ),
    ] = False,
    kwargs: Kwargs = "{}",
    instances: Annotated[int, typer.Option(min=1, help="instances per split")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="processes, with --all")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the findings to this file")] = None,
) -> None:
    """Checks whether an environment is fit to train on; exit status 1 if one is not."""
    from . import check as checks

    if all_ == bool(env_id):
        raise _fail("name one environment, or give --all")
    if all_:
        found = []
        for report in checks.check_all(jobs=jobs, instances=instances):
            found.append(report)
            if not report.ok:
                _tell(report)
    else:
        found = [checks.check(_full(env_id), _kwargs(kwargs), instances=instances)]
    left_out = checks.left_out() if all_ else {}
    table = Table("environment", "", "reset ms", "step ms", "MB", "gold", "overlap", "feedback")
    for report in found:
        numbers = _cell(report.reset_ms, ".2f"), _cell(report.step_ms, ".2f"), _cell(report.memory_mb, ".0f")
        shares = _cell(report.gold, ".0%"), _cell(report.overlap, ".0%")
        verdict = "[green]ok" if report.ok else "[red]no"
        table.add_row(escape(report.name), verdict, *numbers, *shares, report.feedback or "")
    console.print(table)
    for report in found:
        if not all_ or not report.ok:
            _tell(report)
    for name, reason in left_out.items():
        _say(f"not checked: {name}:", reason, "dim")
    bad = sum(not report.ok for report in found)
    console.print(f"{len(found)} checked, {bad} with problems, {sum(r.seconds for r in found):.0f} s of checking")
    if json_file is not None:
        data = {"ok": not bad, "environments": [r.as_dict() for r in found], "not_checked": left_out}
        json_file.write_text(json.dumps(data, indent=1) + "\n")
    raise typer.Exit(1 if bad else 0)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _tell(report: Any) -> None:
    for problem in report.problems:
        _say("" if report.env_id.rpartition(":")[2] in problem else f"{report.name}:", problem, "red")
    for note in report.notes:
        _say(f"{report.name}:", note, "dim")


@app.command()
def export(
    env_id: EnvId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ends in .parquet or .jsonl")],
    n: Annotated[int, typer.Option(min=1, help="rows")] = 1000,
    split: Split = "train",
    start: Annotated[int, typer.Option(help="first index")] = 0,
    repeat: Annotated[bool, typer.Option(help="allow a question several times")] = False,
    kwargs: Kwargs = "{}",
) -> None:
    """Writes rows in verl's schema, for `data.train_files`; `compute_score` of pkg://fst_envs.score rewards them."""
    from .export import ENDINGS, write_rows
    from .instances import rows

    arguments = _kwargs(kwargs)
    if file.suffix not in ENDINGS:
        raise _fail(f"{file}: use a name that ends in {' or '.join(ENDINGS)}")
    try:
        data = rows(_full(env_id), arguments, split, n, start=start, repeat=repeat)
        write_rows(data, file)
    except Exception as e:
        raise _fail(_about(env_id, e)) from None
    console.print(f"{len(data)} rows of {escape(env_id)} {split} in {escape(str(file))}")


@app.command()
def policy(
    reads: Annotated[str, typer.Argument(help="rules or graphs")] = "rules",
    card: Annotated[bool, typer.Option("--card", help="print how reliable it is instead")] = False,
) -> None:
    """Prints the folder of a tiny policy, for actor_rollout_ref.model.path."""
    from .house import policy as policies

    try:
        folder = policies.path(reads)
        typer.echo(policies.table(folder) if card else folder)
    except ValueError as e:
        raise _fail(str(e)) from None
