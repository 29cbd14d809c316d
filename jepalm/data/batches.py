"""Batches on the device: which pairs, in which order, and their tokens as tensors.

A batch is a pure function of (seed, step). There is no iterator to save and no worker process:
resuming at a step gives the same pairs, and so does any number of devices or micro batches.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from jepalm.config import SpansConfig
from jepalm.data.prepared import Role, Split
from jepalm.data.shuffling import shuffled
from jepalm.data.text.spans import draw_places, hide
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.numbers import counted

RESIDENT_BYTES = 2 << 30
"""Largest stream of tokens that is copied to the device."""
BUCKETS = (0.25, 0.5, 1.0)
"""Parts of the longest lengths to which static shapes are padded: a compiled graph for each."""
_BYTES_A_TOKEN = 4  # resident ids are int32
_HIDDEN = 1
"""Keeps the draws of hidden spans apart from those of the texts they are hidden in."""


@dataclass(frozen=True)
class Tokens:
    """Padded texts."""

    ids: Tensor  # (B, T) int64, pad id on the right
    lengths: Tensor  # (B,) int64
    places: Tensor | None = None  # (B, T) int64
    """Of views of one text: where in the text each token stands. None: a text of its own."""
    start: Tensor | None = None  # (B,) int64
    """Where in the split's stream of tokens each text begins, where that is asked for."""

    @property
    def mask(self) -> Tensor:
        """True where a position holds text, (B, T)."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    @property
    def in_stream(self) -> Tensor | None:
        """Where in the split's stream of tokens each position lies, (B, T)."""
        if self.start is None:
            return None
        places = (
            torch.arange(self.ids.shape[1], device=self.ids.device) if self.places is None else self.places
        )
        return self.start[:, None] + places

    def first(self, n: int) -> Tokens:
        """The first n texts."""
        return self._map(lambda x: x[:n])

    def to(self, device: torch.device | str) -> Tokens:
        """The same on a device."""
        return self._map(lambda x: x.to(device, non_blocking=True))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        places, start = (None if x is None else function(x) for x in (self.places, self.start))
        return Tokens(function(self.ids), function(self.lengths), places, start)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device; to a GPU from pinned memory, so that nothing waits for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def pad_rows(rows: Sequence[Sequence[int]], device: torch.device) -> Tokens:
    """Token lists of unequal length as padded texts."""
    lengths = torch.tensor([len(row) for row in rows])  # (B,)
    ids = torch.full((len(rows), int(lengths.max())), TextTokenizer.PAD)  # (B, T)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return Tokens(ids.to(device), lengths.to(device))


def with_end(texts: Tokens, whole: Tensor) -> Tokens:
    """Texts with the end token behind those that are whole (B,) bool; one position wider."""
    ids = F.pad(texts.ids, (0, 1), value=TextTokenizer.PAD)  # (B, T + 1)
    behind = torch.where(whole, TextTokenizer.END, TextTokenizer.PAD)[:, None]  # (B, 1)
    return Tokens(
        ids.scatter(1, texts.lengths[:, None], behind), texts.lengths + whole, texts.places, texts.start
    )


@dataclass(frozen=True)
class Batch:
    """A micro batch; its counts are those of the whole batch it is a part of.

    With static shapes the counts that differ from step to step are scalars on the device: a compiled graph
    would hold numbers as constants.
    """

    source: Tokens
    target: Tokens
    action: Tokens | None
    n_pairs: int
    """Pairs of the global batch: sums over micro batches divided by it are the global mean."""
    n_target_tokens: int
    """Target tokens of the global batch."""
    n_read_tokens: int = 0
    """Source and action tokens of the global batch."""
    whole: Tensor | None = None  # (B,) bool
    """Whether a target ends where its text ends; false where it was cut, None for windows and spans."""
    n_whole: int = 0
    """Whole targets of the global batch."""
    n_target_latents: int = 0
    """Latents of the global batch's targets, of `tokens_per_latent` tokens each."""
    n_with_three: int = 1
    """Pairs of the global batch that have three tokens or more, all parts and the ends between them; 1 at
    least, as sums are divided by it."""

    def first(self, n: int) -> Batch:
        """The first n pairs; counts stay those of the whole."""
        return replace(
            self,
            source=self.source.first(n),
            target=self.target.first(n),
            action=None if self.action is None else self.action.first(n),
            whole=None if self.whole is None else self.whole[:n],
        )


@dataclass(frozen=True)
class _Texts:
    """Where the texts of a batch lie in the split's stream of tokens.

    Attributes:
        spans: [start, end) by role, each (B, 2); of hidden spans the whole text alone, as the source.
        whole: (B,) bool, whether nothing was cut off the target's end; None for windows and spans.
        hidden: (B, K) places inside the source that are the target; None but for spans.
    """

    spans: dict[Role, NDArray[np.int64]]
    whole: NDArray[np.bool_] | None = None
    hidden: NDArray[np.int64] | None = None


class Batches:
    """Draws batches from one split.

    Sources longer than `source_len` and actions longer than `action_len` keep their last tokens, targets
    longer than `target_len` their first. Stored pairs are seen once a pass, in an order that (seed, pass)
    decides, and a batch may cross from one pass into the next. Windows are drawn anywhere; so are the
    texts of `source_len` tokens in which spans are hidden, and the spans are drawn anew at each visit.

    Args:
        split: where from.
        batch_size: pairs of an optimizer step, over all devices.
        source_len: most tokens of a source.
        target_len: most tokens of a target.
        action_len: most tokens of an action; `source_len` when empty.
        seed: of the order.
        device: where the tensors lie.
        rank: which of the processes this is.
        world_size: how many there are.
        micro_batch_size: most pairs of one Batch; this rank's whole share when empty.
        tokens_per_latent: target tokens that one latent holds; the latents are counted.
        end_targets: a target that is a whole text ends with the end token, beyond `target_len`; windows and
            hidden spans do not end.
        static_shapes: pad to the longest lengths times the first of `BUCKETS` that holds all texts of the
            batch, instead of to the longest text.
        spans: how much of a text is hidden, of data with that pairing.
        keep_starts: whether texts say where in the split they begin.
        resident: keep all tokens on the device; when empty, if they are under 2 GiB and under a
            quarter of its free memory. Changes speed only.

    Raises:
        UsageError: sizes do not divide, or the split is shorter than one window.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        source_len: int,
        target_len: int,
        seed: int,
        device: torch.device | str,
        rank: int = 0,
        world_size: int = 1,
        micro_batch_size: int | None = None,
        action_len: int | None = None,
        tokens_per_latent: int = 1,
        end_targets: bool = False,
        static_shapes: bool = False,
        spans: SpansConfig | None = None,
        keep_starts: bool = False,
        resident: bool | None = None,
    ) -> None:
        if batch_size % world_size:
            raise UsageError(
                f"batch size {batch_size} does not divide over {world_size} processes",
                f"set training.batch_size to a multiple of {world_size}",
            )
        self._share = batch_size // world_size
        self._micro = micro_batch_size or self._share
        if self._share % self._micro:
            share = counted(self._share, "pair")
            raise UsageError(
                f"micro batch size {self._micro} does not divide the {share} of a process",
                "set training.micro_batch_size to a divisor",
            )
        self.split = split
        self.batch_size = batch_size
        self.source_len = source_len
        self.target_len = target_len
        self.action_len = action_len or source_len
        self.tokens_per_latent = tokens_per_latent
        self.end_targets = end_targets
        self.device = torch.device(device)
        self._seed = seed
        self._rank = rank
        self._static_shapes, self._keep_starts = static_shapes, keep_starts
        self._hides = split.pairing == "spans"
        self._spans = spans or SpansConfig()
        self._drawn = self._hides or split.pairing == "windows"
        self._window = source_len if self._hides else source_len + target_len
        self._roles: tuple[Role, ...] = ("source", "target", *(("action",) if split.has_action else ()))
        self.n_pairs = split.n_tokens // self._window if self._drawn else split.n_pairs
        """Pairs of one pass; of windows and of texts with hidden spans as many as fit side by side."""
        if not self.n_pairs:
            parts = f"{source_len}" if self._hides else f"{source_len} + {target_len}"
            has = counted(split.n_tokens, "token")
            raise UsageError(
                f"the {split.name} split has {has}, fewer than one window of {parts}",
                "prepare more text, or set smaller model.source_len and model.target_len",
            )
        self.steps_per_pass = max(1, self.n_pairs // batch_size)
        self.resident = _fits(split.n_tokens, self.device) if resident is None else resident
        self._stream = self._load() if self.resident else None
        self._pair_spans: dict[Role, NDArray[np.int64]] | None = None
        if self.resident and not self._drawn:
            everything = np.arange(self.n_pairs)
            self._pair_spans = {role: split.spans(role, everything) for role in self._roles}
        self._columns = torch.arange(max(source_len, target_len, self.action_len), device=self.device)

    def at(self, step: int) -> list[Batch]:
        """This process's micro batches of the batch of a step (from 0)."""
        texts = self._texts(self._picked(step), [self._seed, step, _HIDDEN])
        first = self._rank * self._share
        starts = range(first, first + self._share, self._micro)
        counts = self._constant(self._counts(texts, slice(None)))
        return [self._batch(texts, slice(at, at + self._micro), counts) for at in starts]

    def fixed(self, n_batches: int) -> list[Batch]:
        """Evenly spaced pairs, the same at every call, with every seed and in every process.

        At most `n_batches * batch_size` pairs, in batches of the micro batch size; the counts of
        each are its own.
        """
        total = min(n_batches * self.batch_size, self.n_pairs)
        pairs = np.arange(total, dtype=np.int64) * self.n_pairs // total
        texts = self._texts(pairs * self._window if self._drawn else pairs, [_HIDDEN])
        parts = [slice(at, at + self._micro) for at in range(0, total, self._micro)]
        return [self._batch(texts, part, self._constant(self._counts(texts, part))) for part in parts]

    @cached_property
    def truncated(self) -> int:
        """Pairs of which some text is cut to `source_len` or `target_len`."""
        return sum(
            int(
                np.any(
                    [_lengths(spans) > self._limit(role) for role, spans in shard.spans.items()], axis=0
                ).sum()
            )
            for shard in self.split.shards
            if shard.spans
        )

    def _limit(self, role: Role) -> int:
        return {"source": self.source_len, "target": self.target_len, "action": self.action_len}[role]

    def _picked(self, step: int) -> NDArray[np.int64]:
        """The stored pairs of a step; of texts that are drawn anywhere, their first tokens: (B,)."""
        if self._drawn:
            last = self.split.n_tokens - self._window
            return np.random.default_rng([self._seed, step]).integers(0, last + 1, self.batch_size)
        places = np.arange(self.batch_size, dtype=np.int64) + step * self.batch_size
        return shuffled(places, self.n_pairs, self._seed)

    def _texts(self, picked: NDArray[np.int64], hidden_seed: list[int]) -> _Texts:
        if self._hides:
            return self._with_hidden_spans(picked, hidden_seed)
        return self._windows(picked) if self._drawn else self._stored_pairs(picked)

    def _stored_pairs(self, pairs: NDArray[np.int64]) -> _Texts:
        """The texts of stored pairs, cut to the longest lengths."""
        if self._pair_spans is not None:
            spans = {role: known[pairs] for role, known in self._pair_spans.items()}
        else:
            spans = {role: self.split.spans(role, pairs) for role in self._roles}
        source, target = spans["source"], spans["target"]
        whole = _lengths(target) <= self.target_len
        target[:, 1] = np.minimum(target[:, 1], target[:, 0] + self.target_len)
        source[:, 0] = np.maximum(source[:, 0], source[:, 1] - self.source_len)
        if "action" in spans:
            action = spans["action"]
            action[:, 0] = np.maximum(action[:, 0], action[:, 1] - self.action_len)
        return _Texts(spans, whole)

    def _windows(self, starts: NDArray[np.int64]) -> _Texts:
        """Sources and the targets that go on from them."""
        middle = starts + self.source_len
        source = np.stack([starts, middle], axis=1)
        return _Texts({"source": source, "target": np.stack([middle, middle + self.target_len], axis=1)})

    def _with_hidden_spans(self, starts: NDArray[np.int64], seed: list[int]) -> _Texts:
        """Whole texts, and which places in them are hidden."""
        hidden = draw_places(np.random.default_rng(seed), len(starts), self._window, self._spans)
        return _Texts({"source": np.stack([starts, starts + self._window], axis=1)}, hidden=hidden)

    def _batch(self, texts: _Texts, rows: slice, counts: dict[str, Any]) -> Batch:
        """The micro batch of some rows, with the counts of the batch that it is a part of."""
        widths = self._widths(texts.spans, rows)
        tokens = {role: self._gather(spans[rows], widths[role]) for role, spans in texts.spans.items()}
        if texts.hidden is not None:
            tokens["source"], tokens["target"] = self._hide(tokens["source"], texts.hidden[rows])
        whole = None if texts.whole is None else send(torch.from_numpy(texts.whole[rows]), self.device)
        if self.end_targets and whole is not None:
            tokens["target"] = with_end(tokens["target"], whole)
        return Batch(tokens["source"], tokens["target"], tokens.get("action"), whole=whole, **counts)

    def _widths(self, spans: Mapping[Role, NDArray[np.int64]], rows: slice) -> dict[Role, int]:
        """How many columns the texts of each role take: of some rows, or with static shapes of all."""
        if not self._static_shapes:
            return {role: int(_lengths(found[rows]).max()) for role, found in spans.items()}
        longest = {role: int(_lengths(found).max()) for role, found in spans.items()}
        buckets = ({role: math.ceil(share * self._limit(role)) for role in spans} for share in BUCKETS)
        return next(widths for widths in buckets if all(longest[role] <= widths[role] for role in spans))

    def _constant(self, counts: dict[str, int]) -> dict[str, Any]:
        """With static shapes, the counts that differ from step to step as scalars on the device."""
        if not self._static_shapes:
            return counts
        names = [name for name in counts if name != "n_pairs"]
        values = send(torch.tensor([float(counts[name]) for name in names]), self.device)
        return {**counts, **dict(zip(names, values.unbind(), strict=True))}

    def _counts(self, texts: _Texts, rows: slice) -> dict[str, int]:
        """The counts of a `Batch`, over these rows."""
        lengths = {role: _lengths(spans[rows]) for role, spans in texts.spans.items()}
        counts = {
            "n_pairs": len(lengths["source"]),
            "n_read_tokens": sum(int(n.sum()) for role, n in lengths.items() if role != "target"),
        }
        if texts.hidden is not None:
            return {**counts, "n_target_tokens": texts.hidden[rows].size}
        if self.end_targets and texts.whole is not None:
            lengths["target"] = lengths["target"] + texts.whole[rows]
        ends = 0 if texts.whole is None else len(lengths) - 1
        return {
            **counts,
            "n_target_tokens": int(lengths["target"].sum()),
            "n_whole": 0 if texts.whole is None else int(texts.whole[rows].sum()),
            "n_target_latents": int((-(-lengths["target"] // self.tokens_per_latent)).sum()),
            "n_with_three": max(1, int((np.sum(list(lengths.values()), axis=0) + ends >= 3).sum())),
        }

    def _hide(self, text: Tokens, hidden: NDArray[np.int64]) -> tuple[Tokens, Tokens]:
        """The text with the mask token at hidden places (B, K), and the tokens there."""
        assert self.split.mask_id is not None
        places = send(torch.from_numpy(hidden), self.device)  # (B, K)
        source, target = hide(text.ids, places, self.split.mask_id)  # (B, T), (B, K)
        return (
            Tokens(source, text.lengths, self._columns[: self._window].expand_as(source), text.start),
            Tokens(target, torch.full_like(text.lengths, places.shape[1]), places, text.start),
        )

    def _gather(self, spans: NDArray[np.int64], width: int) -> Tokens:
        lengths = _lengths(spans)
        start = send(torch.from_numpy(spans[:, 0].copy()), self.device) if self._keep_starts else None
        if self._stream is not None:
            known = torch.from_numpy(np.stack([spans[:, 0], lengths]))
            starts, sizes = send(known, self.device)  # (B,), (B,)
            columns = self._columns[:width]
            padding = columns >= sizes[:, None]  # (B, T)
            places = (starts[:, None] + columns).masked_fill_(padding, 0)  # (B, T)
            ids = self._stream[places].long().masked_fill_(padding, TextTokenizer.PAD)  # (B, T)
            return Tokens(ids, sizes, start=start)
        table = np.full((len(spans), width), TextTokenizer.PAD, dtype=np.int64)
        for row, (start, end) in enumerate(spans.tolist()):
            table[row, : end - start] = self.split.tokens(start, end)
        ids, sizes = (send(torch.from_numpy(x), self.device) for x in (table, lengths))
        return Tokens(ids, sizes, start=start)

    def _load(self) -> Tensor:
        stream = torch.empty(self.split.n_tokens, dtype=torch.int32, device=self.device)
        for shard, start in zip(self.split.shards, self.split.token_edges.tolist(), strict=False):
            stream[start : start + len(shard.tokens)] = torch.from_numpy(shard.tokens.astype(np.int32))
        return stream


def _lengths(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    return spans[:, 1] - spans[:, 0]


def _fits(n_tokens: int, device: torch.device) -> bool:
    needed = n_tokens * _BYTES_A_TOKEN
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError):  # not told by every system
            free = RESIDENT_BYTES
    return needed < RESIDENT_BYTES and needed < free // 4
