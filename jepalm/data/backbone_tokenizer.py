"""The tokenizer of a Hugging Face model as one of ours: the same tokens, our specials first.

A model has its own ids; ours are 0 for padding, 1 for unknown, 2 for the end, then all other tokens in
the model's order. The model's rows are put in this order when it is loaded, and back when it is exported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from logging import ERROR, getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

from tokenizers import Tokenizer

from jepalm.data.tokenizer import SPECIALS, TextTokenizer
from jepalm.errors import JepalmError, UsageError

GGUF = ".gguf"
WAYS = "give a folder, a .gguf file or a name on the hub"
PAD, UNK, END = SPECIALS
_NEEDED = ("transformers", "peft")


@dataclass(frozen=True)
class BackboneTokenizer:
    """A model's tokenizer in our order.

    Attributes:
        text: the tokenizer that data is prepared with. It adds no token to a text.
        order: the model's id of each of our ids; None where the model has no such token.
        pad_added: whether the model had no padding of its own, apart from its end, and got one.
        begin: our id of the token that the model wants in front of every text; None: it wants none.
        library: the tokenizer as `transformers` has it, with the padding.
    """

    text: TextTokenizer
    order: tuple[int | None, ...]
    pad_added: bool
    begin: int | None
    library: Any


def hugging_face() -> ModuleType:
    """The `transformers` package, silenced.

    Raises:
        UsageError: the extra is not installed.
    """
    if not all(map(find_spec, _NEEDED)):
        raise UsageError("a Hugging Face model needs transformers and peft", "pip install 'jepalm[hf]'")
    import transformers

    getLogger("huggingface_hub").setLevel(ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def where_is(name: str) -> dict[str, Any]:
    """What `from_pretrained` takes for a folder, a `.gguf` file or a name on the hub; code is never run.

    Raises:
        UsageError: there is no such file.
    """
    if not name.endswith(GGUF):
        return {"pretrained_model_name_or_path": name, "trust_remote_code": False}
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"no such file: {name}", WAYS)
    if find_spec("gguf") is None:
        raise UsageError(f"reading {name} needs gguf", "pip install gguf")
    folder = str(path.parent)
    return {"pretrained_model_name_or_path": folder, "gguf_file": path.name, "trust_remote_code": False}


@contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """Turn what the library says about a model that cannot be read into one line.

    Raises:
        UsageError: there is no such model, or it is of no kind that the library knows.
    """
    try:
        yield
    except JepalmError:
        raise
    except Exception as error:  # the library raises all kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"cannot load the {what} of {name}: {reason}", WAYS) from None


@lru_cache(maxsize=2)
def load_backbone_tokenizer(name: str) -> BackboneTokenizer:
    """Read a model's tokenizer.

    Args:
        name: folder, `.gguf` file or name on the hub.

    Raises:
        UsageError: it is not there, has no end token, or is not of byte pairs.
    """
    with loading(name, "tokenizer"):
        library = hugging_face().AutoTokenizer.from_pretrained(**where_is(name))
    backend: Any = getattr(library, "backend_tokenizer", None)
    kind = json.loads(backend.to_str())["model"]["type"] if backend is not None else "of a kind of its own"
    if kind != "BPE":
        raise UsageError(f"the tokenizer of {name} is {kind}", "only byte pairs are read")
    if library.eos_token_id is None:
        raise UsageError(f"the tokenizer of {name} has no end token", "give it an eos_token")
    before = backend.get_vocab(with_added_tokens=True)
    if library.pad_token_id in (None, library.eos_token_id, library.unk_token_id):
        library.add_special_tokens({"pad_token": PAD})
    tree = json.loads(library.backend_tokenizer.to_str())
    begin = _begin(library)
    known = library.backend_tokenizer.get_vocab(with_added_tokens=True)
    unknown = library.unk_token_id if library.unk_token_id is not None else known.get(UNK)
    if unknown in (library.eos_token_id, library.pad_token_id):
        unknown = None
    first = (library.pad_token_id, unknown, library.eos_token_id)
    order = (*first, *sorted(set(known.values()).difference(first)))
    ours = {token: place for place, token in enumerate(order) if token is not None}
    return BackboneTokenizer(
        _rebuilt(tree, known, ours, begin, name),
        order,
        library.pad_token_id not in before.values(),
        None if begin is None else ours[begin],
        library,
    )


def _begin(library: Any) -> int | None:
    """The token that the model's tokenizer puts in front of a text."""
    given, plain = (library("a", add_special_tokens=added).input_ids for added in (True, False))
    return int(given[0]) if given[:1] != plain[:1] else None


def _rebuilt(
    tree: dict[str, Any], known: Mapping[str, int], ours: Mapping[int, int], begin: int | None, name: str
) -> TextTokenizer:
    """The library's file with our ids and names, adding nothing to a text.

    The specials and the beginning are entries of the vocabulary only: written out in a text they stay text.
    """
    vocabulary = {token: ours[old] for token, old in known.items()}
    renamed = {token: SPECIALS[new] for token, new in vocabulary.items() if new < len(SPECIALS)}
    others = vocabulary.keys() - renamed.keys()
    for special in SPECIALS:
        if special in others:
            raise UsageError(f"the tokenizer of {name} has a token {special} of its own", "rename it there")
    hidden = {*renamed, *(token for token, old in known.items() if old == begin)}
    model = tree["model"]
    model["vocab"] = {renamed.get(token, token): new for token, new in vocabulary.items()}
    model["vocab"].setdefault(UNK, SPECIALS.index(UNK))
    if model.get("unk_token") is not None:
        model["unk_token"] = UNK
    tree["added_tokens"] = [
        {**entry, "id": vocabulary[entry["content"]]}
        for entry in tree["added_tokens"]
        if entry["content"] not in hidden
    ]
    tree["added_tokens"].sort(key=lambda entry: entry["id"])
    tree.update(post_processor=None, truncation=None, padding=None)
    rebuilt = Tokenizer.from_str(json.dumps(tree))
    return TextTokenizer(rebuilt, f"bpe:{rebuilt.get_vocab_size()}")
