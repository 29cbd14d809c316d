from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepalm.config import (
    Config,
    data_root,
    differences,
    dump,
    from_mapping,
    load_preset,
    read_config,
    resolve,
    runs_root,
)
from jepalm.errors import UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def refused(*overrides: str, **given: Any) -> str:
    """The one line of the error, after checking its exit code."""
    with pytest.raises(UsageError) as caught:
        resolve(overrides=list(overrides), **given)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_later_layers_win_preset_file_flags_overrides(file: Path):
    file.write_text("training: {batch_size: 2, steps: 2, seed: 2, log_every: 2}")
    config = resolve(
        "nano",
        file,
        {"training.steps": 3, "training.seed": 3, "training.log_every": 3},
        ["training.seed=4", "training.log_every=4", "training.log_every=5"],
    ).training
    assert config.epochs == 10  # the preset's
    assert (config.batch_size, config.steps, config.seed, config.log_every) == (2, 3, 4, 5)


def test_without_anything_the_shakespeare_preset_is_used():
    assert resolve().preset == "shakespeare"
    assert resolve().training.steps_per_epoch == 2500


def test_a_file_that_names_a_preset_starts_from_it(file: Path):
    file.write_text("preset: nano\nmodel: {n_heads: 4}")
    config = resolve(file=file)
    assert (config.preset, config.model.dim, config.model.n_heads) == ("nano", 64, 4)


def test_the_preset_flag_wins_over_the_files(file: Path):
    file.write_text("preset: nano")
    assert resolve("shakespeare", file).model.dim == 256


def test_an_unknown_preset_names_the_nearest():
    assert refused(preset="shakespear") == (
        "unknown preset shakespear (did you mean shakespeare? jepalm presets lists all)"
    )


@pytest.mark.parametrize("text", ["preset: 5", "preset: [nano]"])
def test_a_preset_that_is_no_name_is_unknown(file: Path, text: str):
    file.write_text(text)
    assert refused(file=file).startswith("unknown preset ")


def test_preset_is_no_override():
    assert refused("preset=nano") == "preset=nano is no setting (use --preset NAME)"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dmi=512", "unknown key model.dmi (did you mean model.dim?)"),
        ("modle.dim=512", "unknown key modle (did you mean model?)"),
        ("model.lr=1", "unknown key model.lr (did you mean optimizer.lr?)"),
        (
            "model.encoder.n_layer=1",
            "unknown key model.encoder.n_layer (did you mean model.encoder.n_layers?)",
        ),
        ("data.name.x=1", "unknown key data.name.x (name is a value, not a section)"),
    ],
)
def test_an_unknown_key_names_the_nearest(override: str, message: str):
    assert refused(override) == message


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("model.dim=wide", "model.dim='wide': input should be a valid integer"),
        ("model.dim=1.5", "model.dim=1.5: input should be a valid integer"),
        ("model=3", "model=3: "),
        ("hardware.compile=maybe", "hardware.compile='maybe': "),
        ("hardware.device=gpu", "hardware.device='gpu': "),
        ("optimizer.schedule=linear", "optimizer.schedule='linear': input should be 'cosine' or 'constant'"),
        ("optimizer.lr=-1", "optimizer.lr=-1: input should be greater than 0"),
        ("optimizer.lr=11", "optimizer.lr=11: input should be less than or equal to 10"),
        ("model.dropout=1", "model.dropout=1: input should be less than 1"),
        ("optimizer.lr=.nan", "optimizer.lr=nan: input should be a finite number"),
        ("optimizer.weight_decay=.inf", "optimizer.weight_decay=inf: "),
        ("training.steps=0", "training.steps=0: input should be greater than or equal to 1"),
        ("training.seed=", "training.seed=None: input should be a valid integer"),
        ("model.n_heads=3", "model.dim 256 over n_heads 3 is not an even whole number"),
        ("model.predictor={dim: 24, n_heads: 8}", "model.predictor.dim 24 over n_heads 8 is not an even"),
        (
            "model={source_positions: aligned, latent: {tokens: 2}}",
            "model.source_positions=aligned needs model.latent.tokens=1",
        ),
        ("model={family: causal, source_positions: aligned}", "model.source_positions does nothing with"),
        ("model={family: causal, action: {encoder: own}}", "model.action does nothing with model.family"),
    ],
)
def test_a_wrong_value_names_key_value_and_fault(override: str, start: str):
    assert refused(override).startswith(start)


@pytest.mark.parametrize("override", ["model.dim", "=3", "", "model.dim=[1"])
def test_an_override_of_another_form_is_shown_back(override: str):
    assert refused(override).startswith("cannot read ")


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_a_number_may_be_written_with_an_exponent(text: str):
    assert resolve(overrides=[f"optimizer.lr={text}"]).optimizer.lr == 0.001


def test_a_number_with_an_exponent_is_read_from_a_file(file: Path):
    file.write_text("optimizer: {lr: 1e-3}")
    assert resolve(file=file).optimizer.lr == 0.001


def test_empty_means_unset_where_that_is_allowed():
    assert resolve(overrides=["training.steps_per_epoch="]).training.steps_per_epoch is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b", "not a mapping of sections"),
        (b"just text", "not a mapping of sections"),
        (b"model: {dim: 64", "not valid YAML"),
        (b"a: 1\nb: [", "line 2: not valid YAML"),
        (b"model: \xff\xfe", "is not UTF-8: byte 7"),
        (b"\x00", "is binary, not text"),
    ],
)
def test_a_file_that_is_no_settings_is_refused_by_name(file: Path, content: bytes, message: str):
    file.write_bytes(content)
    found = refused(file=file)
    assert message in found
    assert str(file) in found


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    assert refused(file=tmp_path / "none.yaml").startswith("no such file: ")
    assert refused(file=tmp_path).startswith("cannot read ")


def test_an_empty_file_changes_nothing(file: Path):
    file.write_text("")
    assert resolve(file=file) == resolve()


def test_a_damaged_config_of_a_run_is_named(file: Path):
    file.write_text("model: {dmi: 3}")
    with pytest.raises(UsageError, match=r"settings.yaml: unknown key model.dmi"):
        read_config(file)


@given(
    dim=st.integers(1, 64).map(lambda n: 8 * n),
    lr=st.floats(1e-8, 10),
    steps=st.none() | st.integers(1, 10**9),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20),
    compiled=st.sampled_from([True, False, "auto"]),
)
@settings(max_examples=50, deadline=None)
def test_what_is_dumped_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    dim: int,
    lr: float,
    steps: int | None,
    name: str,
    compiled: bool | str,
):
    config = from_mapping(
        {
            "data": {"name": name},
            "model": {"dim": dim, "n_heads": 4},
            "optimizer": {"lr": lr},
            "training": {"steps": steps},
            "hardware": {"compile": compiled},
        }
    )
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert read_config(path) == config


def test_a_dumped_config_has_every_section():
    import yaml

    assert list(yaml.safe_load(dump(Config()))) == list(Config.model_fields)


def test_differences_are_dotted_keys_with_both_values():
    new = resolve("nano", overrides=["model.encoder.n_layers=3", "training.steps=9"])
    expected = {"model.encoder.n_layers": (2, 3), "training.steps": (None, 9)}
    assert differences(resolve("nano"), new) == expected


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        resolve().model.dim = 3


def test_load_preset_names_itself():
    assert load_preset("nano")["preset"] == "nano"


@pytest.mark.parametrize(("folder", "variable"), [(data_root, "JEPALM_DATA"), (runs_root, "JEPALM_RUNS")])
def test_a_folder_is_the_flags_then_the_environments_then_the_default(
    monkeypatch: pytest.MonkeyPatch, folder: Any, variable: str
):
    monkeypatch.setenv(variable, "elsewhere")
    assert folder(Path("flag")) == Path("flag")
    assert folder() == Path("elsewhere")
    monkeypatch.setenv(variable, "")
    assert folder() == Path(variable.removeprefix("JEPALM_").lower())


def test_a_setting_of_one_phase_is_changed_by_its_number():
    config = resolve(
        "shakespeare-two-phase", overrides=["training.phases.0.share=3", "training.phases.1.lr=0.1"]
    )
    assert [(phase.name, phase.share, phase.lr) for phase in config.training.phases] == [
        ("autoencoder", 3.0, None), ("predictor", 4.0, 0.1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[{name: a, trian: [x]}]", "unknown key training.phases.0.trian (did you mean training"),
        ("[{share: 1}]", "training.phases.0.name={'share': 1}: field required"),
        ("[{name: a}, {name: a}]", "training.phases has two phases called a"),
        ("[{name: a, train: []}]", "phase a of training.phases has no train; null means all"),
        ("[{name: a, steps: 5}]", "phase a is last and takes the steps that are left: give it none"),
        ("[{name: a, terms: {length: -1}}]", "training.phases.0.terms.length=-1: input should be "),
        ("[{name: a, terms: [1]}]", "training.phases.0.terms.0=1: input should be a valid string"),
        ("[{name: a, terms: length}]", "training.phases.0.terms='length': input should be a valid dict"),
        ("[{name: a, train: encoder}]", "training.phases.0.train='encoder': input should be a list"),
    ],
)  # fmt: skip
def test_a_fault_in_a_phase_is_one_line_with_its_key(settings: str, message: str):
    with pytest.raises(UsageError) as caught:
        resolve(overrides=[f"training.phases={settings}"])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("training.phases.2.lr", "they are numbered 0 to 1"),
        ("training.phases.x.lr", "they are numbered 0 to 1"),
        ("training.phases.0", "name a setting of the item after its number"),
    ],
)
def test_a_phase_that_is_not_there_is_an_error(key: str, hint: str):
    with pytest.raises(UsageError, match=f"unknown key {key} .{hint}."):
        resolve("shakespeare-two-phase", overrides=[f"{key}=1"])
