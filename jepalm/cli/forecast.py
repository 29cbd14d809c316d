"""What a run would take on several GPUs, on a few lines: counted, given or assumed, and said which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jepalm.cli.console import line
from jepalm.numbers import count, duration, percent, three

if TYPE_CHECKING:
    from jepalm.config import Config


def show_forecast(
    config: Config, data: Path, devices: int, gpu: str, mfu: float | None, price: float | None
) -> None:
    """Count what a run takes, and print it; nothing is trained and the data need not be here.

    Args:
        config: the run's.
        data: folder of prepared data, from which vocabulary and tokens are taken where they are there.
        devices: GPUs.
        gpu: part of their name.
        mfu: share of their peak that training reaches; the usual one when None.
        price: of a GPU for an hour.

    Raises:
        UsageError: the plan cannot be made.
    """
    from jepalm.data.prepared import open_prepared
    from jepalm.errors import UsageError
    from jepalm.training.forecast import PREPARED_TOKENS_A_S, Rates, forecast

    rates = Rates(gpu, price=price) if mfu is None else Rates(gpu, mfu, price)
    try:
        prepared = open_prepared(config.data.name, data)
    except UsageError:
        found, here = forecast(config, devices, rates), "published"
    else:
        tokens, size = prepared.meta.splits["train"].tokens, prepared.meta.vocab_size
        found, here = forecast(config, devices, rates, vocab_size=size, tokens=tokens), "counted here"
    training = config.training
    line("plan", f"{config.preset} on {devices} × {gpu}, {config.hardware.parallel}; nothing is written")
    line("model", f"{count(found.parameters)} parameters (counted)")
    if found.data_tokens and found.data_bytes:
        line(
            "data",
            f"{count(found.data_tokens)} tokens ({here}), {_bytes(found.data_bytes)} on disk (counted)",
        )
        if here == "published":
            rate = f"{count(PREPARED_TOKENS_A_S)} tokens a second (assumed)"
            line("", f"prepared in about {duration(found.prepare_seconds, 2)} at {rate}")
    passes = f", {three(found.passes)} passes over the data" if found.passes else ""
    line(
        "steps",
        f"{found.steps:,} of {training.batch_size} pairs, {found.tokens_per_step:,} tokens{passes} (counted)",
    )
    micro = min(training.micro_batch_size or training.batch_size, training.batch_size // devices)
    again = ", computed again in the backward pass" if config.model.gradient_checkpointing else ""
    line(
        "memory",
        f"{_bytes(found.state_bytes)} a device of weights, gradients and moments (counted)"
        f" · {_bytes(found.activation_bytes)} of activations of {micro} pairs{again}"
        " (counted in float32; bf16 assumed to halve them)",
    )
    line("disk", f"{_bytes(found.checkpoint_bytes)} of checkpoints (counted)")
    given = "given" if mfu is not None else "assumed; --mfu"
    line(
        "compute",
        f"{three(found.flops_per_step / 1e12)} TFLOP a step (counted), at {percent(rates.mfu)} of the peak"
        f" of {three(rates.flops_per_s / rates.mfu / 1e12)} TFLOP/s a device ({given})",
    )
    hours = found.seconds / 3600 * devices
    cost = "" if price is None else f" · cost {three(found.cost)} at {price:g} an hour (given)"
    line("time", f"about {duration(found.seconds, 2)}, {three(hours)} device hours{cost}")


def _bytes(number: float) -> str:
    return f"{three(number / 1e9)} GB"
