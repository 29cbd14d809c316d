"""What a GPU makes of jepalm, in at most eight minutes: the numbers of the CPU first, then how fast.

    python benchmarks/on_gpu.py --out build/gpu.json
    python benchmarks/on_gpu.py --device cpu --steps 3       # the same with tiny models, to try the script

Parts: `checks` (every objective on the GPU beside the CPU, in float32 and bf16), `compiled` (one graph, the
eager step's loss), `waits` (steps in which the CPU never waits), `step` (the reference: eager, compiled,
captured as one CUDA graph; 25,000 steps from the measured ones), `mfu` (the preset of 100 M parameters),
`commands` (prepare, train and bench as a user calls them: one pass beside a causal model with a cache). What
there is no time for is left out and said so. Exit code 1 where a check fails.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from drawn_lines import drawn_lines, line_batches
from objectives import DRAWN, OBJECTIVES, UNCOMPILED, built, drawn_batch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from jepalm.config import Config, resolve
from jepalm.data.batches import Batch, Tokens
from jepalm.hardware import Hardware, choose_hardware, peak_flops
from jepalm.objective import Objective, build_objective
from jepalm.training.flops import step_flops
from jepalm.training.optimizer import build_optimizer
from jepalm.training.trial import Trial

BUDGET_S = 480
REFERENCE_STEPS = 25_000
TINY = [
    "model.dim=16",
    "model.n_heads=2",
    "model.encoder.n_layers=1",
    "model.predictor.n_layers=1",
    "model.decoder.n_layers=1",
]
"""Of every model where the script itself is tried on a CPU."""
RUN_TINY = [*TINY, "training.batch_size=4", "training.validation_batches=1", "training.samples=1"]
RELATIVE = {"fp32": 1e-4, "bf16": 1e-1}
GRADIENT = {"fp32": 1e-2, "bf16": 2.5e-1}
PARTS = ("checks", "compiled", "waits", "step", "mfu", "commands")


class Bench:
    """What the parts share.

    Args:
        device: where to measure.
        steps: timed steps of each form.
        budget: seconds after which no part begins.
    """

    def __init__(self, device: str, steps: int, budget: float) -> None:
        self.device, self.steps, self.budget = torch.device(device), steps, budget
        self.began = time.perf_counter()
        self.tried = self.device.type == "cpu"
        """Whether only the script is tried."""
        self.rows: list[dict[str, Any]] = []

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.perf_counter() - self.began)

    def row(self, part: str, what: str, **values: Any) -> None:
        """Keep a line of the table, and show it at once."""
        self.rows.append({"part": part, "what": what, **values})
        told = "  ".join(f"{key} {_short(value)}" for key, value in values.items())
        print(f"{part:9} {what:50} {told}", flush=True)

    def wait(self) -> None:
        """Wait until everything asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check(self, part: str, what: str, fine: bool, **values: Any) -> None:
        """A row that fails the whole where something is not fine."""
        self.row(part, what, ok=fine, **values)

    def hardware(self, config: Config, *, compiled: bool = False) -> Hardware:
        """This device, in bf16 where it is a GPU."""
        asked = config.hardware.model_dump() | {"device": str(self.device), "packing": False}
        asked["precision"] = "fp32" if self.tried else "bf16"
        place = choose_hardware(type(config.hardware).model_validate(asked))
        return replace(place, compile=compiled)

    def config(self, preset: str, *changed: str) -> Config:
        """A preset, tiny where only the script is tried."""
        return resolve(preset, overrides=[*(TINY if self.tried else []), *changed])


def checks(bench: Bench) -> None:
    """Terms and gradients of every objective beside the CPU's, out of training, where nothing is drawn."""
    torch.set_float32_matmul_precision("highest")
    for precision in ("fp32", "bf16"):
        for name in OBJECTIVES:
            terms, gradient = _terms_and_gradient(name, "cpu", "fp32")
            found, other = _terms_and_gradient(name, str(bench.device), precision)
            off = max(abs(found[key] - value) / max(abs(value), 1e-3) for key, value in terms.items())
            turned = float((other - gradient).norm() / gradient.norm())
            fine = off < RELATIVE[precision] and turned < GRADIENT[precision]
            bench.check("checks", f"{name}, {precision}", fine, terms_off=off, gradient_off=turned)
    if not bench.tried:
        torch.set_float32_matmul_precision("high")


def _terms_and_gradient(name: str, device: str, precision: str) -> tuple[dict[str, float], Tensor]:
    _, place, objective = built(name, device, precision)
    objective.eval()
    with place.autocast():
        terms = objective(drawn_batch(name, 0, device)).terms
    kept = {key: term for key, term in terms.items() if key not in DRAWN}
    torch.stack([term.float() for term in kept.values()]).sum().backward()
    gradients = [p.grad.flatten().float().cpu() for p in objective.parameters() if p.grad is not None]
    return {key: float(term.detach()) for key, term in kept.items()}, torch.cat(gradients)


def compiled(bench: Bench) -> None:
    """Losses of compiled objectives beside eager ones; breaks and graphs are counted."""
    for name in ("reference", "LLM-JEPA"):
        assert name not in UNCOMPILED
        _, _, objective = built(name, str(bench.device))
        objective.eval()
        torch._dynamo.reset()
        counters.clear()
        backend = "aot_eager" if bench.tried else "inductor"
        model = torch.compile(objective, backend=backend, fullgraph=True, dynamic=False)
        off = 0.0
        for seed in range(3):
            batch = drawn_batch(name, seed, str(bench.device))
            torch.manual_seed(0)
            one = objective(batch).terms
            other = model(batch).terms
            off = max(off, *(float((one[key] - other[key]).abs()) for key in one if key not in DRAWN))
        graphs = counters["stats"]["unique_graphs"]
        bench.check("compiled", name, off < 1e-3 and graphs == 1, off=off, graphs=graphs)


def waits(bench: Bench) -> None:
    """Steps of the reference between two log points, in which to wait for the GPU is an error."""
    config = bench.config("shakespeare")
    with tempfile.TemporaryDirectory() as folder:
        trial = _trial(bench, config, Path(folder), compiled=False)
        trial.step(0)
        on_gpu = bench.device.type == "cuda"
        fault = ""
        if on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        try:
            for number in range(1, 4):
                trial.step(number)
        except RuntimeError as error:
            fault = str(error).splitlines()[0]
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    bench.check("waits", "three steps of the reference", not fault, fault=fault or "none")


def step(bench: Bench) -> None:
    """Milliseconds a step of the reference in each form, and what its 25,000 steps would take."""
    config = bench.config("shakespeare")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for form in ("eager", "compiled", "compiled and captured"):
            if form != "eager" and bench.left < 60 and not bench.tried:
                bench.row("step", form, left_out="no time")
                continue
            torch._dynamo.reset()
            begun = time.perf_counter()
            if form == "compiled and captured":
                action = _captured(bench, config, place)
            else:
                action = _trial(bench, config, place, compiled=form == "compiled").step
            action(0)
            bench.wait()
            first = time.perf_counter() - begun
            seconds = _seconds_a_step(bench, action)
            bench.row(
                "step",
                form,
                ms=1000 * seconds,
                first_s=first,
                reference_s=seconds * REFERENCE_STEPS,
                measured_share=bench.steps / REFERENCE_STEPS,
            )


def _seconds_a_step(bench: Bench, action: Callable[[int], object]) -> float:
    """Mean over the timed steps, after a fifth as many that warm up; the device is waited for at the ends."""
    warm = 1 + bench.steps // 5
    for number in range(1, 1 + warm):
        action(number)
    bench.wait()
    start = time.perf_counter()
    for number in range(1 + warm, 1 + warm + bench.steps):
        action(number)
    bench.wait()
    return (time.perf_counter() - start) / bench.steps


def _trial(bench: Bench, config: Config, folder: Path, *, compiled: bool) -> Trial:
    place = bench.hardware(config, compiled=compiled and not bench.tried)
    torch.manual_seed(0)
    objective = build_objective(config.model, config.objective, 100, place)
    return Trial(
        objective,
        line_batches(config, folder, place.device, static=compiled),
        config,
        place,
        compiled=place.compile,
    )


class CapturedStep:
    """Forward, backward, clipping, AdamW and the metrics over fixed tensors: a CUDA graph replays them.

    On a CPU the same is called as it stands.
    """

    def __init__(self, objective: Objective, config: Config, place: Hardware, batch: Batch) -> None:
        self.objective, self.clip, self.inputs = objective, config.optimizer.grad_clip, copy.deepcopy(batch)
        self.model: Any = objective
        on_gpu = place.device.type == "cuda"
        if on_gpu:
            self.model = torch.compile(objective, dynamic=False)
        self.optimizer = build_optimizer(objective, config.optimizer, capturable=True)
        half = place.precision == "bf16"  # a graph cannot keep autocast's copies of the weights
        self.autocast = torch.autocast("cuda", torch.bfloat16, cache_enabled=False) if half else nullcontext()
        self.graph = None
        if on_gpu:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    self._step()
            torch.cuda.current_stream().wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._step()

    def __call__(self, batch: Batch) -> None:
        """Take the step of a batch."""
        for own, given in zip(_tensors(self.inputs), _tensors(batch), strict=True):
            own.copy_(given)
        if self.graph is None:
            self._step()
        else:
            self.graph.replay()

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            losses = self.model(self.inputs)
        losses.total.backward()
        self.row = torch.stack([losses.total.detach(), *(term.detach() for term in losses.terms.values())])
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip)
        self.optimizer.step()


def _captured(bench: Bench, config: Config, folder: Path) -> Callable[[int], None]:
    place = bench.hardware(config)
    torch.manual_seed(0)
    objective = build_objective(config.model, config.objective, 100, place).train()
    batches = line_batches(config, folder, place.device, static=True)
    objective.before_step(0)
    widest = max((batches.at(step)[0] for step in range(50)), key=lambda batch: batch.source.ids.shape[1])
    wide = widest.source.ids.shape
    take = CapturedStep(objective, config, place, widest)

    def action(number: int) -> None:
        batch = batches.at(number)[0]
        if batch.source.ids.shape == wide:  # one bucket, one graph
            take(batch)
        else:
            take(widest)

    return action


def _tensors(batch: Batch) -> list[Tensor]:
    """All tensors of a batch, its counts too."""
    found: list[Tensor] = []
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tokens):
            found += [part for part in (value.ids, value.lengths, value.places) if part is not None]
        elif isinstance(value, Tensor):
            found.append(value)
    return found


def mfu(bench: Bench) -> None:
    """Operations a second of the preset of 100 M parameters over the device's peak."""
    micro = 4 if bench.tried else 128
    config = bench.config("openwebtext", f"training.batch_size={micro}", f"training.micro_batch_size={micro}")
    place = bench.hardware(config, compiled=not bench.tried)
    torch.manual_seed(0)
    objective = build_objective(config.model, config.objective, 16384, place)
    batches = _Windows(config, place.device)
    flops = step_flops(objective, batches.at(0), place.autocast())
    trial = Trial(objective, batches, config, place, compiled=place.compile)  # type: ignore[arg-type]
    trial.step(0)
    seconds = _seconds_a_step(bench, trial.step)
    peak = peak_flops(place)
    share = flops / seconds / peak if peak else None
    tokens = micro * (config.model.source_len + config.model.target_len) / seconds
    what = f"openwebtext, {micro} pairs, {'compiled' if place.compile else 'eager'}"
    bench.row("mfu", what, ms=1000 * seconds, tflops=flops / seconds / 1e12, mfu=share, tokens_per_s=tokens)


class _Windows:
    """Batches of random tokens of full length."""

    steps_per_pass = 1000

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        draw = torch.Generator().manual_seed(0)
        self.ids = [self._text(width, draw) for width in (config.model.source_len, config.model.target_len)]

    def _text(self, width: int, draw: torch.Generator) -> Tokens:
        n = self.config.training.batch_size
        ids = torch.randint(3, 16384, (n, width), generator=draw)
        return Tokens(ids, torch.full((n,), width)).to(self.device)

    def at(self, step: int) -> list[Batch]:
        """The same batch at every step."""
        source, target = self.ids
        return [Batch(source, target, None, len(source.ids), target.ids.numel(), source.ids.numel())]


def commands(bench: Bench) -> None:
    """Prepare, train and bench as a user calls them."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "lines.txt").write_text(drawn_lines(), encoding="utf-8")
        moved = ["--data-dir", str(place / "data")]
        _jepalm("prepare", "text", str(place / "lines.txt"), "--name", "lines", *moved)
        steps = bench.steps if bench.tried else 2000
        settings = RUN_TINY if bench.tried else []
        runs, device = str(place / "runs"), ["--device", str(bench.device)]
        given = ["--preset", "shakespeare", "--data", "lines", "--steps", str(steps), "--run-dir", runs]
        begun = time.perf_counter()
        _jepalm("train", *given, *device, *moved, *settings)
        taken = time.perf_counter() - begun
        run = (place / "runs" / "latest").resolve()
        rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
        speeds = [row["speed/steps_per_s"] for row in rows if row["kind"] == "train"]
        best = speeds[len(speeds) // 2 :]
        rate = sum(best) / len(best)
        bench.row(
            "commands",
            f"jepalm train, {steps:,} steps",
            wall_s=taken,
            ms=1000 / rate,
            reference_s=REFERENCE_STEPS / rate,
            measured_share=steps / REFERENCE_STEPS,
        )
        seconds = ["--seconds", "0" if bench.tried else "5"]
        found = json.loads(_jepalm("bench", str(run), *device, *moved, *seconds, "--json"))
        for batch in found["generation"]["batches"]:
            times = {name: 1000 * one["median"] for name, one in batch["seconds"].items()}
            bench.row(
                "commands",
                f"64 characters, batch {batch['batch']}: one pass, cached",
                one_pass_ms=times["model"],
                cached_ms=times["baseline"],
                ratio=batch["ratio"]["median"],
            )


def _jepalm(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jepalm", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"jepalm {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(given: list[str] | None = None) -> int:
    """Run the parts, print the table last, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=300, help="timed steps of each form")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds after which no part begins")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument("--out", type=Path, help="JSON file")
    asked = parser.parse_args(given)
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --steps 3 tries the script", file=sys.stderr)
        return 2
    bench = Bench(asked.device, asked.steps, asked.budget)
    for name in asked.parts.split(","):
        if bench.left < 0:
            bench.row(name, "left out", left_out="no time")
            continue
        try:
            globals()[name](bench)
        except Exception as error:  # the other parts still tell something
            bench.check(name, "failed", False, error=f"{type(error).__name__}: {error}"[:500])
    on_gpu = bench.device.type == "cuda"
    name = torch.cuda.get_device_name(bench.device) if on_gpu else "cpu, tiny models: no measurement"
    seconds = time.perf_counter() - bench.began
    print(f"\n{name}, torch {torch.__version__}, {seconds:.0f} s")
    print("| part | what | |\n|---|---|---|")
    for row in bench.rows:
        values = ", ".join(f"{key} {_short(row[key])}" for key in row if key not in ("part", "what"))
        print(f"| {row['part']} | {row['what']} | {values} |")
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        tree = {"device": name, "torch": torch.__version__, "seconds": seconds, "rows": bench.rows}
        asked.out.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    return int(any(row.get("ok") is False for row in bench.rows))


if __name__ == "__main__":
    sys.exit(main())
