"""verl's rules for its checkpoints, kept for the fast weights in them.

verl copies only its workers' folders to `trainer.default_hdfs_dir`, and with `trainer.max_actor_ckpt_to_keep` it
removes only those: what else is in `global_step_N/` stays on the driver's disk. So the fast weights are handled here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .compat import names


class Checkpoints:
    """The fast weights that this process has written, oldest first.

    settings: the run's `trainer` node.
    log: where lines for people go.
    """

    def __init__(self, settings: Any, log: Callable[[str], None]):
        self.settings, self.log = settings, log
        self._written: list[Path] = []

    def wrote(self, folder: Path) -> None:
        """Call it once the fast weights of a checkpoint are in `folder`, and before verl writes its part: until that is
        done the last whole checkpoint must not go."""
        self._copy(folder)
        settings = self.settings
        most = 1 if settings.get("remove_previous_ckpt_in_save") else settings.get("max_actor_ckpt_to_keep")
        if most:
            for old in self._written[:-most]:
                shutil.rmtree(old, ignore_errors=True)  # as verl does
            self._written = self._written[-most:]
        if folder not in self._written:
            self._written.append(folder)

    def _copy(self, folder: Path) -> None:
        if not (remote := self.settings.get("default_hdfs_dir")):
            return
        target = os.path.join(remote, folder.parent.name, folder.name)
        try:
            names.hdfs_io.makedirs(os.path.dirname(target), exist_ok=True)
            failed = "" if names.hdfs_io.copy(src=str(folder), dst=target, dirs_exist_ok=True) else "see above"
        except OSError as error:
            failed = str(error)
        if failed:
            self.log(
                f"the fast weights of {folder.parent.name} could not be copied to {target} (trainer.default_hdfs_dir):"
                f" {failed}; copy {folder} there yourself before you resume from it elsewhere"
            )
