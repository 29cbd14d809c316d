"""Pairs of your own: write them as JSON lines, prepare, train, ask.

Here the target is a function of the source (a date in another form), so one pass can be right.

    python examples/own_pairs.py [what jepalm train takes]
"""

import datetime
import json
import random
import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Write 20,000 pairs, train on them and ask for one."""
    draw = random.Random(0)
    first = datetime.date(1900, 1, 1)
    path = Path("dates.jsonl")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(20_000):
            day = first + datetime.timedelta(days=draw.randrange(60_000))
            row = {"source": f"{day:%d %B %Y}", "target": day.isoformat()}
            file.write(json.dumps(row) + "\n")
    train = ["train", "--preset", "nano", "--data", "dates", "objective.generation.weight=1", *arguments]
    for command in (
        ["prepare", "pairs", str(path), "--name", "dates"],
        train,
        ["generate", "22 November 2026"],
    ):
        subprocess.run([sys.executable, "-m", "jepalm", *command], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
