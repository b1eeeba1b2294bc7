"""Child processes: restarted after a hang or a death, private, and fair about who is to blame."""

from __future__ import annotations

import pytest
from fst_envs import EnvironmentFault
from fst_envs.episodes.child import Child, ChildDied, ChildTimeout, TextToBlame

CHILD = """
import os, time
from fst_envs.episodes.child import serve
def handle(request):
    if request.get("sleep"): time.sleep(60)
    if request.get("die"): os._exit(3)
    if request.get("fill"): return {"filled": len(bytes(request["fill"]))}
    if request.get("die_once"):
        try: os.remove(request["die_once"])
        except FileNotFoundError: pass
        else: os._exit(3)
    print("noise"); os.write(1, b"more noise")
    return {"pid": os.getpid(), "secret": os.environ.get("A_SECRET"), "hash": hash("x"), "cwd": os.listdir(".")}
serve(handle, memory_bytes=2 << 30)
"""
PROBE = {"a": 1}


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "some_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("A_SECRET", "s3cret")
    return Child("some_child")


def test_a_child_is_restarted_after_a_hang_and_a_death_and_sees_no_secrets(child):
    first = child.ask({"a": 1}, 10)
    assert first["secret"] is None and first["cwd"] == [] and child.ask({"a": 1}, 10) == first
    with pytest.raises(ChildTimeout):
        child.ask({"sleep": 1}, 0.3)
    second = child.ask({"a": 1}, 10)
    with pytest.raises(ChildDied):
        child.ask({"die": 1}, 10)
    third = child.ask({"a": 1}, 10)
    assert len({first["pid"], second["pid"], third["pid"]}) == 3
    assert first["hash"] == second["hash"] == third["hash"]


def test_a_child_that_outgrows_its_memory_ends(child):
    pytest.importorskip("resource")
    assert child.ask({"fill": 1 << 20}, 10) == {"filled": 1 << 20}
    with pytest.raises(ChildDied):
        child.ask({"fill": 3 << 30}, 10)


def test_one_death_is_forgiven(child, tmp_path):
    for ask in (child.fetch, lambda request, timeout: child.judge(request, timeout, PROBE)):
        (tmp_path / "once").touch()
        assert ask({"die_once": str(tmp_path / "once")}, 10)["pid"]
        assert not (tmp_path / "once").exists()


@pytest.mark.parametrize(
    ("request_", "message"), [({"die": 1}, "died twice over {'die': 1}"), ({"sleep": 1}, "took longer than 0.3 s for")]
)
def test_a_failed_request_without_a_models_text_is_a_fault(child, request_, message):
    with pytest.raises(EnvironmentFault, match=message):
        child.fetch(request_, 0.3)


@pytest.mark.parametrize(("text", "message"), [({"die": 1}, "died of a text twice"), ({"sleep": 1}, "took longer")])
def test_a_text_is_to_blame_if_the_child_works_without_it(child, text, message):
    with pytest.raises(TextToBlame, match=message):
        child.judge(text, 0.3, PROBE)


def test_a_child_that_fails_without_the_text_too_is_a_fault(child):
    with pytest.raises(EnvironmentFault, match="died twice"):
        child.judge({"die": 1}, 10, {"die": 1})
