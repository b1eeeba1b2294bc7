#!/usr/bin/env bash
# usage: examples/multi_turn/run.sh MODEL_DIR [more verl arguments]
# Episodes of two turns, which data.env.multi_turn=true hands to the agent loop fst_episode.
# MODEL_DIR: the tiny policy, `$(fst env policy rules)`. RUN: name of the folder under runs/.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1; shift
python=${PYTHON:-.venv/bin/python}
out=runs/${RUN:-multi_turn}
mkdir -p "$out"
export HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 VERL_FILE_LOGGER_PATH=$out/metrics.jsonl
rm -f "$VERL_FILE_LOGGER_PATH"
exec "$python" -m verl.trainer.main_ppo \
  +fst=paper +fst_cpu=default +fst_env=default \
  data.env.id=fst_envs:fst/SecondTry-v0 +data.env.kwargs.book=1 data.env.multi_turn=true data.env.max_turn_tokens=8 \
  data.env.system_prompt="You are a helpful assistant." data.env.train_size=384 data.env.val_size=36 \
  data.train_batch_size=16 data.max_prompt_length=256 data.max_response_length=64 \
  actor_rollout_ref.model.path="$model" \
  actor_rollout_ref.actor.optim.lr=3e-4 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=128 \
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=128 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=128 \
  actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.multi_turn.max_assistant_turns=2 \
  actor_rollout_ref.rollout.max_model_len=320 actor_rollout_ref.rollout.max_num_seqs=256 \
  actor_rollout_ref.rollout.max_num_batched_tokens=8192 \
  actor_rollout_ref.rollout.val_kwargs.n=4 actor_rollout_ref.rollout.val_kwargs.do_sample=true \
  actor_rollout_ref.rollout.val_kwargs.temperature=1.0 \
  trainer.total_training_steps=24 trainer.total_epochs=1000 trainer.val_before_train=true trainer.test_freq=6 \
  trainer.save_freq=-1 trainer.resume_mode=disable trainer.logger='[console,file]' \
  trainer.project_name=multi_turn trainer.default_local_dir="$out/checkpoints" hydra.run.dir="$out/hydra" \
  fst.population=4 fst.slow_steps=6 fst.reflection.kind=offline \
  "$@"
