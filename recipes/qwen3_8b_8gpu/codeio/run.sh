#!/usr/bin/env bash
# usage: recipes/qwen3_8b_8gpu/codeio/run.sh MODEL TRAIN_FILE VAL_FILE [more verl arguments]
# What does a program return? Columns problem_description, io_requirements, refcode, ios.
set -euo pipefail
task=codeio takes=(MODEL TRAIN_FILE VAL_FILE)
task_settings() {
  settings=(
    data.env.id=fst_envs:fst/CodeIO-v0
    "+data.env.kwargs.file.train='$train_file'" "+data.env.kwargs.file.val='$val_file'"
    data.max_prompt_length=4096 data.max_response_length=4096
  )
}
. "$(dirname "$0")/../paper.sh"
