"""One episode of an environment, played so that a fault of the world is never a reward.

episode  reset and step with retries and timeouts
host     the thread or child process in which an environment's calls run
child    a process that answers JSON requests
player   the process in which an isolated episode plays
"""
