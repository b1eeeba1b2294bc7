"""A user's dataset: verl's own, whose images are taken as they are, without the package qwen_vl_utils."""

from verl.utils.dataset.rl_dataset import RLHFDataset


class ImageRows(RLHFDataset):
    @classmethod
    def _process_multi_modal_info(cls, messages, image_patch_size, config):
        parts = [part for m in messages if isinstance(m["content"], list) for part in m["content"]]
        return [part["image"] for part in parts if part["type"] == "image"] or None, None, None
