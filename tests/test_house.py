"""The dependency rule: arrows go down only, and nothing imports in a circle."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import jepalm
from jepalm.cli import COMMANDS, app

PACKAGE = Path(jepalm.__file__).parent
ROOMS = (
    "cli",
    "api",
    "sweep",
    "session",
    "report",
    "evaluation",
    "generation",
    "training",
    "objective",
    "model",
    "data",
    "shell",
    "run",
    "hardware",
    "config",
    "atomic",
    "reading",
    "encodings",
    "escaping",
    "errors",
    "numbers",
    "version",
)
"""From the top of the house to its ground."""
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(parts):
    return parts[0].removesuffix(".py")


def imported(path):
    """(module, name) of all that a file imports: at its top, inside functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def imports(path):
    for module, name in imported(path):
        yield module
        if name is not None:
            yield f"{module}.{name}"


def arrows(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "jepalm" and len(parts) > 1 and parts[1] in ROOMS:
            yield parts[1]


def module_graph(root):
    """Which modules of a package each of them imports; `from package import module` means the module."""
    files = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(root.rglob("*.py"))
    }
    graph = {}
    for module, path in files.items():
        found = ((whole, f"{whole}.{name}") for whole, name in imported(path))
        targets = {inner if inner in files else whole for whole, inner in found}
        graph[module] = (targets & set(files)) - {module}
    return graph


def circles(graph):
    """Each set of modules that import each other, directly or by way of others (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            cut = stack.index(module)
            found.append(sorted(stack[cut:]))
            del stack[cut:]

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return [circle for circle in found if len(circle) > 1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path.relative_to(PACKAGE).parts)
    if room in ("__init__", "__main__"):
        return
    below = ROOMS[ROOMS.index(room) :]
    upward = {target for target in arrows(path) if target not in below}
    assert not upward, f"{room} imports {upward}, which stand above it"


def test_no_modules_import_each_other_in_a_circle():
    assert circles(module_graph(PACKAGE)) == []


def test_a_circle_of_imports_is_found_wherever_they_stand(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from house import b\n")
    (package / "b.py").write_text("def late():\n    from house.c import name\n    return name\n")
    (package / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.a\nname = 1\n"
    )
    (package / "d.py").write_text("from house.a import b\n")
    assert circles(module_graph(package)) == [["house.a", "house.b", "house.c"]]


def test_every_file_stands_in_a_room():
    found = {room_of(path.relative_to(PACKAGE).parts) for path in FILES}
    assert found - {"__init__", "__main__"} == set(ROOMS)


def test_the_folder_picture_shows_every_folder_of_the_package_and_no_other():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.split("    jepalm/\n")[1].split("\n\n")[0]
    shown, path = set(), {}
    for line in picture.splitlines():
        depth, name = re.match(r"( +)(\S+)", line).groups()
        path = {d: n for d, n in path.items() if d < len(depth)} | {len(depth): name.rstrip("/")}
        if name.endswith("/"):
            shown.add("/".join(path.values()))
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert shown == {str(path.parent.relative_to(PACKAGE)) for path in files} - {"."}


@pytest.mark.parametrize("path", sorted((PACKAGE / "report").rglob("*.py")), ids=lambda path: path.name)
def test_report_knows_no_torch(path):
    assert not [name for name in imports(path) if name.split(".")[0] in ("torch", "safetensors")]


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").rglob("*.py")), ids=lambda path: path.name)
def test_model_knows_no_optimizer_process_group_or_file(path):
    forbidden = ("torch.optim", "torch.distributed", "pathlib", "safetensors", "os", "io")
    assert not [name for name in imports(path) if name.startswith(forbidden)]


def test_only_the_command_line_and_the_progress_print():
    allowed = {"cli", "api", "training", "session"}
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
        "heavy = {'torch', 'numpy', 'matplotlib', 'pydantic', 'tokenizers', 'transformers', 'rich'}\n"
        "heavy |= {'jepalm.config', 'jepalm.cli.generate', 'jepalm.cli.prepare'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("prepare shakespeare") < result.stdout.index("train --epochs 10")


def test_every_command_that_help_lists_is_in_the_file_of_its_name():
    group = get_command(app)
    assert all(group.get_command(None, name) is not None for name in COMMANDS)
    assert group.get_command(None, "console") is None
