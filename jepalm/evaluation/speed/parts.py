"""A model with a light decoder in its two parts: what runs once a passage, and what runs once a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.left_to_right import LeftToRight, predicted_embeddings
from jepalm.generation.passage import PassageRequest
from jepalm.generation.writer import Prompt
from jepalm.hardware import Hardware
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective

ENCODER_AND_PREDICTOR, DECODER = "encoder and predictor", "decoder"


def parts_of(
    objective: JepalmObjective,
    hardware: Hardware,
    prompts: Sequence[Prompt],
    length: int,
    temperature: float = 0.0,
) -> dict[str, Callable[[], object]]:
    """What each part does to write `length` tokens after each prompt, to be timed.

    Args:
        objective: in evaluation mode, with an autoregressive decoder, and without actions.
        hardware: where it lies and in which precision it computes.
        prompts: one or more.
        length: tokens, no more than a passage has.
        temperature: of the draws.
    """
    size, device = objective.model.config.source_len, hardware.device
    source = pad_rows([prompt.source[-size:] for prompt in prompts], device)
    lengths = torch.full((len(prompts),), length, device=device)
    target = Layout.of(lengths, length, packed=objective.packing)

    @torch.no_grad()
    def predict() -> tuple[PassageRequest, Tensor]:
        with hardware.autocast():
            embeddings, layout = objective.encode_source(source)
            excluded = range(len(SPECIALS))
            request = PassageRequest(embeddings, layout, target, excluded, temperature, source=source)
            return request, predicted_embeddings(objective, request)

    predicted = predict()

    def decode() -> None:
        with hardware.autocast():
            LeftToRight(ends=False).decode(objective, *predicted)

    return {ENCODER_AND_PREDICTOR: predict, DECODER: decode}
