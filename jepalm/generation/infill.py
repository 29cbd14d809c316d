"""Infilling: all hidden tokens of a text in one forward pass, from the visible text on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import GAP
from jepalm.errors import UsageError
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.loading import TrainedModel
from jepalm.generation.one_pass import write_at_once
from jepalm.generation.passage import Passage, PassageRequest
from jepalm.generation.prompts import check_alphabet, infilling
from jepalm.objective.jepalm import JepalmObjective


@dataclass(frozen=True)
class GappedText:
    """A text with gaps as the model reads it: one underscore, one hidden token.

    Attributes:
        text: as given.
        ids: (T,) token ids, the mask token in the gaps.
        places: (K,) positions of the hidden tokens.
    """

    text: str
    ids: list[int]
    places: list[int]


@dataclass(frozen=True)
class FilledText:
    """A text whose gaps a model filled.

    Attributes:
        parts: pieces of the text in their order, and whether each was a gap.
    """

    parts: list[tuple[str, bool]]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(part for part, _ in self.parts)

    @property
    def filled(self) -> list[str]:
        """What stands in each gap."""
        return [part for part, gap in self.parts if gap]


def read_gaps(trained: TrainedModel, text: str) -> GappedText:
    """Turn a text with underscores into token ids with masks.

    Each piece between two gaps is encoded alone. An underscore is one token, whatever the tokenizer: a
    character with `char`, a byte with `byte`, a piece of a word with `bpe`.

    Raises:
        UsageError: the model fills no gaps, the text has none or is nothing else, is longer than a source,
            or has characters outside the alphabet.
    """
    mask_id = trained.tokenizer.mask_id
    if trained.pairing != "spans" or mask_id is None:
        hint = (
            "infilling needs a run on data prepared with --pairing spans, such as --preset shakespeare-spans"
        )
        raise UsageError(f"{trained.run.name} was trained on {trained.pairing} and fills no gaps", hint)
    if GAP not in text:
        hint = f"mark hidden tokens with {GAP}: {infilling(trained, text)}"
        raise UsageError("the text has no gap to fill", hint)
    if not text.strip(GAP):
        raise UsageError("the text is nothing but a gap", "give some text around it")
    check_alphabet(trained, text.replace(GAP, ""))
    ids: list[int] = []
    for gap, piece in _pieces(text):
        ids.extend([mask_id] * len(piece) if gap else trained.tokenizer.encode(piece))
    longest = trained.config.model.source_len
    if len(ids) > longest:
        message = f"the text has {len(ids)} tokens, more than the {longest} that this model reads"
        raise UsageError(message, "give less text around the gaps")
    return GappedText(text, ids, [place for place, token in enumerate(ids) if token == mask_id])


def fill(
    trained: TrainedModel, gapped: GappedText, *, samples: int = 1, temperature: float = 0.0, seed: int = 0
) -> tuple[list[FilledText], Passage]:
    """Fill all gaps of a text in one pass, `samples` times; return the texts, and the passage of all gaps.

    Args:
        trained: a model of spans.
        gapped: the text.
        samples: texts to write.
        temperature: 0 takes the most likely token of each place; above, tokens are drawn.
        seed: of the draws.
    """
    objective, device = trained.jepalm, trained.hardware.device
    source, target = gapped_views([gapped.ids] * samples, [gapped.places] * samples, device)
    generator = torch.Generator(device).manual_seed(seed)
    with trained.hardware.autocast():
        passage = infill(
            objective,
            source,
            target,
            excluded=trained.tokenizer.special_ids,
            temperature=temperature,
            generator=generator,
        )
    return [_filled(trained, gapped, row) for row in passage.rows()], passage


@torch.no_grad()
def infill(
    objective: JepalmObjective,
    source: Tokens,
    target: Tokens,
    *,
    excluded: Sequence[int],
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Passage:
    """Write the tokens at the target's places in one pass.

    Args:
        objective: the trained objective, of a model of spans.
        source: texts with masks, on the objective's device.
        target: places to fill; its token ids are not read.
        excluded: tokens that are no text.
        temperature: 0 takes the most likely token of each place; above, tokens are drawn.
        generator: draws the tokens; torch's own when None.
    """
    embeddings, layout = objective.encode_source(source)
    gaps = objective.layout(target)
    request = PassageRequest(embeddings, layout, gaps, excluded, temperature, generator, source=source)
    if objective.model.config.decoder.autoregressive:
        return LeftToRight(ends=False)(objective, request)
    return write_at_once(objective, request)


def gapped_views(
    texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tokens, Tokens]:
    """Masked texts, and the positions to fill in them, as padded views; the tokens of the latter are 0."""
    read, hidden = pad_rows(texts, device), pad_rows(places, device)
    columns = torch.arange(read.ids.shape[1], device=device).expand_as(read.ids)  # (B, T)
    return (
        Tokens(read.ids, read.lengths, columns),
        Tokens(torch.zeros_like(hidden.ids), hidden.lengths, hidden.ids),
    )


def _filled(trained: TrainedModel, gapped: GappedText, row: list[int]) -> FilledText:
    """Put the tokens of a row into the gaps; all else stays as it was given."""
    tokens, parts = iter(row), []
    for gap, piece in _pieces(gapped.text):
        written = trained.tokenizer.decode(itertools.islice(tokens, len(piece))) if gap else piece
        parts.append((written, gap))
    return FilledText(parts)


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Runs of underscores, which are gaps, and what stands between them."""
    for gap, run in itertools.groupby(text, lambda character: character == GAP):
        yield gap, "".join(run)
