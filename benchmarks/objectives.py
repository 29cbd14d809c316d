"""Small objectives of every kind and batches for them: what checks of devices and compilers go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from jepalm.config import Config, from_mapping
from jepalm.data.batches import Batch, Tokens
from jepalm.hardware import Hardware
from jepalm.objective import Objective, build_objective

VOCABULARY, PAIRS, SOURCE_LEN, TARGET_LEN, HIDDEN = 20, 8, 12, 10, 4
LAYER = {"n_layers": 1}
SIZES = {"dim": 16, "n_heads": 2, "ffn_mult": 2, "source_len": SOURCE_LEN, "target_len": TARGET_LEN}
JEPALM = {**SIZES, "encoder": LAYER, "predictor": LAYER, "decoder": LAYER}
CAUSAL = {**SIZES, "family": "causal", "causal": {"n_layers": 1, "context_len": 32}}
NO_LENGTH = {"length": {"kind": "none"}}
OBJECTIVES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "reference": (JEPALM, {}),
    "averaged targets, VICReg, uncertainty": (
        JEPALM,
        {
            "targets": {"encoder": "ema"},
            "generation": {"weight": 1.0, "train_decoder": False},
            "length": {"kind": "classification"},
            "regularizer": {"kind": "vicreg"},
            "weighting": "uncertainty",
        },
    ),
    "latents of two tokens, KL, SIGReg, running means": (
        {**JEPALM, "latent": {"tokens": 2, "dim": 8}},
        {
            "kl": {"weight": 0.1},
            "autoencoder": {"token_dropout": 0.1, "latent_dropout": 0.1, "noise": 0.1},
            "regularizer": {"kind": "sigreg", "slices": 8},
            "weighting": "ema",
        },
    ),
    "unmasked tokens": (
        {**JEPALM, "predictor": {**LAYER, "unmasked": True}},
        {"generation": {"weight": 1.0}},
    ),
    "intermediate logits": (
        {**JEPALM, "predictor": {**LAYER, "intermediate_logits": True}},
        {"intermediate_logits": {"weight": 1.0}},
    ),
    "actions": ({**JEPALM, "action": {"conditioning": "both", "encoder": "own", "n_layers": 1}}, {}),
    "hidden spans": ({**JEPALM, "target_len": SOURCE_LEN}, {"local": {"weight": 1.0}, **NO_LENGTH}),
    "local decoder": ({**JEPALM, "decoder": {"kind": "local", "context": 2}}, NO_LENGTH),
    "recurrent decoder": ({**JEPALM, "decoder": {"kind": "recurrent"}}, NO_LENGTH),
    "language models beside it": (
        {**JEPALM, "encoder": {**LAYER, "kind": "causal"}, "decoder": {"kind": "local", "context": 2}},
        {"encoder_lm": {"weight": 1.0}, "decoder_lm": {"weight": 1.0}, **NO_LENGTH},
    ),
    "causal": (CAUSAL, {}),
    "LLM-JEPA": (
        CAUSAL,
        {"latent": {"weight": 1.0, "distance": "infonce", "predictor_tokens": 1}, "tube": {"weight": 0.1}},
    ),
}
DRAWN = {"tube"}
"""Terms whose random numbers differ between devices, out of training too."""
UNCOMPILED = {"recurrent decoder"}
"""torch leaves its own GRU out of a graph."""


def built(name: str, device: str = "cpu", precision: str = "fp32") -> tuple[Config, Hardware, Objective]:
    """An objective by its name, with the same weights on every device, and where it is."""
    model, objective = OBJECTIVES[name]
    config = from_mapping({"model": model, "objective": objective, "optimizer": {"grad_clip": 1.0}})
    torch.manual_seed(0)
    cpu = Hardware(torch.device("cpu"), precision, 1, False, "sdpa", False, "cpu")
    made = build_objective(config.model, config.objective, VOCABULARY, cpu).train().to(device)
    return config, replace(cpu, device=torch.device(device), name=device), made


def drawn_batch(name: str, seed: int, device: str = "cpu") -> Batch:
    """A batch as `Batches` gives it with static shapes: its counts are scalars on the device."""
    draw = torch.Generator().manual_seed(seed)

    def text(width: int, least: int = 1) -> Tokens:
        lengths = torch.randint(least, width + 1, (PAIRS,), generator=draw)
        ids = torch.randint(3, VOCABULARY, (PAIRS, width), generator=draw)
        return Tokens(ids * (torch.arange(width) < lengths[:, None]), lengths)

    source, target, whole = text(SOURCE_LEN), text(TARGET_LEN), torch.ones(PAIRS, dtype=torch.bool)
    action = text(SOURCE_LEN) if name == "actions" else None
    if name == "hidden spans":
        source, target, whole = text(SOURCE_LEN, SOURCE_LEN), text(HIDDEN, HIDDEN), None
        places = [torch.randperm(SOURCE_LEN, generator=draw)[:HIDDEN] for _ in range(PAIRS)]
        source = replace(source, places=torch.arange(SOURCE_LEN).repeat(PAIRS, 1))
        target = replace(target, places=torch.stack(places).sort(1).values)
    counts = {
        "n_target_tokens": target.lengths.sum(),
        "n_read_tokens": source.lengths.sum(),
        "n_whole": torch.tensor(PAIRS),
        "n_target_latents": (target.lengths / 2).ceil().sum(),
        "n_with_three": torch.tensor(PAIRS),
    }
    return Batch(
        source.to(device),
        target.to(device),
        None if action is None else action.to(device),
        PAIRS,
        whole=None if whole is None else whole.to(device),
        **{key: value.to(device, torch.float32) for key, value in counts.items()},  # type: ignore[arg-type]
    )
