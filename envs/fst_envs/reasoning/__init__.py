"""reasoning-gym's tasks as environments.

env     `fst/ReasoningGym-v0`
child   the process in which the library lives
codeio  its CodeIO items
"""
