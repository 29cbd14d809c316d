"""The causal model as fast as a CPU runs it: token by token in NumPy, to set a run's speed beside.

Eager torch spends most of a token of a small model on calls. What light decoders are compared with has to be
free of that cost, too. The prompt is read by torch in one pass, which products of many rows are best at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.left_to_right import choose
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.sampling import GREEDY, Sampling
from jepalm.generation.token_by_token import causal_row
from jepalm.generation.writer import TEXTS_AT_ONCE, GeneratedText, Prompt, joined
from jepalm.hardware import Hardware
from jepalm.model.causal import CausalLM
from jepalm.model.layout import rotary_angles

Array = NDArray[np.float32]


class NumpyCausalLM:
    """The weights of a `CausalLM` as matrices (in, out) of float32, scales folded in, with keys and values.

    Args:
        model: in evaluation mode, on a CPU.
    """

    def __init__(self, model: CausalLM) -> None:
        self.model, config = model, model.config
        self.n_heads, self.head_dim = config.n_heads, config.dim // config.n_heads
        self._tokens = _array(model.tokens.weight)  # (V, D)
        scale = np.ones(3 * config.dim, np.float32)
        scale[: config.dim] = self.head_dim**-0.5  # of the queries
        self._layers = []
        for block in model.blocks:
            weights = {name: _array(weight).T for name, weight in block.named_parameters()}
            read = weights["attention.query_key_value.weight"] * weights["attention_norm.weight"][:, None]
            inner = weights["ffn.gate_up.weight"] * weights["ffn_norm.weight"][:, None]
            layer = (read * scale, weights["attention.out.weight"], inner, weights["ffn.down.weight"])
            self._layers.append(tuple(np.ascontiguousarray(matrix) for matrix in layer))
        table = model.tokens if model.vocabulary is None else model.vocabulary
        self._vocabulary = np.ascontiguousarray(_array(table.weight).T * _array(model.norm.weight)[:, None])
        angles = rotary_angles(torch.arange(model.context_len)[None], self.head_dim)
        self._cos, self._sin = (_array(part)[0, 0, :, : self.head_dim // 2] for part in angles)  # (T, C / 2)

    @torch.no_grad()
    def read(self, texts: Sequence[Sequence[int]], room: int) -> Array:
        """Read B texts into keys and values for `room` positions; return the logits after each, (B, V)."""
        tokens = pad_rows(texts, torch.device("cpu"))
        cache = self.model.new_cache(len(texts), room)
        hidden = self.model.hidden(tokens.ids, cache)  # (B, T, D)
        # keys as (L, B, H, C, T): each step multiplies by all of them
        self._keys = _array(cache.keys).transpose(0, 1, 2, 4, 3).copy()
        self._values = _array(cache.values).copy()  # (L, B, H, T, C)
        self._lengths = tokens.lengths.numpy().copy()  # (B,)
        self._rows = np.arange(len(texts))
        self._hidden = np.full((len(texts), room), -np.inf, np.float32)  # 0 where a text has a key
        self._hidden[np.arange(room) < self._lengths[:, None]] = 0
        last = hidden[torch.arange(len(texts)), tokens.lengths - 1]  # (B, D)
        return _array(self.model.logits(last)).copy()

    def step(self, tokens: NDArray[np.int64]) -> Array:
        """Read one more token (B,) of each text; return the logits after it, (B, V)."""
        rows, places, half = self._rows, self._lengths, self.head_dim // 2
        self._hidden[rows, places] = 0
        filled = int(places.max()) + 1
        hidden = self._hidden[:, None, None, :filled]  # (B, 1, 1, T)
        cos, sin = self._cos[places][:, None, None], self._sin[places][:, None, None]  # (B, 1, 1, C / 2)
        x = self._tokens[tokens]  # (B, D)
        for layer, (read, out, inner, down) in enumerate(self._layers):
            heads = (_normalised(x) @ read).reshape(len(rows), 3, self.n_heads, self.head_dim)
            left, right = heads[:, :2, :, :half], heads[:, :2, :, half:]  # (B, 2, H, C / 2)
            turned = np.concatenate((left * cos - right * sin, right * cos + left * sin), -1)
            keys, values = self._keys[layer], self._values[layer]
            keys[rows, :, :, places] = turned[:, 1]
            values[rows, :, places] = heads[:, 2]
            scores = turned[:, 0, :, None] @ keys[..., :filled] + hidden  # (B, H, 1, T)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = scores @ values[:, :, :filled]  # (B, H, 1, C)
            x = x + mixed.reshape(x.shape) @ out
            gate, up = np.split(_normalised(x) @ inner, 2, -1)
            x = x + gate / (1 + np.exp(-gate)) * up @ down
        self._lengths = places + 1
        return _normalised(x) @ self._vocabulary


@dataclass(frozen=True)
class NumpyCausalWriter:
    """Writes as `CausalWriter` does; it reads less of a prompt that does not fit the context with its text.

    Attributes:
        name: of the run.
        model: the weights.
        hardware: in which precision torch reads the prompt.
        length: tokens of a text, the most where there is an end token.
        end: token that closes a text; None for a model of windows.
        sampling: how tokens are chosen.
        batch_size: texts that are written at once.
    """

    name: str
    model: NumpyCausalLM
    hardware: Hardware
    length: int
    end: int | None = None
    sampling: Sampling = GREEDY
    batch_size: int = TEXTS_AT_ONCE

    def write(
        self, prompts: Sequence[Prompt], *, seed: int = 0, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Write after each prompt, with the noise of its number; see `Writer`."""
        asked = [self.length] * len(prompts) if lengths is None else list(lengths)
        return joined(
            self._write(prompts[at : at + self.batch_size], asked[at : at + self.batch_size], seed, at)
            for at in range(0, len(prompts), self.batch_size)
        )

    def _write(self, prompts: Sequence[Prompt], lengths: list[int], seed: int, first: int) -> GeneratedText:
        """One batch."""
        model, longest = self.model.model, max(lengths)
        read = [list(p.source) if self.end is None else causal_row(p) for p in prompts]
        read = [row[-max(1, model.context_len - longest + 1) :] for row in read]
        noise = None
        if self.sampling.temperature:
            drawn = GumbelNoise(seed, model.vocab_size, first=first)
            noise = drawn.at(range(len(prompts)), [0] * len(prompts), longest).numpy()  # (B, T, V)
        with self.hardware.autocast():
            logits = self.model.read(read, min(model.context_len, max(map(len, read)) + longest))
        never = [token for token in range(len(SPECIALS)) if token != self.end]
        done = np.zeros(len(prompts), bool)
        chosen: list[Any] = []
        with np.errstate(over="ignore"):  # the exponential of a large number: its sigmoid is 0
            for place in range(longest):
                if place:
                    logits = self.model.step(chosen[-1])
                logits[:, never] = -np.inf
                chosen.append(choose(self.sampling, logits, None if noise is None else noise[:, place]))
                done |= chosen[-1] == self.end
                if done.all():
                    break
        rows = []
        for row, length in zip(np.stack(chosen, 1).tolist(), lengths, strict=True):
            row = row[:length]
            rows.append(row[: row.index(self.end)] if self.end in row else row)
        return GeneratedText(rows, [min(len(row) + 1, len(chosen)) for row in rows], len(chosen))


def _normalised(x: Array) -> Array:
    """RMSNorm without its weights, which are folded into the next matrix (arXiv 1910.07467, eq. 4)."""
    mean = np.einsum("bd,bd->b", x, x)[:, None] / np.float32(x.shape[1])
    return x / np.sqrt(mean + np.finfo(np.float32).eps)


def _array(x: torch.Tensor) -> Array:
    found: Array = x.detach().float().numpy()
    return found
