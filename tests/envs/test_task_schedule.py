"""A schedule of tasks: rows in the order of the steps, and every way in which a list can be wrong."""

from types import SimpleNamespace

import pytest
from fst_envs import task_schedule as tasks

from fst_plugin.rollouts import problem_id

RULES, TRY = "fst_envs:fst/HouseRules-v0", "fst_envs:fst/SecondTry-v0"
BATCH = 4


def task(book, from_step, env_id=RULES, **more):
    return {"id": env_id, "kwargs": {"book": book}, "from_step": from_step, **more}


def load(listed, steps, val_size=6):
    return tasks.load(tasks.stages(listed, BATCH, steps * BATCH), val_size)


def source_of_step(rows, step):
    return {row["data_source"] for row in rows[(step - 1) * BATCH : step * BATCH]}


def test_every_step_is_served_its_own_task():
    made = load([task(1, 1), task(2, 4), {"id": TRY, "from_step": 6}], 7)
    books = ["fst/HouseRules-v0/book-1", "fst/HouseRules-v0/book-2"]
    assert [source_of_step(made["train"], s) for s in range(1, 8)] == [
        *[{books[0]}] * 3,
        *[{books[1]}] * 2,
        *[{"fst/SecondTry-v0"}] * 2,
    ]
    assert [row["extra_info"]["env_kwargs"] for row in made["train"][8:13]] == [{"book": 1}] * 4 + [{"book": 2}]
    assert {
        source: sum(r["data_source"] == source for r in made["val"]) for source in (*books, "fst/SecondTry-v0")
    } == {
        books[0]: 6,
        books[1]: 6,
        "fst/SecondTry-v0": 6,
    }


def test_no_task_trains_on_what_any_task_is_validated_on():
    made = load([task(1, 1), task(2, 4)], 8, val_size=20)
    ids = {split: {row["extra_info"]["task_id"] for row in rows} for split, rows in made.items()}
    assert ids["train"] and ids["val"] and not ids["train"] & ids["val"]
    contents = [problem_id(r["prompt"], r["reward_model"]["ground_truth"]) for r in made["train"]]
    assert len(set(contents)) == len(contents) == 8 * BATCH


def test_a_question_held_out_for_one_task_is_held_out_for_all(monkeypatch):
    asked = {("a", "val"): ["x"], ("b", "val"): ["y"], ("a", "train"): ["y", "p", "q"], ("b", "train"): ["x", "r", "s"]}

    def rows(env_id, kwargs, split, n, *, exclude=()):
        kept = [q for q in asked[env_id, split] if q not in exclude]
        return [{"data_source": "?", "extra_info": {"task_id": q}} for q in kept[:n]]

    monkeypatch.setattr(tasks, "rows", rows)
    schedule = [tasks.Stage("A", "a", {}, 1, 1, 2), tasks.Stage("B", "b", {}, 2, 2, 2)]
    made = tasks.load(schedule, 1)
    assert [row["extra_info"]["task_id"] for row in made["train"]] == ["p", "q", "r", "s"]


def test_a_task_that_comes_back_continues_where_it_stopped():
    made = load([task(1, 1), task(2, 3), task(1, 4)], 5)
    first, again = made["train"][: 2 * BATCH], made["train"][3 * BATCH :]
    assert {row["data_source"] for row in first + again} == {"fst/HouseRules-v0/book-1"}
    questions = [row["extra_info"]["task_id"] for row in first + again]
    assert len(set(questions)) == len(questions) == 4 * BATCH
    assert len(made["val"]) == 2 * 6


def test_few_problems_repeat():
    made = load([task(1, 1, train_size=6)], 3)
    questions = [row["extra_info"]["task_id"] for row in made["train"]]
    assert questions[6:] == questions[:6] and len(set(questions)) == 6


def test_too_few_problems_are_reported_with_how_to_fix_it():
    with pytest.raises(ValueError, match="task fst/HouseRules-v0: .*only 900 of the 1200.*train_size"):
        load([task(1, 1)], 300)


@pytest.mark.parametrize(
    "kwargs, names",
    [
        ([{}, {"words": 8}], ["e/words-default", "e/words-8"]),
        ([{"a": 1, "b": 2}, {"a": 1, "b": 3}], ["e/b-2", "e/b-3"]),
        ([{"kinds": ["x/y"]}, {"kinds": ["z", 1]}], ["e/kinds-x-y", "e/kinds-z-1"]),
        ([{"file": "a b"}, {"file": "a/b"}, {"file": "a-b"}], ["e/file-a-b", "e/file-a-b.2", "e/file-a-b.3"]),
        ([{"a": 1}, {"a": 1}], ["e", "e"]),
        ([{"a": None}, {}], ["e/a-null", "e/a-default"]),
    ],
)
def test_tasks_of_one_environment_have_different_names(kwargs, names):
    assert tasks.task_names([{"id": "m:e", "kwargs": k} for k in kwargs]) == names


@pytest.mark.parametrize(
    "listed, place, message",
    [
        ("HouseRules", "", "is not a list"),
        ([], "", "is not a list"),
        (["x"], "[0]", "is not a task"),
        ([{"from_step": 1}], "[0].id", "name an environment"),
        ([task(1, 1, env_id="fst_envs:fst/Nothing-v0")], "[0].id", "cannot be found"),
        ([task(1, 1, env_id="no_such_module:a/B-v0")], "[0].id", "PYTHONPATH"),
        ([{"id": RULES, "kwargs": 3, "from_step": 1}], "[0].kwargs", "not a mapping"),
        ([{"id": RULES}], "[0].from_step", "first step"),
        ([task(1, True)], "[0].from_step", "whole number"),
        ([task(1, 0)], "[0].from_step", "count from 1"),
        ([task(1, 1), task(2, 1)], "[1].from_step", "not after"),
        ([task(1, 1), task(2, 12)], "[1].from_step", "after the last row"),
        ([task(1, 1, until=4)], "[0].until", "unknown key"),
        ([task(1, 1, train_size=0)], "[0].train_size", "number of problems"),
        ([task(1, 1, train_size=8), task(2, 2), task(1, 3)], "[2].train_size", "differs"),
    ],
)
def test_what_is_wrong_with_a_list_is_reported_by_its_place(listed, place, message):
    ((found, text),) = tasks.problems(listed, BATCH, 40)
    assert found == place and message in text


def test_all_problems_of_a_list_at_once():
    listed = [{"id": RULES, "from_step": "x"}, {"id": 5, "from_step": 2, "kwarg": {}}]
    assert [place for place, _ in tasks.problems(listed, BATCH, 40)] == ["[0].from_step", "[1].kwarg", "[1].id"]


ARGUMENTS = (
    "+fst_env=default",
    "actor_rollout_ref.rollout.n=8",
    "data.shuffle=false",
    "data.train_batch_size=4",
    "data.env.train_size=80",
    "trainer.total_training_steps=20",
    f"data.env.tasks=[{{id: {RULES}, kwargs: {{book: 1}}, from_step: 1}}, {{id: {TRY}, from_step: 11}}]",
)


@pytest.fixture(scope="module")
def composed():
    pytest.importorskip("verl")
    from fst_verl import check

    return check.compose(list(ARGUMENTS))


def check_keys(config):
    from fst_verl import check

    return [p.key for p in check.problems(config)]


def test_a_sound_schedule_passes_the_check(composed):
    assert check_keys(composed) == []


@pytest.mark.parametrize(
    "at, value, key",
    [
        ("data.shuffle", True, "data.shuffle"),
        ("data.env.id", "a:b/C-v0", "data.env.id"),
        ("data.env.kwargs", {"book": 3}, "data.env.kwargs"),
        ("data.train_max_samples", 8, "data.train_max_samples"),
        ("trainer.total_training_steps", 21, "data.env.train_size"),
        ("trainer.total_training_steps", None, "data.env.train_size"),  # 15 epochs come back to the first task
        ("trainer.v1.sampler.sync_refill_failed_groups", True, "trainer.v1.sampler.sync_refill_failed_groups"),
        ("algorithm.filter_groups.enable", True, "algorithm.filter_groups.enable"),
        ("data.env.tasks", [{"id": RULES, "from_step": 2}], "data.env.tasks[0].from_step"),
    ],
)
def test_the_check_finds_what_breaks_a_schedule(composed, at, value, key):
    from omegaconf import OmegaConf, open_dict

    config = composed.copy()
    with open_dict(config):
        OmegaConf.update(config, at, value, merge=False)
    assert check_keys(config) == [key]


def dataset(split="train", **data):
    pytest.importorskip("torch")
    from fst_verl.dataset import EnvDataset

    env = {"tasks": [task(1, 1), task(2, 3)], "train_size": 16, "val_size": 5, "system_prompt": "S", "id": "???"}
    settings = {"train_batch_size": 4, "shuffle": False, **data}
    config = SimpleNamespace(env=env, get=settings.get, **settings)
    return EnvDataset(split, None, config)


def test_the_dataset_holds_the_schedule_in_verls_rows():
    train, val = dataset(), dataset("val")
    assert len(train) == 16 and len(val) == 10
    assert [train[i]["extra_info"]["env_kwargs"]["book"] for i in range(16)] == [1] * 8 + [2] * 8
    assert train[0]["raw_prompt"][0] == {"role": "system", "content": "S"}
    assert {val[i]["data_source"] for i in range(10)} == {"fst/HouseRules-v0/book-1", "fst/HouseRules-v0/book-2"}


def test_a_schedule_that_would_be_shuffled_is_refused():
    with pytest.raises(ValueError, match="data.shuffle: .*set it to false"):
        dataset(shuffle=True)


def test_without_a_word_on_shuffling_verl_would_shuffle():
    from fst_verl.schedules import schedule_problems

    env = {"tasks": [task(1, 1), task(2, 3)], "train_size": 16}
    data = {"train_batch_size": 4}
    (problem,) = schedule_problems(env, SimpleNamespace(**data, get=data.get))
    assert problem[0] == "data.shuffle"


def test_verls_own_loader_serves_the_schedule():
    pytest.importorskip("verl")
    from fst_verl.compat import names
    from torchdata.stateful_dataloader import StatefulDataLoader
    from verl.trainer.ppo.utils import create_rl_sampler

    rows = dataset()
    sampler = create_rl_sampler(SimpleNamespace(shuffle=False), rows)
    loader = StatefulDataLoader(rows, batch_size=4, drop_last=True, collate_fn=names.collate_fn, sampler=sampler)
    served = [set(batch["data_source"]) for batch in loader]
    assert served == [{"fst/HouseRules-v0/book-1"}] * 2 + [{"fst/HouseRules-v0/book-2"}] * 2
