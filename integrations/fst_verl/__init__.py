"""Fast-Slow Training inside an unmodified verl (0.9.x).

`plugin` is what verl loads (entry-point group `verl.plugins`); everything else hangs on it:
  compat      every verl name that is used here
  hydra_door  `+fst=default`: config groups and the check before a run
  check       problems of a whole verl + fst config
  trainer     evolve -> assign -> step, around verl's own trainers
  agent_loop  assign: which prompt a rollout gets
  bridge      evolve: fast-phase rollouts through verl's own rollout path
  loss        the paper's per-problem advantage weights
  dataset     an environment id as verl data
  launch, arms, demo, probe  verl runs in processes of their own: `fst compare --arms`, `fst demo`, `fst probe`
  cpu, cpu_vllm, sampler  what a machine without an accelerator needs; inert elsewhere
"""
