#!/usr/bin/env bash
# usage: recipes/qwen3_8b_8gpu/hover/run.sh MODEL TRAIN_FILE VAL_FILE [more verl arguments]
# Is a claim supported? Columns claim, label, supporting_facts, num_hops.
set -euo pipefail
task=hover takes=(MODEL TRAIN_FILE VAL_FILE)
task_settings() {
  settings=(
    data.env.id=fst_envs:fst/HoVer-v0 +data.env.kwargs.min_hops=3  # "hard": three hops or more (ours)
    "+data.env.kwargs.file.train='$train_file'" "+data.env.kwargs.file.val='$val_file'"
    data.max_prompt_length=2048 data.max_response_length=2048
  )
}
. "$(dirname "$0")/../paper.sh"
