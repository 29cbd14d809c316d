"""A light decoder, one token a step: the few products of a step, in NumPy on a CPU and elsewhere in torch.

NumPy's calls cost a fraction of torch's, and a step is so small that they are most of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.ngram_expert import NGramExpert
from jepalm.model.decoder import LightDecoder, LocalDecoder, RecurrentDecoder
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective

Array = Any
"""A NumPy array on a CPU, else a tensor."""


class Steps(Protocol):
    """A light decoder over the embeddings of some passages."""

    n_first: int
    """Tokens before the first position that are read there, m."""
    n_previous: int
    """Tokens before each later position that are read there."""

    def logits(self, place: int, previous: Array) -> Array:
        """Tokens before a position (B, m), the nearest first, to (B, V); positions in their order."""
        ...

    def select(self, rows: Array) -> None:
        """Go on from the states of some rows (B,)."""
        ...


class LocalSteps:
    """A `LocalDecoder` over predicted embeddings (B, T, D')."""

    def __init__(self, decoder: LocalDecoder, embeddings: Tensor, layout: Layout) -> None:
        self.n_first = self.n_previous = len(decoder.tokens)
        self._inputs = as_array(read(decoder, embeddings, layout))  # (B, T, H)
        if self.n_previous:
            tables = tuple(decoder.tokens.parameters())  # m of (V, H)
            self._tables = as_array(torch.cat(tables))  # (m V, H)
            first = torch.arange(len(tables), device=embeddings.device) * len(tables[0])
            self._first = as_index(first)  # (m,)
        self._hidden, self._vocabulary = transposed(decoder.hidden), transposed(decoder.vocabulary)
        self._exp = functions_of(embeddings.device).exp

    def logits(self, place: int, previous: Array) -> Array:
        """See `Steps`."""
        h = self._inputs[:, place]  # (B, H)
        if self.n_previous:
            h = h + self._tables[previous[:, : self.n_previous] + self._first].sum(1)
        h = h / (1 + self._exp(-h))
        weight, bias = self._hidden
        h = h @ weight + bias
        h = h / (1 + self._exp(-h))
        weight, bias = self._vocabulary
        return h @ weight + bias

    def select(self, rows: Array) -> None:
        """See `Steps`; there is no state."""


@dataclass(frozen=True)
class RecurrentWeights:
    """What the steps of a `RecurrentDecoder` of width H multiply and add.

    A gate is (1 + tanh(x / 2)) / 2, as NumPy's tanh takes a fraction of the time of its exponential; the half
    of x is in these weights. The thirds of 3 H are the reset gate, the update gate and the candidate.

    Attributes:
        inputs: (3 H, H) of what is read, and its bias (3 H,), as tensors.
        tokens: (V, 3 H) what each token adds, without the bias.
        recurrent: (H, 3 H) of the state, and its bias (3 H,).
    """

    inputs: tuple[Tensor, Tensor]
    tokens: Array
    recurrent: tuple[Array, Array]

    @classmethod
    def of(cls, decoder: RecurrentDecoder) -> RecurrentWeights:
        """The weights of a decoder; those made before, as long as no parameter has changed."""
        state = tuple((parameter.data_ptr(), parameter._version) for parameter in decoder.parameters())
        if decoder not in _KNOWN or _KNOWN[decoder][0] != state:
            _KNOWN[decoder] = state, cls._made(decoder)
        return _KNOWN[decoder][1]

    @classmethod
    def _made(cls, decoder: RecurrentDecoder) -> RecurrentWeights:
        weights = [parameter.detach() for parameter in decoder.gru.parameters()]
        halves = torch.full_like(weights[-1], 0.5)  # (3 H,)
        halves[2 * decoder.gru.hidden_size :] = 1.0
        weight, recurrent = (halves[:, None] * matrix for matrix in weights[:2])
        bias, recurrent_bias = (halves * vector for vector in weights[2:])
        with torch.autocast(weight.device.type, enabled=False):  # the same whoever asks first
            tokens = as_array(F.linear(decoder.tokens.weight.detach(), weight))
        return cls((weight, bias), tokens, (as_array(recurrent).T, as_array(recurrent_bias)))


_KNOWN: WeakKeyDictionary[RecurrentDecoder, tuple[tuple[tuple[int, int], ...], RecurrentWeights]]
_KNOWN = WeakKeyDictionary()


class RecurrentSteps:
    """A `RecurrentDecoder` over predicted embeddings (B, T, D'), from the source's last ones (B, D)."""

    n_previous = 1

    def __init__(self, decoder: RecurrentDecoder, embeddings: Tensor, layout: Layout, source: Tensor) -> None:
        self.n_first = decoder.n_previous
        self._weights = weights = RecurrentWeights.of(decoder)
        self._inputs = as_array(F.linear(read(decoder, embeddings, layout), *weights.inputs))  # (B, T, 3 H)
        self._vocabulary = transposed(decoder.vocabulary)
        self._state = as_array(decoder.start_state(source))  # (B, H)
        self._tanh = functions_of(embeddings.device).tanh

    def logits(self, place: int, previous: Array) -> Array:
        """See `Steps`; before the first position the state reads the tokens before the source's last."""
        tokens = self._weights.tokens
        if place == 0:
            bias = as_array(self._weights.inputs[1])  # (3 H,), as without an embedding
            for k in range(self.n_first - 1, 0, -1):
                self._read(bias + tokens[previous[:, k]])
        self._read(self._inputs[:, place] + tokens[previous[:, 0]])
        weight, bias = self._vocabulary
        return self._state @ weight + bias

    def _read(self, inputs: Array) -> None:
        """Inputs (B, 3 H) of the reset gate, the update gate and the candidate into the state."""
        tanh, width = self._tanh, self._state.shape[1]
        weight, bias = self._weights.recurrent
        hidden = self._state @ weight + bias  # (B, 3 H)
        gates = 0.5 + 0.5 * tanh(inputs[:, : 2 * width] + hidden[:, : 2 * width])  # (B, 2 H)
        candidate = tanh(inputs[:, 2 * width :] + gates[:, :width] * hidden[:, 2 * width :])  # (B, H)
        self._state = candidate + gates[:, width:] * (self._state - candidate)

    def select(self, rows: Array) -> None:
        """See `Steps`."""
        self._state, self._inputs = self._state[rows], self._inputs[rows]


class ExpertSteps:
    """A light decoder with an n-gram expert, whose counts are on the CPU: elsewhere a step waits for them."""

    def __init__(self, steps: Steps, expert: NGramExpert, weight: float) -> None:
        self._steps, self._expert, self._weight = steps, expert, np.float32(weight)
        self.n_first = max(steps.n_first, expert.reach)
        self.n_previous = max(steps.n_previous, expert.reach)

    def logits(self, place: int, previous: Array) -> Array:
        """See `Steps`."""
        logits = self._steps.logits(place, previous)
        if isinstance(logits, np.ndarray):
            return logits + self._weight * self._expert.after(previous)
        logs = torch.from_numpy(self._expert.after(previous.cpu().numpy()))
        return logits + float(self._weight) * logs.to(logits.device)

    def select(self, rows: Array) -> None:
        """See `Steps`."""
        self._steps.select(rows)


def steps_of(objective: JepalmObjective, embeddings: Tensor, layout: Layout, source: Tensor) -> Steps:
    """The light decoder of a model over predicted embeddings (B, T, D') and the source's last ones (B, D)."""
    decoder = objective.model.decoder
    steps: Steps
    if isinstance(decoder, RecurrentDecoder):
        steps = RecurrentSteps(decoder, embeddings, layout, source)
    else:
        assert isinstance(decoder, LocalDecoder), "a parallel decoder writes all tokens at once"
        steps = LocalSteps(decoder, embeddings, layout)
    if decoder.ngram_weight is None:
        return steps
    assert objective.expert is not None, "there are no counts for model.decoder.ngram"
    return ExpertSteps(steps, objective.expert, decoder.ngram_weight.item())


def read(decoder: LightDecoder, embeddings: Tensor, layout: Layout) -> Tensor:
    """What a decoder reads of padded embeddings (B, T, D'), (B, T, H)."""
    return layout.pad(decoder.read(layout.pack(embeddings), layout))


def transposed(linear: torch.nn.Linear) -> tuple[Array, Array]:
    """Weight (in, out) and bias (out,) of a linear layer."""
    return as_array(linear.weight).T, as_array(linear.bias)


def as_array(x: Tensor) -> Array:
    """A tensor in float32; on a CPU as a NumPy array of the same memory where it can be."""
    x = x.detach().float()
    return x.numpy() if x.device.type == "cpu" else x


def as_index(x: Tensor) -> Array:
    """A tensor of whole numbers; on a CPU as a NumPy array."""
    return x.contiguous().numpy() if x.device.type == "cpu" else x


def functions_of(device: torch.device) -> ModuleType:
    """Where the functions of arrays on a device are."""
    return np if device.type == "cpu" else torch
