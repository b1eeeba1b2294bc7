"""vLLM worker extension for CPU: keeps linear weights in a form that verl can load new weights into, and takes them
from this run's own socket.

vLLM on CPU packs every linear layer's weight into a kernel handle and drops the parameter, so that verl's in-place
weight sync finds nothing to load into. Here the layers stay plain. Used through
`rollout.engine_kwargs.vllm.worker_extension_cls`, which `+fst_cpu=default` sets.
"""

from __future__ import annotations

from typing import Any

from ..compat import names
from .platform import own_socket

_Base: Any = names.vLLMColocateWorkerExtension


class CPUWorkerExtension(_Base):
    def __new__(cls, **kwargs: Any) -> Any:
        import torch
        import vllm.model_executor.layers.utils as layers

        def plain_linear(layer: Any, remove_weight: bool) -> None:
            layer.cpu_linear = torch.nn.functional.linear

        layers.dispatch_cpu_unquantized_gemm = plain_linear
        return super().__new__(cls, **kwargs)

    def _get_zmq_handle(self) -> str:
        return own_socket(super()._get_zmq_handle())
