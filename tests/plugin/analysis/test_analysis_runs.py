"""Reading runs, their costs, and comparing them; on folders that the real fast weights wrote."""

import io
import json
import re
import subprocess
import sys

import pytest
from analysis_runs import BATCH, GROUP, make_run, write_log
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from fst_plugin.analysis import commands as cli
from fst_plugin.analysis import compare, run
from fst_plugin.analysis.costs import costs
from fst_plugin.analysis.read import parse_name, read, read_all
from fst_plugin.analysis.run import RunError
from fst_plugin.prompts import Prompt
from fst_plugin.record.calls import CALLS_FILE
from fst_plugin.record.journal import Journal
from fst_plugin.rollouts import Cell, Problem, Rollout

PER_STEP = BATCH * GROUP


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of plain RL and of FST: FST is at RL's peak after half the steps, at a tenth of the KL a step."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        make_run(root / f"rl_{seed}", lambda s: 0.1 + 0.05 * s, fast=False, seed=seed)
        make_run(root / f"fst_{seed}", lambda s: min(1.0, 0.1 + 0.1 * s), lambda s: 0.001 * s, seed=seed)
    return root


def specs(root):
    return [str(root / name) for name in ("rl_0", "rl_1", "fst_0", "fst_1")]


def app():
    found = Typer()
    cli.register(found)
    return found


def invoke(*arguments):
    return CliRunner().invoke(app(), [str(a) for a in arguments], env={"COLUMNS": "160"})


# -------------------------------------------------------------------------------------------------------------- read


def test_a_run_is_read_whole(runs):
    found = read(str(runs / "fst_1"))
    assert (found.arm, found.seed, found.sources, found.samples) == ("fst", 1, ("rules",), 4)
    assert [c.number for c in found.cycles] == [0, 1, 2, 3] and all(c.finished for c in found.cycles)
    assert found.reward() == pytest.approx({0: 0.1, 3: 0.4, 6: 0.7, 9: 1.0, 12: 1.0})
    assert set(found.reward(seed_prompt=True)) == {3, 6, 9, 12}
    assert found.population == found.cycles[-1].population and len(found.population) > 1
    assert found.kl()[12] == pytest.approx(0.012) and found.kl()[0] == 0.0
    fast = sum(c.rollouts for c in found.cycles)
    assert fast == found.total("rollouts_fast")[12] > 0  # what was paid is what was counted
    assert found.rollouts()[12] == 12 * PER_STEP + fast


def test_prompts_are_kept_with_where_they_came_from(runs):
    found = read(str(runs / "fst_0"))
    prompts = found.prompts()
    assert {p.digest for p in found.population} <= prompts.keys()
    assert all(p.digest == digest and (p.parents or digest == found.seed_digest) for digest, p in prompts.items())


def test_a_plain_rl_run_counts_its_rollouts_from_verls_own_figures(runs):
    found = read(str(runs / "rl_0"))
    assert found.cycles == () and found.population == ()
    assert found.slow_rollouts() == {0: 0, **{s: s * PER_STEP for s in range(1, 13)}}
    assert found.rollouts() == found.slow_rollouts()


def test_what_was_not_recorded_is_not_guessed(tmp_path):
    write_log(tmp_path / "m.jsonl", [(0, {"val-core/a/b/acc/mean@2": 0.5}), (1, {"x": 1.0})])
    found = read(str(tmp_path))
    assert found.slow_rollouts() == {} and found.kl() == {} and found.sources == ("a/b",)
    assert costs(found).sum("rollouts") is None
    assert read(str(tmp_path), rollouts_per_step=64).slow_rollouts() == {0: 0, 1: 64}


def test_weights_that_were_never_updated_have_not_moved(tmp_path):
    write_log(
        tmp_path / "m.jsonl", [(0, {"val-core/a/acc/mean@2": 0.5}), (1, {"timing_s/gen": 1.0, "timing_s/step": 2.0})]
    )
    assert read(str(tmp_path)).kl() == {0: 0.0, 1: 0.0}


def test_sources_are_told_apart_and_averaged(tmp_path):
    data = {"val-core/a/acc/mean@4": 0.2, "val-core/b/reward/mean@4": 0.6, "val-core/a/acc/mean@2": 0.9}
    data |= {"val-core/a/acc/best@4/mean": 1.0, "val-core/a/seed_prompt/acc/mean@4": 0.0}
    write_log(tmp_path / "m.jsonl", [(0, data)])
    found = read(str(tmp_path))
    assert found.sources == ("a", "b") and found.samples == 4
    assert found.reward() == pytest.approx({0: 0.4})
    assert found.reward("a") == {0: 0.2} and found.reward("a", seed_prompt=True) == {0: 0.0}


def test_a_log_that_is_being_written_and_numbers_that_are_none(tmp_path):
    log = tmp_path / "m.jsonl"
    log.write_text('{"step": 0, "data": {"a": 1.0, "b": null, "c": "text"}}\n{"step": 1, "da')
    assert read(str(log)).steps == (run.Step(0, {"a": 1.0}),)


def test_a_resumed_runs_logs_are_laid_over_each_other(tmp_path):
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    write_log(old, [(s, {"val-core/a/acc/mean@1": 0.0, "perf/total_num_tokens": 1.0}) for s in range(4)])
    write_log(new, [(s, {"val-core/a/acc/mean@1": 1.0}) for s in range(3, 6)])
    found = read(f"again_2={old},{new}")
    assert [s.step for s in found.steps] == list(range(6)) and found.reward()[3] == 1.0 and found.reward()[2] == 0.0
    assert (found.arm, found.seed) == ("again", 2)
    assert read(str(new)).missing == 5 and costs(read(str(new))).rows == ()  # validations alone: no step was logged


def test_the_log_may_lie_elsewhere(runs, tmp_path):
    log = tmp_path / "elsewhere.jsonl"
    log.write_text((runs / "fst_0" / "metrics.jsonl").read_text())
    found = read(f"fst_7={log},{runs / 'fst_0' / 'checkpoints'}")
    assert found.population and found.seed == 7


@pytest.mark.parametrize("content, message", [("", "empty"), ('{"step": 0}\n{"step": 1, "data": {}}\n', "line 1")])
def test_a_log_that_cannot_be_used_is_told(tmp_path, content, message):
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(RunError, match=message):
        read(str(tmp_path))


NOT_A_STEP = ['"step": Infinity', '"step": 1e999', '"step": -1', '"step": 1.5', '"step": true', '"step": null']


@pytest.mark.parametrize("step", NOT_A_STEP)
def test_a_step_that_is_not_a_whole_number_is_one_line_that_names_the_log(tmp_path, step):
    (tmp_path / "m.jsonl").write_text("{" + step + ', "data": {"a": 1}}\n{"step": 2, "data": {"a": 1}}\n')
    with pytest.raises(RunError, match="m.jsonl, line 1 is not a"):
        read(str(tmp_path))


def test_values_that_are_not_finite_are_left_out_counted_and_said(tmp_path):
    lines = [
        '{"step": 0, "data": {"val-core/a/acc/mean@1": 0.5}}',
        '{"step": 1, "data": {"loss": NaN, "kl": Infinity, "fine": 2, "text": "x", "flag": true}}',
        '{"step": 2, "data": {"loss": null, "huge": 1' + "0" * 400 + ', "fine": 3}}',
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    found = read(str(tmp_path))
    assert [dict(s.data) for s in found.steps[1:]] == [{"fine": 2.0}, {"fine": 3.0}]
    told = "logged values that are not finite numbers, in no figure: 4, of loss (2), kl (1), huge (1)"
    assert found.left_out == (told,)
    assert told in " ".join(compare.notes(compare.compare([found])))


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    "name, content",
    [
        ("config.yaml", b"actor_rollout_re"),
        ("config.yaml", b"fst: {slow_steps: 3, no"),
        ("config.yaml", b"- a\n- b\n"),
        ("config.yaml", b"\xff\xfe\x00a"),
        ("config.yaml", b"a: " + b"[" * 5000),
        ("config.yaml", BOMB.encode()),
        ("config.yaml", b"a: 1\n" * 1_000_000),
        ("config.yaml", b"a: !!python/object/apply:os.system [echo]\n"),
        ("overrides.yaml", b"fst.slow_steps=3"),
        ("overrides.yaml", b"a: b\n"),
    ],
    ids=["cut", "cut-inside", "a-list", "bytes", "deep", "bomb", "long", "code", "text", "a-mapping"],
)
def test_a_damaged_record_of_the_config_is_one_line_that_names_it(tmp_path, name, content):
    write_log(tmp_path / "m.jsonl", [(0, {"val-core/a/acc/mean@1": 0.5})])
    hydra = tmp_path / ".hydra"
    hydra.mkdir()
    (hydra / "config.yaml").write_text("a: 1\n")
    (hydra / name).write_bytes(content)
    out = invoke("compare", tmp_path)
    said = "".join(out.output.split())  # where lines are broken depends on the length of the path
    assert out.exit_code == 1 and name in said and "restoreitormoveitaway" in said
    assert "Traceback" not in out.output and len(said) < 800


@pytest.mark.parametrize("content", ["[1", "[" * 100_000, "[1, 2]", '"x"'])
def test_a_damaged_two_by_two_is_one_line_that_names_it(tmp_path, content):
    write_log(tmp_path / "m.jsonl", [(0, {"val-core/a/acc/mean@1": 0.5})])
    (tmp_path / "attribution.json").write_text(content)
    with pytest.raises(RunError, match="attribution.json is not a JSON object"):
        read(str(tmp_path))


def test_folders_that_hold_no_run_are_told(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        read(str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match="trainer.logger"):
        read(str(tmp_path))
    for name in ("a.jsonl", "b.jsonl"):
        write_log(tmp_path / name, [(0, {"x": 1.0})])
    with pytest.raises(RunError, match="several logs"):
        read(str(tmp_path))


def test_an_edited_population_is_refused(runs, tmp_path):
    log = runs / "fst_0" / "metrics.jsonl"
    state = json.loads((runs / "fst_0" / "checkpoints" / "fst" / "state.json").read_text())
    state["population"]["prompts"][0]["text"] += "!"
    live = tmp_path / "fst"
    live.mkdir()
    (live / "state.json").write_text(json.dumps(state))
    with pytest.raises(RunError, match="state.json.*edited"):
        read(f"{log},{live}")


def test_candidates_are_read_with_what_became_of_them(runs):
    """As the fast weights record them: every new prompt, its verdict, its test's margin, and the lead's evidence."""
    found = read(str(runs / "fst_0"))
    first = found.cycles[0]
    new = {c.prompt.digest for c in first.candidates}
    assert new and any(c.margin is not None and c.records for c in first.candidates)
    assert "leads" in {c.verdict for c in first.candidates} and first.evidence.adopted is True
    assert first.population[0].digest == first.evidence.challenger
    assert new <= found.prompts().keys()


def test_a_phase_that_is_still_running(runs, tmp_path):
    cycle = tmp_path / "fst" / "cycle_0004"
    cycle.mkdir(parents=True)
    journal = Journal(cycle, {"weights": "w"})
    journal.evaluate(lambda cells: [Rollout(1.0)] * 3)([Cell(Prompt("p"), Problem(str(i), ())) for i in range(3)])
    with open(cycle / CALLS_FILE, "ab") as calls:
        calls.write((cycle / CALLS_FILE).read_bytes()[:-3])  # being written
    (found,) = read(f"{runs / 'fst_0' / 'metrics.jsonl'},{tmp_path / 'fst'}").cycles
    assert (found.number, found.finished, found.rollouts, found.reflections) == (4, False, 3, 0)
    (cycle / CALLS_FILE).write_text("damaged\n")
    with pytest.raises(RunError, match="damaged"):
        read(f"{runs / 'fst_0' / 'metrics.jsonl'},{tmp_path / 'fst'}")


# ------------------------------------------------------------------------------------------------------------ costs


def test_the_ledger_adds_up(runs):
    found = read(str(runs / "fst_0"))
    book = costs(found)
    assert [row.step for row in book.rows] == list(range(1, 13)) and book.missing == 0
    assert {row.slow_rollouts for row in book.rows} == {PER_STEP}
    assert [row.step for row in book.rows if row.fast_rollouts] == [1, 4, 7, 10]
    assert [row.fast_rollouts for row in book.rows if row.fast_rollouts] == [c.rollouts for c in found.cycles]
    assert book.sum("reflection_calls") == found.total("reflection_calls")[12] > 0
    assert book.sum("tokens_slow") == 5.0 * 12 * PER_STEP
    assert book.sum("tokens_fast") is None  # fast rollouts were made and their tokens not logged
    seconds = book.seconds()
    assert seconds["rollouts"] == 12.0 and seconds["update"] == 6.0 and seconds["validation"] == 8.0
    assert seconds["other"] <= 12 * 0.25 and seconds["fast phase"] > 0


def test_every_figure_is_given_per_step_and_per_rollout(runs):
    book = costs(read(str(runs / "fst_0")))
    tokens = 5.0 * 12 * PER_STEP
    assert book.rates("tokens_slow") == {"per_slow_step": tokens / 12, "per_rollout": tokens / book.sum("rollouts")}
    assert book.rates("tokens_fast") == {"per_slow_step": None, "per_rollout": None}


def test_plain_rl_spends_nothing_on_the_fast_phase(runs):
    book = costs(read(str(runs / "rl_0")))
    assert book.sum("fast_rollouts") == 0 and book.sum("reflection_calls") == 0 and book.sum("tokens_fast") == 0
    assert book.sum("rollouts") == 12 * PER_STEP and "fast phase" not in book.seconds()


# ----------------------------------------------------------------------------------------------------------- compare


def test_arms_are_compared_by_seed(runs):
    figures = compare.compare(read_all(specs(runs)))
    assert figures["baseline"] == "rl" and list(figures["arms"]) == ["rl", "fst"]
    fst, rl = figures["arms"]["fst"], figures["arms"]["rl"]
    # RL ends at 0.7 (step 12); FST is there at step 6
    assert fst["steps_to_peak"]["value"] == 6 and fst["steps_ratio"]["value"] == 0.5 and fst["steps_ratio"]["n"] == 2
    fast = [read(s).total("rollouts_fast")[6] for s in specs(runs)[2:]]
    ratios = sorted((6 * PER_STEP + f) / (12 * PER_STEP) for f in fast)
    assert fst["rollouts_ratio"]["value"] == pytest.approx(sum(ratios) / 2)
    assert (fst["rollouts_ratio"]["low"], fst["rollouts_ratio"]["high"]) == pytest.approx(ratios)
    # RL: KL 0.01 a step and 0.05 a step; FST: 0.001 and 0.1: at the same reward a twentieth
    assert fst["kl_ratio_at_matched_reward"]["value"] == pytest.approx(0.05)
    assert rl["steps_ratio"]["value"] == 1.0 and "levelled off" in rl["reasons"]["peak"]
    assert any(why in rl["reasons"]["asymptote"] for why in ("levelled off", "scipy"))
    json.dumps(figures, allow_nan=False)


def test_an_arm_that_never_gets_there_says_so(runs):
    figures = compare.compare(read_all(specs(runs)), baseline="fst")
    assert figures["arms"]["rl"]["steps_ratio"]["value"] == "never"
    assert any("never" in cell for _, cells in compare.table(figures) for cell in cells)


def test_a_baseline_that_never_rises_has_no_peak_to_reach(runs, tmp_path):
    make_run(tmp_path / "rl_0", lambda step: 0.0, fast=False)
    figures = compare.compare(read_all([str(tmp_path / "rl_0"), str(runs / "fst_0")]))
    fst = figures["arms"]["fst"]
    assert [fst[key] for key in ("steps_to_peak", "rollouts_to_peak", "steps_ratio")] == [None] * 3
    assert "fst: steps ratio: rl was best before its first step" in compare.notes(figures)


def test_a_ceiling_reaches_the_fits_and_must_not_be_below_a_reward(runs):
    specs_, arms = specs(runs), {}
    for ceiling in (None, 1.0):
        arms[ceiling] = compare.compare(read_all(specs_), ceiling=ceiling)["arms"]
    assert all(arm["asymptote"] is None or arm["asymptote"]["high"] <= 1.0 for arm in arms[1.0].values())
    assert arms[None] != arms[1.0]
    with pytest.raises(RunError, match="ceiling=0.01: a reward of"):
        compare.compare(read_all(specs_), ceiling=0.01)
    assert "ceiling=0.01: a reward of" in invoke("compare", *specs_, "--ceiling", "0.01").output


def test_a_baseline_without_a_seed_in_common(runs):
    figures = compare.compare(read_all([str(runs / "rl_0"), str(runs / "fst_1")]))
    assert (
        "steps_ratio" not in figures["arms"]["fst"]
        and "no seed in common" in figures["arms"]["fst"]["reasons"]["ratios"]
    )


def test_no_baseline_is_told(runs):
    figures = compare.compare(read_all([f"a_0={runs / 'fst_0'}", f"b_0={runs / 'fst_1'}"]))
    assert figures["baseline"] is None and "--baseline" in figures["arms"]["a"]["reasons"]["ratios"]


def test_the_command_prints_a_table_and_writes_every_figure(runs, tmp_path):
    out = invoke("compare", *specs(runs), "--json", tmp_path / "figures.json")
    assert out.exit_code == 0, out.output
    assert "slow steps to the baseline's peak" in out.output and "over 2 seeds" in out.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures == json.loads(invoke("compare", *specs(runs), "--json", "-").output)
    assert figures["arms"]["fst"]["steps_ratio"]["value"] == 0.5


@pytest.mark.parametrize("width", [80, 200])
def test_no_interval_is_broken_at_the_terminals_width(runs, width):
    console = Console(width=width, file=io.StringIO())
    again = [f"other_{spec[-1]}={spec}" for spec in specs(runs)[2:]]
    cli.print_comparison(console, compare.compare(read_all([*specs(runs), *again])))
    lines = [line for line in console.file.getvalue().splitlines() if "[" in line and "│" in line]
    assert lines and all(line.count("[") == line.count("]") for line in lines)
    assert any(re.search(r"\d \[", line) for line in lines) == (width == 200)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{root}/nowhere"], "does not exist"),
        (["{root}/rl_0", "{root}/rl_0"], "tell them apart"),
        (["{root}/rl_0", "--baseline", "gepa"], "no run of arm 'gepa'"),
        (["{root}/rl_0", "--source", "math"], "the sources are rules"),
    ],
)
def test_bad_input_is_one_line(runs, arguments, message):
    out = invoke("compare", *(a.format(root=runs) for a in arguments))
    assert out.exit_code == 1 and message in out.output.replace("\n", " ") and "Traceback" not in out.output


def test_runs_that_are_not_equally_long_are_told(runs, tmp_path):
    short = make_run(tmp_path / "short_0", lambda s: 0.1, steps=6, fast=False)
    lines = compare.notes(compare.compare(read_all([str(runs / "rl_0"), str(short)])))
    assert any("not equally long" in line and "[6, 12]" in line for line in lines)
    assert not any("not equally long" in line for line in compare.notes(compare.compare(read_all(specs(runs)))))


def test_no_extra_is_needed_to_compare(runs):
    """The commands import, and compare works, where none of the extra's libraries is installed."""
    script = (
        "import sys\n"
        "for name in ('scipy', 'numpy', 'matplotlib', 'jinja2', 'markupsafe'):\n"
        "    sys.modules[name] = None\n"
        "from typer import Typer\n"
        "from fst_plugin.analysis import commands\n"
        "app = Typer()\n"
        "commands.register(app)\n"
        "app(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script]
    compared = subprocess.run([*command, "compare", *specs(runs)], capture_output=True, text=True)
    assert compared.returncode == 0, compared.stderr
    assert "fst-plugin[analysis]" in compared.stdout.replace("\n", "")  # why there is no asymptote
    reported = subprocess.run([*command, "report", *specs(runs)], capture_output=True, text=True)
    assert reported.returncode == 2 and "fst-plugin[analysis]" in reported.stderr and "Traceback" not in reported.stderr


def test_names_give_arm_and_seed():
    assert parse_name("fst_0") == ("fst", 0) and parse_name("rl-seed12") == ("rl", 12)
    assert parse_name("qwen3") == ("qwen3", 0) and parse_name("my run") == ("my run", 0)
