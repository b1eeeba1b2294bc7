"""The report's page: what it holds, that texts of models stay texts, and where prompts came from."""

import json
import re
import sys
from html.parser import HTMLParser

import pytest
from analysis_runs import BATCH, GROUP, make_run
from rule_world import SEED, rule_of
from typer import Typer
from typer.testing import CliRunner

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from fst_plugin.analysis import commands as cli  # noqa: E402
from fst_plugin.analysis.read import read, read_all  # noqa: E402
from fst_plugin.analysis.report import charts as figures
from fst_plugin.analysis.report import lineage as family
from fst_plugin.analysis.report import page as build  # noqa: E402
from fst_plugin.analysis.report import tree as drawing  # noqa: E402
from fst_plugin.analysis.report import write
from fst_plugin.analysis.run import Run, RunError, Step  # noqa: E402
from fst_plugin.optimizer import Candidate  # noqa: E402
from fst_plugin.prompts import Prompt, Score  # noqa: E402
from fst_plugin.record.cycles import Cycle  # noqa: E402
from fst_plugin.rollouts import Rollout  # noqa: E402

HOSTILE = '</pre></style><script>window.hacked=1</script><img src=x onerror="window.hacked=1"> {{ 7*7 }} $\\frac{$'


class HostileWorld:
    """Feedback that tries to break out of the page; the fast weights put it into their prompts."""

    def __call__(self, cells):
        return [self.roll(cell) for cell in cells]

    def roll(self, cell):
        rule = rule_of(cell.problem)
        right = rule.split(" as ")[0] in cell.prompt.text
        return Rollout(float(right), "answer", "Correct." if right else f"{rule[:-1]} {HOSTILE}.")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    found = tmp_path_factory.mktemp("runs")
    make_run(found / "rl_0", lambda s: 0.1 + 0.05 * s, fast=False)
    make_run(found / "fst_0", lambda s: min(1.0, 0.1 + 0.1 * s), lambda s: 0.001 * s)
    counts = {"base/seed": 2, "base/evolved": 11, "trained/seed": 12, "trained/evolved": 21}
    (found / "fst_0" / "attribution.json").write_text(
        json.dumps({cell: {"passed": n, "of": 100} for cell, n in counts.items()})
    )
    hydra = found / "fst_0" / "hydra" / ".hydra"
    hydra.mkdir(parents=True)
    secret = "sk-" + "a1B2" * 10
    (hydra / "config.yaml").write_text(
        f"fst: {{slow_steps: 3, note: '<script>9</script>', api_key: {secret}}}\n"
        f"data: {{train_batch_size: {BATCH}}}\nactor_rollout_ref: {{rollout: {{n: {GROUP}}}}}\n"
    )
    (hydra / "overrides.yaml").write_text(f"- fst.slow_steps=3\n- +llm.api_key={secret}\n")
    return found


@pytest.fixture(scope="module")
def page(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    write(out, read_all([str(root / "rl_0"), str(root / "fst_0")]))
    return out.read_text()


class Outline(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self._inside = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data):
        if not self._inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_says_what_was_reached_and_at_what_cost(page):
    text = Outline(page).text
    assert "rl reached a validation reward of 0.700 at its best." in text
    assert "fst reached it after 6 RL steps, 0.50 of rl's; counting every rollout, slow and fast," in text
    assert "weights had moved 0.05 as far (KL)" in text
    for part in ("Reward against RL steps", "Where its prompts came from", "What it cost", "fst.slow_steps=3", "Words"):
        assert part in text
    assert "slow rollouts 384" in text and "per RL step per rollout" in text


def test_every_prompt_is_there_byte_for_byte(root, page):
    text = (
        page.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&")
    )
    prompts = read(str(root / "fst_0")).prompts()
    assert prompts and all(f'<pre class="text" dir="auto">{p.text}</pre>' in text for p in prompts.values())


def test_the_two_by_two_is_shown_where_it_was_counted(page):
    text = Outline(page).text
    assert "evolved prompt" in text and "21.0%" in text and "21 of 100" in text
    assert "prompt alone 9.0 points" in text


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attributes in Outline(page).tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert "@import" not in page and "url(http" not in page
    assert "default-src 'none'" in page


def test_ids_are_unique_and_links_lead_somewhere(page):
    tags = Outline(page).tags
    ours = [a["id"] for tag, a in tags if a.get("id", "").startswith("run-")]
    assert ours and len(ours) == len(set(ours))
    links = [a["href"][1:] for tag, a in tags if tag == "a"]
    ids = {a.get("id") for _, a in tags}
    assert links and set(links) <= ids


def test_secrets_of_a_config_are_not_shown(page):
    assert "a1B2a1B2" not in page and "api_key" in page


def test_texts_of_models_stay_texts(tmp_path):
    """Prompts, names, notes and config that try to become markup, scripts, template code or formulas."""
    folder = make_run(tmp_path / "fst_0", lambda s: 0.1 * s, rules=HostileWorld())
    log = folder / "metrics.jsonl"
    log.write_text(log.read_text().replace("val-core/rules/", 'val-core/<script>8</script>"/'.replace('"', '\\"')))
    found = read(f"<script>alert(1)<{'/'}script> $x^{{$={folder}")
    texts = [p.text for p in found.prompts().values()]
    assert any("<script>window.hacked" in t for t in texts), "the world's feedback did not reach a prompt"
    out = tmp_path / "report.html"
    write(out, [found], title="<b>title</b>")
    page = out.read_text()
    outline = Outline(page)
    scripts = [a for tag, a in outline.tags if tag == "script"]
    assert len(scripts) == 1 and page.count("<script>") == 1  # its own
    assert not any(name.startswith("on") for _, a in outline.tags for name in a)
    assert not any(tag == "img" and a.get("src") == "x" for tag, a in outline.tags)
    assert "{{ 7*7 }}" in page and "<b>title</b>" not in page
    assert "<script>alert(1)" in outline.text  # shown, as text


def test_the_script_that_may_run_is_the_pages_own(page):
    import base64
    import hashlib

    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_pictures_are_written_too(root, tmp_path):
    files = write(tmp_path / "r.html", read_all([str(root / "fst_0")]), pictures=tmp_path / "png")
    names = {f.name for f in files}
    assert names == {"r.html", "reward_by_steps.png", "reward_by_rollouts.png", "reward_by_kl.png", "frontier_0.png"}
    assert all(f.read_bytes()[:4] == b"\x89PNG" for f in files if f.suffix == ".png")


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 0, "data": {"val-core/a/acc/mean@1": 0.5}}\n')
    write(tmp_path / "r.html", [read(str(tmp_path))])
    text = Outline((tmp_path / "r.html").read_text()).text
    assert "give --rollouts-per-step" in text and "No run logged its KL" in text and "no record of its config" in text


def test_a_two_by_two_that_is_wrong_is_told(root, tmp_path):
    broken = Run("x", "x", 0, "here", (Step(0, {"val-core/a/acc/mean@1": 0.5}),), attribution={"base/seed": {}})
    with pytest.raises(RunError, match="attribution.json.*missing"):
        write(tmp_path / "r.html", [broken])


# ----------------------------------------------------------------------------------------------------------- lineage


def prompt(text, *parents, **scores):
    return Prompt(text, tuple(p.digest for p in parents), scores={k: Score(v) for k, v in scores.items()})


def a_run(*prompts, population=(), **more):
    candidates = tuple(Candidate(p, "leads" if p in population else "rejected") for p in prompts)
    cycle = Cycle(0, True, population=tuple(population), candidates=candidates)
    return Run("r", "r", 0, "", (), population=tuple(population), cycles=(cycle,), **more)


def test_the_tree_puts_children_right_of_their_parents():
    seed = prompt("seed")
    a, b = prompt("a", seed), prompt("b", seed)
    c = prompt("c", a, b)
    found = family.tree(a_run(c, a, b, seed, population=[c], seed_digest=seed.digest))
    place = {n.prompt.text: (n.column, n.row) for n in found.nodes}
    assert place == {"seed": (0, 0.5), "a": (1, 0.0), "b": (1, 1.0), "c": (2, 0.0)}
    assert set(found.edges) == {
        (seed.digest, a.digest, True),
        (seed.digest, b.digest, True),
        (a.digest, c.digest, True),
        (b.digest, c.digest, False),
    }
    assert {n.prompt.text: n.outcome.verdict for n in found.nodes} == {
        "seed": "rejected",
        "a": "rejected",
        "b": "rejected",
        "c": "leads",
    }


def test_a_parent_that_was_not_kept_still_has_its_place():
    gone = prompt("gone")
    found = family.tree(a_run(prompt("a", gone), population=[prompt("b", gone)]))
    assert {(n.digest == gone.digest, n.prompt is None, n.column) for n in found.nodes} == {
        (True, True, 0),
        (False, False, 1),
    }


def test_no_two_prompts_share_a_place():
    old, every = [prompt("seed")], [prompt("seed")]
    for generation in range(6):
        old = [prompt(f"{generation}-{i}", old[i % len(old)]) for i in range(5)]
        every += old
    found = family.tree(a_run(*every))
    assert len({(n.column, n.row) for n in found.nodes}) == len(found.nodes) == 31


def test_prompts_that_are_each_others_parents_are_refused():
    a, b = prompt("a"), prompt("b")
    with pytest.raises(ValueError, match="edited"):
        family.tree(a_run(prompt("a", b), prompt("b", a)))


def test_the_frontier_counts_who_holds_what():
    found = family.frontiers([prompt("a", p=1.0, q=0.0, r=0.5), prompt("b", p=0.0, q=0.0)])
    assert found.problems == ("q", "p", "r") and found.held == (3, 1)  # q is held by both
    assert found.rows == ((0.0, 1.0, 0.5), (0.0, 0.0, None))


# ----------------------------------------------------------------------------------------------------------- command


def invoke(*arguments):
    app = Typer()
    cli.register(app)
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_the_command_writes_the_page(root, tmp_path):
    out = invoke("report", root / "rl_0", root / "fst_0", "-o", tmp_path / "page.html", "--pictures", tmp_path)
    assert out.exit_code == 0 and "page.html" in out.output.replace("\n", "")
    assert SEED in (tmp_path / "page.html").read_text() and (tmp_path / "reward_by_steps.png").exists()


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_one_line_that_names_the_extra(root, tmp_path, monkeypatch, library):
    for name in [m for m in sys.modules if m.startswith("fst_plugin.analysis.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    out = invoke("report", root / "rl_0", "-o", tmp_path / "page.html")
    assert out.exit_code == 2 and f"needs {library}" in out.output and "fst-plugin[analysis]" in out.output
    assert "Traceback" not in out.output and not (tmp_path / "page.html").exists()


def test_the_seed_prompts_curve_is_drawn_dashed(root):
    (axes,) = figures.reward_by_steps([read(str(root / "fst_0"))], None).axes
    own, plain = axes.lines
    assert list(own.get_ydata()) == pytest.approx([0.1, 0.4, 0.7, 1.0, 1.0])
    assert (list(plain.get_ydata()), plain.get_linestyle()) == (pytest.approx([0.1] * 4), "--")


def test_a_charts_names_are_drawn_as_they_are():
    runs = [
        Run(
            "$a_0",
            "$\\frac{$",
            0,
            "",
            (Step(0, {"val-core/a/acc/mean@1": 0.5}), Step(2, {"val-core/a/acc/mean@1": 0.6})),
        )
    ]
    assert "$\\frac{$" in figures.svg(figures.reward_by_steps(runs, None), "label")
    assert drawing.fill(0.0) != drawing.fill(1.0)


def test_a_baseline_that_never_rose_is_no_mark_to_reach(tmp_path):
    make_run(tmp_path / "rl_0", lambda step: 0.0, fast=False)
    make_run(tmp_path / "fst_0", lambda step: 0.05 * step)
    found = build.compare.compare(read_all([str(tmp_path / "rl_0"), str(tmp_path / "fst_0")]))
    assert build.compare.sentences(found) == [
        "rl reached a validation reward of 0.000 at its best.",
        "fst reached 0.600 at its best.",
    ]
