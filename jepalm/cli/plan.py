"""`jepalm plan`: the actions that lead from a state to a goal, searched in what a model predicts."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jepalm.cli.options import CheckpointOption, DataDirOption, DeviceOption, JsonOption, RunOption
from jepalm.cli.torch_import import import_torch

if TYPE_CHECKING:
    from jepalm.data.worlds.base import AnyWorld
    from jepalm.generation.loading import TrainedModel
    from jepalm.generation.worlds.plan import ActionPlan


class SearchKind(enum.StrEnum):
    """How sequences of actions are searched."""

    auto = "auto"
    exhaustive = "exhaustive"
    cem = "cem"


class Feedback(enum.StrEnum):
    """What of a predicted state the next prediction reads."""

    latent = "latent"
    text = "text"


def plan(
    state: Annotated[
        str, typer.Option(metavar="TEXT", help="Where to start; - reads standard input.", show_default=False)
    ],
    goal: Annotated[str, typer.Option(metavar="TEXT", help="Where to arrive.", show_default=False)],
    run: RunOption = None,
    checkpoint: CheckpointOption = None,
    horizon: Annotated[int, typer.Option(min=1, max=64, help="Most actions of a plan.")] = 4,
    actions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What can be done, one action a line; else all that the data's world knows.",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        SearchKind, typer.Option(help="auto: exhaustive, then cem where the budget ends before.")
    ] = SearchKind.auto,
    rollout: Annotated[
        Feedback | None,
        typer.Option(
            help="What each further prediction reads.  [default: text of a model that learned to write what"
            " it predicts, else latent]",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[int, typer.Option(min=1, help="Most states that a search predicts.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of cem's draws.")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the plan in the true simulator of the data's world.")
    ] = False,
    device: DeviceOption = "auto",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Search the actions whose predicted end is nearest to the goal; shortest first.

    Example: jepalm plan --state "you hall, ..., bath shut dim" --goal "you bath, ..., bath open dim" --verify
    """
    import time

    import_torch()
    from jepalm.cli.console import print_json
    from jepalm.cli.texts import given_text
    from jepalm.config import from_mapping, runs_root
    from jepalm.encodings import plain
    from jepalm.generation.loading import load_folder
    from jepalm.generation.worlds.plan import make_plan, usual_feedback

    hardware = from_mapping({"hardware": {"device": device}}).hardware
    trained = load_folder(run or runs_root() / "latest", checkpoint, hardware)
    state, goal = given_text(state), plain(goal)
    world = _world(trained, data_dir) if verify or actions is None else None
    choices = _read_actions(actions) if actions is not None else _actions_of(world, state)
    feedback = rollout.value if rollout is not None else usual_feedback(trained)
    start = time.perf_counter()
    made = make_plan(
        trained,
        state,
        goal,
        choices,
        horizon=horizon,
        kind=search.value,
        feedback=feedback,
        budget=budget,
        seed=seed,
    )
    seconds = time.perf_counter() - start
    truth = _verified(world, state, goal, made) if verify and world is not None else None
    row: dict[str, Any] = {
        "state": state,
        "goal": goal,
        "actions": made.actions,
        "states": made.states,
        "distances": made.distances,
        "choices": len(choices),
        "horizon": horizon,
        "predicted": made.n_predicted,
        "complete": made.complete,
        "merged": made.merged,
        "rollout": feedback,
        "seconds": round(seconds, 6),
        "seed": seed,
        "run": trained.run.name,
        "step": trained.checkpoint.step,
        "verified": truth,
    }
    if as_json:
        print_json(row)
        return
    _show(row)


def _world(trained: TrainedModel, data_dir: Path | None) -> AnyWorld:
    """The simulator that the run's data were drawn from.

    Raises:
        UsageError: the data were not drawn from one, or are gone.
    """
    from jepalm.data.worlds import world_of
    from jepalm.errors import UsageError

    prepared = trained.data(data_dir)
    asked = prepared.meta.request.simulated
    if asked is None:
        message = f"{prepared.path} was not drawn from a world: nothing knows its actions or what they do"
        raise UsageError(message, "give --actions FILE, and leave --verify out")
    return world_of(asked)


def _actions_of(world: AnyWorld | None, state: str) -> list[str]:
    assert world is not None
    return world.actions(world.parse(state))


def _read_actions(file: Path) -> list[str]:
    """The lines of a file, each once.

    Raises:
        UsageError: it cannot be read as text, or has no line.
    """
    from jepalm.encodings import lines_of, read_text
    from jepalm.errors import UsageError

    lines = lines_of(read_text(file, "give a file with one action a line"))
    found = list(dict.fromkeys(line for line in lines if line.strip()))
    if not found:
        raise UsageError(f"{file} has no action", "write one a line")
    return found


def _verified(world: AnyWorld, state: str, goal: str, made: ActionPlan) -> dict[str, Any]:
    """What the plan really does: the true states, which actions are legal, whether the goal is reached.

    Random facts stay as they were, and do not count.
    """
    at, aim = world.parse(state), world.parse(goal)
    states, legal = [], []
    for action in made.actions:
        after = world.effect(at, action)
        legal.append(after is not None)
        at = at if after is None else after
        states.append(world.text(at))
    right = [
        world.masked(true) == world.masked(predicted)
        for true, predicted in zip(states, made.states, strict=True)
    ]
    return {
        "world": world.name,
        "reached": world.reached(at, aim),
        "states": states,
        "legal": legal,
        "predicted_right": right,
    }


def _show(row: dict[str, Any]) -> None:
    """Print a plan, each action with the state predicted after it."""
    from jepalm.cli.console import LABEL_WIDTH, errors
    from jepalm.cli.console import line as one_line
    from jepalm.numbers import counted, duration, three

    def line(label: str, text: str) -> None:  # a state may be a map of several lines
        one_line(label, text.replace("\n", "\n" + " " * LABEL_WIDTH))

    truth = row["verified"]
    line("state", row["state"])
    for number, (action, text) in enumerate(zip(row["actions"], row["states"], strict=True)):
        line(str(number + 1), action)
        line("", text)
        if truth and not truth["predicted_right"][number]:
            line("  truly", truth["states"][number])
    line("goal", row["goal"])
    first, last = (three(row["distances"][place]) for place in (0, -1))
    if row["actions"]:
        line("distance", f"{first} at the start, {last} after the plan (embeddings, mean over positions)")
    else:
        line("plan", f"none: no action leads nearer to the goal than the start, at distance {first}")
    if truth:
        what = "reached" if truth["reached"] else "not reached"
        illegal = truth["legal"].count(False)
        line("verified", f"goal {what} in the {truth['world']} world, {counted(illegal, 'illegal action')}")
    complete = "all" if row["complete"] else "not all"
    merged = ", states that read the same once" if row["merged"] else ""
    errors.print(
        f"{counted(row['predicted'], 'state')} predicted, {complete} sequences of"
        f" {counted(row['choices'], 'action')} up to {row['horizon']}{merged}"
        f" · {duration(row['seconds'])} · {row['run']} at step {row['step']:,}",
        style="dim",
        markup=False,
    )
