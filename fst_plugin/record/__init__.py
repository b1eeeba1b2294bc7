"""What outlives a process: every file that fast weights leave behind is written and read here.

atomic       files that are either the old ones or the new ones
sealed       files that are whole and unchanged, or refused by name
lock         one run a folder
state        where the fast weights stand
checkpoint   state and slow scores, with every other file of a checkpoint's folder
journal      a running fast phase, so that a killed one goes on
calls        its calls on disk
slow_scores  what the slow phase has already paid for
cycles       what every finished cycle leaves for people, and how it is read
"""
