"""One rule hides secrets, in every text and every config that leaves the process."""

import json

import pytest

from fst_plugin.config import inspect
from fst_plugin.optimizer import Evolution
from fst_plugin.prompts import Population, Prompt
from fst_plugin.record.journal import Journal
from fst_plugin.rollouts import Cell, Problem, Rollout
from fst_plugin.secrets import described, names_a_secret, redact, without_secrets

HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "key",
    [
        *("sk-proj-1234567890", "sk-ant-api03-abcdefghij", "sk_live_abcdefgh12", "hf_abcdefghijkl", "gsk_abcdefghijkl"),
        *("ghp_abcdefghijklmnop", "github_pat_11ABCDEFG_abc", "xai-abcdefghijkl", "AIzaSyA1234567890abcdef"),
        *("AKIAIOSFODNN7EXAMPLE", "glpat-abcdefghij12", "xoxb-1234567890-abc", "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2ln"),
    ],
)
def test_the_shape_of_a_providers_key_is_hidden_wherever_it_stands(key):
    assert redact(f"wrong ({key}), says 'the server'") == "wrong (***), says 'the server'"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (
            '{"Authorization": "Basic abc", "x-api-key":"u", "n": 3}',
            '{"Authorization": "***", "x-api-key":"***", "n": 3}',
        ),
        ('"{\\"api_key\\": \\"abc\\", \\"n\\": 1}"', '"{\\"api_key\\": \\"***\\", \\"n\\": 1}"'),
        ("Authorization: Digest a=1, b=2\nnext", "Authorization: ***\nnext"),
        ("+ray.env_vars.WANDB_KEY=abc b=1", "+ray.env_vars.WANDB_KEY=*** b=1"),
        ("kwargs={api_key:abc,headers:{x-token:zz},n:1}", "kwargs={api_key:***,headers:{x-token:***},n:1}"),
        ("judge --api-key abc --n 3", "judge --api-key *** --n 3"),
        ("passwd='it is long' next", "passwd='***' next"),
        ("Bearer xyz.123 failed", "*** failed"),
        ("sent Basic dXNlcjpwYXNz", "sent ***"),
        ("http://user:p@ss@host:80/v1?key=AB&x=1", "http://***@host:80/v1?key=***&x=1"),
        (f"wandb login {HEX} at commit {HEX}", f"wandb login *** at commit {HEX}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA", "***-----END RSA"),
    ],
)
def test_what_stands_behind_a_secrets_name_or_mark_is_hidden_and_the_rest_stays(text, hidden):
    assert redact(text) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "a Basic understanding of tokens: 3",
        "data.prompt_key=prompt data.reward_fn_key=source max_tokens=5 eos_token: </s> num_key_value_heads=8",
        "api_key_env=OPENAI_API_KEY",
        "config: key 'api_key' is unknown",
        f"commit {HEX}",
        "api_key=None",
    ],
)
def test_what_only_looks_like_a_secret_stays(text):
    assert redact(text) == text


def test_values_of_secret_environment_variables_are_hidden_under_any_name(monkeypatch):
    monkeypatch.setenv("MY_PROVIDER_API_KEY", "abcdef-123456")
    monkeypatch.setenv("AUTHOR_NAME", "somebody-known")
    assert redact("it said abcdef-123456 to somebody-known") == "it said *** to somebody-known"


def test_of_two_overlapping_secrets_nothing_is_left(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "plainsecret")
    monkeypatch.setenv("B_TOKEN", "plainsecret-and-more")
    monkeypatch.setenv("C_TOKEN", "more-at-the-end")
    assert redact("x plainsecret-and-more-at-the-end y plainsecret z") == "x *** y *** z"


def test_a_nested_config_shows_no_secret():
    config = {
        "reflection": {"api_base": "http://u:p@host/v1", "kwargs": {"headers": {"x-api-key": "abc", "n": 1}}},
        "credentials": {"user": "me", "list": ["a", 7]},
        "password": 1234,
        "max_tokens": 5,
        "use_auth": True,
        "note": "several\nlines with sk-proj-1234567890",
        "api_key": None,
    }
    assert without_secrets(config) == {
        "reflection": {"api_base": "http://***@host/v1", "kwargs": {"headers": {"x-api-key": "***", "n": 1}}},
        "credentials": {"user": "***", "list": ["***", "***"]},
        "password": "***",
        "max_tokens": 5,
        "use_auth": True,
        "note": "several\nlines with ***",
        "api_key": None,
    }


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "AWS_ACCESS_KEY_ID", "WANDB_KEY", "passwd", "apiKey"])
def test_names_of_secrets_are_known_in_every_spelling(name):
    assert names_a_secret(name) and names_a_secret(f"run.env.{name}")


def test_an_exception_is_described_in_one_line_without_its_secret_and_cut_visibly():
    line = described(ValueError("no\n  access with hf_abcdefghijkl " + "x" * 1000))
    assert line.startswith("ValueError: no access with *** xxx") and len(line) == 300 and line.endswith("...")


def test_the_journal_keeps_no_secret_of_a_failed_rollout(tmp_path):
    journal = Journal(tmp_path / "cycle", {"weights": "w"})
    cell = Cell(Prompt("p"), Problem("q", ()))
    rollouts = journal.evaluate(lambda cells: [Rollout(0.0, error="judge: api_key=hunter2 refused")])([cell])
    journal.finish(Evolution(Population((Prompt("p"),))))
    assert rollouts[0].error == "judge: api_key=*** refused"
    assert not any("hunter2" in path.read_text() for path in (tmp_path / "cycle").iterdir())


def test_a_config_error_does_not_repeat_a_secret():
    _, problems = inspect({"slow_steps": "password=hunter2", "reflection": {"model": {"api_key": "hunter2"}}})
    said = "\n".join(map(str, problems))
    assert "fst.slow_steps" in said and "fst.reflection.model" in said and "hunter2" not in said


@pytest.mark.parametrize("piece", ["a=", "a", " ", '"', "a:'", "://", "key ", "eyJ", "Basic ", "--a ", "a.b-", "sk-"])
def test_redaction_takes_linear_time(piece):
    from time import process_time

    def seconds(length):
        text, best = piece * (length // len(piece)), float("inf")
        for _ in range(3):
            began = process_time()
            redact(text)
            best = min(best, process_time() - began)
        return best

    assert seconds(160_000) < 16 * seconds(20_000) + 0.05  # 8 times the text; quadratic would be 64 times


def test_json_stays_json():
    text = json.dumps({"api_key": 'a"b\\', "password": "x", "n": [1, {"token": "y"}]})
    assert json.loads(redact(text)) == {"api_key": "***", "password": "***", "n": [1, {"token": "***"}]}


def test_foreign_words_are_described_without_secrets_and_without_acting():
    said = described(RuntimeError("401\n\x1b[31m\x07 Authorization: Bearer abc.def\u202e"))
    assert said == "RuntimeError: 401 \\x1b[31m\\x07 Authorization: ***"
    assert described("x" * 5_000_000) == "x" * 297 + "..."
