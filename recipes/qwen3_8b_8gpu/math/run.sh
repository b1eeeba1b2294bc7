#!/usr/bin/env bash
# usage: recipes/qwen3_8b_8gpu/math/run.sh MODEL TRAIN_FILE VAL_FILE [more verl arguments]
# Competition mathematics. Columns problem, answer. Needs the extra "math".
set -euo pipefail
task=math takes=(MODEL TRAIN_FILE VAL_FILE)
task_settings() {
  settings=(
    data.env.id=fst_envs:fst/Polaris-v0
    "+data.env.kwargs.file.train='$train_file'" "+data.env.kwargs.file.val='$val_file'"
    data.max_prompt_length=2048 data.max_response_length=8192
  )
}
. "$(dirname "$0")/../paper.sh"
