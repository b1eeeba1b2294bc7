"""What can be wrong with a trainer's arguments is reported at once, before a model is loaded."""

import logging

import pytest
from trl_kit import BATCH, FST, arguments


def chats(n=2 * BATCH, **more):
    from datasets import Dataset

    return Dataset.from_list([{"prompt": [{"role": "user", "content": f"question {i}"}], **more} for i in range(n)])


def plain(n=2 * BATCH):
    from datasets import Dataset

    return Dataset.from_list([{"prompt": f"question {i}"} for i in range(n)])


def keys(data=None, fst=FST, eval_dataset=None, **more):
    from fst_trl import FSTGRPOTrainer

    args = arguments("nowhere", fst, **more)
    given = {"model": "no/such/model", "reward_funcs": len, "args": args, "eval_dataset": eval_dataset}
    return {p.key: p.message for p in FSTGRPOTrainer.check(**given, train_dataset=chats() if data is None else data)}


def test_a_good_script_has_no_problems():
    assert keys() == {}


def test_all_problems_are_reported_at_once():
    fst = {**FST, "populaton": 3, "drift": True, "context": {"path": "no.such.Provider"}}
    found = keys(plain(), fst, plain(), ignore_data_skip=True, remove_unused_columns=True)
    assert set(found) == {
        "fst.populaton",
        "fst.context.path",
        "fst.drift",
        "train_dataset",
        "eval_dataset",
        "ignore_data_skip",
        "remove_unused_columns",
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: plain(), "plain text"),
        (lambda: plain().to_iterable_dataset(), "is iterable"),
        (lambda: chats().rename_column("prompt", "question"), "no prompt"),
        (lambda: chats(BATCH - 1), f"has {BATCH - 1} rows, fewer than the {BATCH} of a generation batch"),
        (lambda: chats(image=b"..."), "has images"),
    ],
)
def test_data_that_cannot_be_used_is_refused_with_the_reason(data, reason):
    assert reason in keys(data())["train_dataset"]


def test_an_evaluation_may_be_a_stream_and_each_of_several_is_looked_at():
    assert keys(eval_dataset=chats().to_iterable_dataset()) == {}
    assert list(keys(eval_dataset={"good": chats(), "bad": plain()})) == ["eval_dataset['bad']"]


def test_no_train_dataset_is_refused():
    from fst_trl import FSTGRPOTrainer

    assert [p.key for p in FSTGRPOTrainer.check("no/such/model", len, arguments("nowhere"))] == ["train_dataset"]


@pytest.mark.parametrize("fst", [None, {"enabled": False}])
def test_without_fast_weights_nothing_is_refused(fst):
    assert keys(plain(), fst) == {}


def test_the_constructor_refuses_before_it_loads_a_model():
    from fst_trl import FSTGRPOTrainer

    from fst_plugin.config import ConfigError

    with pytest.raises(ConfigError, match="train_dataset: row 0 has a prompt that is plain text"):
        FSTGRPOTrainer("no/such/model", len, arguments("nowhere"), plain())


def test_the_settings_can_be_given_on_a_command_line(tmp_path):
    from fst_trl import FSTGRPOConfig
    from trl import TrlParser

    command = ["--output_dir", str(tmp_path), "--fst", '{"population": 2}', "--use_cpu", "True", "--bf16", "False"]
    (args,) = TrlParser((FSTGRPOConfig,)).parse_args_and_config(command)
    assert args.fst == {"population": 2}


def test_args_without_fst_settings_are_named_in_the_log(tmp_path, caplog):
    from fst_trl import FSTGRPOTrainer

    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="no/such/model"):
        FSTGRPOTrainer("no/such/model", len, arguments(tmp_path, None), plain())
    assert "args has no fst settings: plain GRPO" in caplog.text
