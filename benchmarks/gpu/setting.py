"""What the parts of the GPU benchmark share: how they are called, and the file that each writes."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fst_plugin import __version__
from fst_plugin.record.atomic import replacing

BEGAN = time.monotonic()


def arguments(text: str) -> argparse.ArgumentParser:
    """The command line of a part. text: its docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the program out")
    return parser


def machine(device: str, packages: Sequence[str] = ("torch", "transformers", "trl")) -> dict[str, Any]:
    """Where and with what it was measured; `load` is that of the moment.

    packages: whose versions matter.

    Raises RuntimeError if the device is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU: give --device cpu")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.date.today().isoformat(),
        "fst_plugin": __version__,
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in packages}


def on(device: str) -> dict[str, Any]:
    """Arguments of a trainer for this device, and for figures alone: no checkpoints, no loggers, no mixed precision."""
    quiet = {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "logging_steps": 1}
    return {**quiet, "use_cpu": device == "cpu", "bf16": False}


def write(out: Path, part: str, found: Mapping[str, Any]) -> None:
    """`found` as out/part.json, whole or not at all; when that was is printed."""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / f"{part}.json") as file:
        file.write((json.dumps({"part": part, **found}, indent=1) + "\n").encode())
    print(f"{part}: {out / part}.json, {time.monotonic() - BEGAN:.0f} s after the start", flush=True)
