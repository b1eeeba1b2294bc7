"""One episode of an environment, played so that a fault of the world is never a reward.

episode  reset and step with retries and timeouts
child    a process that answers JSON requests
player   the process in which an isolated episode plays
"""
