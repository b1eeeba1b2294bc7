"""One rule for what a secret is, and one way to hide it: log, journal, report and checks all pass their text through
`redact`, their settings through `without_secrets`, their exceptions through `described`.

The patterns are our own: detect-secrets, the library for this, finds lines of source files to look at, knows neither
bearer headers nor the keys of Anthropic, Google, Hugging Face, Groq and xAI, and would bring `requests` along.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from .prompts import shown

HIDDEN = "***"
MIN_ENVIRONMENT_VALUE = 6
"""Characters from which the value of an environment variable is looked for; shorter ones stand in any text (ours)."""

_DESCRIBED_FROM = 20_000  # characters of a long message that are looked at
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_ENDINGS = (
    *("password", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials", "creds"),
    *("authorization", "cookie", "signature", "apikey", "accesskey", "secretkey", "privatekey", "authkey"),
)
_NAMES_A_COLUMN = frozenset(  # prompt_key, reward_fn_key: verl's and others' words for a column
    "prompt image video audio fn response reward answer messages sort group primary foreign metric score".split()
)
_NAMES_A_TOKEN = frozenset("pad eos bos unk mask sep cls stop special image video audio per max min first last".split())
_SPEAKS_OF_IT = frozenset("env file path name dir sock socket heads".split())  # api_key_env: where it lies, not itself
_NOT_SECRET = {"PWD", "OLDPWD"}

_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk|xai|pplx|nvapi|glpat|xox[abeprs])-[\w-]{8,}"  # OpenAI, Anthropic, xAI, GitLab, Slack
    r"|(?:sk|pk|rk|hf|gsk|gh[opsru]|github_pat|r8|npm|tgp_v1)_[\w-]{8,}"  # Stripe, Hugging Face, Groq, GitHub
    r"|AIza[\w-]{16,}|ya29\.[\w-]{8,}"  # Google
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}"  # AWS
    r"|eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?"  # a JSON web token
    r"|Basic\s+(?=[A-Za-z+/]*[0-9=]|[A-Za-z]*[a-z][A-Z])[A-Za-z0-9+/]{6,}={0,2}"
    r"|(?i:Bearer)\s+[^\s\"',;]+"
    r")"
    r"|(?<=://)[^\s/?#\"']+(?=@)"  # user:password@, in an address
    r"|(?<=[?&]key=)[^\s&#\"']+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*"
)
_BESIDE_A_NAME = re.compile(r"(?i:key|token|login|password|wandb)\W{1,4}([0-9a-f]{40})(?![0-9a-f])")
_NAMED = re.compile(r"(?<![\w.-])(?:([A-Za-z_][\w.-]*)\\?[\"']?\s*(?:=|:(?!//))|(?<!\S)--([A-Za-z][\w-]*)\s)[ \t]*")
_VALUE = re.compile(
    r"\\\"(?P<escaped>[^\"\n]*?)(?:\\\"|$)"  # JSON within a text
    r"|\"(?P<double>(?:\\.|[^\"\\\n])*)|'(?P<single>(?:\\.|[^'\\\n])*)"
    r"|(?P<bare>\$?\{[^{}\n]*\}?|\[[^\[\]\n]*\]?|[^\s,;&}\])\"']+)",
    re.MULTILINE,
)
_HEADER = re.compile(r"(?P<bare>[^\n{}\"']+)")  # "Authorization: Digest x=1, y=2" is one value
_HEADERS = ("authorization", "cookie")


def redact(text: str) -> str:
    """`text` with whatever looks like a secret replaced by ***; all else as it is.

    Replaced: what stands behind a name that speaks of a secret (`names_a_secret`), as in `api_key=...`,
    `"Authorization": "..."` or `--password ...`; the values of environment variables with such names; the shapes of the
    big providers' keys, JSON web tokens, bearer and basic authorization, private keys, `user:password@` in addresses.
    Where two overlap, both are hidden whole.
    """
    end, parts = 0, []
    for start, stop in _merged(sorted(_spans(text))):
        parts += [text[end:start], HIDDEN]
        end = stop
    return "".join([*parts, text[end:]])


def described(error: BaseException | str, limit: int = 300) -> str:
    """An exception (or the words of a server, an engine, an environment) as one line for a log: `Type: message`,
    redacted, what does not print written as escapes, at most `limit` characters, with "..." where it was cut."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    line = " ".join(shown(redact(text[:_DESCRIBED_FROM])).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def without_secrets(value: Any) -> Any:
    """Settings (mappings, sequences, scalars; nested) with all secrets replaced by ***: every text and number below a
    key that names one, and what `redact` finds in other texts."""
    if isinstance(value, Mapping):
        return {k: _hidden(v) if names_a_secret(str(k)) else without_secrets(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(v) for v in value]
    return redact(value) if isinstance(value, str) else value


@lru_cache(4096)
def names_a_secret(name: str) -> bool:
    """Does this key, header, flag or environment variable hold a secret, by its name?

    Yes for passwords, secrets, credentials, authorization, cookies and signatures, and for a key or a token with the
    name of its owner or use (`WANDB_KEY`, `x-api-key`, `hf_token`, `token`). No for a column of the data
    (`prompt_key`), a token of a vocabulary (`pad_token`), counts (`max_tokens`), and for what tells where a secret lies
    (`api_key_env`). Of a dotted name the last part counts.
    """
    last = name.rsplit(".", 1)[-1]
    words = [word.lower() for word in _WORDS.findall(last)]
    if not words or last in _NOT_SECRET or words[-1] in _SPEAKS_OF_IT:
        return False
    before = dict(zip(words[1:], words, strict=False))
    if any(word == "auth" or word.endswith(_SECRET_ENDINGS) for word in words):
        return True
    if "key" in before and before["key"] not in _NAMES_A_COLUMN:
        return True
    named = [word for word in words if not word.isdigit()]
    return named[-1:] == ["token"] and before.get("token") not in _NAMES_A_TOKEN


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _hidden(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(v) for v in value]
    return value if value is None or value == "" or isinstance(value, bool) else HIDDEN


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where secrets stand, in no order; they may overlap."""
    for name, value in os.environ.items():
        if len(value) >= MIN_ENVIRONMENT_VALUE and names_a_secret(name):
            start = text.find(value)
            while start >= 0:
                yield start, start + len(value)
                start = text.find(value, start + 1)
    for match in _SHAPES.finditer(text):
        yield match.span()
    for match in _BESIDE_A_NAME.finditer(text):
        yield match.span(1)
    for match in _NAMED.finditer(text):
        name = match[1] or match[2]
        if names_a_secret(name):
            yield from _value_span(text, match.end(), name)


def _value_span(text: str, start: int, name: str) -> Iterator[tuple[int, int]]:
    """Where the value that begins at `start` stands, without its quotation marks."""
    value = _VALUE.match(text, start)
    if value and value["bare"] and name.lower().endswith(_HEADERS):
        value = _HEADER.match(text, start)
    if value and value.lastgroup and value[value.lastgroup] not in ("", "None", "null"):
        yield value.span(value.lastgroup)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The sorted spans, those that overlap as one."""
    current: tuple[int, int] | None = None
    for start, stop in spans:
        if current is not None and start < current[1]:
            current = (current[0], max(stop, current[1]))
        else:
            if current is not None:
                yield current
            current = (start, stop)
    if current is not None:
        yield current


__all__ = ["HIDDEN", "described", "names_a_secret", "redact", "without_secrets"]
