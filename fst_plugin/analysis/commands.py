"""`fst report`, `fst compare` and `fst export`, to be mounted on the `fst` command: `register(app)`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..prompts import shown
from ..secrets import redact
from . import EXTRA

LAUNCHERS = "fst.launchers"
"""Entry-point group of the RL stacks that can run arms: a function as `fst_verl.commands.launch_arms`."""

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="[NAME=]PATH[,PATH]: a run's folder, or its log and its checkpoint folder; NAME is <arm>_<seed>",
    ),
]
Baseline = Annotated[str | None, typer.Option(help="arm to compare with; rl, or the one arm without fast weights")]
Source = Annotated[str | None, typer.Option(help="one validated data source; else the mean over them")]
PerStep = Annotated[int | None, typer.Option(min=1, help="slow rollouts a step (batch x G), if the log does not say")]


def compare(
    runs: Runs,
    baseline: Baseline = None,
    source: Source = None,
    rollouts_per_step: PerStep = None,
    ceiling: Annotated[
        float | None, typer.Option(help="highest reward there can be (1 for accuracies): bounds the asymptotes")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write every figure here; - for the screen")] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="run these first (rl, gepa, fst, comma-separated); RUN... are then a verl command's arguments"
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="with --arms: how many seeds; {seed} in an argument stands for it")
    ] = 1,
    jobs: Annotated[
        int, typer.Option(min=1, help="with --arms: verl runs at a time; on GPUs within one Ray cluster")
    ] = 1,
    out: Annotated[Path, typer.Option(help="with --arms: folder of the runs")] = Path("runs/compare"),
) -> None:
    """Compares finished or running runs in one table: reward, steps and rollouts to peak, drift, cost.

    With --arms, runs the arms first, each with every seed, from one verl command:

        fst compare --arms rl,gepa,fst --seeds 3 <all your verl arguments>
    """
    from . import compare as comparing
    from .read import read_all
    from .run import RunError

    console = Console()
    if arms is not None:
        runs = _run_arms(runs, arms, seeds, jobs, out)
    elif options := [run for run in runs if run.startswith("-")]:
        raise typer.BadParameter(f"No such option: {options[0]}")
    try:
        figures = comparing.compare(read_all(runs, rollouts_per_step), baseline, source, ceiling)
    except RunError as error:
        _fail(str(error), 1)
    if json_file is not None and str(json_file) == "-":
        typer.echo(json.dumps(figures, indent=2, allow_nan=False))
        return
    print_comparison(console, figures)
    if json_file is not None:
        from ..record.atomic import write_json

        write_json(json_file, figures)


def print_comparison(console: Console, figures: Mapping[str, Any]) -> None:
    """The table of `compare`'s figures, and its notes. Where it is too wide, intervals stand under their figures."""
    from . import compare as comparing

    table = _comparison(figures, " [")
    if console.measure(table, options=console.options.update(width=10_000)).maximum > console.width:
        table = _comparison(figures, "\n[")
    console.print(table)
    for line in comparing.notes(figures):
        console.print(Text(line))


def _comparison(figures: Mapping[str, Any], before_interval: str) -> Table:
    from . import compare as comparing

    table = Table(title=Text(f"compared with {figures['baseline'] or 'nothing'}"))
    table.add_column("figure")
    for arm, found in figures["arms"].items():
        table.add_column(Text(f"{arm} ({len(found['seeds'])})"), justify="right")
    for label, cells in comparing.table(figures):
        table.add_row(label, *(Text(cell.replace(" [", before_interval)) for cell in cells))
    return table


def _run_arms(arguments: list[str], arms: str, seeds: int, jobs: int, out: Path) -> list[str]:
    """Runs what is not finished; returns all runs as `compare` takes them."""
    launchers = list(entry_points(group=LAUNCHERS))
    if not launchers:
        _fail("fst compare --arms needs an RL stack to run them on: pip install 'fst-plugin[verl]'", 2)
    try:
        launch = launchers[0].load()
        with Console(stderr=True).status("") as status:
            show = lambda arm, seed, step: status.update(f"{arm}_{seed}: step {step}")  # noqa: E731
            return launch(arguments, arms, seeds, jobs, out, show)
    except ImportError as error:
        _fail(f"fst compare --arms needs verl ({error}): pip install 'fst-plugin[verl]'", 2)
    except (RuntimeError, ValueError) as error:
        _fail(str(error), 1)


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option("-o", "--out", help="the page")] = Path("report.html"),
    pictures: Annotated[Path | None, typer.Option(help="folder for the charts as PNG files")] = None,
    baseline: Baseline = None,
    source: Source = None,
    rollouts_per_step: PerStep = None,
    title: Annotated[str, typer.Option(help="heading of the page")] = "Fast-Slow Training: report",
) -> None:
    """Writes one self-contained page on one or more runs: curves, prompts and where they came from, costs."""
    from .read import read_all
    from .run import RunError

    try:
        from .report import write
    except ModuleNotFoundError as error:
        _fail(f"fst report needs {error.name}: {EXTRA}", 2)
    try:
        files = write(out, read_all(runs, rollouts_per_step), baseline, source, title, pictures)
    except RunError as error:
        _fail(str(error), 1)
    except ModuleNotFoundError as error:
        _fail(f"fst report needs {error.name}: {EXTRA}", 2)
    Console().print(Text("wrote " + ", ".join(map(str, files))))


def export(
    run: Annotated[Path, typer.Argument(help="checkpoint folder of a run, or one checkpoint in it")],
    out: Annotated[Path, typer.Option("-o", "--out", help="the JSON file")] = Path("export.json"),
    router: Annotated[
        bool, typer.Option("--router", help="also what picks one of the prompts for each problem (extra: router)")
    ] = False,
    placement: Annotated[
        str | None, typer.Option(help="where prompts go: system, append or user; default: as the run had it")
    ] = None,
    signature: Annotated[str, typer.Option(help="signature of the DSPy program")] = "question -> answer",
) -> None:
    """Writes a run's prompts for use elsewhere: plain JSON, and next to it a DSPy program (.dspy.json)."""
    from ..record.atomic import write_json
    from ..record.cycles import read_record
    from .export import exported, write_dspy

    program = out.with_suffix(".dspy.json")
    try:
        record = read_record(run)
        content, notes = exported(record, placement, router)
        write_dspy(program, record.best(), signature)
        write_json(out, content)
    except (OSError, ValueError) as error:
        _fail(shown(redact(str(error))), 1)
    for line in (*notes, f"wrote {out}, {program}"):
        Console().print(Text(line))


def register(app: typer.Typer) -> None:
    """Adds the commands to a typer app."""
    app.command()(report)
    app.command()(export)
    app.command(context_settings={"ignore_unknown_options": True})(compare)  # a verl command has flags of its own


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True).print(Text(message, style="red"))
    raise typer.Exit(code)


__all__ = ["compare", "export", "print_comparison", "register", "report"]
