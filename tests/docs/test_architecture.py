"""What the README and the docs name exists: code, links, commands, config keys, files and make targets.

Code is looked up by AST, so that nothing needs verl or torch.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest
import typer

from fst_plugin.config import FSTConfig

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "fst_plugin": ROOT / "fst_plugin",
    "fst_verl": ROOT / "integrations" / "fst_verl",
    "fst_trl": ROOT / "integrations" / "fst_trl",
    "fst_envs": ROOT / "envs" / "fst_envs",
}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
EVERY = pytest.mark.parametrize("page", TEXTS)

CODE = re.compile(r"`(fst_(?:plugin|verl|trl|envs)(?:\.\w+)+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?<![\w./+-])fst ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
KEY = re.compile(r"(?<![\w./-])\+?fst\.([a-z_]+(?:\.[a-z_]+)*)")
TARGET = re.compile(r"`?make ([a-z][a-z-]*)")


# --------------------------------------------------------------------------------------------------------------- code


@lru_cache
def names_in(path):
    """Name -> node, of everything that a module or a class body defines or imports at its top."""
    return members(ast.parse(path.read_text(encoding="utf-8")))


def members(node):
    found = {}
    for child in getattr(node, "body", []):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[child.name] = child
        elif isinstance(child, ast.Assign):
            found |= {target.id: child for target in child.targets if isinstance(target, ast.Name)}
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            found[child.target.id] = child
        elif isinstance(child, ast.ImportFrom):
            found |= {alias.asname or alias.name: child for alias in child.names}
    return found


def resolves(dotted):
    first, *rest = dotted.split(".")
    place = PACKAGES[first]
    while rest and (place / rest[0]).is_dir():
        place = place / rest.pop(0)
    if rest and (place / f"{rest[0]}.py").is_file():
        place = place / f"{rest.pop(0)}.py"
    else:
        place = place / "__init__.py"
    known = names_in(place) if place.is_file() else {}
    for name in rest:
        if name not in known:
            return False
        known = members(known[name])
    return place.is_file()


def test_the_lookup_tells_what_is_there_from_what_is_not():
    assert resolves("fst_plugin.fast_weights.FastWeights.evolve") and resolves("fst_plugin.evolve.ReflectiveOptimizer")
    assert resolves("fst_verl.compat") and resolves("fst_envs.base.ReasoningEnv")
    assert not resolves("fst_plugin.fast_weights.FastWeights.no_such") and not resolves("fst_plugin.no_such")


@EVERY
def test_code_that_is_named_exists(page):
    assert [name for name in sorted(set(CODE.findall(TEXTS[page]))) if not resolves(name)] == []


def test_the_architecture_page_names_functions_of_all_three_packages():
    named = set(CODE.findall(TEXTS["docs/architecture.md"]))
    assert len(named) > 60 and {name.partition(".")[0] for name in named} == set(PACKAGES)


def test_the_api_page_names_what_exists():
    named = re.findall(r"^::: (\S+)(?:\n    options:\n((?: {6}.*\n)+))?", TEXTS["docs/api.md"] + "\n", re.M)
    assert len(named) > 15
    for owner, options in named:
        listed = re.search(r"members: \[(.*)\]", options)
        inside = re.findall(r"\w+", listed[1]) if listed else re.findall(r"- (\w+)", options)
        assert [n for n in (owner, *(f"{owner}.{m}" for m in inside)) if not resolves(n)] == []


# --------------------------------------------------------------------------------------------------------------- links


def anchors(path):
    """Anchors of a page's headings, as GitHub and the site make them."""
    lines, fenced = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if not fenced and line.startswith("#"):
            lines.append(line.lstrip("#").strip())
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


@EVERY
def test_every_internal_link_leads_somewhere(page):
    here = (ROOT / page).parent
    broken = []
    for link in LINK.findall(TEXTS[page]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (here / path).resolve() if path else ROOT / page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_sites_navigation():
    listed = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


# ------------------------------------------------------------------------------------------------- commands and keys


@pytest.fixture(scope="module")
def commands():
    """Name -> names of its subcommands. Built from the packages' own `register`, installed or not."""
    import fst_envs.commands
    import fst_verl.commands

    from fst_plugin import cli

    app = typer.Typer()
    for info in cli.app.registered_commands:
        app.registered_commands.append(info)
    for package in (fst_envs.commands, fst_verl.commands):
        package.register(app)
    click = typer.main.get_command(app)
    return {name: set(getattr(command, "commands", {})) for name, command in click.commands.items()}


@EVERY
def test_commands_that_are_named_exist(page, commands):
    text = "\n".join(spans(TEXTS[page]))
    wrong = []
    for name, sub in COMMAND.findall(text):
        if name not in commands or (commands[name] and sub and sub not in commands[name]):
            wrong.append(f"fst {name} {sub}".strip())
    assert wrong == []


def spans(text):
    """What stands as code: inline code, and fenced blocks save those of ```text, which are output."""
    found = re.findall(r"```([^\n]*)\n(.*?)```|`([^`\n]+)`", text, re.S)
    return [block or inline for language, block, inline in found if language != "text"]


def known_keys(model=FSTConfig, prefix=""):
    found = set()
    for name, field in model.model_fields.items():
        found.add(prefix + name)
        if hasattr(field.annotation, "model_fields"):
            found |= known_keys(field.annotation, f"{prefix}{name}.")
    return found


@EVERY
def test_config_keys_that_are_named_exist(page):
    known = known_keys()
    named = {key for span in spans(TEXTS[page]) for key in KEY.findall(span)}
    free = ("fast.kwargs.", "context.kwargs.", "reflection.kwargs.")
    groups = {"commands", "launchers"}  # entry-point groups: fst.commands
    assert sorted(k for k in named - groups if k not in known and not k.startswith(free)) == []


@EVERY
def test_make_targets_and_python_files_that_are_named_exist(page):
    targets = set(re.findall(r"^([a-z][\w.-]*):", (ROOT / "Makefile").read_text(), re.M))
    code = "\n".join(spans(TEXTS[page]))
    assert [target for target in TARGET.findall(code) if target not in targets] == []
    files = re.findall(r"(?<![\w/<])((?:examples|benchmarks|recipes|tests)/[\w./-]*\w\.(?:py|sh))", code)
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_page_on_environments_lists_every_wrapper_and_no_other():
    from fst_envs.wrappers import WRAP_KEYS

    section = TEXTS["docs/environments.md"].split("\n## Wrappers\n")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.M)) == WRAP_KEYS


def test_the_page_on_environments_lists_every_id():
    from fst_envs import ENVIRONMENTS

    listed = re.findall(r"^\| `(fst/\S+)` \|", TEXTS["docs/environments.md"], re.M)
    assert sorted(listed) == sorted(ENVIRONMENTS)


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 150


def test_the_readme_names_every_supported_verl_and_trainer_mode():
    compat = ast.parse((PACKAGES["fst_verl"] / "compat.py").read_text())
    values = {
        target.id: ast.literal_eval(node.value)
        for node in compat.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("SUPPORTED", "MODES")
    }
    missing = [name for name in (*values["SUPPORTED"], *values["MODES"]) if name not in TEXTS["README.md"]]
    assert missing == []
