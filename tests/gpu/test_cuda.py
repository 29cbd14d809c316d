"""What needs a CUDA device: the same numbers as on a CPU first, speed after. `make gpu` runs it."""

import statistics
import time

import pytest
import torch

from jepalm.config import from_mapping, load_preset
from jepalm.data.batches import Batch, Tokens
from jepalm.hardware import choose_hardware, peak_flops
from jepalm.objective import build_objective
from jepalm.training.optimizer import build_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
VOCABULARY = 100


def batch_of(config, device, pairs, *, full=False, seed=0):
    """Random pairs; `full` pads to the model's own lengths."""
    draw = torch.Generator().manual_seed(seed)
    views = []
    for width in (config.model.source_len, config.model.target_len):
        lengths = torch.randint(1, width + 1, (pairs,), generator=draw)
        columns = width if full else int(lengths.max())
        ids = torch.randint(3, VOCABULARY, (pairs, width), generator=draw)[:, :columns]
        ids = ids * (torch.arange(columns) < lengths[:, None])
        views.append(Tokens(ids, lengths).to(device))
    return Batch(*views, None, pairs, int(views[1].lengths.sum()))


def on(device, **hardware):
    config = from_mapping({**load_preset("shakespeare"), "hardware": {"device": device, **hardware}})
    place = choose_hardware(config.hardware)
    torch.manual_seed(0)
    return config, place, build_objective(config.model, config.objective, VOCABULARY, place)


def losses_and_gradient(device, full=False, **hardware):
    config, place, objective = on(device, **hardware)
    torch.manual_seed(1)
    weight = torch.randn(objective.model.predictor.project.weight.shape) * 0.02
    objective.load_state_dict(reference_weights(config))
    with torch.no_grad():
        objective.model.predictor.project.weight.copy_(weight)
    with place.autocast():
        losses = objective(batch_of(config, place.device, 16, full=full))
    losses.total.backward()
    terms = {name: term.item() for name, term in losses.terms.items()}
    return terms, torch.cat([p.grad.flatten().cpu() for p in objective.parameters()])


def reference_weights(config):
    """The same weights on every device: drawn on the CPU."""
    torch.manual_seed(0)
    place = choose_hardware(from_mapping({"hardware": {"device": "cpu"}}).hardware)
    return build_objective(config.model, config.objective, VOCABULARY, place).state_dict()


def test_float32_losses_and_gradients_are_the_cpu_s():
    torch.set_float32_matmul_precision("highest")
    terms, gradient = losses_and_gradient("cpu", precision="fp32")
    on_gpu, gpu_gradient = losses_and_gradient("cuda", precision="fp32", compile=False)
    for name, value in terms.items():
        assert on_gpu[name] == pytest.approx(value, rel=1e-4)
    assert (gpu_gradient - gradient).norm() < 1e-2 * gradient.norm()


def test_bf16_losses_are_near_the_cpu_s():
    terms, _ = losses_and_gradient("cpu", precision="fp32")
    on_gpu, _ = losses_and_gradient("cuda", precision="bf16", compile=False)
    for name, value in terms.items():
        assert on_gpu[name] == pytest.approx(value, rel=3e-2)


def test_compiled_losses_are_the_eager_ones():
    config, _, objective = on("cuda", precision="fp32", compile=False)
    compiled = torch.compile(objective)
    for seed in range(4):  # token counts differ: compiled again once at most
        batch = batch_of(config, "cuda", 16, full=True, seed=seed)
        assert compiled(batch).total.item() == pytest.approx(objective(batch).total.item(), rel=1e-3)


def test_step_time_table():
    print(f"\n{torch.cuda.get_device_name()}, shakespeare preset, step of forward, backward, AdamW")
    print(f"{'precision':10}{'compiled':>10}{'batch':>7}{'ms':>9}{'tok/s':>12}{'peak share':>12}")
    rows = [
        row(precision, compiled, pairs)
        for pairs in (16, 256)
        for precision, compiled in (("fp32", False), ("bf16", False), ("bf16", True))
    ]
    assert min(rows) < rows[0]


def row(precision, compiled, pairs):
    from torch.utils.flop_counter import FlopCounterMode

    config, place, objective = on("cuda", precision=precision, compile=compiled)
    optimizer = build_optimizer(objective, config.optimizer)
    batches = [batch_of(config, "cuda", pairs, full=True, seed=seed) for seed in range(8)]
    counter = FlopCounterMode(display=False)
    with counter, place.autocast():
        objective(batches[0]).total.backward()
    optimizer.zero_grad()
    model = torch.compile(objective) if compiled else objective
    times = []
    for step in range(40):
        place.synchronize()
        start = time.perf_counter()
        with place.autocast():
            total = model(batches[step % len(batches)]).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        place.synchronize()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[20:])
    peak = peak_flops(place)
    share = f"{counter.get_total_flops() / seconds / peak:.1%}" if peak else "unknown"
    tokens = sum(batch.n_target_tokens for batch in batches) / len(batches) / seconds
    print(f"{precision:10}{compiled!s:>10}{pairs:7}{1000 * seconds:9.2f}{tokens:12,.0f}{share:>12}")
    return seconds / pairs
