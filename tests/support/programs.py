"""Programs that lie in folders of their own and belong to no package, such as benchmarks and examples."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


@contextmanager
def imported(folder: str, *names: str) -> Iterator[dict[str, ModuleType]]:
    """Modules of a folder of the project, by name. Others of the same names can be imported afterwards."""
    sys.path.insert(0, str(ROOT / folder))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(ROOT / folder))
        for name in names:
            sys.modules.pop(name, None)
