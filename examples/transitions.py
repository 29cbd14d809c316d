"""Transition logs of your own: write them as JSON lines, prepare, train, evaluate, and plan with the model.

The system here is a lift with a door: it moves only while the door is shut. Replace `write_log` by
your own log (one row a line: state, action, next_state), and `ACTIONS` by what can be done in it.

    python examples/transitions.py [what jepalm train takes]
"""

import json
import random
import subprocess
import sys
from pathlib import Path

from jepalm.config import runs_root
from jepalm.generation.loading import load_trained
from jepalm.generation.worlds.plan import make_plan
from jepalm.run import open_run

ACTIONS = ["go up", "go down", "open the door", "shut the door", "wait"]
TOP = 9


def step(floor: int, door: str, action: str) -> tuple[int, str]:
    """What the lift does."""
    if action.endswith("the door"):
        return floor, "open" if action.startswith("open") else "shut"
    moves = {"go up": 1, "go down": -1}.get(action, 0) if door == "shut" else 0
    return min(max(floor + moves, 0), TOP), door


def write_log(path: Path, rows: int = 5000) -> None:
    """Write what happens in a lift whose buttons are pressed at random."""
    draw = random.Random(0)
    floor, door = 0, "shut"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            action = draw.choice(ACTIONS)
            reached = step(floor, door, action)
            texts = [f"floor {number}, door {way}" for number, way in ((floor, door), reached)]
            file.write(json.dumps({"state": texts[0], "action": action, "next_state": texts[1]}) + "\n")
            floor, door = reached


def main(settings: list[str]) -> None:
    """Train on the log, and plan the way from one state to another."""
    log = Path("lift.jsonl")
    write_log(log)
    sizes = ["model.source_len=24", "model.target_len=24", "model.action_len=16"]
    for command in (
        ["prepare", "transitions", "--from", str(log), "--name", "lift"],
        ["train", "--preset", "transitions", "--data", "lift", "--steps", "300", *sizes, *settings],
        ["evaluate", "--split", "test"],
    ):
        subprocess.run([sys.executable, "-m", "jepalm", *command], check=True)

    trained = load_trained(open_run(runs_root() / "latest"))
    start, goal = "floor 2, door open", "floor 4, door open"
    plan = make_plan(trained, start, goal, ACTIONS, horizon=4)
    print(f"\n{start}  ->  {goal}")
    for action, predicted in zip(plan.actions, plan.states, strict=True):
        print(f"  {action:<15} {predicted}")
    print(f"distance to the goal: {plan.distances[0]:.3g} at the start, {plan.distances[-1]:.3g} at the end")


if __name__ == "__main__":
    main(sys.argv[1:])
