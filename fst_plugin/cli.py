"""The `fst` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from fst_envs.commands import app as environments
from fst_envs.commands import visible
from rich.console import Console
from rich.table import Table

from .analysis import commands as analysis

app = typer.Typer(
    help="Fast-Slow Training: evolved prompts beside RL.", no_args_is_help=True, pretty_exceptions_show_locals=False
)
app.add_typer(environments, name="env")
analysis.register(app)
console = Console()
VERL_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=VERL_ARGUMENTS)
def check(
    context: typer.Context, show: Annotated[bool, typer.Option(help="print the resolved fst config")] = True
) -> None:
    """Checks the arguments of a `python -m verl.trainer.main_ppo ... +fst=default` command; starts nothing."""
    try:
        from fst_verl.check import compose, environment, problems
    except ImportError as error:
        console.print(f"[red]fst check needs verl ({error}): pip install 'fst-plugin\\[verl]'[/red]")
        raise typer.Exit(2) from None
    try:
        config = compose(context.args)
    except ValueError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    if show:
        from omegaconf import OmegaConf

        console.print(OmegaConf.to_yaml(OmegaConf.create({"fst": config.fst})), markup=False, highlight=False)
    found = [*problems(config), *environment(config)]
    for problem in found:
        console.print(f"- {problem}", style="red", markup=False)
    console.print("[red]" + f"{len(found)} problem(s)" if found else "[green]no problems")
    raise typer.Exit(1 if found else 0)


@app.command("config")
def show_config() -> None:
    """Lists every key of the fst config, its default, and where the default comes from."""
    from .config import FSTConfig

    table = Table("key", "default", "what, and whence")
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
    run: Annotated[Path, typer.Argument(help="checkpoint folder of a run, or one of its global_step_N")],
    best: Annotated[bool, typer.Option("--best", help="only the text of the prompt that leads")] = False,
    diff: Annotated[
        tuple[str, str] | None, typer.Option(help="a text diff of two prompts, named by the begin of their digests")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="also the prompts that were not carried on")] = False,
) -> None:
    """Lists the prompts of a run with their lineage and scores."""
    from .record import lineage
    from .record.cycles import diff as text_diff

    try:
        if best:
            typer.echo(lineage.best(run).text)
        elif diff:
            typer.echo(text_diff(lineage.text_of(run, diff[0]), lineage.text_of(run, diff[1]), *diff))
        else:
            console.print(_lineage_table(lineage.entries(run), everything))
    except (FileNotFoundError, ValueError) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None


def _lineage_table(entries: list[Any], everything: bool) -> Table:
    from rich.text import Text

    table = Table("cycle", "rank", "digest", "parent", "verdict", "score", "on", "last line")
    for entry in entries:
        if entry.rank is not None or everything:
            rank = "" if entry.rank is None else str(entry.rank)
            last = next((visible(line) for line in reversed(entry.text.splitlines()) if line.strip()), "")
            score = f"{entry.score:.3f}" if entry.anchors else "-"
            row = [str(entry.cycle), rank, entry.digest, entry.parent, entry.verdict, score]
            table.add_row(*row, str(entry.anchors), Text(last, overflow="ellipsis", no_wrap=True))
    return table


@app.command(context_settings=VERL_ARGUMENTS)
def probe(
    context: typer.Context,
    json_file: Annotated[Path | None, typer.Option("--json", help="write every figure here")] = None,
    out: Annotated[Path, typer.Option(help="folder of the probe's run and log")] = Path("runs/probe"),
) -> None:
    """One fast phase on the model and data of a verl command, without training: is the task limited by its prompt, or
    by the weights?

    Takes the arguments of `python -m verl.trainer.main_ppo ... +fst=default`.
    """
    try:
        from fst_verl.experiments import probe as probing
    except ImportError as error:
        console.print(f"[red]fst probe needs verl ({error}): pip install 'fst-plugin\\[verl]'[/red]")
        raise typer.Exit(2) from None
    try:
        found = probing.run(context.args, out.absolute())
    except (RuntimeError, ValueError) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    console.print(probing.table(found))
    console.print(found.verdict(), markup=False)
    if json_file:
        from .record.atomic import write_json

        write_json(json_file, found.to_json())


@app.command("tiny-policy")
def tiny_policy(
    folder: Path,
    reads: Annotated[str, typer.Option(help="rules: house rules; graphs: small star graphs")] = "rules",
    seed: Annotated[int, typer.Option(help="of the training data and the weights")] = 0,
    force: Annotated[bool, typer.Option(help="train again even where the same model stands already")] = False,
) -> None:
    """Trains a tiny policy (a few minutes on CPU) and prints how reliably it follows what its prompt says."""
    from tiny_policy import main

    try:
        main(folder, seed, force, reads)
    except (ValueError, FileExistsError) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None


@app.command()
def demo(
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="write every figure here")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs, their logs and the picture")] = Path("runs/demo"),
    arms: Annotated[str, typer.Option(help="which arms, comma-separated")] = "rl,prompts,fst",
    steps: Annotated[int | None, typer.Option(help="RL steps of every arm")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="verl runs at a time; each takes about 7 GB")] = 1,
    extra: Annotated[list[str] | None, typer.Option("--set", help="further verl argument, for every arm")] = None,
) -> None:
    """RL alone, prompt evolution alone and FST, side by side, on CPU through verl."""
    from dataclasses import replace

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    try:
        from fst_verl.experiments import demo as runs
        from fst_verl.experiments import demo_report as report
        from tiny_policy import main as build_policy
    except ImportError as error:
        console.print(f"[red]the demo needs verl on CPU ({error}): run it with make demo[/red]")
        raise typer.Exit(2) from None
    chosen = [arm.strip() for arm in arms.split(",")]
    unknown = sorted(set(chosen) - set(runs.ARMS))
    if unknown:
        raise typer.BadParameter(f"unknown arms {unknown}: use {', '.join(runs.ARMS)}", param_hint="--arms")
    setup = replace(runs.Setup(), seeds=tuple(range(seeds)), extra=tuple(extra or ()))
    setup = replace(setup, steps=steps or setup.steps)
    out = out.absolute()
    model = out / "tiny_policy"
    build_policy(model, 0, False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as progress:
            results = runs.run(setup, model, out, chosen, jobs, progress)
    except RuntimeError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    report.show(console, setup, results)
    picture = out / "demo.png"
    report.picture(picture, setup, results)
    runs.write(json_file or out / "demo.json", setup, results)
    console.print(f"picture: {picture}; figures: {json_file or out / 'demo.json'}", markup=False)


if __name__ == "__main__":
    app()
