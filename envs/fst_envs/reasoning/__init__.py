"""reasoning-gym's tasks as environments.

env     `fst/ReasoningGym-v0`
child   the process in which the library runs
codeio  builds the library's CodeIO items
"""
