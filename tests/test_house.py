"""The dependency rule: arrows go down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jepalm

PACKAGE = Path(jepalm.__file__).parent
ROOMS = (
    "cli",
    "sweep",
    "session",
    "report",
    "evaluation",
    "generation",
    "training",
    "objective",
    "model",
    "data",
    "run",
    "hardware",
    "config",
    "errors",
    "numbers",
)
"""From the top of the house to its ground."""
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(parts):
    return parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "jepalm" and len(parts) > 1 and parts[1] in ROOMS:
            yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path.relative_to(PACKAGE).parts)
    if room in ("__init__", "__main__"):
        return
    below = ROOMS[ROOMS.index(room) :]
    upward = {target for target in arrows(path) if target not in below}
    assert not upward, f"{room} imports {upward}, which stand above it"


def test_every_file_stands_in_a_room():
    found = {room_of(path.relative_to(PACKAGE).parts) for path in FILES}
    assert found - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("path", sorted((PACKAGE / "report").rglob("*.py")), ids=lambda path: path.name)
def test_report_knows_no_torch(path):
    assert not [name for name in imports(path) if name.split(".")[0] in ("torch", "safetensors")]


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").rglob("*.py")), ids=lambda path: path.name)
def test_model_knows_no_optimizer_process_group_or_file(path):
    forbidden = ("torch.optim", "torch.distributed", "pathlib", "safetensors", "os", "io")
    assert not [name for name in imports(path) if name.startswith(forbidden)]


def test_only_the_command_line_and_the_progress_print():
    allowed = {"cli", "training", "session"}
    users = {
        room_of(path.relative_to(PACKAGE).parts)
        for path in FILES
        if any(name.startswith("rich.console") for name in imports(path))
    }
    assert users - allowed <= {"report"}  # the report returns what the command line prints


def test_help_loads_nothing_heavy():
    code = (
        "import sys, jepalm.cli\n"
        "sys.argv = ['jepalm', '--help']\n"
        "try: jepalm.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'pydantic', 'tokenizers', 'transformers'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("prepare shakespeare") < result.stdout.index("train --epochs 10")
