"""Prepared data on disk: what `jepalm prepare` wrote, opened by memory map.

    data/NAME/meta.json                       what it is, where it came from, counts, sizes, hash
              tokenizer.json                  file of the `tokenizers` library
              SPLIT-00000.safetensors, ...    flat token ids and spans

A shard holds `tokens` (T,) and, except for windows and spans, `source` and `target` (P, 2) and maybe
`action` (P, 2): [start, end) spans into the shard's own tokens. In `lines` every line is stored
once and is the target of one pair and the source of the next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from jepalm.config import data_root
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError, UsageError, nearest
from jepalm.reading import parse_json, read_json
from jepalm.shell import quoted

FORMAT = 1
META = "meta.json"
TOKENIZER = "tokenizer.json"
SplitName = Literal["train", "validation", "test", "compositional", "longer"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
"""Those that all data have; simulated transitions have more."""
Role = Literal["source", "target", "action"]
Task = Literal["text", "regex", "transitions", "gsm8k", "spider", "nq-open", "g2p"]
Pairing = Literal["lines", "windows", "spans", "pairs"]
GivenText = Annotated[str, AfterValidator(lambda text: text.encode("utf-8", "replace").decode())]
"""Of the command line, where bytes that are no UTF-8 are halves of surrogate pairs; written as `?`."""

_MADE_BY = {
    "shakespeare": "jepalm prepare shakespeare",
    "shakespeare-windows": "jepalm prepare shakespeare --pairing windows --name shakespeare-windows",
    "nl-rx": "jepalm prepare nl-rx",
    "cmudict": "jepalm prepare cmudict",
    "home": "jepalm prepare transitions --world home",
    "grid": "jepalm prepare transitions --world grid",
    "shakespeare-spans": "jepalm prepare shakespeare --pairing spans --name shakespeare-spans",
    "wikitext-103": "jepalm prepare wikitext-103",
    "openwebtext": "jepalm prepare openwebtext",
}
"""Data that the presets name."""

_CHECKED_AT_ONCE = 1 << 22
_MOST_SHARDS = 100_000
_LARGEST_VOCABULARY = 1 << 31

TokenArray = NDArray[np.uint16] | NDArray[np.uint32]
_DTYPES = {"U16": np.uint16, "U32": np.uint32, "I64": np.int64}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Record):
    """Where the raw text came from."""

    source: str
    """In words, such as `canonical Tiny Shakespeare`."""
    where: list[GivenText]
    """URL, package or paths."""
    canonical: bool | None = None
    """Whether it is the published text, byte for byte; empty where there is no such text."""
    revision: str | None = None
    """Commit of a dataset on the hub."""
    own_splits: tuple[SplitName, ...] = ()
    """Splits that came as such; the others were taken from its train."""


class Drawn(_Record):
    """Pairs drawn from the grammar of regular expressions, not read."""

    pairs: int
    seed: int
    keep_degenerate: bool = False
    """Whether expressions of the empty language, or of every line, are kept, in the training split."""


class Simulated(_Record):
    """Transitions drawn from a simulator, not read: all that is needed to build it again."""

    world: Literal["home", "grid"]
    size: int
    objects: int
    """Most objects in a state of the training split; states of the split `longer` have one more."""
    noise: int
    """Facts of a state that change at random at each step."""
    distractors: int
    """Facts that no action changes."""
    pairs: int
    """In train, validation and test together."""
    seed: int


class Request(_Record):
    """What was asked for; the same request on the same raw text gives the same data."""

    pairing: Pairing
    """`lines`: each line predicts the next; `windows`: what follows, drawn anywhere; `spans`: what is
    hidden inside a text drawn anywhere; `pairs`: given."""
    tokenizer: str
    alphabet: Literal["fixed", "data"] = "fixed"
    split: tuple[float, float, float] = (90.0, 5.0, 5.0)
    """Percent of the text in train, validation and test; of a dataset, only for those it lacks."""
    task: Task = "text"
    """How an answer is scored: as text, as a regular expression by the lines it describes, as the state
    that follows a state and an action, as one of several pronunciations, or as a published task does."""
    drawn: Drawn | None = None
    simulated: Simulated | None = None
    normalize_newlines: bool = False
    """Whether CR LF, and CR alone, were read as a newline."""
    system: bool = False
    """Whether what the system says in a chat stands in front of its sources."""
    dedup: bool = False
    """Whether equal pairs were kept in one split."""
    split_by: Literal["order", "source"] = "order"
    """Of given pairs: contiguous blocks of rows, or the split that a row's first source is drawn into by its
    hash, so that all pairs of a source are in one split."""


class SplitCounts(_Record):
    """Counts of one split."""

    pairs: int
    """0 for windows and spans, which are drawn at training time."""
    tokens: int
    shards: int
    documents: int = 0
    """0 where the text is one."""


class Meta(_Record):
    """`meta.json`."""

    format: int = FORMAT
    corpus: str
    origin: Origin
    raw_bytes: int
    raw_sha256: str
    """Of the raw text; of a dataset's text, from 64 MiB on, piece by piece (`text.documents`)."""
    licence: GivenText
    request: Request
    tokenizer: str
    """`char`, `byte`, `bpe:SIZE`, `word:SIZE` or `whitespace:SIZE` with the size reached."""
    vocab_size: int
    splits: dict[SplitName, SplitCounts]
    characters: int
    lines: int
    distinct_characters: int
    longest_source: int
    """Tokens; 0 for windows and spans."""
    longest_target: int
    mean_target: float
    """Mean number of tokens of a training target."""
    std_target: float
    """Its standard deviation; predicting always the mean length has its square as the squared error."""
    unknown_tokens: int
    """`<unk>` tokens in all splits."""
    unknown_characters: list[str]
    """The most frequent characters outside the alphabet."""
    has_action: bool
    skipped_rows: int
    left_out: dict[GivenText, int] = {}
    """What was left out of good rows, in words, and how often."""
    carriage_returns: int = 0
    """In the text."""
    repeated: dict[SplitName, int] = {}
    """Given pairs of a held-out split that stand in train, too."""
    files: dict[str, int]
    """Bytes of every other file of the folder."""
    content_sha256: str
    """Over tokenizer and shards: two folders with the same value train the same."""

    @property
    def pairing(self) -> Pairing:
        """How pairs are made of the text."""
        return self.request.pairing

    @property
    def task(self) -> Task:
        """How an answer is scored."""
        return self.request.task


@dataclass(frozen=True)
class Shard:
    """One memory-mapped file."""

    tokens: TokenArray  # (T,)
    spans: dict[Role, NDArray[np.int64]]  # each (P, 2)


class Split:
    """One split: its shards as one stream of tokens and one list of pairs."""

    def __init__(
        self, name: SplitName, pairing: str, shards: list[Shard], has_action: bool, mask_id: int | None = None
    ) -> None:
        self.name = name
        self.mask_id = mask_id
        """Token of a hidden place; None but for spans."""
        self.pairing = pairing
        self.shards = shards
        self.has_action = has_action
        self.token_edges = np.cumsum([0, *(len(shard.tokens) for shard in shards)])  # (shards + 1,)
        self.pair_edges = np.cumsum([0, *(len(shard.spans.get("target", ())) for shard in shards)])

    @property
    def n_tokens(self) -> int:
        """Tokens of all shards."""
        return int(self.token_edges[-1])

    @property
    def n_pairs(self) -> int:
        """Stored pairs; 0 for windows and spans."""
        return int(self.pair_edges[-1])

    def spans(self, role: Role, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """[start, end) of each pair's text in the split's stream of tokens, (B,) to (B, 2)."""
        found = np.empty((len(pairs), 2), dtype=np.int64)
        shard_of = np.searchsorted(self.pair_edges, pairs, side="right") - 1
        for index in np.unique(shard_of):
            rows = shard_of == index
            local = self.shards[index].spans[role][pairs[rows] - self.pair_edges[index]]
            found[rows] = local + self.token_edges[index]
        return found

    def tokens(self, start: int, end: int) -> NDArray[np.int64]:
        """Tokens [start, end) of the stream; reads no others."""
        parts = []
        index = int(np.searchsorted(self.token_edges, start, side="right")) - 1
        while start < end:
            base, edge = int(self.token_edges[index]), int(self.token_edges[index + 1])
            parts.append(self.shards[index].tokens[start - base : min(end, edge) - base])
            start = min(end, edge)
            index += 1
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def ids(self, role: Role, index: int) -> list[int]:
        """Token ids of one text of a pair, whole."""
        return self.tokens(*self.spans(role, np.array([index], dtype=np.int64))[0]).tolist()

    def pair(self, index: int) -> tuple[list[int], list[int]]:
        """Token ids of one pair's source and target, whole."""
        return self.ids("source", index), self.ids("target", index)


class PreparedData:
    """An opened folder."""

    def __init__(self, path: Path, meta: Meta) -> None:
        self.path = path
        self.meta = meta

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer the shards were made with."""
        return TextTokenizer.load(self.path / TOKENIZER)

    def split(self, name: SplitName) -> Split:
        """Map one split's shards, and check that every id is in the vocabulary and every span in its shard.

        Raises:
            JepalmError: a shard is damaged.
        """
        count = self.meta.splits[name].shards
        paths = [self.path / shard_name(name, index) for index in range(count)]
        shards = [_checked(_map_shard(path), path, self.meta) for path in paths]
        mask_id = self.tokenizer.mask_id if self.meta.pairing == "spans" else None
        return Split(name, self.meta.pairing, shards, self.meta.has_action, mask_id)


def shard_name(split: SplitName, index: int) -> str:
    """File name of a split's shard."""
    return f"{split}-{index:05d}.safetensors"


def open_prepared(path_or_name: str | Path, root: Path) -> PreparedData:
    """Open prepared data by its name under `root`, or by its path.

    Raises:
        UsageError: missing, empty, of another kind or format, or changed since it was written.
    """
    path = _locate(path_or_name, root)
    again = "run jepalm prepare again with --force"
    if not path.is_dir():
        raise UsageError(f"{path} is a file, not prepared data", "name a folder that jepalm prepare made")
    if not (path / META).is_file():
        what = "has no meta.json" if any(path.iterdir()) else "is empty"
        raise UsageError(f"{path} is not prepared data: it {what}", "name a folder that jepalm prepare made")
    meta = _read_meta(path / META, again)
    for name, size in meta.files.items():
        file = path / name
        if not file.is_file():
            raise UsageError(f"{path} is incomplete: {name} is missing", again)
        if file.stat().st_size != size:
            raise UsageError(f"{file} was changed since it was prepared", again)
    return PreparedData(path, meta)


def _locate(path_or_name: str | Path, root: Path) -> Path:
    for candidate in (root / path_or_name, Path(path_or_name)):
        if candidate.exists():
            return candidate
    present = sorted(meta.parent.name for meta in root.glob(f"*/{META}")) if root.is_dir() else []
    if str(path_or_name) in _MADE_BY:
        elsewhere = "" if root == data_root() else f" --data-dir {quoted(root)}"
        hint = f"{_MADE_BY[str(path_or_name)]}{elsewhere} makes it"
    elif not (hint := nearest(str(path_or_name), present)):
        hint = "jepalm prepare makes some" + (f"; prepared there: {', '.join(present)}" if present else "")
    raise UsageError(f"no prepared data {path_or_name} under {root}", hint)


def _read_meta(path: Path, hint: str) -> Meta:
    try:
        tree: Any = read_json(path)
    except (OSError, ValueError):
        raise UsageError(f"{path} cannot be read", hint) from None
    if not isinstance(tree, dict) or "format" not in tree:
        raise UsageError(f"{path} is not a description of prepared data", hint)
    if tree["format"] != FORMAT:
        raise UsageError(f"{path.parent} has format {tree['format']}, this jepalm reads {FORMAT}", hint)
    try:
        meta = Meta.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UsageError(f"{path} is damaged at {where}", hint) from None
    inside = all(name == Path(name).name and not name.startswith(".") for name in meta.files)
    counts = all(0 <= count.shards <= _MOST_SHARDS for count in meta.splits.values())
    if not inside or not counts or not 0 < meta.vocab_size <= _LARGEST_VOCABULARY:
        raise UsageError(f"{path} is damaged: a count or a file's name is out of range", hint)
    if missing := [name for name in SPLITS if name not in meta.splits]:
        raise UsageError(f"{path} is damaged: it has no split {missing[0]}", hint)
    return meta


def _map_shard(path: Path) -> Shard:
    """Map each tensor of a safetensors file at its own offset, so that a slice reads only itself."""
    try:
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > 1 << 20:
                raise ValueError
            header = parse_json(file.read(header_bytes).decode("utf-8"))
        whole = np.memmap(path, dtype=np.uint8, mode="r")
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            if not 0 <= start <= end <= len(whole) - 8 - header_bytes:
                raise ValueError
            flat = np.asarray(whole)[8 + header_bytes + start : 8 + header_bytes + end]
            tensors[name] = flat.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tokens = tensors.pop("tokens")
        spans = list(tensors.values())
        right = tokens.ndim == 1 and tokens.dtype.kind == "u"
        right = right and all(one.shape[1:] == (2,) and one.dtype == np.int64 for one in spans)
        if not right or len({len(one) for one in spans}) > 1:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise JepalmError(f"{path} is damaged", "run jepalm prepare again with --force") from None
    return Shard(tokens, tensors)


def _checked(shard: Shard, path: Path, meta: Meta) -> Shard:
    """The shard, whose ids and spans are in range: what is computed with them is not checked again."""
    problem = ""
    if meta.pairing in ("lines", "pairs") and not {"source", "target"} <= shard.spans.keys():
        problem = "it has no pairs"
    for start in range(0, len(shard.tokens), _CHECKED_AT_ONCE):
        if int(shard.tokens[start : start + _CHECKED_AT_ONCE].max()) >= meta.vocab_size:
            problem = "a token id is outside the vocabulary"
    for spans in shard.spans.values():
        if len(spans) and not (
            int(spans.min()) >= 0
            and int(spans[:, 1].max()) <= len(shard.tokens)
            and bool((spans[:, 0] <= spans[:, 1]).all())
        ):
            problem = "a span is outside its tokens"
    if problem:
        raise JepalmError(f"{path} is damaged: {problem}", "run jepalm prepare again with --force")
    return shard
