#!/usr/bin/env bash
# usage: examples/gsm8k_style/run.sh MODEL_DIR [more verl arguments]
# An ordinary verl pipeline with parquet files and its own reward function. Fast weights are the one line "+fst=default".
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1; shift
python=${PYTHON:-.venv/bin/python}
out=runs/gsm8k_style
"$python" examples/gsm8k_style/make_data.py $out/data
export HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0
exec "$python" -m verl.trainer.main_ppo \
  data.train_files=$out/data/train.parquet data.val_files=$out/data/val.parquet \
  data.train_batch_size=4 data.val_max_samples=8 data.max_prompt_length=256 data.max_response_length=32 \
  algorithm.adv_estimator=grpo \
  reward.custom_reward_function.path=examples/gsm8k_style/reward.py \
  actor_rollout_ref.model.path="$model" \
  actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor.ppo_mini_batch_size=4 \
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4 \
  actor_rollout_ref.rollout.n=4 actor_rollout_ref.rollout.max_model_len=288 \
  trainer.total_training_steps=4 trainer.test_freq=4 trainer.save_freq=2 trainer.total_epochs=1 \
  trainer.project_name=gsm8k_style trainer.default_local_dir=$out/checkpoints hydra.run.dir=$out/hydra \
  +fst_cpu=default actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=512 \
  +fst=default fst.slow_steps=2 fst.fast.passes=3 fst.reflection.kind=offline \
  "$@"
