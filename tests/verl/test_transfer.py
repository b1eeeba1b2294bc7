"""What is read from verl's transfer queue, and how often."""

from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

import torch  # noqa: E402
from fake_queue import FakeQueue  # noqa: E402
from fst_verl import transfer  # noqa: E402
from fst_verl.compat import names  # noqa: E402

from fst_plugin.adapter import SAMPLED_ROWS  # noqa: E402
from fst_plugin.reflection.base import RECORD_CHARS  # noqa: E402
from fst_plugin.reflection.text import shorten  # noqa: E402


class Letters:
    """A tokenizer with one token a letter. decoded: how many tokens it was given."""

    def __init__(self, letters="x"):
        self.letters, self.decoded = letters, 0

    def batch_decode(self, rows, skip_special_tokens):
        assert skip_special_tokens
        self.decoded += sum(map(len, rows))
        return ["".join(self.letters * int(token) for token in row) for row in rows] or [""]  # as transformers does


@pytest.fixture
def queue(monkeypatch):
    return FakeQueue(monkeypatch)


def said(queue, **responses):
    """Trajectories in the partition "train": key -> tokens."""
    for key, tokens in responses.items():
        queue.rows["train"][key] = {
            "responses": torch.tensor(tokens),
            "response_mask": torch.tensor([1] * (len(tokens) - 1) + [0]),
            "rm_scores": torch.tensor([0.0] * (len(tokens) - 1) + [0.5]),
            "extra_fields": {"fst": {"digest": key}},
        }
    return SimpleNamespace(keys=list(responses), tags=[{} for _ in responses], partition_id="train")


def test_a_slow_step_reads_no_tokens_to_know_its_scores(queue, monkeypatch):
    batch = said(queue, u_0_0=[1, 1], u_0_1=[1, 2, 1], v_0_0=[1, 1])
    fields = []
    monkeypatch.setattr(transfer, "read", lambda keys, part, names, read=transfer.read: (
        fields.extend(names) or read(keys, part, names)
    ))  # fmt: skip
    found = transfer.scored(batch)
    assert [(one.key, one.uid, one.session, one.score) for one in found] == [
        ("u_0_1", "u", "0", 0.5),
        ("v_0_0", "v", "0", 0.5),
    ]
    assert found[0].extra == {"fst": {"digest": "u_0_1"}} and set(fields) == {"rm_scores", "extra_fields"}


def marked(queue, count, score=0.5):
    """`count` trajectories whose marks have their rewards; "w_0_0" has no mark."""
    batch = said(queue, **{f"u{i}_0_0": [1, 1] for i in range(count)}, w_0_0=[1, 1])
    for i in range(count):
        queue.rows["train"][f"u{i}_0_0"]["extra_fields"]["fst"]["score"] = score
    return batch


@pytest.fixture
def rewards_read(monkeypatch):
    """Keys whose rewards were read, one value a token."""
    found, before = [], transfer.read
    monkeypatch.setattr(transfer, "read", lambda keys, part, names: (
        found.extend(keys if "rm_scores" in names else ()) or before(keys, part, names)
    ))  # fmt: skip
    transfer._tell_changed.cache_clear()
    return found


def test_where_marks_have_the_rewards_only_a_sample_of_them_is_read_by_tokens(queue, rewards_read):
    found = transfer.scored(marked(queue, 500))
    assert len(found) == 501 and {one.score for one in found} == {0.5}
    assert SAMPLED_ROWS <= len(rewards_read) <= SAMPLED_ROWS + 1 and "w_0_0" in rewards_read  # it has no mark


@pytest.mark.parametrize("changed", [range(500), range(0, 500, 3)])
def test_rewards_that_change_after_their_rollouts_are_all_read_and_it_is_said_once(
    queue, rewards_read, capsys, changed
):
    batch = marked(queue, 500)
    for i in changed:
        queue.rows["train"][f"u{i}_0_0"]["rm_scores"] = torch.tensor([0.25, -2.0])
    for _ in range(2):
        found = {one.uid: one.score for one in transfer.scored(batch)}
        assert found == {f"u{i}": -1.75 if i in changed else 0.5 for i in range(500)} | {"w": 0.5}
    assert set(rewards_read) == set(batch.keys)
    assert capsys.readouterr().out.count("rewards change after their rollouts: all are read") == 1


def test_a_fast_phase_knows_what_was_said_and_how_many_tokens_were_generated(queue):
    (one,) = transfer.trajectories(said(queue, u_0_0=[1, 2, 3]), Letters())
    assert (one.text, one.tokens, one.score) == ("xxxxxx", 2, 0.5)
    assert transfer.trajectories(said(queue), Letters()) == []


@pytest.mark.parametrize("length", [10, RECORD_CHARS])
@pytest.mark.parametrize("letters", ["x", "abcdefg"])
def test_a_response_that_fits_in_tokens_is_shortened_as_ever(queue, length, letters):
    said(queue, u_0_0=[1] * length)
    assert transfer.texts(["u_0_0"], "train", Letters(letters)) == [shorten(letters * length, RECORD_CHARS)]


def test_of_a_longer_one_only_both_ends_are_decoded(queue):
    tokenizer = Letters("ab")
    said(queue, short_0_0=[1, 1], long_0_0=[2] + [1] * 9_998 + [3])
    short, long = transfer.texts(["short_0_0", "long_0_0"], "train", tokenizer)
    assert short == "abab" and tokenizer.decoded == 2 + RECORD_CHARS
    assert len(long) == RECORD_CHARS and long.startswith("ababab") and long.endswith("ababab")
    assert " [... the middle of 10000 tokens left out ...] " in long


def test_no_responses_are_asked_for_where_none_is_shown(queue):
    assert transfer.texts([], "train", Letters()) == [] and queue.calls == []


def test_a_batch_under_way_is_looked_after_less_and_less_often_in_its_own_partition_only(queue, monkeypatch):
    now, naps = [0.0], []
    monkeypatch.setattr(transfer.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        naps.append(seconds)
        now[0] += seconds
        if now[0] > 100:
            queue.tags["val"]["a"]["status"] = "failure"

    monkeypatch.setattr(transfer.time, "sleep", sleep)
    queue.tags["val"] = {"a": {"status": "pending"}, "b": {"status": "finished"}, "other": {"status": "running"}}
    queue.tags["val"]["b_0_0"] = {"status": "success"}
    assert transfer.wait_for(["a", "b"]) == set()
    assert naps[0] == transfer.FIRST_POLL_S and naps[-1] == transfer.LAST_POLL_S and naps == sorted(naps)
    assert sum(naps) < 100 + transfer.LAST_POLL_S + 1e-6 and len(naps) < 150  # verl's own 20 a second: 2000
    assert {partition for _, partition, _ in queue.calls} == {"val"}


def test_waiting_ends_in_time_and_names_the_rows_that_are_late(queue, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(transfer.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    queue.tags["val"] = {"a": {"status": "running"}, "b": {"status": "finished"}, "other": {"status": "running"}}
    assert transfer.wait_for(["a", "b"], within=7.0) == {"a"} and now[0] == pytest.approx(7.0)
    assert transfer.wait_for(["a", "b"], within=0.0) == {"a"} and now[0] == pytest.approx(7.0)
    assert transfer.wait_for(["b"], within=7.0) == set() and now[0] == pytest.approx(7.0)


def test_rows_are_taken_by_their_own_uids_and_the_rest_of_the_partition_stays(queue):
    for key in ("fst-a", "fst-a_0_0", "fst-a_0_1", "fst-b", "fst-b_0_0", "other", "other_0_0"):
        queue.kv_batch_put([key], "val", tags=[{"status": "finished", "key": key}])
    found = transfer.take(["fst-a"])
    assert (found.partition_id, found.keys) == ("val", ["fst-a_0_0", "fst-a_0_1"])
    assert [tag["key"] for tag in found.tags] == found.keys
    assert set(queue.tags["val"]) == {"fst-a_0_0", "fst-a_0_1", "fst-b", "fst-b_0_0", "other", "other_0_0"}
    transfer.clear(found)
    assert set(queue.tags["val"]) == {"fst-b", "fst-b_0_0", "other", "other_0_0"}


class Worker:
    """A rollout worker as Ray shows it: "dead", "busy" or "free"."""

    def __init__(self, state):
        self.__ray_ready__ = SimpleNamespace(remote=lambda: state)


def of_ray(monkeypatch):
    import ray

    def get(answers):
        if "dead" in answers:
            raise ray.exceptions.ActorDiedError()

    monkeypatch.setattr(ray, "wait", lambda asked, num_returns, timeout: ([one for one in asked if one != "busy"], []))
    monkeypatch.setattr(ray, "get", get)


def test_a_rollout_worker_that_has_died_ends_the_wait_for_rows_that_would_never_end(queue, monkeypatch):
    of_ray(monkeypatch)
    now = [0.0]
    monkeypatch.setattr(transfer.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds
        assert now[0] < 1000, "it waits for ever"

    monkeypatch.setattr(transfer.time, "sleep", sleep)
    queue.tags["val"] = {"a": {"status": "running"}}
    with pytest.raises(transfer.RolloutWorkerLost, match="start the run again"):
        transfer.wait_for(["a"], [Worker("free"), Worker("dead")])
    assert transfer.ALIVE_S < now[0] < 2 * transfer.ALIVE_S


def test_rollout_workers_that_are_busy_are_waited_for(queue, monkeypatch):
    of_ray(monkeypatch)
    transfer._refuse_dead([Worker("busy"), Worker("free")])
    transfer._refuse_dead([])


def test_the_rows_under_way_are_those_whose_sessions_have_not_all_ended(queue):
    assert transfer.under_way() == []
    for key, status in {"a": "pending", "b": "running", "c": "finished"}.items():
        fields = names.tensordict_utils.get_tensordict({"fst": [{"prompts": key}]})
        queue.kv_batch_put([key], "train", fields, [{"is_prompt": True, "status": status}])
    queue.kv_batch_put(["b_0_0"], "train", fields, [{"status": "success"}])
    assert transfer.under_way() == [{"prompts": "a"}, {"prompts": "b"}]
