"""Files and words that nobody meant: one line and an exit code, never a traceback, never a hang."""

import contextlib
import json
import random
import shutil
import time
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from torture import FULL, SEED, count, write_failure

from jepalm.config import apply_overrides, resolve
from jepalm.data.pairs.reading import BadRowError, read_object
from jepalm.data.prepared import open_prepared
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import JepalmError
from jepalm.evaluation.rows import Evaluation
from jepalm.reading import NotReadable, parse_json, parse_yaml
from jepalm.report.read import read_run
from jepalm.report.render.csv_files import run_csv
from jepalm.report.summary import analyse
from jepalm.sweep.file import read_sweep
from jepalm.training.checkpoint import TrainingState, find_checkpoint
from jepalm.training.distributed import Processes
from jepalm.training.metrics import RecentSteps

MOST_SECONDS = 5.0


def examples(short, full):
    """Settings of a test with so many examples, in the short form and in `make torture`."""
    return settings(
        max_examples=full if FULL else short,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )


def total(what, call, *allowed):
    """Call it: it must end in time, with a result or one of its own errors of one line."""
    start = time.monotonic()
    said = ""
    try:
        call()
    except JepalmError as error:
        said = error.message
    except allowed:
        pass
    assert "\n" not in said
    assert time.monotonic() - start < MOST_SECONDS
    count(what)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, -(2**64), 10**400, 10**30]),
    st.floats(allow_subnormal=False),  # which training turns off
    st.text(max_size=12),
    st.sampled_from(["2024-99-99", "\ud800", "\x1b[31m", "[/red]", "=1+1", "step-1", "1e999", "\u202e"]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
YAML_WORDS = [
    *"[]{}:,-&*!|>%@`#?'\"\n \t0aZ",
    *("&a ", "*a", "!!python/object:os.system ", "!!int x", "!!timestamp 1", "<<: ", "- ", "2024-13-45"),
    *("0x_", "1:61", "._", "~", "model:", "training:", "\ufeff", "\u2028", "---"),
]
YAML_BITS = st.lists(st.sampled_from(YAML_WORDS), max_size=40).map("".join)
KEYS = st.sampled_from(
    [
        *(
            "model.dim",
            "training.phases",
            "training.phases.0.lr",
            "objective.weighting",
            "preset",
            "data",
            "x.y",
        ),
        *("", "objective.embedding.distance", "hardware.threads", "model", "a" * 300),
        "training.phases.9" + "9" * 5000,
    ]
)
LOG_KEYS = st.sampled_from(
    [
        *("kind", "step", "train/loss", "train/term/x", "train/share/embedding", "batches", "epoch", "event"),
        *("phase", "index", "generated", "source", "validation/loss", "time"),
    ]
)
LOG_VALUES = TREES | st.sampled_from(["train", "validation", "event", "resumed", "phase", "finished"])
MANIFEST_KEYS = st.sampled_from(
    [
        *("terms", "data", "step", "seconds", "best", "parameters", "status", "steps_per_epoch", "resumed"),
        *("preset", "device_name", "steps", "name", "device", "precision", "flops_per_step"),
    ]
)


@seed(SEED)
@examples(300, 4_000)
@given(YAML_BITS | st.text(max_size=60))
def test_yaml(text):
    total("YAML texts", lambda: parse_yaml(text), NotReadable)


@seed(SEED)
@examples(200, 3_000)
@given(st.text(max_size=60) | TREES.map(json.dumps))
def test_json(text):
    total("JSON texts", lambda: parse_json(text), NotReadable)


def test_many_yaml_texts_and_overrides(chance):
    """Plain random texts, fifty times as fast as hypothesis draws them; a failure names its text."""
    for _ in range(80_000 if FULL else 500):
        text = "".join(chance.choices(YAML_WORDS, k=chance.randrange(1, 40)))
        try:
            total("YAML texts", lambda text=text: parse_yaml(text), NotReadable)
            total("overrides", lambda text=text: apply_overrides({"model": {}}, [f"model.x={text}"]))
        except Exception as error:
            write_failure(test="yaml", text=text, error=repr(error))
            raise


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: [*a, *a]",
        "a: &a [*a]",
        "[" * 100_000,
        "{a: " * 5_000,
        "- " * 100_000,
        "a: " + "9" * 10_000,
        "\n".join(f"k{n}: 1" for n in range(50_000)),
        "x" * (1 << 20),
    ],
    ids=["aliases", "recursion", "lists", "mappings", "items", "digits", "keys", "size"],
)
def test_yaml_bombs_are_refused_in_time(text):
    start = time.monotonic()
    with pytest.raises(NotReadable):
        parse_yaml(text)
    assert time.monotonic() - start < 10


@seed(SEED)
@examples(80, 3_000)
@given(st.lists(st.tuples(KEYS, YAML_BITS | LEAVES.map(str)), max_size=3))
def test_overrides(pairs):
    given_ = [f"{key}={value}" for key, value in pairs]
    total("overrides", lambda: resolve("nano", overrides=given_))


@seed(SEED)
@examples(60, 2_000)
@given(tree=TREES)
def test_config_files(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(json.dumps({"model": tree, "training": {"phases": tree}}), encoding="utf-8")
    total("config files", lambda: resolve(file=path))
    path.write_text(json.dumps({"rows": tree, "grid": {"model.dim": tree}}), encoding="utf-8")
    total("sweep files", lambda: read_sweep(path))


@seed(SEED)
@examples(100, 3_000)
@given(tree=TREES)
def test_evaluations_and_states(tree):
    row = {"name": "text/x", "model": tree, "interval": tree, "controls": tree}
    known = {"rows": [row, tree], "by_position": tree, "run": tree, "step": tree}
    for one in (tree, known):
        total("evaluations", lambda one=one: Evaluation.from_json(one), ValueError)
        total("states", lambda one=one: TrainingState.of(one), ValueError)
        total("states", lambda one=one: restored(one))


def restored(tree):
    """Steps of no row, as a checkpoint's state has them; what `Trainer.resume` takes for a fault."""
    recent = RecentSteps(4, torch.device("cpu"))
    recent.count({"embedding": 1.0})
    known = {"raw": [[1.0, 2.0]], "weighted": tree, "weights": {"embedding": tree}}
    for steps in (tree, known, {**known, "weighted": [[1.0]], "target_tokens": tree, "seconds": tree}):
        with contextlib.suppress(ValueError):
            recent.restore(steps, Processes())


@seed(SEED)
@examples(60, 2_000)
@given(tree=TREES, text=st.text(max_size=60))
def test_rows_of_pairs(tree, text):
    for line in (text.encode("utf-8", "replace"), json.dumps({"source": tree, "target": tree}).encode()):
        total("rows of pairs", lambda line=line: read_object(line), BadRowError)


@pytest.fixture(scope="module")
def copied(trained_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "run"
    shutil.copytree(trained_run.path, path, symlinks=True)
    return path


def read_all(path):
    summary = analyse(read_run(path))
    run_csv(summary)
    summary.as_json()


@seed(SEED)
@examples(60, 1_500)
@given(lines=st.lists(st.dictionaries(LOG_KEYS, LOG_VALUES, max_size=6), max_size=6))
def test_metrics_and_samples(copied, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for name in ("metrics.jsonl", "samples.jsonl"):
        (copied / name).write_text(text, encoding="utf-8")
    total("logs", lambda: read_all(copied))


@seed(SEED)
@examples(40, 1_000)
@given(tree=TREES, key=MANIFEST_KEYS)
def test_manifests(copied, trained_run, tree, key):
    manifest = trained_run.read_manifest()
    (copied / "metrics.jsonl").write_bytes(trained_run.metrics.read_bytes())
    (copied / "manifest.json").write_text(json.dumps({**manifest, key: tree}), encoding="utf-8")
    total("manifests", lambda: read_all(copied))


@seed(SEED)
@examples(60, 1_500)
@given(number=st.integers(0, 2**32))
def test_broken_bytes(copied, trained_run, data_root, tmp_path_factory, number):
    """A byte changed, cut or put in: in a tokenizer, prepared data and a checkpoint's lists."""
    chance = random.Random(number)
    folder = tmp_path_factory.getbasetemp() / "broken"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data_root / "lines", folder)
    name = chance.choice(["meta.json", "tokenizer.json", "train-00000.safetensors"])
    content = bytearray((folder / name).read_bytes())
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(content))
        put_in = bytes(chance.randrange(256) for _ in range(chance.randrange(3)))
        content[at : at + chance.randrange(2)] = put_in
    (folder / name).write_bytes(content)

    def read():
        data = open_prepared(folder, data_root)
        data.tokenizer.encode("abc")
        split = data.split("train")
        for pair in range(split.n_pairs):
            split.pair(pair)

    total("broken data", read)
    total("tokenizers", lambda: TextTokenizer.load(folder / "tokenizer.json"))
    files = copied / "checkpoints" / "step-00000008" / chance.choice(["files.json", "state.json"])
    files.write_bytes(content)
    with warnings.catch_warnings(action="ignore"):
        total("checkpoints", lambda: find_checkpoint(type(trained_run)(copied)))
