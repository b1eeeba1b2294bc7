"""The report's figures by their numbers: what stands where, and that nothing runs over a frame, a line or a label."""

import re
import time
from html.parser import HTMLParser

import pytest
from analysis_runs import make_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from fst_plugin.analysis.read import read_all  # noqa: E402
from fst_plugin.analysis.report import charts, lineage, page, tree, write  # noqa: E402
from fst_plugin.analysis.run import Run, Step  # noqa: E402
from fst_plugin.optimizer import Candidate, Evidence  # noqa: E402
from fst_plugin.prompts import Prompt, Score  # noqa: E402
from fst_plugin.record.cycles import Cycle  # noqa: E402

CHAR, HEIGHT = 7.5, 14
"""A wide character, and a line, of the tree's labels, in SVG units at 12 px."""
KEY = "val-core/a/acc/mean@1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "rl_0", lambda s: 0.05 * s, fast=False, steps=5, every=1)
    make_run(root / "fst_0", lambda s: min(1.0, 0.1 + 0.1 * s), lambda s: 0.001 * s)
    return read_all([str(root / "rl_0"), str(root / "fst_0")])


def label_box(node, drawn):
    """(left, top, right, bottom) of a dot's label."""
    half, top = len(node["label"]) * CHAR / 2, node["y"] + drawn["label"]
    return (node["x"] - half, top, node["x"] + half, top + HEIGHT)


def segments(path):
    """A path of level and upright lines as (x1, y1, x2, y2)."""
    x1, y1, gutter, y2, x2 = map(int, re.fullmatch(r"M(\d+) (\d+)H(\d+)V(\d+)H(\d+)", path).groups())
    return [(x1, y1, gutter, y1), (gutter, min(y1, y2), gutter, max(y1, y2)), (gutter, y2, x2, y2)]


def meet(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def wide_run(width=6, generations=5):
    """A family with long names for its labels, edges over many rows and columns, and second parents."""
    seed = Prompt("seed", scores={"p": Score(0.5)})
    every, last = [seed], [seed]
    for generation in range(generations):
        parents = [(last[i % len(last)].digest, every[(7 * i + generation) % len(every)].digest) for i in range(width)]
        last = [Prompt(f"{generation}-{i}", p, "reflection", generation) for i, p in enumerate(parents)]
        every += last
    candidates = tuple(Candidate(p, "outranked", -0.125 if i % 2 else None) for i, p in enumerate(every[:-3]))
    population = tuple(Prompt(p.text, p.parents, scores={"p": Score(1.0)}) for p in every[-3:])
    return Run("r", "r", 0, "", (), population=population, cycles=(Cycle(0, True, population, candidates),))


@pytest.mark.parametrize("which", ["real", "wide"])
def test_labels_stand_inside_the_frame_and_off_every_line_dot_and_label(runs, which):
    drawn = tree.draw(runs[1] if which == "real" else wide_run(), 0)
    boxes = {node["digest"]: label_box(node, drawn) for node in drawn["nodes"]}
    assert len(boxes) > 5 and drawn["edges"]
    for box in boxes.values():
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= drawn["width"] and box[3] <= drawn["height"]
    for node in drawn["nodes"]:
        dot = (node["x"] - 11, node["y"] - 11, node["x"] + 11, node["y"] + 11)
        assert dot[0] >= 0 and dot[1] >= 0
        assert not any(meet(dot, box) for box in boxes.values())
        assert not any(meet(boxes[node["digest"]], box) for d, box in boxes.items() if d != node["digest"])
    for path, _ in drawn["edges"]:
        for x1, y1, x2, y2 in segments(path):
            line = (x1 - 0.75, y1 - 0.75, x2 + 0.75, y2 + 0.75)
            assert not any(meet(line, box) for box in boxes.values()), path


def test_a_label_says_what_is_known_of_a_prompt():
    run = wide_run()
    labels = {node["digest"]: node["label"] for node in tree.draw(run, 0)["nodes"]}
    assert labels[run.population[0].digest] == "#0 1.00"
    assert set(labels.values()) == {"#0 1.00", "#1 1.00", "#2 1.00", "0.50", "Δ-0.12", "outranked"}
    gone = Prompt("child", ("f" * 16,))
    alone = Run("r", "r", 0, "", (), population=(gone,), cycles=(Cycle(0, True, (gone,)),))
    assert {node["label"] for node in tree.draw(alone, 0)["nodes"]} == {"#0 leads", "?"}


def test_no_prompt_that_was_scored_or_tested_is_a_question_mark(runs):
    nodes = tree.draw(runs[1], 0)["nodes"]
    assert len(nodes) > 5 and not [node["digest"] for node in nodes if "?" in node["label"]]


@pytest.mark.parametrize("chart", [charts.reward_by_steps, charts.reward_by_rollouts, charts.reward_by_kl])
def test_a_charts_numbers_stand_inside_it_and_apart(runs, chart):
    figure = chart(runs, None)
    figure.draw_without_rendering()
    (axes,), frame = figure.axes, figure.bbox
    inside = axes.get_window_extent()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
        shown = [label.get_window_extent() for place, label in ticks if low <= place <= high]
        assert len(shown) >= 3
        for i, box in enumerate(shown):
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            assert not inside.overlaps(box) and not any(box.overlaps(other) for other in shown[i + 1 :])
    for drawn in axes.lines:
        for point in axes.transData.transform(drawn.get_xydata()):
            assert inside.x0 + 1 < point[0] < inside.x1 - 1 and inside.y0 + 1 < point[1] < inside.y1 - 1


@pytest.mark.parametrize("arms", [1, 3, 10, 30])
def test_a_legend_stands_inside_its_chart_and_off_its_lines(arms):
    steps = tuple(Step(s, {KEY: 0.1 * s}) for s in range(3))
    names = [f"an_arm_{'with_a_long_name_' * (i % 5)}{i}" for i in range(arms)]
    figure = charts.reward_by_steps([Run(f"{name}_0", name, 0, "", steps) for name in names], None)
    figure.draw_without_rendering()
    (legend,), (axes,) = figure.legends, figure.axes
    box, inside = legend.get_window_extent(), axes.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert box.y0 >= inside.y1 and not box.overlaps(axes.yaxis.label.get_window_extent())
    assert len(legend.get_texts()) == arms and inside.height > 150
    drawn = {(one.get_color(), one.get_marker(), one.get_linestyle()) for one in axes.lines if one.get_xdata().size}
    assert len(drawn) == arms


def test_a_problem_that_a_prompt_was_not_scored_on_is_grey():
    scored = Prompt("a", scores={"1": Score(1.0), "2": Score(0.0)}), Prompt("b", scores={"1": Score(1.0)})
    drawn = charts.svg(charts.heat_map(lineage.frontiers(scored)), "who")
    assert drawn.count(f"fill: {charts.NOT_SCORED}") == 1


@pytest.mark.parametrize("last", [0, 1, 2, 5, 24, 3000])
def test_ticks_of_steps_and_rollouts_are_whole_numbers(last):
    run = Run("r", "r", 0, "", tuple(Step(s, {KEY: 0.5, "x": 1.0}) for s in range(last + 1)), rollouts_per_step=8)
    for figure in (charts.reward_by_steps([run], None), last and charts.reward_by_rollouts([run], None)):
        if figure:
            figure.draw_without_rendering()
            ticks = figure.axes[0].get_xticks()
            assert all(float(t).is_integer() for t in ticks) and len(set(ticks)) == len(ticks) <= 9


@pytest.mark.parametrize("problems", [1, 2, 3, 40])
def test_ticks_of_problems_are_whole_numbers(problems):
    scored = Prompt("a", scores={str(i): Score(i % 2) for i in range(problems)})
    figure = charts.heat_map(lineage.frontiers([scored]))
    figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())


class Order(HTMLParser):
    """Tags of figures, in order."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("figure", "svg", "figcaption", "details") or dict(attributes).get("class") == "lead-evidence":
            self.found.append(tag)


def test_a_caption_stands_under_its_chart_so_that_charts_stand_level(runs, tmp_path):
    write(tmp_path / "r.html", runs)
    order = Order((tmp_path / "r.html").read_text()).found
    figures = [order[i + 1 : i + 3] for i, tag in enumerate(order) if tag == "figure"]
    assert len(figures) == 4 and all(found == ["svg", "figcaption"] for found in figures)


def test_why_rank_0_leads_is_read_without_opening_anything(runs, tmp_path):
    write(tmp_path / "r.html", [runs[1]])
    text = (tmp_path / "r.html").read_text()
    evidence = next(c.evidence for c in reversed(runs[1].cycles))
    order = Order(text).found
    assert order.index("p") < order.index("details")
    assert "Rank 0" in text and (evidence is None or f"{evidence.margin:+.3f}" in text.split("lead-evidence")[1][:600])


def test_a_leader_with_the_lower_mean_is_explained():
    first, second = Prompt("first", scores={"p": Score(0.5)}), Prompt("second", scores={"p": Score(0.75)})
    evidence = Evidence(first.digest, "0" * 16, 24, 0.28, 0.171, True)
    cycle = Cycle(0, True, (first, second), evidence=evidence)
    said = " ".join(tree.lead(Run("r", "r", 0, "", (), population=(first, second), cycles=(cycle,))))
    assert f"prompt {first.digest} against {'0' * 16}: +0.280 ± 0.171 on 24 problems" in said
    assert "0.500 on 1, is below rank 1's, 0.750 on 1" in said


# ------------------------------------------------------------------------------------------------- any kind of run


def test_a_run_of_thousands_of_steps_is_bounded(tmp_path):
    data = {"timing_s/step": 1.5, "timing_s/gen": 1.0, "response_length/mean": 5.0}
    steps = tuple(Step(s, {KEY: (s * 37 % 1000) / 1000, **data}) for s in range(8001))
    run = Run("long_0", "long", 0, "here", steps, rollouts_per_step=4)
    began = time.process_time()
    write(tmp_path / "r.html", [run])
    assert time.process_time() - began < 20
    text = (tmp_path / "r.html").read_text()
    assert len(text) < 1_000_000
    (drawn,) = [one for one in charts.reward_by_steps([run], None).axes[0].lines if len(one.get_xdata())]
    xs, ys = list(drawn.get_xdata()), list(drawn.get_ydata())
    assert len(xs) <= charts.MAX_POINTS + 2 and (xs[0], xs[-1], max(ys)) == (0, 8000, 0.999)
    assert "Of 8001 validations, one in 21 and the highest are drawn." in text
    rows = page._step_rows(page.costs(run).rows)
    assert len(rows) == page.STEP_ROWS and rows[0]["step"] == "1-40"
    assert sum(row["slow_rollouts"] for row in rows) == 4 * 8000 and sum(r["seconds"]["rollouts"] for r in rows) == 8000


def test_runs_of_different_schemas_stand_on_one_page(tmp_path):
    prompts = ("写奶牛为E3。\n" * 20, "‮אבג دهم\n" * 20, "x" * 30_000, "half \ud800 a character, <b>&</b>")
    made = tuple(Prompt(text, scores={"p": Score(0.5)}) for text in prompts)
    one = Run("one_0", "one", 0, "", (Step(0, {KEY: 0.5}),), population=made, cycles=(Cycle(0, True, made),))
    other = Run("其他_0", "其他", 0, "", (Step(0, {"val-core/b/reward/mean@8": 0.1}), Step(1, {"loss": 1.0})))
    plain = Run("rl_0", "rl", 0, "", (Step(0, {KEY: 0.1}), Step(7, {KEY: 0.2, "timing_s/step": 1.0})))
    write(tmp_path / "r.html", [one, other, plain])
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<pre class="text" dir="auto">写奶牛为E3。' in text and "אבג" in text and "x" * 30_000 in text
    assert "half \\ud800 a character, &lt;b&gt;&amp;&lt;/b&gt;" in text
    assert "其他" in text and len(text) < 400_000


def test_a_text_that_is_far_too_long_is_cut_and_counted(tmp_path):
    text = "y" * (tree.MAX_TEXT + 7)
    prompt = Prompt(text)
    run = Run("a_0", "a", 0, "", (Step(0, {KEY: 0.5}),), population=(prompt,), cycles=(Cycle(0, True, (prompt,)),))
    write(tmp_path / "r.html", [run])
    shown = (tmp_path / "r.html").read_text()
    assert text not in shown and text[: tree.MAX_TEXT] in shown and "7 more characters are not shown" in shown


def test_of_very_many_prompts_the_population_its_line_and_the_newest_are_drawn():
    line = [Prompt("0")]
    for i in range(1, 40):
        line.append(Prompt(str(i), (line[-1].digest,), cycle=i))
    others = [Prompt(f"other {i}", (line[0].digest,)) for i in range(2000)]
    cycle = Cycle(0, True, (line[-1],), tuple(Candidate(p, "rejected") for p in (*line[:-1], *others)))
    run = Run("r", "r", 0, "", (), population=(line[-1],), cycles=(cycle,))
    found = lineage.tree(run)
    kept = {node.digest for node in found.nodes}
    assert {p.digest for p in line} <= kept and others[-1].digest in kept and others[0].digest not in kept
    assert len(kept) == lineage.MAX_NODES and found.left_out == 2040 - lineage.MAX_NODES
    assert tree.draw(run, 0)["left_out"] == found.left_out
