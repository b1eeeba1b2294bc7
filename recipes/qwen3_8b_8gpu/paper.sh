# Settings that the tasks share. <task>/run.sh sources this file and sets task, takes and the function task_settings.
# takes: names of the positional arguments; each becomes a variable with its name in lower case.
# [P], [S]: from the paper's text or its appendix (arXiv 2605.12484). The others are ours, since the paper gives none.
if [ $# -lt ${#takes[@]} ]; then
  echo "usage: $0 ${takes[*]} [more verl arguments]" >&2
  exit 2
fi
for name in "${takes[@]}"; do
  declare "${name,,}=$1"
  shift
done
out=${OUT:-runs/qwen3_8b_8gpu/$task}

shared=(
  +fst=paper        # CISPO cut at 4.0 [S], per-problem loss [P], KL 0.001 [S], AdamW 0.9/0.999, 10 warm-up steps [S],
                    # batch 32 [S], G=8 [S], one optimizer step per batch [S]
  +fst_env=default  # problems from a file, graded with feedback
  fst.population=4 fst.slow_steps=6          # K and T [S]
  fst.fast.budget=960 fst.fast.anchors=192   # five passes over 6 batches of 32 [S]
  fst.max_prompt_tokens=1024

  data.env.train_size=6400 data.env.val_size=256  # 200 steps of 32, each problem once

  actor_rollout_ref.model.path="$model"
  actor_rollout_ref.model.use_remove_padding=true actor_rollout_ref.model.enable_gradient_checkpointing=true
  actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.optim.lr=1e-6
  actor_rollout_ref.actor.use_dynamic_bsz=true actor_rollout_ref.actor.ppo_max_token_len_per_gpu=24576
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.gpu_memory_utilization=0.6
  actor_rollout_ref.rollout.val_kwargs.n=4 actor_rollout_ref.rollout.val_kwargs.do_sample=true  # mean@4 [P]
  actor_rollout_ref.rollout.val_kwargs.temperature=1.0

  trainer.n_gpus_per_node=8 trainer.nnodes=1
  trainer.total_training_steps=200 trainer.total_epochs=1000
  trainer.val_before_train=true trainer.test_freq=12 trainer.save_freq=24
  "trainer.logger=[console,file]" trainer.project_name=qwen3_8b_8gpu trainer.experiment_name="$task"
  trainer.default_local_dir="$out/checkpoints" hydra.run.dir="$out/hydra"
)
if [ -n "${REFLECTION_MODEL:-}" ]; then  # a frozen stronger LM [S]; else the trained model reflects
  shared+=(fst.reflection.kind=lm fst.reflection.model="$REFLECTION_MODEL")
fi

task_settings
read -ra launch <<<"${LAUNCH:-python -m verl.trainer.main_ppo}"
export VERL_FILE_LOGGER_PATH=${VERL_FILE_LOGGER_PATH:-$out/metrics.jsonl}
[ -n "${LAUNCH:-}" ] || mkdir -p "$out"
exec "${launch[@]}" "${shared[@]}" "${settings[@]}" "$@"
