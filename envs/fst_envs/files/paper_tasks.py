r"""The paper's tasks on a user's files: CodeIO, HoVer, Polaris and physics. Single turn, reward 0 or 1.

    make("fst_envs:fst/HoVer-v0", file={"train": "hover_train.jsonl", "val": "hf:hover-nlp/hover@validation"})

`file` and `split` are as in `data_files.FileEnv`; each class names the columns that it reads. The answer is in the last
<answer>...</answer>, else in the last \boxed{...}; only feedback says so, unless `hint`. Feedback quotes the gold
answer. The paper does not say in full which files, filters and prompts it used: numbers on these tasks are not the
paper's.

Invariant: nothing in a file is executed; CodeIO's programs are only shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..answers import HINT, NO_ANSWER, find_answer, first_difference, read_json, short
from .data_files import FileEnv, Record, Source
from .math_answers import Grade, grade, grade_quantity, read_quantity, require_library

Turn = tuple[str, float, bool, str]


class PaperTask(FileEnv):
    """Base of the tasks; a subclass writes `question`, `gold` and `judge`.

    file, split: as in `FileEnv`.
    hint: say in the question where the answer must stand; default False (ours).
    """

    def __init__(self, file: Source, split: str = "train", hint: bool = False):
        super().__init__(file=file, split=split)
        self.hint, self.row = hint, dict[str, Any]()

    def ask(self, row: Record) -> tuple[str, dict[str, Any]]:
        self.row = row
        return self.question(row) + (HINT if self.hint else ""), {"answer": self.gold(row)}

    def respond(self, text: str) -> Turn:
        graded = self.judge(text)
        return "", float(graded.correct), True, graded.feedback

    def question(self, row: Record) -> str:
        """What the row asks."""
        raise NotImplementedError

    def gold(self, row: Record) -> str:
        """An answer that is graded as correct, in its tag."""
        raise NotImplementedError

    def judge(self, text: str) -> Grade:
        """Grades what the model wrote about `self.row`."""
        raise NotImplementedError


class CodeIO(PaperTask):
    """Predict what a program returns. Feedback names the first place where the two JSON values differ.

    Columns, as in hkust-nlp/CodeIO-PyEdu-Reasoning-Raw (arXiv 2502.07316): `problem_description`, `io_requirements`,
    `refcode`, and `ios`, a list of {"input", "output"} or its JSON; every pair is an instance. Or one pair per row, as
    JSON in the columns `input` and `output`. Predicting an input is left out: only running the program can check it.

    show_code: show the program in the question; default True (as in that work).
    file, split, hint: as in `PaperTask`.
    """

    needs = ("problem_description",)

    private_answers = True

    def __init__(self, file: Source, split: str = "train", hint: bool = False, show_code: bool = True):
        super().__init__(file=file, split=split, hint=hint)
        self.show_code = show_code

    @classmethod
    def instances(cls, row: Record) -> list[Record]:
        super().instances(row)
        pairs = _value(row["ios"]) if "ios" in row else [{name: _value(row[name]) for name in ("input", "output")}]
        base = {name: str(row.get(name) or "") for name in ("problem_description", "io_requirements", "refcode")}
        return [{**base, "input": pair["input"], "output": pair["output"]} for pair in pairs]

    def question(self, row: Record) -> str:
        parts = [row["problem_description"].strip()]
        if row["io_requirements"]:
            parts.append(f"Input and output:\n{row['io_requirements'].strip()}")
        if row["refcode"] and self.show_code:
            parts.append(f"A program that solves it:\n{row['refcode'].strip()}")
        parts.append(f"Given this input:\n{json.dumps(row['input'])}\n\nWhat is the output? Answer with a JSON value.")
        return "\n\n".join(parts)

    def gold(self, row: Record) -> str:
        return f"<answer>{json.dumps(row['output'])}</answer>"

    def judge(self, text: str) -> Grade:
        answer = find_answer(text)
        if answer is None:
            return Grade(False, NO_ANSWER)
        expected = self.row["output"]
        try:
            given = read_json(answer)
            if isinstance(given, dict) and list(given) == ["output"] and not _has_output(expected):
                given = given["output"]
            difference = first_difference(expected, given)
        except ValueError as e:
            return Grade(False, f"Incorrect. The answer {short(answer, 200)} is not a JSON value: {e}.")
        return Grade(True, "Correct.") if difference is None else Grade(False, f"Incorrect. {difference}")


class HoVer(PaperTask):
    """Is a claim supported? Feedback gives the label, and the supporting articles that the text does not name.

    Columns, as in hover-nlp/hover (arXiv 2011.03088): `claim`; `label`, "SUPPORTED" or "NOT_SUPPORTED", or 1 or 0;
    `supporting_facts`, a list of {"key": title, "value": sentence} or [title, sentence], or a dict of two lists.
    There is no retrieval: the model judges a claim by what it knows.

    min_hops: leave out claims with fewer hops (column `num_hops`); default 0 (ours): leave out none.
    file, split, hint: as in `PaperTask`.
    """

    needs = ("claim", "label")
    LABELS: ClassVar[Sequence[str]] = ("NOT_SUPPORTED", "SUPPORTED")

    def __init__(self, file: Source, split: str = "train", hint: bool = False, min_hops: int = 0):
        super().__init__(file=file, split=split, hint=hint)
        self._by_split = {
            name: [row for row in rows if int(row.get("num_hops") or 0) >= min_hops]
            for name, rows in self._by_split.items()
        }
        self.size = max([1, *map(len, self._by_split.values())])
        self._of(split)

    @classmethod
    def instances(cls, row: Record) -> list[Record]:
        super().instances(row)
        label = row["label"]
        label = cls.LABELS[label] if label in (0, 1) else cls.read_label(str(label))
        if label is None:
            raise ValueError(f"label={row['label']!r}: use {', '.join(cls.LABELS)}")
        return [{**row, "label": label, "titles": _titles(row.get("supporting_facts"))}]

    @classmethod
    def read_label(cls, text: str) -> str | None:
        """The label that a text spells, whatever its case and word breaks; None if neither."""
        word = re.sub(r"[\W_]+", "_", text.strip().upper()).strip("_")
        return word if word in cls.LABELS else None

    def question(self, row: Record) -> str:
        return f"Claim: {row['claim'].strip()}\n\nIs this claim SUPPORTED or NOT_SUPPORTED by Wikipedia?"

    def gold(self, row: Record) -> str:
        return f"<answer>{row['label']}</answer>"

    def judge(self, text: str) -> Grade:
        answer = find_answer(text)
        if answer is None:
            return Grade(False, NO_ANSWER)
        label, given = self.row["label"], self.read_label(answer)
        if given == label:
            said = "Correct."
        elif given is None:
            said = f"Incorrect: the answer {short(answer, 100)} is neither SUPPORTED nor NOT_SUPPORTED. It is {label}."
        else:
            said = f"Incorrect: the claim is {label}."
        unnamed = [title for title in self.row["titles"] if not _names(text, title)]
        facts = f" Articles with supporting facts that the text does not name: {'; '.join(unnamed)}." if unnamed else ""
        return Grade(given == label, said + facts)


class Polaris(PaperTask):
    r"""A problem of competition mathematics, graded by math-verify. Feedback quotes the answer read and the gold one.

    Columns, as in POLARIS-Project/Polaris-Dataset-53K: `problem`, `answer`. Any file with these two works. The answer
    may also be on the last line of the text.

    file, split, hint: as in `PaperTask`.
    Raises DependencyNotInstalled without the extra "math".
    """

    needs = ("problem", "answer")

    private_answers = True

    def __init__(self, file: Source, split: str = "train", hint: bool = False):
        require_library()
        super().__init__(file=file, split=split, hint=hint)

    def question(self, row: Record) -> str:
        return str(row["problem"]).strip()

    def gold(self, row: Record) -> str:
        return f"<answer>{row['answer']}</answer>"

    def judge(self, text: str) -> Grade:
        return grade(text, str(self.row["answer"]))


class Physics(PaperTask):
    """A problem whose answer is a number with a unit. Feedback names a wrong sign, power of ten, ratio or unit.

    Columns: `problem_text`, `answer_number`, `unit`, as in SciBench (arXiv 2307.10635); or `question` or `problem`, and
    `answer`, which may hold the unit too. A unit may have a power of ten ("$10^8$ J"). An answer in another unit of the
    same dimension is converted; an answer without a unit is accepted; it may also be on the last line. It is not known
    which data the paper's physics task used.

    tolerance: relative to the gold value; default 0.05 (ours).
    file, split, hint: as in `PaperTask`.
    Raises DependencyNotInstalled without the extra "math", ValueError for a gold answer that is not a number.
    """

    QUESTION: ClassVar[Sequence[str]] = ("problem_text", "question", "problem")

    private_answers = True

    def __init__(self, file: Source, split: str = "train", hint: bool = False, tolerance: float = 0.05):
        require_library()
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance={tolerance}: it is relative: use 0 or more, and less than 1")
        super().__init__(file=file, split=split, hint=hint)
        self.tolerance = tolerance

    @classmethod
    def instances(cls, row: Record) -> list[Record]:
        question = next((row[name] for name in cls.QUESTION if row.get(name)), None)
        answer = row.get("answer_number") or row.get("answer")
        if question is None or answer is None:
            raise ValueError(f"it has no question or no answer; its columns are {', '.join(row)}")
        read = read_quantity(str(answer))
        if read is None:
            raise ValueError(f"the answer {answer!r} is not a number: use fst/Polaris-v0 for formulas")
        return [{"question": str(question), "number": read[0], "unit": str(row.get("unit") or "").strip() or read[1]}]

    @classmethod
    def key(cls, instance: Record) -> str:
        return str(instance["question"])

    def question(self, row: Record) -> str:
        unit = f"\n\nGive the answer in {row['unit']}." if row["unit"] else ""
        return row["question"].strip() + unit

    def gold(self, row: Record) -> str:
        return f"<answer>{row['number']!r}</answer>"

    def judge(self, text: str) -> Grade:
        return grade_quantity(text, self.row["number"], self.row["unit"], self.tolerance)


def _value(stored: Any) -> Any:
    """The value that a column holds, as it is or as JSON text. Raises ValueError for text that is not JSON."""
    return read_json(stored) if isinstance(stored, str) else stored


def _has_output(expected: Any) -> bool:
    return isinstance(expected, dict) and "output" in expected


def _names(text: str, title: str) -> bool:
    """Whether a text names an article, in any case, with or without the suffix of its title ("(film)")."""
    name = re.sub(r"\s*\([^()]*\)$", "", title) or title
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def _titles(facts: Any) -> list[str]:
    """The titles of HoVer's supporting facts, each once, in order."""
    if isinstance(facts, Mapping):
        found = list(facts.get("key") or [])
    else:
        found = [fact["key"] if isinstance(fact, Mapping) else fact[0] for fact in facts or []]
    return list(dict.fromkeys(str(title) for title in found))
