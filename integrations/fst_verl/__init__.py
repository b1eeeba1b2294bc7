"""Fast-Slow Training inside an unmodified verl (0.9.x).

`plugin` is what verl loads (entry-point group `verl.plugins`); everything else hangs on it:

    compat         every verl name that is used here
    config_groups  `+fst=default`: config groups next to verl's
    hydra_door     the check before a run
    command_line   a user's command: what python runs, Hydra's arguments
    composing      a command's config, without running it or importing verl
    check          problems of a whole verl + fst config
    support        what works with what: tested, untested, refused
    inputs         files, columns and keys that a command needs
    resolved       what unset keys come to
    report         what `fst check` says of a command
    trainer        verl's trainers with fast weights, one line a hook
    fast_slow      what the hooks do: evolve -> assign -> step, as a plain object
    fast_rollouts  evolve: fast-phase rollouts through verl's own rollout path
    assignment     assign: what a row carries, and which messages its sessions send
    agent_loop     assign, inside verl's rollout workers
    lookahead      the next T batches, fetched ahead
    plain_rows     what a checkpoint stores of them
    batches        rows of verl's batches as the method's problems
    transfer       verl's transfer queue
    validation     validation under the best prompt and the seed prompt
    drift          KL to the starting weights
    loss           the paper's per-problem advantage weights
    dataset        an environment id as verl data
    schedules      what keeps a schedule of tasks from being served
    wandb_tables   prompts as a table and an artifact
    commands       `fst check`, `fst probe`, `fst demo`, `fst compare --arms`
    episodes/      environments' episodes inside verl's rollouts
    experiments/   verl runs in processes of their own
    cpu/           what a machine without an accelerator needs; inert elsewhere
"""
