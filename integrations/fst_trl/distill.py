"""Puts an evolved prompt into the weights, so that it need not be sent any more.

The student answers without the prompt; the teacher is the same model under it, and says how likely each token of the
student's own answer was. The loss is the reverse KL divergence on those tokens (on-policy self-distillation). TRL's
`SDFTTrainer` does all of it; here the teacher's chats are made as a run makes them, and what would go wrong unseen is
refused. No reward is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fst_plugin import adapter
from fst_plugin.context import Placement, place
from fst_plugin.imports import Names
from fst_plugin.prompts import Population

from .compat import TESTED

TABLE = {
    "SDFTConfig": "trl.experimental.sdft:SDFTConfig",
    "SDFTTrainer": "trl.experimental.sdft:SDFTTrainer",
    "TeacherContext": "trl.experimental.sdft.sdft_trainer:DemonstrationTeacherContextBuilder",
}
names = Names(TABLE, f"fst_trl needs TRL {TESTED[0]} to {TESTED[-1]}: pip install 'fst-plugin[trl]'")

_SDFTConfig: Any = names.SDFTConfig
_SDFTTrainer: Any = names.SDFTTrainer
_TeacherContext: Any = names.TeacherContext

COLUMN = "privileged_context"
"""TRL's column for what only the teacher sees."""


@dataclass
class FSTDistillConfig(_SDFTConfig):
    """SDFTConfig with other defaults.

    distillation_mode: "full_logits", the divergence over the whole vocabulary; "topk_logits" and "sampled_token" take
        less memory (ours).
    distillation_alpha: 1.0, reverse KL (ours).
    teacher_model_kind: "base", the weights as they were; "live", those of the moment (ours; also TRL's).
    max_prompt_length: None; TRL would cut longer chats from the left, where the evolved prompt stands (ours).
    """

    distillation_mode: str = "full_logits"
    distillation_alpha: float = 1.0
    teacher_model_kind: str = "base"
    max_prompt_length: int | None = None


class _PlacedTeacher(_TeacherContext):
    """The teacher's chat: the student's, with the prompt of its row in place."""

    def __init__(self, trainer: Any, placement: Placement):
        super().__init__(trainer)
        self._placement = placement

    def _compose_teacher_prompt(self, prompt: Any, privileged_context: Any) -> Any:
        return place(prompt, privileged_context, self._placement)


class FSTDistillTrainer(_SDFTTrainer):
    """SDFTTrainer with evolved prompts as the teacher's context.

    model: a folder or a name on the hub. TRL reads the frozen teacher from there; a model in memory can only be its own
        teacher (`teacher_model_kind="live"`), or be trained as an adapter.
    prompts: the evolved prompt; several, or a population, are dealt in turn over the rows.
    args: an `FSTDistillConfig`.
    train_dataset: rows with `prompt`, a chat as the student is to get it.
    placement: where a run put its prompts, see `context.place`; a run's log and `fst export` say which.
    more: further arguments of SDFTTrainer.

    Raises ValueError, with how to fix it, for what cannot work.
    """

    def __init__(
        self,
        model: Any,
        prompts: str | Sequence[str] | Population,
        args: Any,
        train_dataset: Any,
        *,
        placement: Placement = "system",
        **more: Any,
    ):
        if args.max_prompt_length is not None:
            raise ValueError(
                f"max_prompt_length={args.max_prompt_length}: TRL cuts longer chats from the left, where the evolved"
                " prompt stands: leave it at None"
            )
        on_disk = isinstance(model, (str, os.PathLike))
        if not on_disk and not more.get("peft_config") and args.teacher_model_kind != "live":
            raise ValueError(
                f"model is in memory, and TRL reads the teacher of teacher_model_kind={args.teacher_model_kind} from"
                " disk, where its weights may be others: save it and give the folder, or set it to live"
            )
        rows = with_prompts(train_dataset, _texts(prompts), placement)
        model = os.fspath(model) if on_disk else model
        super().__init__(model=model, args=args, train_dataset=rows, **more)
        self.teacher_context_builder = _PlacedTeacher(self, placement)
        self._refuse_what_does_not_fit()

    def _refuse_what_does_not_fit(self) -> None:
        """Raises ValueError if a teacher's chat and its answer are longer than the model takes; looks at some rows."""
        rows = [self.train_dataset[i] for i in adapter.sampled_places(len(self.train_dataset))]
        chats = self.teacher_context_builder.select_generation_prompts(
            [row["prompt"] for row in rows], [row[COLUMN] for row in rows]
        )
        longest = max(map(len, self._tokenize_prompts(chats))) + self.max_completion_length
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and longest > most:
            raise ValueError(
                f"a chat with the evolved prompt and an answer of max_completion_length={self.max_completion_length}"
                f" takes {longest} tokens, and the model {most}: lower it, or distil a shorter prompt"
            )


def distill(
    model: Any, problems: Any, prompts: str | Sequence[str] | Population, args: Any, **more: Any
) -> FSTDistillTrainer:
    """Distils prompts into a model and saves it in `args.output_dir`; returns the trainer.

    problems: the train_dataset. The rest: see `FSTDistillTrainer`.
    """
    trainer = FSTDistillTrainer(model, prompts, args, problems, **more)
    trainer.train()
    trainer.save_model()
    return trainer


def with_prompts(data: Any, texts: Sequence[str], placement: Placement) -> Any:
    """The dataset with the prompts dealt in turn over its rows, in TRL's column.

    Raises ValueError for data that a prompt has no place in.
    """
    if not (hasattr(data, "__len__") and hasattr(data, "add_column")):
        raise ValueError("train_dataset must be a datasets.Dataset, which has a length: load a stream whole")
    for i in adapter.sampled_places(len(data)):
        chat = data[i].get("prompt")
        if not isinstance(chat, list) or not chat or not all(isinstance(message, Mapping) for message in chat):
            fix = 'give it as messages: [{"role": "user", "content": ...}]'
            raise ValueError(f"train_dataset, row {i}: its prompt is not a chat, with no place for a prompt: {fix}")
        place(chat, texts[0], placement)
    return data.add_column(COLUMN, [texts[i % len(texts)] for i in range(len(data))])


def _texts(prompts: str | Sequence[str] | Population) -> list[str]:
    if isinstance(prompts, Population):
        return [prompt.text for prompt in prompts.prompts]
    found = [prompts] if isinstance(prompts, str) else list(prompts)
    if not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError("prompts: give the text of an evolved prompt, several, or a Population; none may be empty")
    return found


__all__ = ["FSTDistillConfig", "FSTDistillTrainer", "distill", "with_prompts"]
