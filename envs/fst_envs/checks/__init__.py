"""What `fst env check` looks at, one part a module; `fst_envs.check` runs them.

report    what was found about one environment
instances the first use, Gymnasium's own checks, splits, the global generators
texts     gold answers, texts that answer nothing, another process
"""
