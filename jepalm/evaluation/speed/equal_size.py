"""A model of the other family with as many parameters: what a run's speed is set beside."""

from __future__ import annotations

from collections.abc import Callable

import torch

from jepalm.config import (
    CausalConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    PredictorConfig,
)
from jepalm.hardware import Hardware
from jepalm.model.causal import CausalLM
from jepalm.model.jepalm import JEPALM
from jepalm.numbers import counted
from jepalm.objective import Objective, build_objective

MOST_LAYERS = 128


def counterpart(own: ModelConfig, n_parameters: int, vocab_size: int, context_len: int) -> ModelConfig:
    """The other family at the same width, as deep as comes nearest to a number of parameters.

    Args:
        own: sizes of the model that it is to equal.
        n_parameters: to come near to.
        vocab_size: of its tokenizer.
        context_len: positions that a causal model needs.
    """
    if own.family == "causal":
        return _nearest(lambda depth: _jepalm(own, depth), n_parameters, vocab_size, 3, 3 * MOST_LAYERS)
    return _nearest(lambda depth: _causal(own, depth, context_len), n_parameters, vocab_size, 1, MOST_LAYERS)


def build_untrained(model: ModelConfig, vocab_size: int, hardware: Hardware) -> Objective:
    """The model with drawn weights, in evaluation mode; the caller's random numbers stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_objective(model, ObjectiveConfig(), vocab_size, hardware).eval()


def depth_of(model: ModelConfig) -> str:
    """The layers of a model, for people."""
    if model.backbone is not None:
        return model.backbone
    if model.family == "causal":
        return counted(model.causal.n_layers, "layer")
    return f"{model.encoder.n_layers} + {model.predictor.n_layers} + {model.decoder.n_layers} layers"


def _causal(own: ModelConfig, depth: int, context_len: int) -> ModelConfig:
    causal = CausalConfig(n_layers=depth, context_len=context_len)
    return own.model_copy(update={"family": "causal", "causal": causal})


def _jepalm(own: ModelConfig, depth: int) -> ModelConfig:
    """`depth` layers in all, shared out evenly; what is left over goes to the predictor, then the encoder."""
    update = {
        "family": "jepalm",
        "predictor": PredictorConfig(n_layers=(depth + 2) // 3),
        "encoder": EncoderConfig(n_layers=(depth + 1) // 3),
        "decoder": DecoderConfig(n_layers=depth // 3),
        "causal": CausalConfig(),
    }
    return own.model_copy(update=update)


def _nearest(
    sizes: Callable[[int], ModelConfig], n_parameters: int, vocab_size: int, least: int, most: int
) -> ModelConfig:
    """Double the depth until it is too much, halve the range to two neighbours, take the nearer one."""
    above = min(2 * least, most)
    while above < most and _size(sizes(above), vocab_size) <= n_parameters:
        least, above = above, min(2 * above, most)
    while above - least > 1:
        middle = (least + above) // 2
        if _size(sizes(middle), vocab_size) <= n_parameters:
            least = middle
        else:
            above = middle
    return min(sizes(least), sizes(above), key=lambda one: abs(_size(one, vocab_size) - n_parameters))


def _size(model: ModelConfig, vocab_size: int) -> int:
    """Parameters of a model that is not built: no memory is taken."""
    with torch.device("meta"):
        causal = model.family == "causal"
        built = CausalLM(model, vocab_size) if causal else JEPALM(model, vocab_size, length_head=True)
    return sum(built.parameters_by_part().values())
