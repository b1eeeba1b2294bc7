"""Episodes: faults retried on a fresh environment, hangs killed, nothing leaks, the event loop stays free."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import faulty_envs
import gymnasium as gym
import numpy as np
import pytest
from fst_envs import EnvironmentFault
from fst_envs.episodes.episode import BlockingEpisode, Episode, EpisodeLost, play, run
from fst_envs.score import compute_score, score

GUESS = "faulty_envs:faulty/Guess-v0"
FAST = {"backoff_s": 0.0, "step_timeout_s": 20}


def halve(messages):
    """A scripted policy that reads the hints."""
    low, high = 0, 100
    for message in messages[1:]:
        if message["role"] == "user":
            number, word = message["content"].split(": ")[-1].split(" is too ")
            low, high = (int(number) + 1, high) if word == "low." else (low, int(number))
    return str((low + high) // 2)


@pytest.fixture(autouse=True)
def _same_luck():
    faulty_envs.LUCK.seed(0)
    faulty_envs.made.clear()


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def isolate(request):
    return request.param


def marker(tmp_path):
    path = tmp_path / "once"
    path.touch()
    return str(path)


# --- without faults


def test_an_episode_plays_as_its_environment_does(isolate):
    async def main():
        async with Episode(GUESS, {"bound": 100}, isolate=isolate) as episode:
            observation, info = await episode.reset(4, "val")
            assert observation == "Guess number val 4 below 100." and info["index"] == 4 and info["task_id"]
            wrong = (info["answer"] + 1) % 100
            observation, reward, terminated, truncated, said = await episode.step(str(wrong))
            assert (reward, terminated, truncated) == (0.0, False, False) and said["feedback"] == observation
            assert (await episode.step(str(info["answer"])))[1:4] == (1.0, True, False)
            assert (episode.attempts, episode.faults) == (1, 0)
            with pytest.raises(gym.error.ResetNeeded):
                await episode.step("5")

    asyncio.run(main())


def test_play_keeps_the_whole_chat():
    async def later(messages):
        await asyncio.sleep(0)
        return halve(messages)

    for policy in (halve, later):
        played = asyncio.run(play(Episode(GUESS), policy, 3))
        assert played.stop == "terminated" and played.rewards[-1] == 1.0 and sum(played.rewards) == 1.0
        assert len(played.messages) == 2 * len(played.rewards) == 2 * len(played.feedback)
        assert [m["role"] for m in played.messages[:3]] == ["user", "assistant", "user"]
    cut = asyncio.run(play(Episode(GUESS), lambda messages: "-1", 3, max_turns=4))
    assert cut.stop == "max_turns" and len(cut.rewards) == 4
    truncated = asyncio.run(play(Episode(GUESS, {"wrap": {"max_turns": 2}}), lambda messages: "-1", 3))
    assert truncated.stop == "truncated" and len(truncated.rewards) == 2
    assert all(env.closed for env in faulty_envs.made)


def test_blocking_steps_leave_the_event_loop_free():
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        episodes = [play(Episode(GUESS, {"sleep_s": 0.3}), lambda messages: "-1", i, max_turns=1) for i in range(20)]
        await asyncio.gather(*episodes)
        took = time.monotonic() - began
        ticking.cancel()
        assert took < 3 and ticks > 10  # one after the other they would take 6 s

    asyncio.run(main())


@pytest.mark.parametrize(
    ("env_id", "kwargs", "where", "error"),
    [
        (GUESS, {}, (-1, "train"), IndexError),
        (GUESS, {}, (0, "dev"), ValueError),
        (GUESS, {"no_such": 1}, (0, "train"), TypeError),
        (GUESS, {"wrap": {"extract": "xml"}}, (0, "train"), ValueError),
        ("faulty_envs:faulty/None-v0", {}, (0, "train"), gym.error.Error),
        ("fst_envs:fst/ReasoningGym-v0", {"task": "nope"}, (0, "train"), (ValueError, gym.error.Error)),
    ],
)
def test_usage_errors_raise_at_once(env_id, kwargs, where, error, isolate):
    episode = Episode(env_id, kwargs, isolate=isolate, retries=5, backoff_s=60)
    with pytest.raises(error):
        asyncio.run(episode.reset(*where))
    assert (episode.faults, episode.attempts) == (0, 1)
    with pytest.raises(TypeError, match="str"):
        asyncio.run(_reset_and_step(Episode(GUESS), 5))


async def _reset_and_step(episode, *texts):
    await episode.reset(0, "train")
    return [await episode.step(text) for text in texts]


@pytest.mark.parametrize("bad", [{"retries": -1}, {"backoff_s": -1}, {"step_timeout_s": 0}, {"reset_timeout_s": -2}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Episode(GUESS, **bad)


# --- faults


@pytest.mark.parametrize("error", ["offline", "odd"])
def test_faults_at_five_percent_change_no_reward(error):
    async def rewards(**kwargs):
        episodes = [Episode(GUESS, kwargs, retries=6, backoff_s=0) for _ in range(200)]
        games = await asyncio.gather(*(play(episode, halve, i) for i, episode in enumerate(episodes)))
        return [(g.messages, g.rewards, g.feedback) for g in games], sum(e.faults for e in episodes)

    sound, none = asyncio.run(rewards())
    assert none == 0 and len(faulty_envs.made) == 200
    flaky, faults = asyncio.run(rewards(fails=0.05, error=error))
    assert flaky == sound and faults > 20


def test_a_fault_shows_in_attempts_and_replays_the_texts_so_far():
    async def main():
        episode = Episode(GUESS, {}, **FAST)
        _, info = await episode.reset(0, "train")
        texts = [str(n) for n in range(100) if n != info["answer"]][:3]
        for text in texts[:2]:
            await episode.step(text)
        faulty_envs.made[0].fails = 1.0
        observation, *_ = await episode.step(texts[2])
        assert observation.startswith(f"{texts[2]} is too ")
        assert (episode.faults, episode.attempts) == (1, 2)
        assert [env.steps for env in faulty_envs.made] == [2, 3]
        assert (await episode.step(str(info["answer"])))[4]["feedback"] == "Correct after 4 guesses."

    asyncio.run(main())


@pytest.mark.parametrize("error", ["offline", "odd"])
def test_a_fault_at_every_start_raises_and_scores_nothing(error):
    pauses = []

    class Watched(Episode):
        async def _sleep(self, seconds):
            pauses.append(seconds)

    episode = Watched(GUESS, {"fails": 1.0, "error": error}, retries=3, backoff_s=0.5)
    with pytest.raises(
        EnvironmentFault, match=r"Guess-v0 .*instance 0 of 'train': 4 attempts failed.*(server is down|odd)"
    ):
        asyncio.run(episode.reset(0, "train"))
    assert (episode.faults, episode.attempts, pauses) == (4, 4, [0.5, 1.0, 2.0])
    with pytest.raises(gym.error.ResetNeeded):
        asyncio.run(episode.step("1"))


def test_a_text_that_every_environment_chokes_on_scores_zero():
    async def main():
        episode = Episode(GUESS, {}, retries=2)
        _, info = await episode.reset(0, "train")
        _, reward, terminated, _, said = await episode.step("ten")
        assert (reward, terminated, episode.faults, episode.attempts) == (0.0, True, 0, 3)
        assert "could not be checked (ValueError)" in said["feedback"] and "ten" in said["error"]

    asyncio.run(main())


def test_an_environment_that_cannot_be_repeated_loses_the_episode():
    async def main(retries):
        episode = Episode(GUESS, {"drift": True}, **FAST)
        _, info = await episode.reset(0, "train")
        await episode.step(str(info["answer"] - 1))
        faulty_envs.made[-1].fails = 1.0
        with pytest.raises(EpisodeLost, match="turn 1 differently"):
            await episode.step(str(info["answer"]))
        with pytest.raises(gym.error.ResetNeeded):
            await episode.step("1")

        def breaks_once(messages):
            faulty_envs.made[-1].fails = float(len(messages) == 3 and len(faulty_envs.made) < 5)
            return halve(messages)

        played = await play(episode, breaks_once, 0)
        assert played.rewards[-1] == 1.0 and len({m["content"][:3] for m in played.messages[2:-1:2]}) == 1

    asyncio.run(main(2))


def test_a_hung_step_is_killed_and_the_episode_continues(isolate, tmp_path):
    async def main():
        kwargs = {"hang" if isolate else "sleep_s": marker(tmp_path) if isolate else 0.0}
        episode = Episode(GUESS, kwargs, step_timeout_s=0.5, backoff_s=0, isolate=isolate)
        _, info = await episode.reset(1, "train")
        if not isolate:  # a thread that never ends would stay for the rest of the tests
            faulty_envs.made[0].sleep_s = 3.0
        began = time.monotonic()
        _, reward, terminated, _, _ = await episode.step(str(info["answer"]))
        assert (reward, terminated, episode.faults, episode.attempts) == (1.0, True, 1, 2)
        assert time.monotonic() - began < 60
        await episode.close()
        return info["pid"]

    pid = asyncio.run(main())
    if isolate:
        with pytest.raises(ProcessLookupError):
            __import__("os").kill(pid, 0)


def test_an_environment_that_always_hangs_raises(tmp_path):
    async def main():
        episode = Episode(GUESS, {"sleep_s": 2.0}, step_timeout_s=0.2, backoff_s=0, retries=1)
        await episode.reset(1, "train")
        with pytest.raises(EnvironmentFault, match=r"2 attempts failed.*step took longer than 0\.2 s"):
            await episode.step("1")
        assert episode.faults == 2

    asyncio.run(main())


def test_a_dead_process_is_replaced(tmp_path):
    async def main():
        episode = Episode(GUESS, {"crash": marker(tmp_path)}, isolate=True, **FAST)
        _, info = await episode.reset(1, "train")
        assert (await episode.step(str(info["answer"])))[1] == 1.0
        assert episode.faults == 1
        await episode.close()

    asyncio.run(main())


def test_isolated_episodes_under_way_never_share_a_process():
    async def main():
        episodes = [Episode(GUESS, isolate=True) for _ in range(2)]
        pids = [(await episode.reset(0, "train"))[1]["pid"] for episode in episodes]
        await episodes[0].close()
        pids.append((await episodes[0].reset(0, "train"))[1]["pid"])
        for episode in episodes:
            await episode.close()
        assert pids[0] == pids[2] != pids[1]  # an idle process is taken again

    asyncio.run(main())


def test_a_cancelled_step_leaves_a_clean_episode():
    async def main():
        episode = Episode(GUESS, {"sleep_s": 0.5}, **FAST)
        _, info = await episode.reset(0, "train")
        step = asyncio.create_task(episode.step("0"))
        await asyncio.sleep(0.05)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert episode.faults == 0
        assert (await episode.reset(0, "train"))[1] == info
        assert (await episode.step(str(info["answer"])))[4]["feedback"] == "Correct after 1 guesses."

    asyncio.run(main())


# --- nothing leaks


def test_every_episode_has_an_environment_of_its_own():
    async def main():
        episode = Episode(GUESS)
        for index in range(5):
            _, info = await episode.reset(index, "train")
            await episode.step(str((info["answer"] + 1) % 100))
            assert (await episode.step(str(info["answer"])))[4]["feedback"] == "Correct after 2 guesses."
        await episode.close()
        assert episode.attempts == 5

    asyncio.run(main())
    assert len(faulty_envs.made) == 5 and all(env.closed and env.steps == 2 for env in faulty_envs.made)


def test_episodes_leave_no_threads_and_no_trace_in_the_generators():
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    threads = threading.active_count()

    async def main():
        await asyncio.gather(*(play(Episode(GUESS), halve, i) for i in range(30)))

    asyncio.run(main())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_all_calls_of_an_environment_come_from_one_thread(monkeypatch):
    seen, made = {}, []  # environments that earlier tests abandoned may still be closing: only those made here count
    for name in ("__init__", "load", "respond", "close"):
        plain = getattr(faulty_envs.Guess, name)

        def noted(self, *args, _name=name, _plain=plain, **kwargs):
            if _name == "__init__":
                made.append(self)
            if any(self is one for one in made):
                seen.setdefault(id(self), set()).add(threading.get_ident())
            return _plain(self, *args, **kwargs)

        monkeypatch.setattr(faulty_envs.Guess, name, noted)
    asyncio.run(play(Episode(GUESS), halve, 0))
    assert [len(threads) for threads in seen.values()] == [1] and threading.get_ident() not in next(iter(seen.values()))


# --- without an event loop, and scoring


def test_a_blocking_episode_works_inside_a_running_loop():
    async def main():
        episode = BlockingEpisode(GUESS, {}, **FAST)
        _, info = run(episode.reset(0, "train"))
        faulty_envs.made[0].fails = 1.0
        assert run(episode.step(str(info["answer"])))[1] == 1.0 and episode.faults == 1
        run(episode.close())
        coroutine = Episode(GUESS).reset(0, "train")
        with pytest.raises(RuntimeError, match="BlockingEpisode"):
            run(coroutine)
        coroutine.close()

    asyncio.run(main())


def test_scoring_retries_faults(monkeypatch):
    async def at_once(self, seconds):
        pass

    monkeypatch.setattr(BlockingEpisode, "_sleep", at_once)
    answer = score(GUESS, {"wrap": {"max_turns": 1}}, 0, "train", "-1")
    number = next(n for n in range(100) if score(GUESS, {"wrap": {"max_turns": 1}}, 0, "train", str(n))["score"])
    assert answer["faults"] == 0 and answer["score"] == 0.0
    flaky = {"fails": 0.05, "wrap": {"max_turns": 1}}
    results = [score(GUESS, flaky, 0, "train", str(number)) for _ in range(100)]
    assert {r["score"] for r in results} == {1.0} and sum(r["faults"] for r in results) > 3
    with pytest.raises(EnvironmentFault, match="server is down"):
        score(GUESS, {"fails": 1.0}, 0, "train", "1")
    extra = {"env_id": GUESS, "env_kwargs": flaky, "index": 0, "split": "train", "task_id": results[0]["task_id"]}
    named = {"id": GUESS, "kwargs": flaky}
    assert compute_score("", str(number), "", extra, named)["score"] == 1.0
