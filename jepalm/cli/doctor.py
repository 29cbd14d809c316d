"""`jepalm doctor`: what is well here, and with a run or data, whether every byte of it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jepalm.cli.options import DataDirOption, JsonOption, RunDirOption

if TYPE_CHECKING:
    from jepalm.run import RunFolder

LITTLE_ROOM = 2_000_000_000
"""Bytes free, below which a run may not fit."""
SIGNS = {"ok": "✔", "warning": "!", "failure": "✘"}


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked at.

    Attributes:
        what: it was.
        level: how it is; a failure makes the exit code 1.
        text: what was found.
        remedy: what to do about it; empty where it is well.
    """

    what: str
    level: Literal["ok", "warning", "failure"]
    text: str
    remedy: str = ""


def doctor(
    run: Annotated[
        Path | None,
        typer.Argument(help="Check this run in full: its files, checkpoints and data.", show_default=False),
    ] = None,
    data_dir: DataDirOption = None,
    run_dir: RunDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, the prepared data and, if named, a run.

    Example: jepalm doctor runs/latest
    """
    from jepalm.cli.console import print_json, show_rows
    from jepalm.config import data_root, runs_root
    from jepalm.run import open_run

    opened = open_run(run) if run is not None else None
    findings = [*_machine(), *_folders(data_root(data_dir), runs_root(run_dir)), *_data(data_root(data_dir))]
    if opened is not None:
        findings += _run(opened, data_root(data_dir))
    failed = any(found.level == "failure" for found in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(found) for found in findings]})
    else:
        show_rows([_cells(found) for found in findings])
    if failed:
        raise typer.Exit(1)


def _cells(found: CheckResult) -> tuple[str, str]:
    """The thing with its sign, and how it is."""
    return f"{SIGNS[found.level]} {found.what}", found.text + (f" ({found.remedy})" if found.remedy else "")


def _machine() -> Iterator[CheckResult]:
    import locale
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, version

    import jepalm
    from jepalm.config import HardwareConfig
    from jepalm.hardware import choose_hardware
    from jepalm.numbers import counted

    yield CheckResult("jepalm", "ok", f"{jepalm.__version__}, Python {platform.python_version()}")
    for package in ("torch", "tokenizers", "safetensors", "pydantic", "numpy"):
        try:
            yield CheckResult(package, "ok", version(package))
        except PackageNotFoundError:
            yield CheckResult(package, "failure", "not installed", f"pip install {package}")
    hardware = choose_hardware(HardwareConfig())
    where = (
        f"{hardware.name}, {counted(hardware.threads, 'thread')}"
        if hardware.device.type == "cpu"
        else hardware.name
    )
    yield CheckResult("device", "ok", f"{hardware.device}: {where}")
    why = {
        ("bf16", "cpu"): "this CPU has AMX or AVX512-bf16",
        ("fp32", "cpu"): "this CPU has neither AMX nor AVX512-bf16, where bf16 is emulated and slower",
    }
    reason = why.get((hardware.precision, hardware.device.type), "the device computes bf16 natively or not")
    yield CheckResult("precision", "ok", f"{hardware.precision}: {reason}")
    encoding = (sys.stdout.encoding or "").lower()
    utf8 = encoding.replace("-", "") == "utf8"
    found = f"{locale.setlocale(locale.LC_CTYPE, None)}, standard output {encoding or 'unknown'}"
    yield CheckResult("locale", "ok" if utf8 else "warning", found, "" if utf8 else "set PYTHONUTF8=1")


def _folders(data: Path, runs: Path) -> Iterator[CheckResult]:
    import os
    import shutil

    from jepalm.run import nearest_existing

    for what, folder in (("data", data), ("runs", runs)):
        there = nearest_existing(folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield CheckResult(
                what,
                "failure",
                f"{folder} cannot be written",
                f"--{what.removesuffix('s')}-dir gives another",
            )
            continue
        free = shutil.disk_usage(there).free
        little = free < LITTLE_ROOM
        yield CheckResult(
            what,
            "warning" if little else "ok",
            f"{folder}, {free / 1e9:.1f} GB free",
            "make room, or move it" if little else "",
        )


def _data(root: Path) -> Iterator[CheckResult]:
    from jepalm.data.prepared import META

    for meta in sorted(root.glob(f"*/{META}")) if root.is_dir() else ():
        yield _prepared(meta.parent, root)


def _prepared(path: Path, root: Path) -> CheckResult:
    """Whether every byte of prepared data is what was written."""
    from jepalm.data.prepared import open_prepared
    from jepalm.data.writing import FolderWriter
    from jepalm.errors import JepalmError
    from jepalm.numbers import counted

    again = "run jepalm prepare again with --force"
    try:
        data = open_prepared(path, root)
        assert data.tokenizer is not None
        for split in data.meta.splits:
            data.split(split)
        writer = FolderWriter(data.path)
        writer.take_over(data.meta.files)
    except JepalmError as error:
        return CheckResult("data", "failure", error.message, error.hint or again)
    except OSError as error:
        return CheckResult("data", "failure", f"{path} cannot be read: {error.strerror}", again)
    if writer.content_sha256 != data.meta.content_sha256:
        return CheckResult("data", "failure", f"{path} does not match its fingerprint", again)
    return CheckResult(
        "data", "ok", f"{path}: {data.meta.corpus}, {counted(len(data.meta.files), 'file')} whole"
    )


def _run(run: RunFolder, root: Path) -> Iterator[CheckResult]:
    from jepalm.config import read_config
    from jepalm.data.ngram_expert import NGRAM, read_expert
    from jepalm.data.prepared import TOKENIZER, open_prepared
    from jepalm.data.tokenizer import TextTokenizer
    from jepalm.errors import JepalmError
    from jepalm.report.read import read_run
    from jepalm.run import data_of
    from jepalm.shell import resuming
    from jepalm.training.checkpoint import problem

    try:
        resume = resuming(run)
        manifest = run.read_manifest()
        config = read_config(run.config)
        tokenizer = TextTokenizer.load(run.path / TOKENIZER)
    except JepalmError as error:
        yield CheckResult("run", "failure", error.message, error.hint)
        return
    known = data_of(manifest).get("content_sha256")
    status = str(manifest.get("status"))
    level: Literal["ok", "warning"] = "ok" if status == "finished" else "warning"
    yield CheckResult("run", level, f"{run.name}: {status}", "" if level == "ok" else f"{resume} goes on")
    degraded = manifest.get("degraded")
    for fault in degraded if isinstance(degraded, list) else ():
        yield CheckResult("run", "warning", f"degraded: {fault}", "free disk space")
    for trouble in read_run(run.path).problems:
        yield CheckResult("files", "warning", trouble, "the rest is read")
    folders = run.step_folders()
    for _, folder in folders:
        damage = problem(folder)
        remedy = f"{resume} sets it aside" if damage else ""
        yield CheckResult(
            "checkpoint", "failure" if damage else "ok", f"{folder.name}: {damage or 'whole'}", remedy
        )
    if not folders:
        yield CheckResult("checkpoint", "warning", "none yet", "let jepalm train reach its first one")
    for folder in sorted(run.checkpoints.glob("*.corrupt")):
        yield CheckResult(
            "checkpoint", "warning", f"{folder.name} was set aside", "delete it when it is no use"
        )
    if order := config.model.decoder.ngram:
        try:
            read_expert(run.path, tokenizer, order, known, "copy it from where the run was trained")
            yield CheckResult("counts", "ok", f"{NGRAM}: whole")
        except JepalmError as error:
            yield CheckResult("counts", "failure", error.message, error.hint)
    try:
        prepared = open_prepared(config.data.name, root)
    except JepalmError as error:
        yield CheckResult("data", "warning", error.message, error.hint)
        return
    if known != prepared.meta.content_sha256:
        text = f"{prepared.path} was changed since this run was trained"
        yield CheckResult("data", "warning", text, "prepare the same text again")
    elif prepared.path.parent != root:  # else it is among those that are checked anyway
        yield _prepared(prepared.path, root)
