"""The `fst` command, put together from what is installed.

The core brings `config`, `prompts`, `compare`, `report` and `export`. Every other package adds its own through the
entry-point group `fst.commands`: a function `register(app)` that adds commands to a typer app.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import __version__
from .analysis import commands as analysis
from .prompts import shown
from .secrets import described, redact

GROUP = "fst.commands"
"""Entry-point group of packages that add commands."""

app = typer.Typer(
    help="Fast-Slow Training: evolved prompts next to RL.", no_args_is_help=True, pretty_exceptions_show_locals=False
)
console = Console()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fst-plugin {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Fast-Slow Training: evolved prompts next to RL."""


@app.command("config")
def show_config() -> None:
    """Lists every key of the fst config, its default, and where the default comes from."""
    from .config import FSTConfig

    table = Table("key", "default", "description and source")
    for key, default, text in _fields(FSTConfig, "fst"):
        table.add_row(key, repr(default), text)
    console.print(table)


def _fields(model: Any, prefix: str) -> list[tuple[str, Any, str]]:
    found = []
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            found += _fields(field.annotation, f"{prefix}.{name}")
        else:
            found.append((f"{prefix}.{name}", field.get_default(call_default_factory=True), field.description or ""))
    return found


@app.command()
def prompts(
    run: Annotated[Path, typer.Argument(help="checkpoint folder of a run, or one checkpoint in it")],
    best: Annotated[bool, typer.Option("--best", help="only the text of the prompt that leads")] = False,
    diff: Annotated[
        tuple[str, str] | None, typer.Option(help="a text diff of two prompts, named by digest prefix")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="also the prompts that were not carried on")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="the earlier prompts kept to be tried again")] = False,
) -> None:
    """Lists the prompts of a run with their lineage and scores."""
    from .analysis.prompts import archive_table
    from .analysis.prompts import table as prompt_table
    from .record.cycles import diff as text_diff
    from .record.cycles import read_record

    try:
        record = read_record(run)
        if best:
            _print(record.best().text)
        elif diff:
            _print(text_diff(record.text_of(diff[0]), record.text_of(diff[1]), *diff))
        elif archive:
            console.print(archive_table(record.state.archive.entries if record.state else ()))
        else:
            console.print(prompt_table([r for r in record.rows() if everything or r.rank is not None]))
    except (FileNotFoundError, ValueError) as error:
        console.print(shown(redact(str(error))), style="red", markup=False)
        raise typer.Exit(1) from None


def _print(text: str) -> None:
    """Escaped on a terminal, where an evolved prompt must not act; byte for byte into a file or a pipe."""
    typer.echo(shown(text) if sys.stdout.isatty() else text.encode("utf-8", "surrogatepass"))


def _compose() -> None:
    """Adds the commands of every installed package. One that cannot be loaded is named, and the others work."""
    analysis.register(app)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()(app)
        except Exception as error:
            line = f"the commands of {entry.name} are missing: {described(error)}"
            Console(stderr=True).print(Text(line, style="yellow"))


_compose()
