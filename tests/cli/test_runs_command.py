"""`jepalm runs`: lists, proposes, and deletes only when told to."""

import json

import pytest


@pytest.fixture
def work(tmp_path):
    """A folder with a finished and a failed run."""
    for name, status in (("2026-11-01_0000-nano", "failed"), ("2026-11-02_0000-nano", "finished")):
        path = tmp_path / "runs" / name
        (path / "checkpoints" / "step-00000004").mkdir(parents=True)
        tree = {
            "status": status,
            "preset": "nano",
            "step": 4,
            "steps": 4,
            "created": "2026-11-01T00:00:00+00:00",
        }
        (path / "manifest.json").write_text(json.dumps(tree))
        (path / "config.yaml").write_text("preset: nano\n")
    (tmp_path / "runs" / "latest").symlink_to("2026-11-02_0000-nano")
    return tmp_path


def names(work):
    return sorted(path.name for path in (work / "runs").iterdir())


def test_the_list_has_a_row_a_run(work, jepalm_command):
    code, out, err = jepalm_command("runs", cwd=work)
    assert (code, err) == (0, "")
    header, first, second, prune = out.splitlines()
    assert header.split() == ["run", "preset", "status", "step", "best", "age", "size"]
    assert first.split()[:5] == ["2026-11-02_0000-nano", "(latest)", "nano", "finished", "4/4"]
    assert second.split()[:4] == ["2026-11-01_0000-nano", "nano", "failed", "4/4"]
    assert prune == "prune     jepalm runs --prune"


def test_each_value_has_a_line_where_the_terminal_is_narrow(work, jepalm_command):
    _, out, _ = jepalm_command("runs", cwd=work, COLUMNS="40")
    assert "2026-11-02_0000-nano (latest)\n  preset nano\n  status finished\n  step 4/4\n" in out
    assert max(map(len, out.splitlines())) <= 40


def test_json_says_what_may_go(work, jepalm_command):
    tree = json.loads(jepalm_command("runs", "--json", cwd=work)[1])
    assert [(run["status"], run["needless"]) for run in tree["runs"]] == [
        ("finished", ""),
        ("failed", "failed"),
    ]


def test_nothing_is_deleted_where_nobody_agrees(work, jepalm_command):
    before = names(work)
    code, out, _ = jepalm_command("runs", "--prune", cwd=work)
    assert code == 0
    assert "needless  2026-11-01_0000-nano: failed, " in out
    assert out.endswith("next      jepalm runs --prune --yes\n")
    assert json.loads(jepalm_command("runs", "--prune", "--json", cwd=work)[1])["deleted"] == []
    assert names(work) == before


def test_yes_deletes_what_was_proposed(work, jepalm_command):
    code, out, _ = jepalm_command("runs", "--prune", "--yes", cwd=work)
    assert code == 0
    assert out.splitlines()[-1].startswith("deleted   1 run, ")
    assert names(work) == ["2026-11-02_0000-nano", "latest"]
    assert "needless  none" in jepalm_command("runs", "--prune", "--yes", cwd=work)[1]


def test_a_folder_without_runs_says_so_and_yes_alone_is_refused(tmp_path, jepalm_command):
    assert jepalm_command("runs", cwd=tmp_path)[1] == "runs      none in runs: jepalm train makes one\n"
    assert jepalm_command("runs", "--yes", cwd=tmp_path)[0] == 2
