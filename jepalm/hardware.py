"""What this machine is and how to use it: device, precision, threads, peak FLOP/s, memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jepalm.config import HardwareConfig
from jepalm.errors import UsageError
from jepalm.numbers import counted

COMPILE_FROM_STEPS = 1_000
"""A run shorter than this does not earn back the minute that compiling takes."""

PEAK_BF16_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}
"""Dense bf16 peak by part of the device's name, from the makers' data sheets."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`; older versions take at most 32 MiB for the second."""

PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192, "mps": 4096}
"""Rows and columns of a matrix that is large enough to keep the device busy."""


@dataclass(frozen=True)
class Hardware:
    """The resolved choice of where and how to compute."""

    device: torch.device
    precision: str
    threads: int
    packing: bool
    attention: str
    compile: bool
    name: str
    parallel: str = "ddp"

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products run in the chosen precision."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Wait until everything asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def describe(self) -> str:
        """One line for people: device, threads, precision."""
        where = f"{self.device} ({self.name})"
        if self.device.type == "cpu":
            where = f"cpu, {counted(self.threads, 'thread')}"
        return f"{where}, {self.precision}{', compiled' if self.compile else ''}"


def choose_hardware(config: HardwareConfig, steps: int = 0) -> Hardware:
    """Resolve every `auto` for this machine and set the thread count.

    Args:
        config: what was asked for.
        steps: length of the run; short runs are not compiled.

    Raises:
        UsageError: the device asked for is not here.
    """
    device = _choose_device(config.device)
    threads = config.threads or torch.get_num_threads()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    torch.set_flush_denormal(True)  # gradients of a term that is done are denormal, and slow on a CPU
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if fast_bf16(device) else "fp32"
    on_cpu = device.type == "cpu"
    if on_cpu:
        keep_freed_memory()
    compiled = config.compile
    if compiled == "auto":
        compiled = device.type == "cuda" and steps >= COMPILE_FROM_STEPS and config.parallel == "ddp"
    packing = on_cpu and not compiled if config.packing == "auto" else config.packing
    if packing and compiled:
        raise UsageError("hardware.packing and hardware.compile exclude each other", "turn one of them off")
    name = device_name(device)
    return Hardware(device, precision, threads, packing, config.attention, compiled, name, config.parallel)


def keep_freed_memory() -> bool:
    """Let glibc keep what a step frees for the next step; whether it does.

    By default it gives large blocks back to the system, which clears them anew at each step: up to a tenth of
    a step's time on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1) and any(mallopt(M_MMAP_THRESHOLD, n) for n in (2**30, 2**25))
    )


def as_chosen(asked: HardwareConfig, manifest: Mapping[str, Any], *, here: bool = False) -> HardwareConfig:
    """Precision and threads that a run was begun with on a CPU, where nothing else is asked for.

    Args:
        asked: settings for the run's model.
        manifest: the run's.
        here: only if this CPU and this version of torch trained it.
    """
    if manifest.get("device") != "cpu" or _choose_device(asked.device).type != "cpu":
        return asked
    trained_on = manifest.get("device_name"), manifest.get("torch")
    if here and trained_on != (device_name(torch.device("cpu")), torch.__version__):
        return asked
    found: dict[str, Any] = {}
    precision, threads = manifest.get("precision"), manifest.get("threads")
    if asked.precision == "auto" and precision in ("fp32", "bf16"):
        found["precision"] = precision
    if asked.threads is None and isinstance(threads, int) and threads > 0:
        found["threads"] = threads
    return asked.model_copy(update=found)


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are faster than float32 ones on the device.

    On a CPU this needs AMX or AVX512-bf16 instructions; elsewhere bf16 is emulated and slower.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool({"amx_bf16", "avx512_bf16"} & _cpu_flags())
    return False


def device_name(device: torch.device) -> str:
    """The device's name as its maker prints it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    for text in _proc_cpuinfo():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_flops(hardware: Hardware) -> float | None:
    """Peak FLOP/s of the device in the chosen precision, or None where it is not known."""
    if hardware.device.type != "cuda" or hardware.precision != "bf16":
        return None
    return next((peak for part, peak in PEAK_BF16_FLOPS.items() if part in hardware.name), None)


def matrix_product(hardware: Hardware) -> tuple[Callable[[], object], int]:
    """A plain matrix product in the chosen precision, and its floating-point operations.

    How fast it goes is what a model can reach here at best, where no data sheet tells.
    """
    size = PRODUCT_SIZE.get(hardware.device.type, PRODUCT_SIZE["cpu"])
    dtype = torch.bfloat16 if hardware.precision == "bf16" else torch.float32
    matrix = torch.ones(size, size, dtype=dtype, device=hardware.device)
    return lambda: matrix @ matrix, 2 * size**3


def peak_memory(device: torch.device) -> int:
    """Most bytes this process has held: on the device, or resident in main memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    in_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return in_kib if platform.system() == "Darwin" else in_kib * 1024


def _choose_device(asked: str) -> torch.device:
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cpu")
    device = torch.device(asked)
    if asked.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"no CUDA device here for device {asked}", "use --device cpu")
        if ":" not in asked:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if device.index >= count:
            raise UsageError(
                f"no device {asked}: this machine has {count}", f"use cuda:0 to cuda:{count - 1}"
            )
    if asked == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no MPS device here", "use --device cpu")
    return device


def _proc_cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _cpu_flags() -> set[str]:
    for text in _proc_cpuinfo():
        if text.startswith("flags"):
            return set(text.partition(":")[2].split())
    return set()
