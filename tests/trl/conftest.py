import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # trl_kit, also in the processes that tests start


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    try:
        from trl import GRPOTrainer  # noqa: F401  (this folder alone would do for `import trl`)
    except ImportError as error:
        skip = pytest.mark.skip(reason=f"needs TRL: pip install 'fst-plugin[trl]' ({error})")
        for item in items:
            if here in item.path.parents:
                item.add_marker(skip)
