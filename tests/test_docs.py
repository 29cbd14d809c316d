import runpy
from pathlib import Path

from jepalm.config import load_file, resolve

ROOT = Path(__file__).parents[1]


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


def test_the_changelog_has_an_unreleased_section():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
