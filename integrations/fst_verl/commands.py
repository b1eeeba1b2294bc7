"""`fst check`, `fst probe` and `fst demo`, and the arms of `fst compare --arms`: the commands that need verl."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fst_plugin.prompts import shown
from fst_plugin.record.atomic import write_json
from fst_plugin.secrets import redact

console = Console()
VERL_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Adds the commands to a typer app (entry-point group `fst.commands`)."""
    app.command(context_settings=VERL_ARGUMENTS)(check)
    app.command(context_settings=VERL_ARGUMENTS)(probe)
    app.command()(demo)


def launch_arms(
    arguments: Sequence[str], arms: str, seeds: int, jobs: int, out: Path, on_step: Callable[[str, int, int], None]
) -> list[str]:
    """The launcher of `fst compare --arms` (entry-point group `fst.launchers`): see `experiments.comparison`."""
    from .experiments.comparison import run_arms

    return run_arms(arguments, arms, seeds, jobs, out, on_step)


@contextmanager
def _one_line() -> Iterator[None]:
    """Ends a command with one line if verl is missing, or for an error that says how to fix it."""
    try:
        yield
    except ImportError as error:
        console.print(f"this command needs verl ({error}): pip install 'fst-plugin[verl]'", style="red", markup=False)
        raise typer.Exit(2) from None
    except (RuntimeError, ValueError) as error:
        console.print(shown(redact(str(error))), style="red", markup=False)
        raise typer.Exit(1) from None


def check(
    context: typer.Context,
    show: Annotated[bool, typer.Option(help="print the resolved fst config")] = True,
    reflect: Annotated[bool, typer.Option("--reflect", help="ask the reflection LM once, for real")] = False,
) -> None:
    """Checks a verl command as it stands, `fst check python3 -m verl.trainer.main_ppo ...`, or its arguments alone;
    starts nothing. `+fst=default` is added if it names no fst config.

    Takes a second or two. A main module of your own is asked for its config with Hydra's `--cfg job`, which takes as
    long as its imports do.
    """
    with _one_line():
        from fst_plugin.reflection.build import asked

        from . import command_line, report

        command = command_line.Command.take(context.args)
        looked = report.look(command)
    if show:
        looked.show(console)
    if reflect and not looked.problems:
        looked.problems.extend(asked(looked.fst))
    looked.say(console)
    raise typer.Exit(1 if looked.problems else 0)


def probe(
    context: typer.Context,
    json_file: Annotated[Path | None, typer.Option("--json", help="write every figure here")] = None,
    out: Annotated[Path, typer.Option(help="folder of the probe's run and log")] = Path("runs/probe"),
) -> None:
    """One fast phase on the model and data of a verl command, without training: is the task limited by its prompt, or
    by the weights?

    Takes a command as it stands, `fst probe python3 -m verl.trainer.main_ppo ...`, or its arguments alone.
    """
    with _one_line():
        from .command_line import Command
        from .experiments import probe as probing

        found = probing.run(Command.take(context.args), out, lambda line: console.print(line, markup=False))
    probing.show(console, found)
    if json_file:
        write_json(json_file, found.to_json())


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="write every figure here")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs, the report and its charts")] = Path("runs/demo"),
    arms: Annotated[str, typer.Option(help="which arms, comma-separated")] = "rl,prompts,fst",
    steps: Annotated[int | None, typer.Option(help="RL steps of every arm")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="verl runs at a time; each takes about 7 GB")] = 1,
    extra: Annotated[list[str] | None, typer.Option("--set", help="further verl argument, for every arm")] = None,
) -> None:
    """RL alone, prompt evolution alone and FST, side by side, on CPU through verl. Finished runs are not repeated."""
    from dataclasses import replace

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with _one_line():
        from fst_envs.house import policy

        from .experiments import comparison
        from .experiments import demo as runs

        chosen = comparison.parse_arms(arms)
    setup = replace(runs.Setup(), seeds=tuple(range(seeds)), extra=tuple(extra or ()))
    setup = replace(setup, steps=steps or setup.steps)
    out, began = out.absolute(), time.monotonic()
    for name, value in runs.PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    model = policy.path("rules")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
    )
    with _one_line(), Progress(*columns, console=console) as progress:
        results = runs.run(setup, model, out, chosen, jobs, progress)
    runs.show(console, results)
    runs.write_report(console, out, results)
    figures = json_file or out / "demo.json"
    write_json(figures, runs.figures(setup, results))
    console.print(runs.time_table(results))
    console.print(f"figures: {figures}; the demo took {time.monotonic() - began:.0f} s", markup=False)
