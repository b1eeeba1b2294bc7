"""Instruments: what a run cost and what it reached, read from verl's own log and the run's live `fst` folder.

    run.py          one run as plain data
    read.py         reads it from its files
    logs.py         its logged steps: verl's file logger over the run's own record
    hydra_record.py its config, as Hydra recorded it
    costs.py        rollouts, tokens, reflection calls and seconds, per step; every efficiency figure twice
    curves.py       steps and rollouts to another arm's peak; KL at matched reward; bootstrap over seeds
    asymptote.py    fit of the reward's ceiling, with an interval, or the reason why there is none (needs scipy)
    attribution.py  2x2 of weights and prompt, with intervals
    compare.py      all of these for several runs at once

Nothing here needs an RL framework. Only the asymptote needs the extra `analysis`.
"""

EXTRA = "pip install 'fst-plugin[analysis]'"
"""How to fix it wherever a library of the extra is missing."""
