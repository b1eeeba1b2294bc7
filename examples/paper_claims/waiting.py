"""The offline reflection, which answers as late as a language model would. Named by fst.reflection.path=
waiting.WaitingReflection, with this folder on PYTHONPATH."""

from __future__ import annotations

import time

from fst_plugin.reflection.offline import OfflineReflection


class WaitingReflection(OfflineReflection):
    """seconds: how long one call takes, which asks for all prompts of a round side by side."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def propose(self, requests):
        time.sleep(self.seconds)
        return super().propose(requests)

    def describe(self):
        return f"{super().describe()}; it takes {self.seconds:g} s"
