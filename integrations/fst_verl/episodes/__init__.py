"""Episodes of any `fst_envs` environment inside verl's rollouts.

agent_loop  `fst_episode`: plays one session
group       all sessions of a group succeed together or fail together
metrics     figures of a step's episodes
playable    which environments a row may name: those of the config
neutral     text of an environment in which nothing acts as a control token
"""

EPISODE_LOOP = "fst_episode"
"""Agent loop that plays multi-turn rows."""
