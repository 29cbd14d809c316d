"""A causal run from prepared data to text: training, resuming, generating, report."""

import json
import math
import runpy
import shutil
from pathlib import Path

import pytest

from jepalm.config import from_mapping, load_preset, preset_names
from jepalm.data.job import Job
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, Request
from jepalm.data.text.preparing import prepare_text
from jepalm.data.text.reading import RawText
from jepalm.errors import UsageError
from jepalm.generation.loading import load_trained
from jepalm.objective.causal import CausalObjective
from jepalm.objective.latent import counts_at
from jepalm.report.read import read_run
from jepalm.report.render.run import run_document
from jepalm.report.render.write import write
from jepalm.report.summary import analyse
from jepalm.session import new_session, resumed_session
from jepalm.training.checkpoint import MODEL, find_checkpoint
from jepalm.training.progress import validation_line

ORIGIN = Origin(source="given text", where=["text.txt"])
TEXT = "".join(f"{number} is {'odd' if number % 2 else 'even'}\n" for number in range(300))
CONTEXT = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the same text as windows, as lines and as given pairs."""
    root = tmp_path_factory.mktemp("data")
    for pairing in ("windows", "lines"):
        asked = Request(pairing=pairing, tokenizer="char", split=(80.0, 10.0, 10.0))
        prepare_text(Job(root, pairing, "text", ORIGIN, "none", asked), RawText(content=TEXT.encode()))
    rows = root / "rows.jsonl"
    row = [{"source": f"{n} + 1", "target": f"{n + 1}" * (1 + n % 3), "action": "add"} for n in range(60)]
    rows.write_text("".join(json.dumps(each) + "\n" for each in row))
    asked = Request(pairing="pairs", tokenizer="char", split=(80.0, 10.0, 10.0))
    prepare_pairs(Job(root, "pairs", "pairs", ORIGIN, "none", asked), PairFiles(rows, False))
    return root


def config(name="windows", objective=None, **training):
    return from_mapping(
        {
            "data": {"name": name},
            "objective": objective or {},
            "model": {
                "family": "causal",
                "dim": 16,
                "n_heads": 2,
                "source_len": 16,
                "target_len": 16,
                "action_len": 8,
                "dropout": 0.1,
                "causal": {"n_layers": 2, "context_len": CONTEXT if name == "windows" else 42},
            },
            "optimizer": {"lr": 1e-2, "warmup_steps": 2},
            "training": {
                "steps": 12,
                "batch_size": 8,
                "log_every": 3,
                "validate_every": 6,
                "validation_batches": 2,
                "samples": 2,
                **training,
            },
            "hardware": {"device": "cpu", "precision": "fp32", "threads": 1},
        }
    )


def train(settings, data, runs):
    with new_session(settings, data) as session:
        run = session.open_folder(runs, "tiny", session.cost())
        session.train(run, None)
    return run


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train(config(), data, tmp_path_factory.mktemp("runs"))


def rows_of(run, kind):
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


@pytest.mark.parametrize("name", ["windows", "lines", "pairs"])
def test_a_causal_model_learns_from_every_kind_of_data(data, tmp_path, name):
    run = train(config(name, steps=60, validate_every=60), data, tmp_path)
    first, *_, last = rows_of(run, "train")
    assert first["train/loss"] == pytest.approx(math.log(100), abs=0.7)
    assert last["train/loss"] < 0.75 * first["train/loss"]
    assert not [key for key in last if key.startswith("train/grad_norm_encoder")]
    (held_out,) = rows_of(run, "validation")
    assert held_out["validation/loss"] == held_out["validation/next_token_ce"]


LATENT = {"latent": {"weight": 0.5, "dropout": 0.5, "target": "ema"}, "tube": {"weight": 0.1}}


@pytest.fixture(scope="module")
def latent_run(data, tmp_path_factory):
    return train(config("pairs", LATENT, log_every=1), data, tmp_path_factory.mktemp("latent"))


def test_a_dropped_term_has_no_value_and_the_step_costs_less(latent_run):
    rows = rows_of(latent_run, "train")
    counted = [counts_at(step, 0.5, 0) for step in range(12)]
    assert set(counted) == {True, False}
    spent = [
        row["train/flops"] - before
        for row, before in zip(rows, [0, *(row["train/flops"] for row in rows)], strict=False)
    ]
    for row, counts, cost in zip(rows, counted, spent, strict=True):
        assert ("train/term/latent" in row) is counts
        assert (row["batches"]["latent"][0] is not None) is counts
        assert (row["train/share/latent"] > 0) is counts
        assert row["train/weight/latent"] == 0.5
        assert cost == pytest.approx(max(spent) if counts else min(spent), rel=1e-3)
    assert min(spent) < 0.6 * max(spent)


def test_the_health_of_views_is_logged_with_and_without_the_term(data, latent_run, tmp_path):
    plain = train(config("pairs", steps=2, validate_every=2), data, tmp_path)
    health = {"view_cosine", "view_cosine_gap", "view_retrieval", "view_retrieval_chance", "view_rank"}
    for run in (plain, latent_run):
        row = rows_of(run, "validation")[-1]
        assert {f"validation/{name}" for name in {*health, "tube_cosine", "exact_match"}} <= row.keys()
        assert ("validation/latent" in row) is (run is latent_run)


@pytest.mark.parametrize("conditioning", ["none", "cross"])
def test_a_jepalm_on_pairs_says_how_many_targets_it_writes_exactly(data, tmp_path, conditioning):
    tree = config("pairs", steps=2, validate_every=2).model_dump()
    tree["model"] |= {"family": "jepalm", "causal": {}, "action": {"conditioning": conditioning}}
    row = rows_of(train(from_mapping(tree), data, tmp_path), "validation")[-1]
    assert 0 <= row["validation/exact_match"] <= 1


def test_a_latent_run_resumes_to_the_same_weights_and_flops(data, latent_run, tmp_path):
    killed = train(config("pairs", LATENT, log_every=1), data, tmp_path)
    shutil.rmtree(find_checkpoint(killed).path)
    with resumed_session(killed.path, {}, [], data) as session:
        session.train(killed, None)
    resumed, straight = find_checkpoint(killed), find_checkpoint(latent_run)
    assert (resumed.path / MODEL).read_bytes() == (straight.path / MODEL).read_bytes()
    assert rows_of(killed, "train")[-1]["train/flops"] == rows_of(latent_run, "train")[-1]["train/flops"]


def test_windows_have_no_second_view(data):
    settings = config("windows", {"latent": {"weight": 1.0}})
    message = r"objective\.latent\.weight does nothing with windows"
    with pytest.raises(UsageError, match=message) as raised, new_session(settings, data):
        pass
    assert "no second view" in raised.value.hint


def test_tubes_are_learned_from_windows(data, tmp_path):
    run = train(config("windows", {"tube": {"weight": 0.1}}, steps=3), data, tmp_path)
    assert 0 < rows_of(run, "train")[-1]["train/term/tube"] < 2


def test_resuming_gives_the_weights_of_a_run_that_never_stopped(data, run, tmp_path):
    killed = train(config(), data, tmp_path)
    shutil.rmtree(find_checkpoint(killed).path)  # as if it had ended after the checkpoint before
    assert find_checkpoint(killed).step == 6
    with resumed_session(killed.path, {}, [], data) as session:
        session.train(killed, None)
    resumed, straight = find_checkpoint(killed), find_checkpoint(run)
    assert resumed.step == straight.step == 12
    assert (resumed.path / MODEL).read_bytes() == (straight.path / MODEL).read_bytes()


@pytest.fixture(scope="module")
def trained(run):
    return load_trained(run, hardware=config().hardware)


def test_generated_text_has_the_length_asked_and_one_pass_a_token(trained, continue_text):
    made = continue_text(trained, "7 is", length=40, temperature=1.0, top_k=5, samples=2, seed=1)
    assert [len(text) for text in made.text] == [40, 40]
    assert (made.nfe, made.passages) == (40, [])
    assert len(continue_text(trained, "7 is").text[0]) == CONTEXT


def test_passages_of_a_stream_go_on_from_all_the_text(trained, continue_text):
    once = continue_text(trained, "7 is", length=8).text
    twice = continue_text(trained, "7 is", length=4, passages=2)
    assert (twice.text, twice.nfe) == (once, 8)


def test_samples_show_the_second_half_of_a_window(run):
    samples = [json.loads(line) for line in run.samples.read_text().splitlines()]
    assert len(samples) == 4  # two at each of two validations
    assert {len(sample[key]) for sample in samples for key in ("source", "target", "generated")} == {8}


def test_the_validation_line_says_nats_a_character(run):
    row = rows_of(run, "validation")[-1]
    text = validation_line(row, 16, "line\nline" * 40)
    assert text.startswith("validation: next-token CE ")
    assert " nats a character · accuracy " in text
    assert "\n" not in text
    assert len(text) < 200


def test_the_report_reads_a_causal_run(run, tmp_path):
    summary = analyse(read_run(run.path))
    assert summary.composition == {"next_token": pytest.approx(1.0)}
    assert write(run_document(summary), tmp_path).is_file()
    table = (tmp_path / "data" / "validation.csv").read_text().splitlines()[0]
    assert "validation/nats_per_character" in table


def test_the_report_of_a_causal_run_leaves_the_article_out(run, tmp_path):
    page = write(run_document(analyse(read_run(run.path))), tmp_path).read_text().partition('id="config"')[0]
    assert 'id="verdicts"' in page
    assert "article" not in page.partition("<body")[2]


def test_pairs_must_fit_the_context(data, tmp_path):
    tree = config("lines").model_dump()
    tree["model"]["causal"]["context_len"] = 32
    with pytest.raises(UsageError, match=r"16 \+ .* 16 \+ 1 for the ends .* more than .* 32 .*=33"):
        train(from_mapping(tree), data, tmp_path)


def test_windows_have_no_target_to_learn_alone(data, tmp_path):
    tree = config().model_dump()
    tree["objective"]["next_token"]["loss_on"] = "target"
    with pytest.raises(UsageError, match="does nothing with windows"):
        train(from_mapping(tree), data, tmp_path)


@pytest.mark.parametrize(
    "tree",
    [
        {"model": {"family": "causal", "encoder": {"n_layers": 2}}},
        {"model": {"family": "causal"}, "objective": {"embedding": {"weight": 2}}},
        {"model": {"causal": {"n_layers": 2}}},
        {"objective": {"next_token": {"loss_on": "target"}}},
        {"model": {"family": "causal", "latent": {"tokens": 4}}},
        {"model": {"family": "causal"}, "objective": {"kl": {"weight": 1}}},
    ],
)
def test_a_setting_of_another_family_is_told(tree):
    with pytest.raises(UsageError, match=r"does nothing with model\.family"):
        from_mapping(tree)


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("shakespeare-ar")])
def test_a_preset_without_its_data_says_how_to_make_it(name, tmp_path):
    (tmp_path / "shakespeare").mkdir()
    command = "jepalm prepare shakespeare --pairing windows --name shakespeare-windows"
    with pytest.raises(UsageError, match=command), new_session(from_mapping(load_preset(name)), tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "millions"), [("shakespeare-ar", (9.5, 11)), ("shakespeare-ar-small", (1.7, 1.9))]
)
def test_presets_have_the_size_they_promise(name, millions):
    settings = from_mapping(load_preset(name))
    objective = CausalObjective(settings.model, settings.objective, 100)
    total = sum(objective.model.parameters_by_part().values()) / 1e6
    assert millions[0] < total < millions[1]


def test_the_example_scores_the_last_tenth_of_a_text(run, tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    script = Path(__file__).parents[2] / "examples" / "score_text.py"
    monkeypatch.setattr("sys.argv", [str(script), str(run.path), str(text)])
    runpy.run_path(str(script), run_name="__main__")
    blocks, sliding = capsys.readouterr().out.splitlines()
    n = len(TEXT) - int(0.9 * len(TEXT))
    assert f" nats a character over {n:,} characters · context 16, stride 16 (blocks)" in blocks
    assert "stride 4 (sliding, at least 13 before each)" in sliding
    assert 0 < float(sliding.split()[0]) < 5
