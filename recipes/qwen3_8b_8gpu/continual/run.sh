#!/usr/bin/env bash
# usage: recipes/qwen3_8b_8gpu/continual/run.sh MODEL HOVER_TRAIN HOVER_VAL CODEIO_TRAIN CODEIO_VAL PHYSICS_TRAIN \
#        PHYSICS_VAL [more verl arguments]
# One run through three tasks, 200 steps each [P]; the seed prompt mentions none of them. Columns of the HoVer and CodeIO
# files as in those recipes; physics: problem_text, answer_number, unit. Needs the extra "math".
# HOVER_SIZE, CODEIO_SIZE, PHYSICS_SIZE: number of problems to draw from a file; they repeat if fewer than 6400.
set -euo pipefail
task=continual takes=(MODEL HOVER_TRAIN HOVER_VAL CODEIO_TRAIN CODEIO_VAL PHYSICS_TRAIN PHYSICS_VAL)
task_settings() {
  stage() {  # id, first step, problems, train file, val file, more arguments of the environment
    echo "{id: fst_envs:fst/$1-v0, from_step: $2, train_size: $3, kwargs: {file: {train: '$4', val: '$5'}$6}}"
  }
  local hover codeio physics
  hover=$(stage HoVer 1 "${HOVER_SIZE:-6400}" "$hover_train" "$hover_val" ", min_hops: 3")
  codeio=$(stage CodeIO 201 "${CODEIO_SIZE:-6400}" "$codeio_train" "$codeio_val" "")
  physics=$(stage Physics 401 "${PHYSICS_SIZE:-6400}" "$physics_train" "$physics_val" "")
  settings=(
    "data.env.tasks=[$hover, $codeio, $physics]"
    data.shuffle=false data.env.train_size=19200 trainer.total_training_steps=600
    data.max_prompt_length=4096 data.max_response_length=4096
  )
}
. "$(dirname "$0")/../paper.sh"
