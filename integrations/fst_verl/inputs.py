"""What a command reads from this machine before it trains: files, columns, the model's folder, the reflection's key.

Looked at by `fst check`, `fst probe` and `fst compare --arms`, not when a run starts: verl may load them elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fst_plugin.config import ConfigProblem, FSTConfig

KEYS: Mapping[str, tuple[str, ...]] = {
    # prefix of a LiteLLM model string -> environment variables that may hold its key; a test compares with LiteLLM
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "mistral": ("MISTRAL_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "xai": ("XAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY",),
}
SAMPLED_ROWS = 64
"""First rows of the training data that are looked at for system messages (ours)."""


def problems(config: DictConfig, fst: FSTConfig, environment: Mapping[str, str]) -> list[ConfigProblem]:
    """Everything that a run would miss; empty if nothing is.

    environment: the variables that the run would see.
    """
    return [
        *_files(config),
        *_columns(config),
        *_code(config),
        *_model(config),
        *_engine(config),
        *_key(fst, environment),
    ]


def data_files(config: DictConfig, key: str) -> list[Path]:
    """The files that `data.<key>` names on this machine; none if a dataset of the user's own reads them, or they lie
    on a remote store."""
    if OmegaConf.select(config, "data.custom_cls.path"):
        return []
    named = OmegaConf.select(config, f"data.{key}") or []
    return [path for name in ([named] if isinstance(named, str) else named) if (path := _local(name))]


def system_messages(config: DictConfig) -> list[str] | None:
    """System messages of the first rows of the first training file, "" for a row without one; None if it can't be
    looked at."""
    path = next(iter(data_files(config, "train_files")), None)
    key = config.data.get("prompt_key", "prompt")
    if path is None or not path.is_file() or key not in (_columns_of(path) or []):
        return None
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        batch = next(file.iter_batches(SAMPLED_ROWS, columns=[key]), None)
    chats = batch.column(0).to_pylist() if batch is not None else []
    return [_system(chat) for chat in chats if isinstance(chat, list)]


def _system(chat: list[Any]) -> str:
    found = (m for m in chat if isinstance(m, Mapping) and m.get("role") == "system")
    return next((str(message.get("content") or "") for message in found), "")


def _local(name: Any) -> Path | None:
    """A path on this machine, or None for an address such as hdfs://."""
    return None if "://" in str(name) else Path(str(name)).expanduser()


def _files(config: DictConfig) -> Iterator[ConfigProblem]:
    for key in ("train_files", "val_files"):
        for path in data_files(config, key):
            if not path.exists():
                yield ConfigProblem(f"data.{key}", f"{path} does not exist here: name the file, or make it first")
            elif path.suffix not in (".parquet", ".json", ".jsonl"):
                yield ConfigProblem(f"data.{key}", f"{path} is neither .parquet nor .json(l), which is what verl reads")


def _columns(config: DictConfig) -> Iterator[ConfigProblem]:
    wanted = config.data.get("prompt_key", "prompt")
    for key in ("train_files", "val_files"):
        for path in data_files(config, key):
            columns = _columns_of(path)
            if columns == []:
                yield ConfigProblem(f"data.{key}", f"{path} is no readable parquet file: make it anew")
            elif columns and wanted not in columns:
                message = f"{path} has no column {wanted!r}: set it to one of {', '.join(columns)}"
                yield ConfigProblem("data.prompt_key", message)


def _columns_of(path: Path) -> list[str] | None:
    """Names of a parquet file's columns, from its schema alone; none of a damaged file; None for other
    files and without pyarrow."""
    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        return None
    try:
        return list(parquet.read_schema(path).names)
    except pyarrow.ArrowInvalid:
        return []


def _code(config: DictConfig) -> Iterator[ConfigProblem]:
    """Files of the user's own code."""
    for key in ("reward.custom_reward_function.path", "custom_reward_function.path", "data.custom_cls.path"):
        path = OmegaConf.select(config, key)
        if path and (local := _local(path)) and not local.is_file():
            yield ConfigProblem(key, f"{local} does not exist here: name the file with the code")


def _model(config: DictConfig) -> Iterator[ConfigProblem]:
    key = "actor_rollout_ref.model.path"
    path = str(OmegaConf.select(config, key) or "")
    if path.startswith(("/", "~", ".")) and not Path(path).expanduser().exists():
        yield ConfigProblem(
            key, f"{path} does not exist here: name the model's folder, or its id on the Hugging Face hub"
        )


def _engine(config: DictConfig) -> Iterator[ConfigProblem]:
    key = "actor_rollout_ref.rollout.name"
    if OmegaConf.is_missing(config.actor_rollout_ref.rollout, "name"):
        yield ConfigProblem(key, "is missing: name the rollout engine, such as vllm")


def _key(fst: FSTConfig, environment: Mapping[str, str]) -> Iterator[ConfigProblem]:
    spec = fst.reflection
    if not fst.enabled or spec.kind != "lm" or spec.path or spec.api_base or not spec.model:
        return
    names = KEYS.get(spec.model.partition("/")[0], ())
    if names and not any(environment.get(name) for name in names):
        message = f"{spec.model} needs a key: set the environment variable {' or '.join(names)}"
        yield ConfigProblem("fst.reflection.model", message)
