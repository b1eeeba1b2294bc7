"""Every name of TRL and its libraries that this package imports. Tests look for the methods and attributes of TRL's
trainer that it uses in the installed TRL."""

TESTED = ("1.8.0", "1.14.2", "1.16.0")
"""Versions of TRL that all tests pass with, oldest first."""

try:
    from accelerate.utils import broadcast_object_list, gather, gather_object
    from datasets import Dataset
    from transformers import TrainerCallback, set_seed
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    needs = f"fst_trl needs TRL {TESTED[0]} to {TESTED[-1]}: pip install 'fst-plugin[trl]'"
    raise ImportError(f"{needs} ({error})") from error

__all__ = ["Dataset", "GRPOConfig", "GRPOTrainer", "TrainerCallback"]
__all__ += ["broadcast_object_list", "gather", "gather_object", "set_seed"]
