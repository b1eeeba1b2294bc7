"""The process in which math-verify and pint run. Both may take forever over a few characters, so it can be killed.

Requests and answers are JSON (see `episodes.child`). math-verify's LaTeX grammar and pint's tokenizer parse what the
model wrote. On the way, sympy compiles small texts of its own: a number's digits, a helper of its polynomials. While an
answer is judged, an audit hook refuses any text that could be more than that, and any written file, other process or
connection.

Invariant: what the model wrote is parsed, never executed.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from ..episodes.child import serve

MEMORY_BYTES = 2 << 30  # ours: there may be several of these processes, and formulas need little

_guarded = False
_refused = False
_SUSPECT = re.compile(r"__|\b(?:import|exec|eval|compile|open|getattr|globals|lambda)\b")
_LIBRARYS_OWN = re.compile(
    r"from sympy import \*|^(?:def __create_fn__\(|lambda _cls, )[\s\S]*"
)  # the latter: dataclasses
_OUTWARD = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "subprocess.Popen", "socket.connect")
_POWER = re.compile(r"\^\{?\s*(-?\d+)\s*\}?")
_TEN = re.compile(r"10\s*\*\*\s*(-?\d{1,3})")
_LATEX = [
    (re.compile(r"\\(?:mathrm|text|rm|mathbf|operatorname)\b\s*"), ""),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°"), " degree "),
    (re.compile(r"\\(?:cdot|times)\b|·|×"), "*"),
    (re.compile(r"(?:\\mu\b|μ|µ)[\s{~]*(?:\\mathrm)?[\s{~]*"), "micro"),
    (re.compile(r"\\Omega\b|Ω"), "ohm"),
    (re.compile(r"\\AA\b|Å"), "angstrom"),
    (re.compile(r"\\%"), "percent"),
    (re.compile(r"\\[,;:! ]|[~$]"), " "),
]


def _audit(event: str, args: tuple[Any, ...]) -> None:
    global _refused
    if not _guarded:
        return
    if event == "compile" and args[0] is not None and args[1] == "<string>":
        source = args[0].decode("utf-8", "replace") if isinstance(args[0], bytes) else str(args[0])
        _refused |= bool(_SUSPECT.search(_LIBRARYS_OWN.sub("", source)))
    elif event in _OUTWARD or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")):
        _refused = True
    if _refused:
        raise PermissionError("an answer tried to be more than a formula")


def _same(gold: str, answer: str) -> dict[str, Any]:
    from math_verify import verify

    read = [_parsed(text) for text in (gold, answer)]
    if not read[0]:
        return {"error": "the gold answer is not readable"}
    if not read[1]:
        return {"same": False, "unreadable": True}
    same = verify(read[0], read[1], timeout_seconds=None)
    return {"same": bool(same), "kinds": [_kind(parsed[0]) for parsed in read]}


def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    body = text.strip().strip("$").strip()
    configs = [LatexExtractionConfig(boxed_match_priority=0)]
    return list(parse(rf"$\boxed{{{body}}}$", extraction_config=configs, parsing_timeout=None))


def _kind(value: Any) -> str:
    """The kind of a parsed answer, in words for feedback."""
    import sympy

    if isinstance(value, sympy.MatrixBase):
        return "a matrix"
    if isinstance(value, (sympy.Interval, sympy.Union)):
        return "an interval"
    if isinstance(value, sympy.Set):
        return "a set"
    if isinstance(value, sympy.Tuple):
        return "a tuple"
    if isinstance(value, sympy.core.relational.Relational):
        return "an equation or inequality"
    if isinstance(value, sympy.Expr):
        return "an expression with unknowns" if value.free_symbols else "a number"
    return "a text that is no formula"


def _unit(registry: Any, text: str) -> tuple[float, Any]:
    """The factor and the unit of, say, "$10^8$ J" or "m / s^2". Raises what pint raises if it is not a unit."""
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    text = _POWER.sub(r"**\1", text.replace("{", " ").replace("}", " ")).strip()
    factor = 1.0
    for power in _TEN.findall(text):
        factor *= 10.0 ** int(power)
    text = _TEN.sub(" ", text).strip().strip("*").strip()
    return factor, registry.parse_units(text) if text else registry.dimensionless


def _convert(value: float, unit: str, gold_unit: str) -> dict[str, Any]:
    import pint

    registry = _registry()
    try:
        gold_factor, gold = _unit(registry, gold_unit)
    except Exception as e:
        return {"error": f"the gold unit {gold_unit!r} is not readable: {e!r}"}
    try:
        factor, own = _unit(registry, unit)
        return {"value": float(registry.Quantity(value * factor, own).to(gold).magnitude) / gold_factor}
    except pint.DimensionalityError:
        return {"mismatch": True}
    except Exception:
        return {"unreadable": True}


def _registry() -> Any:
    import pint

    if not hasattr(_registry, "made"):
        _registry.made = pint.UnitRegistry(cache_folder=None)  # type: ignore[attr-defined]
    return _registry.made  # type: ignore[attr-defined]


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Serves op "same" (gold, answer: LaTeX) or "convert" (value, unit, gold_unit).

    An answer with "error" says what is wrong with the gold answer or unit; the model's text is not to blame.
    """
    global _guarded, _refused
    if request["op"] == "convert":
        _registry()
    _guarded, _refused = True, False
    try:
        if request["op"] == "same":
            answer = _same(request["gold"], request["answer"])
        else:
            answer = _convert(request["value"], request["unit"], request["gold_unit"])
        return {"raised": "it was refused"} if _refused else answer
    except Exception as e:
        return {"raised": repr(e)[:200]}
    finally:
        _guarded = False


if __name__ == "__main__":
    import math_verify  # noqa: F401 (so that its import counts as part of the start)

    sys.dont_write_bytecode = True  # late imports must not look like an answer that writes a file
    sys.addaudithook(_audit)
    serve(handle, MEMORY_BYTES)
