"""The sweep file: what rows and grid become, and every fault as one line."""

from pathlib import Path

import pytest

from jepalm.config import differences, resolve
from jepalm.errors import UsageError
from jepalm.sweep.file import read_sweep

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep-shakespeare.yaml"


NOISE = {
    "objective.generation.weight": 1.0,
    "objective.autoencoder.token_dropout": 0.15,
    "objective.autoencoder.latent_dropout": 0.15,
}
"""What the preset `shakespeare-next` changes, but the weight of its divergence."""


@pytest.fixture
def read(tmp_path):
    def read(text, **others):
        path = tmp_path / "lab.yaml"
        path.write_text(text)
        return read_sweep(path, **others)

    return read


def changes(sweep):
    return {row.name: sweep.changes(row) for row in sweep.rows}


def test_a_row_takes_what_a_preset_changes_over_another_base(read):
    sweep = read("preset: nano\nseeds: [3, 5]\nrows: {reference: , next: shakespeare-next}")
    nano = resolve("nano")
    assert differences(nano, sweep.rows[1].configs[5]) == {
        "training.seed": (0, 5),
        "objective.generation.weight": (0.0, 1.0),
        "objective.autoencoder.token_dropout": (0.0, 0.15),
        "objective.autoencoder.latent_dropout": (0.0, 0.15),
        "objective.kl.weight": (0.0, 0.001),
    }
    assert differences(nano, sweep.reference.configs[3]) == {"training.seed": (0, 3)}
    assert sweep.name == "lab"


def test_what_a_preset_inherits_on_the_way_to_its_recipe_is_part_of_its_change(read):
    """`nano-spans` starts from `shakespeare-spans`, and that one from the reference."""
    sweep = read("preset: nano\nrows: {reference: , spans: nano-spans}")
    found = sweep.changes(sweep.rows[1])
    assert found["objective.local.weight"] == found["objective.generation.weight"] == 1.0
    assert "model.dim" not in found


def test_a_preset_without_a_base_is_a_recipe_of_its_own(read):
    sweep = read("preset: nano\nset: [training.batch_size=4]\nrows: {a: , ar: shakespeare-ar-small}")
    found = resolve("shakespeare-ar-small", overrides=["training.batch_size=4"])
    assert differences(found, sweep.rows[1].config) == {}


def test_a_row_is_nothing_a_setting_a_list_or_a_mapping(read):
    sweep = read(
        """
        preset: nano
        set: [optimizer.lr=1e-4]
        rows:
          reference:
          one: optimizer.lr=0.5
          many: [shakespeare-next, model.dim=32, objective.kl.weight=0.5]
          whole: {preset: shakespeare-next, data: other, set: [model.dim=16]}
        """
    )
    assert changes(sweep) == {
        "reference": {},
        "one": {"optimizer.lr": 0.5},
        "many": {"model.dim": 32, **NOISE, "objective.kl.weight": 0.5},
        "whole": {"data.name": "other", "model.dim": 16, **NOISE, "objective.kl.weight": 0.001},
    }
    assert sweep.reference.config.optimizer.lr == 1e-4


def test_a_grid_is_every_combination(read):
    sweep = read("preset: nano\ngrid: {optimizer.lr: [0.1, 0.2], training.batch_size: [4, 8]}")
    assert [row.name for row in sweep.rows] == [
        "lr=0.1, batch_size=4",
        "lr=0.1, batch_size=8",
        "lr=0.2, batch_size=4",
        "lr=0.2, batch_size=8",
    ]
    assert changes(sweep)["lr=0.2, batch_size=8"] == {"optimizer.lr": 0.2, "training.batch_size": 8}


def test_a_grid_over_rows_and_keys_of_the_same_last_word(read):
    sweep = read(
        "preset: nano\nrows: {a: , b: shakespeare-next}\n"
        "grid: {model.predictor.n_layers: [1], model.decoder.n_layers: [0, 1]}"
    )
    assert [row.name for row in sweep.rows][::3] == [
        "a, model.predictor.n_layers=1, model.decoder.n_layers=0",
        "b, model.predictor.n_layers=1, model.decoder.n_layers=1",
    ]


def test_without_rows_the_base_is_the_only_row(read):
    assert [row.name for row in read("preset: nano").rows] == ["reference"]


def test_options_go_over_the_files_baseline_and_scorer(read):
    text = "preset: nano\nevaluate: {baseline: one, prompts: 9}"
    assert read(text).evaluate.baseline == "one"
    found = read(text, baseline="two", scorer="three").evaluate
    assert (found.baseline, found.scorer, found.prompts) == ("two", "three", 9)


def test_only_metrics_of_an_evaluation_need_one(read):
    assert read("preset: nano").needs_evaluation
    assert not read("preset: nano\nmetrics: [validation/r2, train/loss]").needs_evaluation
    assert read("preset: nano\nmetrics: [scorer/positions_3_4]").needs_evaluation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("presett: nano", "unknown key presett (did you mean preset?)"),
        ("rows: {a: {sett: [x=1]}}", "unknown key rows.a.sett (did you mean rows.a.set?)"),
        ("evaluate: {prompt: 3}", "unknown key evaluate.prompt (did you mean evaluate.prompts?)"),
        ("rows: {a: shakespeare-nexxt}", "row a: unknown preset shakespeare-nexxt (did you mean"),
        ("rows: {a: model.dmi=3}", "row a: unknown key model.dmi (did you mean model.dim?)"),
        ("rows: {a: [nano, shakespeare]}", "a row names nano and shakespeare"),
        ("rows: {a: 3}", "rows.a=3: "),
        ("rows: {a: , b: }", "rows a and b are the same"),
        ("rows: {a: , b: hardware.threads=1}", "rows a and b are the same"),
        ("grid: {model.dim: []}", "grid.model.dim holds no value"),
        ("set: [training.seed=3]", "training.seed is no setting of a sweep"),
        ("grid: {training.seed: [0, 1]}", "training.seed is no setting of a sweep"),
        ("set: [preset=nano]", "preset= is no setting"),
        ("seeds: [1, 1]", "seeds holds the same one twice"),
        ("seeds: []", "seeds=[]: "),
        ("seeds: [-1]", "row reference: training.seed=-1: "),
        ("metrics: [embeddings/r2]", "unknown metric embeddings/r2 (did you mean embedding/r2?)"),
        ("preset: nano\nconfig: a.yaml", "preset and config are both given"),
        ("- nano", "not a mapping"),
    ],
)
def test_a_fault_is_one_line_that_names_it(read, text, message):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error():
    with pytest.raises(UsageError, match="jepalm sweep takes a YAML file"):
        read_sweep(Path("nowhere.yaml"))


def test_the_example_compares_single_changes_at_nanos_size():
    sweep = read_sweep(EXAMPLE)
    assert (sweep.name, sweep.seeds, len(sweep.rows)) == ("sweep-shakespeare", [0, 1, 2], 17)
    assert sweep.changes(sweep.reference) == {}
    assert differences(resolve("nano"), sweep.reference.config) == {"training.epochs": (10, 5)}
    changed = {key for row in sweep.rows[1:] for key in sweep.changes(row)}
    kept = ("training.", "optimizer.", "data.", "model.dim", "model.n_heads", "model.source_len")
    assert {key for key in changed if key.startswith(kept)} == {"training.phases"}


def test_the_worlds_example_changes_only_what_stands_against_collapse():
    sweep = read_sweep(EXAMPLE.with_name("sweep-transitions.yaml"))
    changed = {row.name: sweep.changes(row) for row in sweep.rows}
    assert changed["none"] == {}
    assert changed["none, targets learn too"] == {"objective.embedding.detach_target": False}
    assert changed["ema"] == {"objective.targets.encoder": "ema"}
    assert changed["vicreg"] == {"objective.regularizer.kind": "vicreg"}
    assert changed["sigreg"]["objective.regularizer.kind"] == "sigreg"


def test_the_example_of_random_facts_has_both_losses_on_the_same_data():
    sweep = read_sweep(EXAMPLE.with_name("sweep-random-facts.yaml"))
    conditioning = {row.name: (row.config.data.name, row.config.objective) for row in sweep.rows}
    assert [name for name, _ in conditioning.values()] == 2 * ["home-noise-0", "home-noise-2", "home-noise-4"]
    text, embedding = conditioning["text, 4"][1], conditioning["embedding, 4"][1]
    assert (text.generation.weight, text.embedding.weight) == (1.0, 0.0)
    assert (embedding.generation.weight, embedding.embedding.weight) == (0.0, 0.2)
