"""Text to token ids and back, exactly: characters, bytes, byte pairs, words or whitespace-separated symbols.

Every kind is one file of the `tokenizers` library with the same three special ids. Specials are
entries of the vocabulary only, never patterns searched for in text, so a text that happens to
contain `<end>` is encoded as the five characters it is.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from jepalm.errors import Stopped, UsageError
from jepalm.reading import parse_json, read_text

SPECIALS = ("<pad>", "<unk>", "<end>")
MASK = "<mask>"
"""Stands for a hidden token; the last entry of the vocabularies that have it, and of no others."""
GAP = "_"
"""How people see a hidden token."""
FIXED_ALPHABET = ("\t", "\n", *map(chr, range(0x20, 0x7F)))
"""Tab, newline and printable ASCII: 97 symbols."""

MIN_LEARNED, MAX_LEARNED = 256 + len(SPECIALS) + 1, 1_000_000
"""Entries of a vocabulary of byte pairs or words."""
_WORD = r" ?(?:\p{L}+|\p{N}+|[^\s\p{L}\p{N}])|\s"
"""Letters, digits or one other character, with the blank before them."""
_BLANK = " "
"""Stands before every symbol between blanks, and is added before the first one."""
_CODE_POINTS = 0x110000


class TextTokenizer:
    """A tokenizer whose `decode(encode(text))` gives the text back.

    Only characters outside a `char` alphabet are lost: each becomes one `<unk>`.
    """

    PAD = 0
    UNK = 1
    END = 2

    def __init__(self, library: Tokenizer, name: str) -> None:
        self._library = library
        self.name = name
        """`char`, `byte`, `bpe:SIZE`, `word:SIZE` or `whitespace:SIZE`."""

    @property
    def vocab_size(self) -> int:
        """Symbols and specials."""
        return int(self._library.get_vocab_size())

    @cached_property
    def mask_id(self) -> int | None:
        """The token of a hidden place, where the vocabulary has one."""
        found: int | None = self._library.token_to_id(MASK)
        return found

    @property
    def special_ids(self) -> list[int]:
        """Tokens that are no text."""
        return [*range(len(SPECIALS)), *([] if self.mask_id is None else [self.mask_id])]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; nothing is added or stripped."""
        return list(self._library.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; specials give nothing.

        Bytes that are no UTF-8, such as a model may produce, become U+FFFD.
        """
        kept = [token for token in map(int, ids) if token >= len(SPECIALS) and token != self.mask_id]
        return str(self._library.decode(kept, skip_special_tokens=False))

    def show(self, ids: Iterable[int]) -> str:
        """The text of token ids with `_` for each hidden one."""
        runs = itertools.groupby(map(int, ids), lambda token: token == self.mask_id)
        return "".join(GAP * len(list(run)) if hidden else self.decode(run) for hidden, run in runs)

    def encode_flat(self, text: str) -> NDArray[np.int32]:
        """Token ids of a long text as one array, the same as `encode` gives, (T,).

        Characters and bytes are looked up in one table, about fifty times faster than the library.
        """
        table = self._table
        if table is None:
            return np.concatenate([np.zeros(0, np.int32), *self._encode_arrays(_pieces(text))])
        ids: NDArray[np.int32] = table[self._units(text)]
        return ids

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Token ids of documents, each encoded alone and closed by the end token, as one array, (T,)."""
        pieces = [[text] if self._table is not None else _pieces(text) for text in texts]
        ids, lengths = self.encode_texts([piece for document in pieces for piece in document])
        n_pieces = np.cumsum([len(document) for document in pieces])
        return np.insert(ids, np.cumsum(lengths)[n_pieces - 1], self.END)

    def encode_lines(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        r"""Token ids of whole lines, each encoded alone, and the number of tokens of each line.

        Args:
            text: lines that each end in `\n`.
        """
        table = self._table
        if table is not None:
            units = self._units(text)
            ends = np.flatnonzero(units == ord("\n")) + 1
            return table[units], np.diff(ends, prepend=0).astype(np.int64)
        return self.encode_texts([f"{line}\n" for line in text.split("\n")[:-1]])

    def encode_texts(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids of texts, each encoded alone, as one array, and the number of tokens of each."""
        if self._table is not None:
            lengths = [len(text) if self.name == "char" else len(text.encode()) for text in texts]
            return self.encode_flat("".join(texts)), np.array(lengths, dtype=np.int64)
        arrays = self._encode_arrays(texts)
        lengths = [len(ids) for ids in arrays]
        return np.concatenate([np.zeros(0, np.int32), *arrays]), np.array(lengths, dtype=np.int64)

    def unknown_characters(self, text: str) -> list[str]:
        """Distinct characters of a text that would become `<unk>`, sorted."""
        if self.name != "char":
            return []
        return sorted(set(text) - self._symbols)

    def save(self, path: Path) -> None:
        """Write the library's own file, readable by any user of `tokenizers`."""
        path.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The library's own file as text."""
        return str(self._library.to_str(pretty=True)) + "\n"

    @classmethod
    def load(cls, path: Path) -> TextTokenizer:
        """Read a file that `save` wrote.

        Raises:
            UsageError: missing, or no tokenizer of this package.
        """
        try:
            text = read_text(path)
            tree = parse_json(text)
            library = Tokenizer.from_str(text)
        except FileNotFoundError:
            raise UsageError(f"no tokenizer at {path}", "run jepalm prepare again") from None
        except BaseException as error:  # the library raises bare exceptions, and one of Rust on a panic
            if isinstance(error, KeyboardInterrupt | SystemExit | Stopped):
                raise
            raise UsageError(f"{path} is not a tokenizer file", "run jepalm prepare again") from None
        vocabulary = library.get_vocab()
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise UsageError(f"{path}: its ids are not 0 to its size", "run jepalm prepare again")
        if [vocabulary.get(special) for special in SPECIALS] != [cls.PAD, cls.UNK, cls.END]:
            raise UsageError(f"{path} lacks the specials {', '.join(SPECIALS)}", "run jepalm prepare again")
        if isinstance(library.decoder, decoders.Fuse):
            if any(len(symbol) != 1 for symbol in vocabulary.keys() - {*SPECIALS, MASK}):
                raise UsageError(f"{path}: its symbols are not characters", "run jepalm prepare again")
            return cls(library, "char")
        model, size = tree["model"], len(vocabulary) - (MASK in vocabulary)
        learned = "word" if model.get("ignore_merges") else "bpe" if model.get("merges") else ""
        if learned == "word" and tree.get("normalizer"):
            learned = "whitespace"
        if not learned and not {*_byte_symbols()} <= vocabulary.keys():
            raise UsageError(f"{path}: its symbols are not bytes", "run jepalm prepare again")
        return cls(library, f"{learned}:{size}" if learned else "byte")

    @cached_property
    def _symbols(self) -> set[str]:
        return set(self._library.get_vocab()) - {*SPECIALS, MASK}

    @cached_property
    def _table(self) -> NDArray[np.int32] | None:
        """Ids by code point or byte; none where tokens are longer than one symbol."""
        vocabulary: dict[str, int] = self._library.get_vocab()
        if self.name == "char":
            table = np.full(_CODE_POINTS, self.UNK, dtype=np.int32)
            for symbol in self._symbols:
                table[ord(symbol)] = vocabulary[symbol]
            return table
        if self.name == "byte":
            return np.array([vocabulary[symbol] for symbol in _byte_symbols()], dtype=np.int32)
        return None

    def _units(self, text: str) -> NDArray[Any]:
        if self.name == "char":
            return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)

    def _encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        encodings = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


def char_tokenizer(alphabet: Iterable[str] = FIXED_ALPHABET) -> TextTokenizer:
    """One token a character of the alphabet.

    A byte-pair model without merges and without its cache: of the library's models the fastest
    for single characters (twice as fast as word level behind a splitting pattern).
    """
    symbols = list(alphabet)
    if any(len(symbol) != 1 for symbol in symbols) or len(set(symbols)) != len(symbols):
        raise ValueError("an alphabet is distinct single characters")
    vocabulary = {symbol: index for index, symbol in enumerate([*SPECIALS, *symbols])}
    model = models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIALS[1], fuse_unk=False, cache_capacity=0)
    library = Tokenizer(model)
    library.decoder = decoders.Fuse()
    return TextTokenizer(library, "char")


def byte_tokenizer() -> TextTokenizer:
    """One token a byte of UTF-8: any text, 256 symbols, no `<unk>`."""
    vocabulary = {symbol: index for index, symbol in enumerate([*SPECIALS, *_byte_symbols()])}
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=[], cache_capacity=0))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    return TextTokenizer(library, "byte")


def bpe_tokenizer(size: int, sample: Iterable[str]) -> TextTokenizer:
    """Byte pairs merged until the vocabulary, specials included, has `size` entries.

    Args:
        size: entries wanted; a small sample may give fewer.
        sample: text to learn the merges from.
    """
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=_byte_symbols(), show_progress=False
    )
    library.train_from_iterator(sample, trainer=trainer)
    learned = json.loads(library.to_str())
    learned["added_tokens"] = []  # else the library would look for the specials inside texts
    # Built-in splitting keeps `<`, `end` and `>` apart, so that no merge spells a special.
    return TextTokenizer(Tokenizer.from_str(json.dumps(learned)), f"bpe:{library.get_vocab_size()}")


def word_tokenizer(size: int, sample: Iterable[str]) -> TextTokenizer:
    """The most frequent words, each one token, until the vocabulary, specials included, has `size` entries.

    A word is a run of letters, a run of digits or one other character, with the blank before it. What is no
    entry is written in bytes, so any text comes back. A word keeps its place when another one changes.

    Args:
        size: entries wanted; a sample of few words gives fewer.
        sample: text to count words in.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library = _whole_pieces(size, sample, splitter)
    library.decoder = decoders.ByteLevel()
    return TextTokenizer(library, f"word:{library.get_vocab_size()}")


def whitespace_tokenizer(size: int, sample: Iterable[str]) -> TextTokenizer:
    """The most frequent symbols between blanks, one token each wherever they stand; all else in bytes.

    For pairs of which one side is spelled and the other is a list, such as letters and phonemes. A blank is
    put before the first symbol and taken away again, so that it is the same token there as anywhere; texts
    that are cut elsewhere would gain one.

    Args:
        size: entries of the vocabulary wanted, specials and bytes included; few symbols give fewer.
        sample: text to count symbols in.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_BLANK, "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    first = normalizers.Prepend(_BLANK)
    library = _whole_pieces(size, (first.normalize_str(text) for text in sample), splitter)
    library.normalizer = first
    library.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(_BLANK, 1, 0)])
    return TextTokenizer(library, f"whitespace:{library.get_vocab_size()}")


def _whole_pieces(size: int, sample: Iterable[str], splitter: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """A library tokenizer of bytes and the most frequent pieces of a sample, up to `size` entries."""
    known = [*SPECIALS, *_byte_symbols()]
    counting = Tokenizer(models.WordLevel())
    counting.pre_tokenizer = splitter
    trainer = trainers.WordLevelTrainer(vocab_size=size + len(known), show_progress=False)
    counting.train_from_iterator(sample, trainer=trainer)
    by_frequency: dict[str, int] = counting.get_vocab()
    pieces = sorted(by_frequency.keys() - set(known), key=by_frequency.__getitem__)
    vocabulary = {entry: index for index, entry in enumerate([*known, *pieces[: size - len(known)]])}
    # A byte-pair model without merges that looks for the whole piece first.
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    library.pre_tokenizer = splitter
    return library


def with_mask(tokenizer: TextTokenizer) -> TextTokenizer:
    """The same tokenizer with a mask token as one more, last entry; all other ids stay as they are."""
    tree = json.loads(tokenizer.to_json())
    tree["model"]["vocab"][MASK] = tokenizer.vocab_size
    return TextTokenizer(Tokenizer.from_str(json.dumps(tree)), tokenizer.name)


def parse_tokenizer(spec: str) -> tuple[str, int]:
    """Read a tokenizer such as `char`, `bpe:SIZE`, or a Hugging Face model into (kind, size).

    A model is a path or a name on the hub, which has a slash; its kind is `backbone`. The size is 0 where
    there is none.

    Raises:
        UsageError: another word, or a size out of range.
    """
    if spec in ("char", "byte"):
        return spec, 0
    match = re.fullmatch(r"(bpe|word|whitespace):(\d{1,9})", spec)
    if not match and ("/" in spec or Path(spec).exists()):
        return "backbone", 0
    if not match:
        hint = "char, byte, bpe:SIZE such as bpe:4096, word:SIZE, whitespace:SIZE, or a Hugging Face model"
        raise UsageError(f"unknown tokenizer {spec}", hint)
    size = int(match[2])
    if not MIN_LEARNED <= size <= MAX_LEARNED:
        raise UsageError(
            f"tokenizer {spec}: size out of range", f"{MIN_LEARNED:,} to {MAX_LEARNED:,} entries"
        )
    return match[1], size


def _byte_symbols() -> list[str]:
    """The printable stand-in that the library's byte level gives each byte, in byte order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte if byte in shown else 256 + hidden.index(byte)) for byte in range(256)]


def _pieces(text: str, size: int = 1 << 14) -> list[str]:
    """Cut a long text to pieces of whole lines, about `size` characters each, and cut longer lines."""
    if len(text) <= 4 * size:
        return [text]
    groups: list[str] = []
    pending: list[str] = []
    length = 0
    for line in text.splitlines(keepends=True):
        pending.append(line)
        length += len(line)
        if length >= size:
            joined = "".join(pending)
            groups.extend(joined[at : at + 4 * size] for at in range(0, length, 4 * size))
            pending, length = [], 0
    return [*groups, "".join(pending)] if pending else groups
