import platform
import resource

import pytest
import torch

from jepalm import hardware
from jepalm.config import HardwareConfig, from_mapping
from jepalm.errors import UsageError
from jepalm.hardware import (
    Hardware,
    as_chosen,
    choose_hardware,
    fast_bf16,
    matrix_product,
    peak_flops,
    peak_memory,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def chosen(steps: int = 0, **asked: object) -> Hardware:
    return choose_hardware(HardwareConfig.model_validate({"threads": 1, **asked}), steps)


def with_flags(monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    monkeypatch.setattr(hardware, "_proc_cpuinfo", lambda: ["model name\t: Some CPU", f"flags\t\t: {flags}"])


def test_without_an_accelerator_auto_is_the_packed_uncompiled_cpu():
    found = chosen(steps=100_000)
    assert (found.device, found.packing, found.compile, found.attention) == (CPU, True, False, "auto")


def test_threads_are_those_asked_for():
    assert chosen(threads=1).threads == torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("sse avx512_bf16", "bf16"), ("amx_bf16 sse", "bf16"), ("sse avx2 avx512f", "fp32"), ("", "fp32")],
)
def test_auto_precision_is_bf16_only_with_the_cpu_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
):
    with_flags(monkeypatch, flags)
    assert chosen().precision == precision


def test_a_precision_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch):
    with_flags(monkeypatch, "sse")
    assert chosen(precision="bf16").precision == "bf16"


def test_no_bf16_on_mps():
    assert not fast_bf16(torch.device("mps"))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "no CUDA device here for device cuda"),
        ("cuda:3", "for device cuda:3"),
        ("mps", "no MPS device"),
    ],
)
def test_a_device_that_is_not_here_is_a_usage_error(device: str, message: str):
    with pytest.raises(UsageError, match=rf"{message}.* \(use --device cpu\)"):
        chosen(device=device)


def test_a_gpu_number_beyond_the_last_names_the_range(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=r"no device cuda:2: this machine has 2 \(use cuda:0 to cuda:1\)"):
        chosen(device="cuda:2")


def test_an_unknown_device_is_refused_by_the_config():
    with pytest.raises(UsageError, match=r"hardware\.device='tpu'"):
        from_mapping({"hardware": {"device": "tpu"}})


def test_packing_and_compile_exclude_each_other():
    with pytest.raises(UsageError, match="exclude each other"):
        chosen(packing=True, compile=True)


def test_compile_turns_automatic_packing_off():
    assert chosen(compile=True).packing is False


def test_describe_names_device_threads_and_precision():
    assert chosen(precision="fp32").describe() == "cpu, 1 thread, fp32"
    assert chosen(precision="fp32", compile=True).describe() == "cpu, 1 thread, fp32, compiled"


def test_autocast_runs_matrix_products_in_bf16_only_when_chosen():
    x = torch.ones(2, 2)
    with chosen(precision="bf16").autocast():
        assert (x @ x).dtype == torch.bfloat16
    with chosen(precision="fp32").autocast():
        assert (x @ x).dtype == torch.float32


def test_the_cpus_name_is_the_makers(monkeypatch: pytest.MonkeyPatch):
    with_flags(monkeypatch, "")
    assert chosen().name == "Some CPU"


def test_peak_is_known_for_gpus_of_the_list_in_bf16_only():
    gpu = Hardware(torch.device("cuda", 0), "bf16", 1, False, "auto", True, "NVIDIA A100-SXM4-80GB")
    assert peak_flops(gpu) == 312e12
    assert peak_flops(Hardware(gpu.device, "fp32", 1, False, "auto", True, gpu.name)) is None
    assert peak_flops(Hardware(gpu.device, "bf16", 1, False, "auto", True, "NVIDIA B999")) is None
    assert peak_flops(chosen()) is None


def test_a_plain_product_has_two_operations_an_entry_and_term():
    action, flops = matrix_product(chosen(precision="fp32"))
    assert flops == 2 * 1024**3
    made = action()
    assert (made.shape, made.dtype) == ((1024, 1024), torch.float32)


def test_resident_memory_is_in_bytes():
    assert 50e6 < peak_memory(CPU) < 1e12


MEASURED = {"device": "cpu", "device_name": "Some CPU", "precision": "bf16", "threads": 3}


def test_what_was_measured_on_this_machine_is_taken_where_nothing_is_asked_for(monkeypatch):
    with_flags(monkeypatch, "sse")
    manifest = {**MEASURED, "torch": torch.__version__}
    found = as_chosen(HardwareConfig(), manifest, here=True)
    assert (found.precision, found.threads) == ("bf16", 3)
    asked = HardwareConfig(precision="fp32", threads=1)
    assert as_chosen(asked, manifest, here=True) == asked


@pytest.mark.parametrize(
    "other", [{"torch": "1.0"}, {"device_name": "Another CPU"}, {"device": "cuda:0"}, {"threads": "many"}]
)
def test_what_was_measured_elsewhere_is_not(monkeypatch, other):
    with_flags(monkeypatch, "sse")
    manifest = {**MEASURED, "torch": torch.__version__, **other}
    assert as_chosen(HardwareConfig(), manifest, here=True).threads is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told to keep memory")
def test_freed_blocks_are_kept_and_not_cleared_by_the_system_again():
    chosen()
    size, faults = (
        24 << 20,
        [],
    )  # bytes of a block, of 4,096 a page; three are more than glibc keeps by default
    for _ in range(6):  # the first ones may lie where nothing was yet
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.ones(size, dtype=torch.uint8) for _ in range(3)]
        del blocks
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < size // 4096
