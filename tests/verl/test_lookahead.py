"""The batches fetched ahead, on disk: the same rows in the same order, by a file that runs no code."""

import datetime
import decimal
import os
import pickle
import random
import zipfile

import pytest

pytest.importorskip("verl")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from fst_verl import batches, plain_rows  # noqa: E402
from fst_verl.compat import names  # noqa: E402
from fst_verl.lookahead import LookAhead  # noqa: E402
from PIL import Image  # noqa: E402

from fst_plugin.record.sealed import UnusableFile, check_parts, digests  # noqa: E402


def photo(mode="RGB"):
    return Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert(mode)


def by_number():
    """An image whose colours stand in a table, one of them transparent."""
    image = photo().convert("P")
    image.info["transparency"] = 3
    return image


ROWS = [
    {
        "raw_prompt": [
            {
                "role": "user",
                "content": [{"type": "image", "image": photo()}, {"type": "text", "text": f"größe\ud800 {i}"}],
            }
        ],
        "reward_model": {"ground_truth": {"parts": (1, 2.5, None, True)}, "style": "rule"},
        "extra_info": {"index": i, 7: b"\x00raw", "of": np.int64(3), "near": np.float32(0.25), "tag": np.str_("t")},
        "images": [photo("L"), photo("RGBA"), photo("1"), by_number()],
        "when": [datetime.datetime(2026, 1, 2, 3, 4, 5), datetime.date(2026, 1, 2), decimal.Decimal("1.10")],
        "arrays": {
            "numbers": np.arange(6, dtype=np.int16).reshape(2, 3),
            "words": np.array(["a", "bcd"]),
            "objects": np.array([{"a": 1}, [2]], dtype=object),
            "empty": np.zeros((0, 4)),
            "half": torch.arange(4, dtype=torch.bfloat16),
        },
        "dummy_tensor": torch.tensor([i], dtype=torch.uint8),
    }
    for i in range(3)
]


def same(one, other):
    assert type(one) is type(other) or isinstance(one, Image.Image)
    if isinstance(one, Image.Image):
        assert (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())
        assert one.getpalette() == other.getpalette() and one.info.get("transparency") == other.info.get("transparency")
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)) or (isinstance(one, np.ndarray) and one.dtype == object):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, (np.ndarray, torch.Tensor)):
        assert one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    else:
        assert one == other


def chunk(rows):
    return names.tensordict_utils.get_tensordict(names.collate_fn(rows))


def ahead_of(rows):
    chunks = iter([chunk(rows[i : i + 1]) for i in range(len(rows))])
    return LookAhead(lambda: next(chunks))


@pytest.fixture
def stored(tmp_path):
    """A look-ahead with one chunk handed out and two pending, its file, and the ids of what is pending."""
    ahead = ahead_of(ROWS)
    ahead.fill(3)
    ahead.next()
    path = tmp_path / "lookahead.pt"
    ahead.save(path)
    return ahead, path, tuple(problem.id for problem in ahead.pending())


def test_rows_of_every_kind_come_back_as_they_were_in_order(stored):
    ahead, path, pending = stored
    again = ahead_of([])
    again.load(path, pending)
    assert [p.id for p in again.recent()] == [p.id for p in ahead.recent()]
    assert [p.answer for p in again.pending()] == [p.answer for p in ahead.pending()]
    for i in (1, 2):
        found = again.next()
        assert sorted(found.keys()) == sorted([*ROWS[i], batches.PROBLEM])
        assert int(found["dummy_tensor"][0, 0]) == i
        for name in ROWS[i].keys() - {"dummy_tensor"}:
            same(batches.column(found, name)[0], ROWS[i][name])
    joined = names.tensordict_utils.concat_tensordict([*again.chunks(), chunk_with_ids(ROWS[:1])])
    assert len(joined) == 4  # as verl puts chunks together


def chunk_with_ids(rows):
    return batches.identified(chunk(rows))


@pytest.mark.parametrize("value", [{1, 2}, object(), np.zeros(2, dtype=[("a", "i4")]), {plain_rows.KIND: "array"}])
def test_what_cannot_be_stored_is_refused_when_it_is_fetched_by_its_column(value):
    ahead = ahead_of([{**ROWS[0], "extra_info": {"deep": [value]}}])
    with pytest.raises(ValueError, match="column 'extra_info' of the data holds a .*data.custom_cls"):
        ahead.fill(1)


def test_the_file_has_as_many_parts_however_many_rows_are_fetched_one_by_one(tmp_path):
    def parts(rows):
        ahead = ahead_of(rows)
        ahead.fill(len(rows))
        ahead.save(tmp_path / "l.pt")
        with zipfile.ZipFile(tmp_path / "l.pt") as file:
            return len(file.namelist())

    rows = [{"raw_prompt": [], "n": np.int64(i), "raw": b"x", "t": torch.tensor([i])} for i in range(50)]
    assert parts(rows) == parts(rows[:1])


def test_chunks_come_back_one_by_one_even_if_their_columns_differ(tmp_path):
    sizes = [2, 1, 3]
    chunks = [chunk_with_ids([{"raw_prompt": [], "n": size, "t": torch.tensor([size])}] * size) for size in sizes]
    names.tensordict_utils.assign_non_tensor_stack(chunks[1], "more", ["only here"])
    names.tensordict_utils.assign_non_tensor_data(chunks[2], "shared", "by all")
    wide = chunk_with_ids([{"raw_prompt": [], "n": 4, "t": torch.tensor([4.0, 5.0])}])
    again = plain_rows.to_chunks(plain_rows.from_chunks([*chunks, chunks[0], wide]))
    assert [len(one) for one in again] == [2, 1, 3, 2, 1]
    assert [batches.column(one, "n") for one in again] == [[2, 2], [1], [3, 3, 3], [2, 2], [4]]
    assert [one["t"].flatten().tolist() for one in again] == [[2, 2], [1], [3, 3, 3], [2, 2], [4.0, 5.0]]
    assert batches.column(again[1], "more") == ["only here"] and "more" not in again[0].keys()
    assert again[2]["shared"] == "by all" and "shared" not in again[3].keys()


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["FST_TEST_EVIL"],)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, stored, monkeypatch):
    _, path, pending = stored
    monkeypatch.setenv("FST_TEST_EVIL", str(tmp_path / "ran"))
    for write in (
        lambda: torch.save({"pending": [Evil()], "recent": []}, path),
        lambda: path.write_bytes(pickle.dumps(Evil())),
    ):
        write()
        with pytest.raises(UnusableFile, match="lookahead.pt is damaged or edited"):
            ahead_of([]).load(path, pending)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_cannot_be_read_changes_nothing(stored):
    ahead, path, pending = stored
    before = ahead.pending()
    for content in (b"", b"PK\x03\x04", path.read_bytes()[:-100]):
        path.write_bytes(content)
        with pytest.raises(UnusableFile, match="lookahead.pt is damaged"):
            ahead.load(path, pending)
    torch.save({"pending": plain_rows.from_chunks([])}, path)
    with pytest.raises(UnusableFile, match="KeyError: 'recent'"):
        ahead.load(path, pending)
    assert ahead.pending() == before


def test_a_view_brings_none_of_its_storage_along(tmp_path):
    wide = torch.zeros(1_000_000)
    ahead = ahead_of([{**ROWS[0], "extra_info": {"part": wide[:2]}}])
    ahead.fill(1)
    ahead.save(tmp_path / "l.pt")
    assert (tmp_path / "l.pt").stat().st_size < 100_000


def test_any_damage_is_refused_by_name_or_changes_nothing(stored):
    ahead, path, pending = stored
    raw, rng = path.read_bytes(), random.Random(0)
    parts = digests(path.parent, [path.name])

    def read():
        check_parts(path.parent, parts, [path.name])  # as a checkpoint is taken up
        again = ahead_of([])
        again.load(path, pending)
        return [p.id for p in again.pending()]

    assert read() == list(pending)
    for _ in range(200):
        at = rng.randrange(len(raw))
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :])
        with pytest.raises(UnusableFile, match="lookahead.pt is damaged"):
            read()
        try:
            ahead_of([]).load(path, pending)  # by itself it accepts some, yet breaks on none
        except ValueError as error:
            assert str(path) in str(error)
