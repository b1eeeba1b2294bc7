"""The paper's tasks on small files with the schemas of the published data; made here, nothing is downloaded."""

from __future__ import annotations

import json
import warnings

import fst_envs
import gymnasium as gym
import pytest
from fst_envs.files import data_files
from fst_envs.instances import load_splits
from fst_envs.score import compute_score
from gymnasium.utils.env_checker import check_env

IDS = {name: f"fst_envs:fst/{name}-v0" for name in ("CodeIO", "HoVer", "Polaris", "Physics")}
CODEIO = [
    {
        "problem_description": f"Double every number and count them, variant {i}.",
        "io_requirements": "Input: `numbers` (list of int). Output: a dict with `doubled` and `count`.",
        "refcode": "def main_solution(numbers):\n    return {'doubled': [2 * n for n in numbers]}",
        "funcname": "main_solution",
        "ios": [
            {"input": {"numbers": [i, 2]}, "output": {"doubled": [2 * i, 4], "count": 2}},
            {"input": {"numbers": [i]}, "output": {"doubled": [2 * i], "count": 1}},
        ],
        "source": "test",
        "category": None,
    }
    for i in range(40)
]
HOVER = [
    {
        "id": i,
        "uid": f"u{i}",
        "claim": f"The author of Book {i} was born in Town {i}.",
        "supporting_facts": [{"key": f"Book {i}", "value": 0}, {"key": f"Town {i}", "value": 1}],
        "label": i % 2,
        "num_hops": 2 + i % 3,
        "hpqa_id": f"h{i}",
    }
    for i in range(40)
]
POLARIS = [{"problem": f"What is {i}/2?", "answer": rf"\frac{{{i}}}{{2}}", "difficulty": "3/8"} for i in range(1, 41)]
PHYSICS = [
    {
        "problem_text": f"A cart drives {i} m in 2 s. How fast is it?",
        "answer_latex": f" {i / 2}",
        "answer_number": f" {i / 2}",
        "unit": r" $\mathrm{m} / \mathrm{s}$",
        "source": "fund",
        "problemid": f" {i}.01",
    }
    for i in range(1, 41)
]
ROWS = {"CodeIO": CODEIO, "HoVer": HOVER, "Polaris": POLARIS, "Physics": PHYSICS}


def needs_library(name):
    if name in ("Polaris", "Physics"):
        pytest.importorskip("math_verify")
        pytest.importorskip("pint")


def write(path, rows):
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        plain = [{k: json.dumps(v) if k == "ios" else v for k, v in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(plain), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def played(env, text, index=0):
    env.reset(options={"index": index})
    _, reward, terminated, truncated, info = env.step(text)
    assert terminated and not truncated and info["error"] is None
    return reward, info["feedback"]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".parquet"])
def test_every_kind_of_file(name, kind, tmp_path):
    needs_library(name)
    file = write(tmp_path / f"rows{kind}", ROWS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(IDS[name], disable_env_checker=True, file=file).unwrapped)
    env = fst_envs.make(IDS[name], file={"train": file})
    for index in (0, 7):
        _, info = env.reset(options={"index": index})
        assert env.step(f"Thus {info['answer']}")[1] == 1.0
        for junk in ("", "banana", "<answer>π\x00\ud800</answer>", "<answer>[[[</answer>", "<answer></answer>"):
            reward, feedback = played(env, junk, index)
            assert reward == 0.0 and feedback


@pytest.mark.parametrize("name", ROWS)
def test_one_file_serves_all_splits_without_a_shared_question(name, tmp_path):
    needs_library(name)
    file = write(tmp_path / "rows.jsonl", ROWS[name] * 2)
    splits = load_splits(IDS[name], {"file": file}, {"train": 12, "val": 1, "test": 1})
    ids = [{row["extra_info"]["task_id"] for row in rows} for rows in splits.values()]
    assert len(ids[0] | ids[1] | ids[2]) == 14
    row = splits["val"][0]
    right = compute_score("", row["reward_model"]["ground_truth"], "", row["extra_info"])
    assert right["score"] == 1.0 and compute_score("", "no", "", row["extra_info"])["score"] == 0.0
    asked = {split: {r["prompt"][0]["content"].split("Given")[0] for r in rows} for split, rows in splits.items()}
    assert not asked["train"] & asked["val"]  # CodeIO: all pairs of a program stay together


def test_a_split_has_its_own_size(tmp_path):
    files = {"train": write(tmp_path / "a.jsonl", HOVER), "val": write(tmp_path / "b.jsonl", HOVER[:3])}
    env = fst_envs.make(IDS["HoVer"], file=files)
    assert env.reset(options={"index": 39})[1]["split"] == "train"
    for seed in range(20):
        assert env.reset(seed=seed, options={"split": "val"})[1]["index"] < 3
    with pytest.raises(IndexError, match="has 3 instances"):
        env.reset(options={"index": 3, "split": "val"})
    with pytest.raises(ValueError, match="no rows for the split 'test'"):
        env.reset(options={"split": "test"})


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    first = fst_envs.make(IDS["HoVer"], file={"train": write(path, HOVER)}).reset(options={"index": 0})[0]
    second = fst_envs.make(IDS["HoVer"], file={"train": write(path, HOVER[5:])}).reset(options={"index": 0})[0]
    assert first != second


def test_codeio_names_the_first_difference(tmp_path):
    env = fst_envs.make(IDS["CodeIO"], file={"train": write(tmp_path / "rows.jsonl", CODEIO)})
    question, _ = env.reset(options={"index": 4})
    assert '{"numbers": [2, 2]}' in question and "def main_solution" in question and "<answer>" not in question
    for answer, said in {
        '{"count": 2, "doubled": [4, 4]}': "Correct.",
        '```json\n{"output": {"count": 2.0, "doubled": [4, 4]}}\n```': "Correct.",
        '{"doubled": [4, 5], "count": 3}': "Incorrect. At doubled[1]: expected 4, got 5.",
        '{"doubled": [4, 4], "count": true}': "Incorrect. At count: expected 2, got true.",
        '{"doubled": [4, 4]}': "Incorrect. The key 'count' is missing.",
        '{"doubled": [4, 4], "count": 2, "sum": 8}': "Incorrect. There must be no key 'sum'.",
        '{"doubled": [4]}': "Incorrect. At doubled: expected 2 elements, got 1.",
        "[4, 4]": 'Incorrect. Expected {"doubled": [4, 4], "count": 2}, got [4, 4].',
        "{'doubled': [4, 4]}": "is not a JSON value",
        '{"doubled": NaN}': "NaN is no JSON",
        "[" * 100_000: "is not a JSON value",
    }.items():
        reward, feedback = played(env, f"<answer>{answer}</answer>", 4)
        assert said in feedback and reward == float(said == "Correct."), (answer, feedback)
    assert "No answer was found" in played(env, '{"doubled": [4, 4], "count": 2}', 4)[1]


def test_codeio_reads_flat_rows_and_can_hide_the_program(tmp_path):
    rows = [{"problem_description": "Add one.", "refcode": "x", "input": "1", "output": "2"}]
    file = {"train": write(tmp_path / "rows.jsonl", rows)}
    env = fst_envs.make(IDS["CodeIO"], file=file, show_code=False, hint=True)
    question, _ = env.reset(options={"index": 0})
    assert "program" not in question and question.endswith("between <answer> and </answer>.")
    assert played(env, r"\boxed{2}")[0] == 1.0


def test_a_text_that_looks_like_a_number_stays_a_text(tmp_path):
    rows = [{"problem_description": "Join.", "ios": [{"input": ["1", "2"], "output": "12"}]}]
    for kind in ("jsonl", "parquet"):
        env = fst_envs.make(IDS["CodeIO"], file={"train": write(tmp_path / f"rows.{kind}", rows)})
        assert played(env, '<answer>"12"</answer>')[0] == 1.0
        assert played(env, "<answer>12</answer>") == (0.0, 'Incorrect. Expected "12", got 12.')


def test_nothing_in_a_file_or_an_answer_is_executed(tmp_path):
    target = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(target)!r}).touch()"
    rows = [{"problem_description": code, "io_requirements": code, "refcode": code, "input": "1", "output": "2"}]
    env = fst_envs.make(IDS["CodeIO"], file={"train": write(tmp_path / "rows.jsonl", rows)})
    for answer in ("2", code, json.dumps(code), f"[{code}]"):
        assert played(env, f"<answer>{answer}</answer>")[0] == float(answer == "2")
    assert code in env.reset(options={"index": 0})[0] and not target.exists()


def test_hover_names_the_label_and_the_missing_articles(tmp_path):
    env = fst_envs.make(IDS["HoVer"], file={"train": write(tmp_path / "rows.jsonl", HOVER)})
    both = "Articles with supporting facts that the text does not name: Book 0; Town 0."
    for text, (reward, said) in {
        "<answer>not supported</answer>": (1.0, f"Correct. {both}"),
        "book 0 and Town 0: <answer>Not-Supported.</answer>": (1.0, "Correct."),
        "Book 0 <answer>SUPPORTED</answer>": (
            0.0,
            f"Incorrect: the claim is NOT_SUPPORTED. {both.replace('Book 0; ', '')}",
        ),
        "<answer>perhaps</answer>": (0.0, "'perhaps' is neither SUPPORTED nor NOT_SUPPORTED. It is NOT_SUPPORTED."),
        "NOT_SUPPORTED": (0.0, "No answer was found"),
    }.items():
        got = played(env, text)
        assert got[0] == reward and said in got[1], (text, got)
    assert got[1].count("Book") == 0


def test_hover_reads_the_original_schema_and_filters_by_hops(tmp_path):
    rows = [
        {"claim": f"Claim {i}", "label": ("SUPPORTED", "NOT_SUPPORTED")[i % 2], "num_hops": i, **facts}
        for i, facts in enumerate(
            [
                {"supporting_facts": [["A", 0], ["A", 1], ["B (film)", 2]]},
                {"supporting_facts": {"key": ["C"], "value": [1]}},
                {},
            ]
        )
    ]
    file = {"train": write(tmp_path / "rows.jsonl", rows)}
    assert played(fst_envs.make(IDS["HoVer"], file=file), r"\boxed{SUPPORTED}")[1].endswith("name: A; B (film).")
    assert played(fst_envs.make(IDS["HoVer"], file=file), r"In b, a \boxed{SUPPORTED}") == (1.0, "Correct.")
    env = fst_envs.make(IDS["HoVer"], file=file, min_hops=1)
    assert played(env, "<answer>NOT_SUPPORTED</answer>")[1].endswith("name: C.")
    assert played(env, "<answer>SUPPORTED</answer>", 1) == (1.0, "Correct.")
    with pytest.raises(ValueError, match="no rows"):
        fst_envs.make(IDS["HoVer"], file=file, min_hops=9)


def test_polaris_grades_forms(tmp_path):
    needs_library("Polaris")
    env = fst_envs.make(IDS["Polaris"], file={"train": write(tmp_path / "rows.jsonl", POLARIS)})
    for text in (r"\boxed{1/2}", "so it is\n0.5", "<answer>0.50</answer>"):
        assert played(env, text) == (1.0, "Correct.")
    reward, feedback = played(env, r"\boxed{x}")
    assert reward == 0.0 and r"'\\frac{1}{2}'" in feedback and "form mismatch" in feedback


def test_physics_has_a_tolerance_and_names_units(tmp_path):
    needs_library("Physics")
    file = {"train": write(tmp_path / "rows.jsonl", PHYSICS)}
    env = fst_envs.make(IDS["Physics"], file=file)
    assert "Give the answer in" in env.reset(options={"index": 9})[0]
    for text in ("5", "5.1 m/s", r"\boxed{18\ \mathrm{km/h}}"):
        assert played(env, text, 9)[0] == 1.0
    assert "unit mismatch: 'm'" in played(env, "5 m", 9)[1]
    assert played(fst_envs.make(IDS["Physics"], file=file, tolerance=0.01), "5.1 m/s", 9)[0] == 0.0
    plain = [{"question": "How long?", "answer": "2.5e3 m"}]
    env = fst_envs.make(IDS["Physics"], file={"train": write(tmp_path / "plain.jsonl", plain)})
    assert played(env, "2.5 km")[0] == 1.0 and played(env, "2.5")[0] == 0.0


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("HoVer", [{"claim": "x"}], "row 0: it has nothing in label; its columns are claim"),
        ("HoVer", [HOVER[0], {"claim": "x", "label": 7}], "row 1: label=7"),
        ("CodeIO", [{"problem_description": "x"}], "row 0: 'input'"),
        ("CodeIO", [{"problem_description": "x", "ios": "[{"}], "row 0"),
        ("CodeIO", [{"problem_description": "x", "input": "1", "output": "two"}], "row 0"),
        ("Polaris", [{"problem": "x", "answer": None}], "row 0: it has nothing in answer"),
        ("Physics", [{"question": "x", "answer": "a formula"}], "is not a number: use fst/Polaris-v0"),
        ("Physics", [{"answer": "1"}], "no question"),
        ("HoVer", ["text"], "must be JSON objects"),
        ("HoVer", [], "no rows for the split 'train'"),
    ],
)
def test_rows_that_do_not_fit_are_named(name, rows, message, tmp_path):
    needs_library(name)
    with pytest.raises(ValueError, match=message):
        fst_envs.make(IDS[name], file={"train": write(tmp_path / "rows.jsonl", rows)})


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("nowhere.jsonl", FileNotFoundError, "no such file"),
        ({"train": "nowhere.parquet"}, FileNotFoundError, "no such file"),
        ({"dev": "rows.jsonl"}, ValueError, "unknown split 'dev'"),
    ],
)
def test_missing_files_are_refused(file, error, message):
    with pytest.raises(error, match=message):
        fst_envs.make(IDS["HoVer"], file=file)


def test_files_that_are_not_tables_are_refused(tmp_path):
    for name, text, message in (("a.csv", "x", "use .parquet, .jsonl or .json"), ("a.jsonl", "{", "not valid .jsonl")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            fst_envs.make(IDS["HoVer"], file=str(tmp_path / name))


def test_a_missing_reader_says_how_to_get_it(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    (tmp_path / "rows.parquet").write_bytes(b"")
    monkeypatch.setattr(data_files, "import_module", missing)
    for file in (str(tmp_path / "rows.parquet"), "hf:nobody/nothing@test"):
        with pytest.raises(gym.error.DependencyNotInstalled, match=r"pip install 'fst-plugin\[data\]'"):
            fst_envs.make(IDS["HoVer"], file=file)


def test_a_hub_data_set_is_read_by_the_real_library(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hover").mkdir()
    write(tmp_path / "hover" / "train.jsonl", HOVER)
    write(tmp_path / "hover" / "validation.jsonl", HOVER[:4])
    source = f"hf:{tmp_path / 'hover'}"  # a folder stands for a name on the hub
    env = fst_envs.make(IDS["HoVer"], file={"train": source, "val": f"{source}@validation"})
    assert env.reset(options={"index": 39})[1]["index"] == 39
    assert played(env, "Book 0, Town 0 <answer>NOT_SUPPORTED</answer>") == (1.0, "Correct.")
    with pytest.raises(IndexError, match="has 4 instances"):
        env.reset(options={"index": 4, "split": "val"})
