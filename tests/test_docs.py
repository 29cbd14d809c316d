"""What the Markdown files name is there: paths, links, settings, presets and names of the package."""

import pkgutil
import re
import runpy
from pathlib import Path
from typing import get_args

import pytest

from jepalm.config import Config, Section, load_file, preset_names, resolve

ROOT = Path(__file__).parents[1]
FOLDERS = "jepalm|docs|examples|tests|benchmarks|data|.ci|.github"
EXTENSIONS = {"md", "py", "json", "jsonl", "yaml", "safetensors", "toml", "txt", "csv", "html", "svg", "png"}
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "data/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what was, too

every_current_page = pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))


def paths(text):
    """Paths from the repository's root that a page names; `*` stands for any name."""
    found = re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*", text)
    return {path.rstrip(".") for path in found}


def keys(text):
    """Settings that a page names: in code within a line, or before `=` in a block."""
    sections = "|".join(Config.model_fields)
    pattern = rf"(?<![\w./-])(?:{sections})(?:\.\w+)+"
    blocks = re.findall(rf"({pattern})=", text)
    inline = [key for code in re.findall(r"`([^`\n]+)`", text) for key in re.findall(pattern, code)]
    return {key for key in blocks + inline if key.rpartition(".")[2] not in EXTENSIONS}


def section_in(annotation):
    """The section that a field's type holds, by itself or in a list; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def missing(key):
    """The first part of a key that no section has, or None."""
    section = Config
    for part in key.split("."):
        if part == "N" or part.isdigit():
            continue  # an item of a list
        if section is None or part not in section.model_fields:
            return part
        section = section_in(section.model_fields[part].annotation)
    return None


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_current_page
def test_every_path_that_a_page_names_exists(page):
    named = paths(page.read_text(encoding="utf-8"))
    named = {path for path in named if not path.startswith("data/") or path == "data/README.md"}
    assert [path for path in sorted(named) if not any(ROOT.glob(path.rstrip("/")))] == []


@every_current_page
def test_every_setting_that_a_page_names_exists(page):
    named = keys(page.read_text(encoding="utf-8"))
    assert [key for key in sorted(named) if missing(key)] == []


@every_current_page
def test_every_preset_that_a_page_asks_for_exists(page):
    asked = set(re.findall(r"--preset ([a-z][\w-]*)", page.read_text(encoding="utf-8")))
    assert asked <= set(preset_names())


@every_current_page
def test_every_name_of_the_package_that_a_page_gives_exists(page):
    for name in set(re.findall(r"(?<![\w./-])jepalm(?:\.\w+)+", page.read_text(encoding="utf-8"))):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_a_page_is_read_for_paths_and_settings():
    text = (
        "`model.dim=8`, `data.md`, see docs/gone.md; `a.jepalm/x`\n    jepalm train objective.gone.weight=1 x"
    )
    assert paths(text) == {"docs/gone.md"}
    assert keys(text) == {"model.dim", "objective.gone.weight"}
    asked = ("model.dim", "model.dim.inner", "objective.gone.weight", "training.phases.0.lr")
    assert [missing(key) for key in asked] == [None, "inner", "gone", None]


def test_the_settings_page_is_what_the_fields_say():
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["reference"]()
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == made, "run `make docs`"


def test_the_table_of_metrics_is_the_registry():
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["with_metrics"](page)
    assert page == made, "run `make docs`"


def test_every_example_config_resolves():
    configs = sorted((ROOT / "examples" / "configs").glob("*.yaml"))
    assert configs
    for path in configs:
        assert resolve(file=path).data.name == load_file(path)["data"]["name"]


def test_the_examples_page_names_every_example():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    there = [path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = {str(path.relative_to(ROOT / "examples")) for path in there} - {"README.md"}
    assert set(re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE)) == names


def test_the_changelog_and_the_package_give_the_same_newest_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert versions == sorted(versions, key=lambda version: [int(part) for part in version.split(".")])[::-1]
    assert f'version = "{versions[0]}"' in project
    assert f"version: {versions[0]}" in citation
    assert pkgutil.resolve_name("jepalm:__version__") == versions[0]
