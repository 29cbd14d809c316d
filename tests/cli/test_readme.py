"""Every command that the README shows does what it says, on tiny settings."""

import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def commands():
    """Commands of the README's shell blocks, then those of its table of what it can do, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    table = README.split("## What it can do\n")[1].split("\n## ")[0]
    lines += re.findall(r"\| `(jepalm [^`]+)` \|", table)
    return [shlex.split(line, comments=True) for line in lines]


PLAY = "".join(f"ROMEO:\nTo be or not, {number} times.\n\n" for number in range(200))
PAIRS = "".join(f'{{"source": "add {n} to one", "target": "{n + 1}"}}\n' for n in range(30))


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "play.txt").write_text(PLAY)
    (folder / "my.txt").write_text(PLAY)
    (folder / "my.jsonl").write_text(PAIRS)
    settings = ["training.steps=4", *(text for text in tiny if not text.startswith("--"))]
    sweep = {"preset": "nano", "set": settings, "seeds": [0, 1], "evaluate": {"prompts": 2}}
    (folder / "sweep.yaml").write_text(json.dumps(sweep))
    return folder


def adapted(command, tiny):
    """The command as written, with a small text and tiny settings."""
    if command[:2] == ["prepare", "shakespeare"]:
        return [*command, "--from", "play.txt"]
    if command[0] == "sweep":
        return ["sweep", "sweep.yaml"]
    if command[:2] in (["prepare", "nl-rx"], ["prepare", "transitions"]):
        return [*command, "--pairs", "60"]
    if command[0] == "train":
        return [*command, *tiny, *(["--steps=8"] if "--resume" in command else [])]
    if command[0] == "bench":
        return [*command, "--seconds=0"]
    return command


def allowed_when_resuming(argument):
    return not argument.startswith(("model.", "--batch-size", "--steps=4", "training.steps_per_epoch"))


def test_every_jepalm_command_of_the_readme_works(work, jepalm_command, tiny):
    shown = [command[1:] for command in commands() if command[0] == "jepalm"]
    assert [command[0] for command in shown[:4]] == ["prepare", "train", "generate", "report"]
    for command in shown:
        arguments = adapted(command, tiny)
        if "--resume" in command:
            arguments = [argument for argument in arguments if allowed_when_resuming(argument)]
        code, out, err = jepalm_command(*arguments, cwd=work)
        assert code == 0, f"{command}: {err}"
        assert out, f"{command} printed nothing"


def test_every_make_target_of_the_readme_exists():
    targets = {target for command in commands() if command[0] == "make" for target in command[1:]}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE), target


def test_no_shell_block_holds_a_command_this_test_does_not_know():
    assert {command[0] for command in commands()} <= {"jepalm", "make", "git", "cd", "torchrun"}


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
