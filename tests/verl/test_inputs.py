"""What a command would miss on this machine is found before anything is spent."""

import pytest

pytest.importorskip("verl")

from fst_verl import check, inputs  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from verl_commands import data_file, usable  # noqa: E402

LM = ["fst.reflection.kind=lm", "fst.reflection.model=openai/gpt-5"]


def found(folder, *arguments, environment=()):
    config = check.compose([*usable(folder), *arguments])
    return [str(problem) for problem in inputs.problems(config, check.fst_config(config), dict(environment))]


def test_a_command_whose_files_exist_misses_nothing(tmp_path):
    assert found(tmp_path) == []


@pytest.mark.parametrize("key", ["train_files", "val_files"])
def test_every_data_file_that_is_not_there_is_named(tmp_path, key):
    (told,) = found(tmp_path, f"data.{key}=[{tmp_path}/train.parquet,{tmp_path}/other.parquet]")
    assert told.startswith(f"data.{key}: {tmp_path}/other.parquet does not exist")


def test_a_file_that_verl_cannot_read_is_named(tmp_path):
    (tmp_path / "rows.csv").write_text("a")
    assert "is neither .parquet nor .json" in found(tmp_path, f"data.train_files={tmp_path}/rows.csv")[0]


def test_files_on_a_remote_store_and_of_ones_own_dataset_are_left_alone(tmp_path):
    assert found(tmp_path, "data.train_files=hdfs://a/b.parquet", "data.val_files=s3://c/d.parquet") == []
    (tmp_path / "mine.py").write_text("")
    assert found(tmp_path, "data.train_files=anything", f"data.custom_cls.path={tmp_path}/mine.py") == []


def test_a_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    data_file(tmp_path / "there.parquet")
    assert found(tmp_path, "data.train_files='~/there.parquet'") == []


def test_a_prompt_column_that_is_not_there_is_told_with_those_that_are(tmp_path):
    (told,) = found(tmp_path, f"data.train_files={data_file(tmp_path / 'q.parquet', prompt_key='question')}")
    assert told.startswith("data.prompt_key: ") and "no column 'prompt'" in told and "question, data_source" in told
    assert "question" in found(tmp_path, "data.prompt_key=question")[0]


def test_a_damaged_data_file_is_told(tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (told,) = found(tmp_path, f"data.val_files={tmp_path}/cut.parquet")
    assert told.startswith(f"data.val_files: {tmp_path}/cut.parquet is no readable parquet file")


@pytest.mark.parametrize("key", ["reward.custom_reward_function.path", "data.custom_cls.path"])
def test_code_that_is_not_there_is_told(tmp_path, key):
    (told,) = found(tmp_path, f"{key}={tmp_path}/nowhere.py")
    assert told.startswith(f"{key}: {tmp_path}/nowhere.py does not exist")
    assert found(tmp_path, f"{key}=pkg://somewhere.module") == []


@pytest.mark.parametrize(
    ("path", "problems"), [("/nowhere/model", 1), ("~/nowhere", 1), ("./nowhere", 1), ("org/m", 0)]
)
def test_a_model_folder_that_is_not_there_is_told_and_a_hub_id_left_alone(tmp_path, path, problems):
    assert len(found(tmp_path, f"actor_rollout_ref.model.path='{path}'")) == problems


def test_a_rollout_engine_that_nobody_named_is_told(tmp_path):
    assert found(tmp_path, "actor_rollout_ref.rollout.name=???")[0].startswith(
        "actor_rollout_ref.rollout.name: is miss"
    )


def test_a_reflection_lm_needs_its_providers_key(tmp_path):
    (told,) = found(tmp_path, *LM)
    assert told == "fst.reflection.model: openai/gpt-5 needs a key: set the environment variable OPENAI_API_KEY"
    assert found(tmp_path, *LM, environment={"OPENAI_API_KEY": "k"}.items()) == []
    assert found(tmp_path, *LM, "fst.reflection.api_base=http://localhost:1/v1") == []
    assert found(tmp_path, *LM[:1], "fst.reflection.model=bedrock/x") == [], "what is not known is not judged"
    assert found(tmp_path, *LM, "fst.enabled=false") == []


def test_the_keys_names_are_litellms():
    litellm = pytest.importorskip("litellm")
    for provider, names in inputs.KEYS.items():
        missing = litellm.validate_environment(f"{provider}/some-model")["missing_keys"]
        assert not missing or set(missing) & set(names), (provider, missing)


def test_the_first_rows_system_messages_are_read(tmp_path):
    def messages(**columns):
        file = data_file(tmp_path / "m.parquet", rows=100, **columns)
        return inputs.system_messages(OmegaConf.create({"data": {"train_files": str(file)}}))

    assert messages() == [""] * inputs.SAMPLED_ROWS
    assert messages(system=("Be brief.",)) == ["Be brief."] * inputs.SAMPLED_ROWS
    assert set(messages(system=("Be brief.", "Be long."))) == {"Be brief.", "Be long."}
    assert messages(prompt_key="question") is None
