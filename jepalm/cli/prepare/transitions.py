"""`jepalm prepare transitions`: a simulated world, or logs of one, as (state, action) to next state."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepalm.cli.console import LABEL_WIDTH
from jepalm.cli.prepare.options import (
    Alphabet,
    AlphabetOption,
    DataDirOption,
    ForceOption,
    NameOption,
    PrepareRequest,
    SplitOption,
    asked_for,
    named_after,
    request_of,
)
from jepalm.cli.prepare.output import labelled, progress_shown, show

if TYPE_CHECKING:
    from jepalm.data.prepared import Simulated
    from jepalm.data.worlds.drawing import DrawnTransitions

DEFAULT_PAIRS = 100_000
WORDS = "word:4096"
"""Facts are words, which keep their places; on a map each character is one."""


class WorldName(enum.StrEnum):
    """The worlds there are."""

    home = "home"
    grid = "grid"


def transitions(
    world: Annotated[
        WorldName | None,
        typer.Option(
            help="home: rooms, doors, lights, things. grid: a map with boxes and keys.  [default: home]"
        ),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE.jsonl", help='Your own logs: rows {"state", "action", "next_state"}.'
        ),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=3, metavar="N", help=f"Pairs to draw.  [default: {DEFAULT_PAIRS:,}]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", help="Rooms, or cells a side.  [default: 3, 5]")
    ] = None,
    objects: Annotated[
        int | None, typer.Option(metavar="N", help="Most things, or boxes and keys.  [default: 2, 3]")
    ] = None,
    noise: Annotated[
        int | None, typer.Option(metavar="N", help="Facts that change at random.  [default: 1]")
    ] = None,
    distractors: Annotated[
        int | None, typer.Option(metavar="N", help="Facts that no action changes.  [default: 1]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draw.  [default: 0]")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With --from, leave broken rows out and count them.")
    ] = False,
    name: NameOption = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="char|byte|bpe:SIZE|word:SIZE|MODEL",
            help=f"How text becomes tokens.  [default: {WORDS}; grid: char]",
        ),
    ] = None,
    alphabet: AlphabetOption = Alphabet.fixed,
    split: SplitOption = "90/5/5",
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With --from, the licence of the logs, written down.")
    ] = None,
    data_dir: DataDirOption = None,
    force: ForceOption = False,
) -> None:
    """States, actions and next states of a simulated world, or your own; the folder is named after the world.

    Example: jepalm prepare transitions --world grid --pairs 200000
    """
    by_character = world == WorldName.grid or alphabet == Alphabet.data
    words_or_characters = tokenizer or ("char" if by_character else WORDS)
    simulation = {
        "world": world,
        "pairs": pairs,
        "size": size,
        "objects": objects,
        "noise": noise,
        "distractors": distractors,
        "seed": seed,
    }
    if given is not None:
        _check_alone(simulation, "a simulated world, --from reads your own")
        request = request_of("pairs", words_or_characters, alphabet, split, "transitions")
        asked = asked_for(name or named_after(given), request, data_dir, force)
        _read(asked, given, licence or "not stated", skip_bad)
        return
    _check_alone({"skip-bad": skip_bad or None, "licence": licence}, "your own logs, with --from")
    simulated = _simulated(simulation)
    request = request_of("pairs", words_or_characters, alphabet, split, "transitions", simulated=simulated)
    _draw(asked_for(name or simulated.world, request, data_dir, force), simulated)


def _read(asked: PrepareRequest, file: Path, licence: str, skip_bad: bool) -> None:
    from jepalm.data.pairs.preparing import prepare_pairs
    from jepalm.data.pairs.reading import TRANSITION_FORM, PairFiles, transition_of
    from jepalm.data.prepared import Origin

    origin = Origin(source="given transitions", where=[str(file)])
    with progress_shown() as watch:
        job = asked.job("transitions", origin, licence, watch)
        source = PairFiles(file, skip_bad, pairs_of=transition_of, forms=TRANSITION_FORM)
        outcome = prepare_pairs(job, source)
    show(outcome)


def _draw(asked: PrepareRequest, simulated: Simulated) -> None:
    from contextlib import closing

    from jepalm.data.job import counter
    from jepalm.data.pairs.preparing import prepare_pairs
    from jepalm.data.prepared import Origin
    from jepalm.data.worlds.drawing import draw_transitions, pairs_by_split

    if asked.present():
        return
    split = asked.request.split
    origin = Origin(source=f"the {simulated.world} world, simulated", where=[f"seed {simulated.seed}"])
    n_pairs = sum(pairs_by_split(simulated.pairs, split).values())
    with progress_shown(by_bytes=False) as watch:
        drawn = draw_transitions(simulated, split, asked.root, counter(watch, "drawing", n_pairs))
    with closing(drawn):
        with progress_shown() as watch:
            outcome = prepare_pairs(asked.job("transitions", origin, "none needed: simulated", watch), drawn)
        _show_drawn(drawn, simulated)
    show(outcome)


def _show_drawn(drawn: DrawnTransitions, asked: Simulated) -> None:
    """What the actions do, and one of them."""
    from jepalm.data.worlds import world_of

    _, [first] = next(iter(drawn.read()))
    world = world_of(asked)
    facts = world.facts(world.parse(first.source)).values()
    n_random = sum(fact.kind == "random" for fact in facts)
    labelled(
        "drawn",
        f"{100 * drawn.illegal / asked.pairs:.3g} % of the actions are illegal, "
        f"{100 * drawn.unchanged / asked.pairs:.3g} % change nothing but random facts "
        f"({n_random} of {len(facts)} in the first state)",
    )
    for label, text in (("state", first.source), ("action", first.action or ""), ("becomes", first.target)):
        labelled(label, text.replace("\n", "\n" + " " * LABEL_WIDTH))


def _simulated(given: Mapping[str, object]) -> Simulated:
    """What was asked for, with the world's own sizes for what was not."""
    from jepalm.data.prepared import Simulated
    from jepalm.data.worlds import WORLDS, world_of

    world = str(given["world"] or "home")
    defaults = {
        "world": world,
        "pairs": DEFAULT_PAIRS,
        "size": WORLDS[world].default_size,
        "objects": WORLDS[world].default_objects,
        "noise": 1,
        "distractors": 1,
        "seed": 0,
    }
    chosen = {key: str(value) for key, value in given.items() if value is not None}
    asked = Simulated.model_validate(defaults | chosen)
    world_of(asked)  # refuses sizes that the world does not have
    return asked


def _check_alone(options: Mapping[str, object], others: str) -> None:
    """Refuse options that were given, but belong to the other way to make transitions."""
    from jepalm.errors import UsageError

    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"--{given[0]} is for {others}", "leave one out")
