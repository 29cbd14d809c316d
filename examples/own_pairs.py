"""Pairs of your own: write them as JSON lines, prepare, train, ask.

Here the target is a function of the source (a date in another form), so one pass can be right.

    python examples/own_pairs.py
"""

import datetime
import json
import random
import subprocess
from pathlib import Path


def main() -> None:
    """Write 20,000 pairs and train on them."""
    draw = random.Random(0)
    first = datetime.date(1900, 1, 1)
    path = Path("dates.jsonl")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(20_000):
            day = first + datetime.timedelta(days=draw.randrange(60_000))
            row = {"source": f"{day:%d %B %Y}", "target": day.isoformat()}
            file.write(json.dumps(row) + "\n")
    commands = [
        ["jepalm", "prepare", "pairs", str(path), "--name", "dates"],
        ["jepalm", "train", "--preset", "nano", "--data", "dates", "objective.generation.weight=1"],
        ["jepalm", "generate", "22 November 2026"],
    ]
    for command in commands:
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
