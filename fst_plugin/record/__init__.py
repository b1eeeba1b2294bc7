"""What outlives a process: every file that fast weights leave behind is written and read here.

atomic       files that are either the old ones or the new ones
state        where the fast weights stand
journal      a running fast phase, so that a killed one goes on
slow_scores  what the slow phase has already paid for
cycles       what every finished cycle leaves for people, and how it is read
"""
