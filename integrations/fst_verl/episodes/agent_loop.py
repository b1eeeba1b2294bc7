"""`fst_episode`: an agent loop for verl that plays an episode of any `fst_envs` environment.

The row's chat comes first (system message, evolved or not, and the first observation), then turn by turn what the
model says (mask 1) and what the environment says to it (user turns, mask 0). The tokens of all turns are one stream
that is only ever appended to, built by verl's continuous-token builder: what was sampled is what is trained on.

The episode's reward is the sum of its turns' rewards. In `extra_fields`: turn_scores, turn_feedback, stop_reason (one
of `STOPS`), faults, unchecked; in its reward_extra_info, the episode's feedback, which the fast phase reads.

A fault of the world is retried by `fst_envs.episodes.episode.Episode`; one that remains fails the session, and with
it the group (see `group`): it never becomes a reward, and has no stop reason since nothing of it is kept. verl then
leaves the group out of the batch, or replaces it: always in its asynchronous modes, in the synchronous one with
trainer.v1.sampler.sync_refill_failed_groups=true. In the fast phase such a rollout has an error in place of a score.

Chat templates must allow two user messages in a row: verl renders an observation behind a made-up user message.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fst_envs.episodes.episode import Episode, EpisodeLost
from fst_envs.instances import Instance
from jinja2 import TemplateError

from ..compat import loop_method, names, token_builder
from . import EPISODE_LOOP
from .group import Group, finish_together
from .neutral import EscapeControlTokens
from .playable import plain, playable

logger = logging.getLogger(__name__)

STOPS = ("done", "truncated", "max_turns", "max_tokens")
"""Why an episode ended: the environment said so ("done", or "truncated" by a limit of its own), or a limit here."""
LIMITS = {
    "max_turns": "The limit of {turns} turns was reached before the end.",
    "max_tokens": "There was no room for another turn after turn {turns}.",
}

_Base: Any = names.AgentLoopBase


@dataclass
class Stream:
    """The tokens of an episode so far. ids: prompt and response; mask, logprobs: one entry per response token."""

    ids: list[int]
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None

    def append(self, ids: Sequence[int]) -> None:
        """Tokens that neither the model nor a message wrote."""
        self.ids += ids
        self.mask += [0] * len(ids)
        if self.logprobs is not None:
            self.logprobs += [0.0] * len(ids)


@dataclass
class Record:
    """What an episode was besides its tokens. seconds: waited for the engine, and for the environment. unchecked: texts
    that the environment could not read."""

    rewards: list[float] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    made: list[bool] = field(default_factory=list)
    stop: str = ""
    seconds: dict[str, float] = field(default_factory=lambda: {"generate_sequences": 0.0, "tool_calls": 0.0})
    unchecked: int = 0
    preempted: int = -1
    engine: dict[str, Any] = field(default_factory=dict)
    routed_experts: Any = None

    def hear(self, said: Any) -> None:
        """Keeps what the engine reports with a turn: first and last weights, preemptions."""
        first = self.engine or said.extra_fields
        self.engine = {**said.extra_fields, "min_global_steps": first.get("min_global_steps")}
        if said.num_preempted is not None:
            self.preempted = max(self.preempted, 0) + said.num_preempted
        if said.routed_experts is not None:
            self.routed_experts = said.routed_experts

    def episode_feedback(self) -> str:
        """What was said to the turns, each text once, in order, and which limit ended the episode. Feedback that was
        made is in it only if there is no other."""
        said = [text for text, made in zip(self.feedback, self.made, strict=True) if text and not made]
        lines = list(dict.fromkeys(said or [text for text in self.feedback if text]))
        if self.stop in LIMITS:
            lines.append(LIMITS[self.stop].format(turns=len(self.rewards)))
        return "\n".join(lines)


@names.register_agent_loop(EPISODE_LOOP)
class EpisodeLoop(_Base):
    """Plays one session. Rows name their instance in extra_info: env_id, env_kwargs, index, split, task_id; only
    environments of the run's own `data.env` are played (see `playable`).

    Limits: `rollout.multi_turn.max_assistant_turns` (null: none), `data.max_response_length` for all turns and
    observations together, `data.env.max_turn_tokens` for one turn. `data.env.episode`: settings of `Episode`.
    """

    continuous_token_builder: Any

    def __init__(self, *args: Any, **kwargs: Any):
        try:
            super().__init__(*args, **kwargs)
            if self.continuous_token_builder is None:
                self.continuous_token_builder = token_builder(self)
        except TemplateError as error:
            raise refused(error) from error
        self.neutral = EscapeControlTokens(self.tokenizer)
        env = plain(self.data_config.get("env"))
        self.playable = playable(env)
        self.episode_settings = dict(env.get("episode") or {})
        self.turn_tokens = env.get("max_turn_tokens")
        self.max_turns = self.rollout_config.multi_turn.max_assistant_turns

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        return await finish_together(
            str(row.get("uid") or uuid4()), lambda group: self._session(sampling_params, row, group)
        )

    async def _session(self, sampling_params: dict[str, Any], row: Mapping[str, Any], group: Group) -> Any:
        instance = self.playable(row.get("extra_info"))
        episode = Episode(instance.env_id, instance.env_kwargs, **self.episode_settings)
        lost = 0
        while True:
            try:
                stream, record = await self._play(episode, instance, sampling_params, row, group)
                return self._output(stream, record, episode.faults)
            except EpisodeLost:  # what was sampled answers an episode that is no more: play another one
                lost += 1
                if lost > episode.retries:
                    raise
            finally:
                await episode.close()

    async def _play(
        self,
        episode: Episode,
        instance: Instance,
        sampling_params: dict[str, Any],
        row: Mapping[str, Any],
        group: Group,
    ) -> tuple[Stream, Record]:
        _, info = await episode.reset(instance.index, instance.split)
        instance.expect(info["task_id"])
        messages = [self._neutral_message(message) for message in row["raw_prompt"]]
        stream, record, request = Stream(await self._prompt(messages)), Record(), uuid4().hex
        while not record.stop:
            group.check()
            text = await self._model_turn(stream, record, request, sampling_params)
            began = time.monotonic()
            observation, reward, terminated, truncated, info = await episode.step(text)
            record.seconds["tool_calls"] += time.monotonic() - began
            record.rewards.append(float(reward))
            record.feedback.append(str(info.get("feedback") or ""))
            record.unchecked += bool(info.get("error"))
            record.made.append(bool(info.get("feedback_made")))
            if terminated or truncated:
                record.stop = "done" if terminated else "truncated"
            elif self.max_turns and len(record.rewards) >= self.max_turns:
                record.stop = "max_turns"
            elif (longer := await self._environment_turn(stream, messages, text, observation)) is None:
                record.stop = "max_tokens"
            else:
                stream = longer
        return stream, record

    async def _prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        ids = await self.loop.run_in_executor(None, self.continuous_token_builder.build_initial_tokens, messages)
        limit = self.rollout_config.prompt_length
        if len(ids) > limit:  # verl would cut it from the left, system message first
            raise ValueError(
                f"a chat of {len(ids)} tokens does not fit data.max_prompt_length={limit}: raise it, shorten the"
                " system prompt or lower fst.max_prompt_tokens"
            )
        return list(ids)

    async def _model_turn(self, stream: Stream, record: Record, request: str, sampling: dict[str, Any]) -> str:
        room = self._room(stream)
        limit = min(room, self.turn_tokens or room)
        began = time.monotonic()
        said = await self.server_manager.generate(
            request_id=request, prompt_ids=list(stream.ids), sampling_params={**sampling, "max_tokens": limit}
        )
        record.seconds["generate_sequences"] += time.monotonic() - began
        if not said.token_ids:
            raise RuntimeError(f"the engine returned no tokens ({said.stop_reason})")
        record.hear(said)
        if stream.logprobs is None and said.log_probs:
            stream.logprobs = [0.0] * len(stream.mask)
        merge = loop_method(self, "merge_assistant")
        merged, stream.mask, stream.logprobs = await merge(
            stream.ids,
            list(said.token_ids),
            stream.mask,
            stream.logprobs,
            assistant_logprobs=said.log_probs if stream.logprobs is not None else None,
        )
        stream.ids = merged.token_ids
        return self.tokenizer.decode(said.token_ids, skip_special_tokens=True)

    async def _environment_turn(
        self, stream: Stream, messages: list[dict[str, Any]], text: str, observation: str
    ) -> Stream | None:
        """The stream with the observation; None if no token of an answer would fit behind it."""
        before = [*messages, {"role": "assistant", "content": text}]
        after = [*before, {"role": "user", "content": self.neutral(observation)}]
        longer = Stream(list(stream.ids), list(stream.mask), stream.logprobs and list(stream.logprobs))
        longer.append(self._missing_end(stream.ids))
        merge = loop_method(self, "merge_context")
        try:
            merged, longer.mask, longer.logprobs = await merge(before, after, longer.ids, longer.mask, longer.logprobs)
        except Exception as error:  # the template's own, of any kind
            raise refused(error) from error
        longer.ids = merged.token_ids
        if self._room(longer) < 1:
            return None
        messages[:] = after
        return longer

    def _missing_end(self, ids: Sequence[int]) -> list[int]:
        """What the chat template writes after an assistant's words and the model did not: the end-of-turn token if
        the turn was cut, and what stands between it and the next message if verl's builder does not know."""
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        rendered = self.tokenizer.apply_chat_template(chat, tokenize=True, **self.apply_chat_template_kwargs)
        rendered, end = list(names.normalize_token_ids(rendered)), self.tokenizer.eos_token_id
        if end not in rendered:
            return []
        place = len(rendered) - rendered[::-1].index(end)
        generic = type(self.continuous_token_builder) is names.ContinuousTokenBuilder
        return ([] if ids[-1] == end else [end]) + (rendered[place:] if generic else [])

    def _room(self, stream: Stream) -> int:
        """Tokens that the response may still grow by."""
        room = self.rollout_config.response_length - len(stream.mask)
        longest = self.rollout_config.get("max_model_len")
        return min(room, longest - len(stream.ids)) if longest else room

    def _neutral_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if message.get("role") != "user" or not isinstance(content, str):
            return dict(message)
        return {**message, "content": self.neutral(content)}

    def _output(self, stream: Stream, record: Record, faults: int) -> Any:
        start, turns = len(stream.ids) - len(stream.mask), len(record.rewards)
        reported = {
            "feedback": record.episode_feedback(),
            "feedback_made": "yes" if all(record.made) else "",  # text: verl averages what is not
            "turns": turns,
            "turn_rewards": json.dumps(record.rewards),  # text: verl averages lists over the validation's samples
            "stop_reason": record.stop,
        }
        return names.AgentLoopOutput(
            prompt_ids=stream.ids[:start],
            response_ids=stream.ids[start:],
            response_mask=stream.mask,
            response_logprobs=stream.logprobs,
            routed_experts=record.routed_experts,
            reward_score=sum(record.rewards),  # set, so that verl does not score it
            num_turns=2 * turns,
            metrics={**record.seconds, "num_preempted": record.preempted},
            extra_fields={
                **record.engine,
                "turn_scores": record.rewards,
                "tool_rewards": [],
                "turn_feedback": record.feedback,
                "stop_reason": record.stop,
                "faults": faults,
                "unchecked": record.unchecked,
                "reward_extra_info": reported,
            },
        )


def refused(error: Exception) -> ValueError:
    """What to say if the chat template fails."""
    return ValueError(
        "this chat template cannot take an observation: it must allow two user messages in a row and leave what was"
        f" said before as it is; set actor_rollout_ref.model.custom_chat_template ({error})"
    )
