"""The report in headless Chromium: a `chromium` on PATH (Debian: apt-get install chromium), driven by playwright."""

import os
import shutil

import pytest
from analysis_runs import make_run
from test_report import HostileWorld

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
playwright = pytest.importorskip("playwright.sync_api")

from fst_plugin.analysis.read import read_all  # noqa: E402
from fst_plugin.analysis.report import write  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
SIZES = {"desktop": (1280, 900), "phone": (375, 812)}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "rl_0", lambda s: 0.05 * s, fast=False)
    make_run(root / "fst_0", lambda s: 0.08 * s, rules=HostileWorld())
    write(root / "report.html", read_all([str(root / "rl_0"), str(root / "fst_0")]))
    return root / "report.html"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def page(request, chromium, report):
    width, height = SIZES[request.param]
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda r: page.heard.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto(report.as_uri())
    yield page
    page.close()


def test_it_loads_in_silence_and_asks_for_nothing(page):
    assert page.title() and page.locator("svg").count() >= 4
    assert page.heard == []


def test_texts_of_models_do_not_run(page):
    assert page.evaluate("window.hacked") is None
    page.get_by_role("button", name="Show all").click()
    assert any("window.hacked=1" in text for text in page.locator(".prompt:visible pre.text").all_inner_texts())


def test_choosing_a_dot_shows_its_prompt(page):
    nodes = page.locator(".node")
    assert nodes.count() >= 3 and page.locator(".prompt:visible").count() == 1
    for i in range(nodes.count()):
        node = nodes.nth(i)
        node.click()
        shown = page.locator(".prompt:visible")
        assert shown.count() == 1 and shown.get_attribute("id") == node.get_attribute("data-prompt")
        assert node.get_attribute("aria-current") == "true" and page.locator("[aria-current]").count() == 1
    assert page.heard == []


def test_the_best_prompt_is_in_sight_in_its_tree(page):
    inside = """() => {
        const dot = document.querySelector("[aria-current] circle").getBoundingClientRect();
        const tree = document.querySelector(".tree").getBoundingClientRect();
        return dot.left >= tree.left && dot.right <= tree.right && dot.top >= tree.top && dot.bottom <= tree.bottom;
    }"""
    assert page.evaluate(inside)


def test_the_tree_works_from_the_keyboard(page):
    node = page.locator(".node").nth(2)
    node.focus()
    page.keyboard.press("Enter")
    assert page.locator(".prompt:visible").get_attribute("id") == node.get_attribute("data-prompt")


def test_all_prompts_can_be_shown(page):
    button = page.get_by_role("button", name="Show all")
    button.click()
    assert page.locator(".prompt:visible").count() == page.locator(".node").count()
    page.get_by_role("button", name="Show one prompt").click()
    assert page.locator(".prompt:visible").count() == 1


def test_the_page_is_no_wider_than_its_window(page):
    for summary in page.locator("summary:visible").all():
        summary.click()
    wide, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window


BROKEN = """() => {
    const broken = [];
    for (const cell of document.querySelectorAll("thead th, tbody th")) {
        const text = cell.firstChild;
        for (const word of text ? text.data.matchAll(/\\S+/g) : []) {
            const range = document.createRange();
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            if (range.getClientRects().length > 1) broken.push(word[0]);
        }
    }
    return broken;
}"""


def test_no_word_of_a_tables_heads_is_broken(page):
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.locator("thead th").count() > 10 and page.evaluate(BROKEN) == []


def test_a_table_that_goes_on_to_the_right_keeps_its_first_column_in_sight(page):
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    places = """() => [...document.querySelectorAll("section .scroll:has(table.figures)")]
        .filter(box => box.scrollWidth > box.clientWidth)
        .map(box => {
            box.scrollLeft = 9999;
            const head = box.querySelector("tbody th").getBoundingClientRect();
            return Math.abs(head.left - box.getBoundingClientRect().left);
        })"""
    off = page.evaluate(places)
    assert all(distance < 1 for distance in off) and bool(off) == (page.viewport_size["width"] < 500)


def test_charts_can_be_read(page):
    """The smallest label of a chart is at least 8 px high on the screen."""
    heights = page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert heights and min(heights) >= 8


def test_without_scripts_every_prompt_is_there(chromium, report):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".prompt:visible").count() == page.locator(".node").count() >= 3
    context.close()
