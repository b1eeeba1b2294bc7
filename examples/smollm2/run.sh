#!/usr/bin/env bash
# RL alone and FST on SmolLM2-135M, through verl: bash examples/smollm2/run.sh [MODEL] [further arguments of fst compare]
# On a machine with a GPU, leave out +fst_cpu=default, param_dtype and dtype.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
model=${1:-runs/smollm2}
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1

fst compare --arms rl,fst --out runs/smollm2_compare "${@:2}" \
  +fst=paper +fst_cpu=default +fst_env=default \
  data.env.id=order_number:smollm2/OrderNumber-v0 \
  "data.env.system_prompt='Read the message.'" \
  data.env.train_size=256 data.env.val_size=36 data.train_batch_size=8 \
  data.max_prompt_length=112 data.max_response_length=12 \
  actor_rollout_ref.model.path="$(realpath "$model")" \
  actor_rollout_ref.actor.optim.lr=5e-5 actor_rollout_ref.actor.optim.lr_warmup_steps=0 \
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16 \
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=16 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16 \
  actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16 \
  actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=bf16 \
  actor_rollout_ref.rollout.dtype=bfloat16 \
  actor_rollout_ref.rollout.n=8 \
  actor_rollout_ref.rollout.max_model_len=124 \
  actor_rollout_ref.rollout.max_num_seqs=128 \
  actor_rollout_ref.rollout.max_num_batched_tokens=4096 \
  actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=128 \
  trainer.total_training_steps=12 trainer.total_epochs=1000 \
  trainer.val_before_train=true trainer.test_freq=4 trainer.save_freq=-1 \
  fst.population=4 fst.slow_steps=4 fst.reflection.kind=offline
