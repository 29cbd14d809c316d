"""The public interface: every family from rows to texts, embeddings and scores, and back from an export."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import jepalm
from jepalm.atomic import whole_folder
from jepalm.config import HardwareConfig, resolve
from jepalm.errors import UsageError
from jepalm.evaluation.distances import AT_ONCE
from jepalm.generation.export import write_model
from jepalm.generation.loading import load_trained
from jepalm.objective.views import prompt_row
from jepalm.run import RunFolder

PAIRS = [(f"{n % 7} + {n % 5}", f"sum {n % 7 + n % 5}") for n in range(60)]
MOVES = [(f"floor {n % 4}", f"floor {(n + 1) % 4}", "go up") for n in range(60)]
SIZES = {"dim": 16, "n_heads": 2, "ffn_mult": 2, "source_len": 10, "target_len": 10}
JEPALM = {part: {"n_layers": 1} for part in ("encoder", "predictor", "decoder")}
USUAL = {part: {"n_layers": 4} for part in ("encoder", "predictor", "decoder")}  # which a causal model lacks
CAUSAL = {"family": "causal", "causal": {"n_layers": 1, "context_len": 40}, **USUAL}
ONE_PASS = {"length": {"kind": "none"}, "generation": {"weight": 1}}
FAMILIES = {
    "parallel": ("pairs", JEPALM, {"generation": {"weight": 1}}),
    "local": ("pairs", {**JEPALM, "decoder": {"kind": "local", "context": 3}}, ONE_PASS),
    "recurrent": ("pairs", {**JEPALM, "decoder": {"kind": "recurrent"}}, ONE_PASS),
    "causal": ("pairs", CAUSAL, {}),
    "llm-jepa": ("pairs", CAUSAL, {"latent": {"weight": 1}}),
    "world": ("moves", {**JEPALM, "action": {"conditioning": "both"}}, {"generation": {"weight": 1}}),
    "causal-world": ("moves", CAUSAL, {}),
}
"""Data, model and objective of a run of each kind."""
ONE_EMBEDDING_A_TOKEN = ("parallel", "local", "recurrent", "world")
TRAINING = {
    "steps": 2,
    "batch_size": 4,
    "log_every": 2,
    "validate_every": 2,
    "validation_batches": 1,
    "samples": 0,
}
HARDWARE = {"device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Folder with prepared pairs and transitions."""
    folder = tmp_path_factory.mktemp("work")
    jepalm.prepare_pairs(PAIRS, "pairs", data_dir=folder / "data", licence="CC0")
    jepalm.prepare_pairs(MOVES, "moves", data_dir=folder / "data")
    return folder


@pytest.fixture(scope="module")
def models(work):
    """A trained model of each family by name."""
    made = {}
    for name, (data, model, objective) in FAMILIES.items():
        tree = {
            "preset": "nano",
            "data": {"name": data},
            "model": {**SIZES, **model},
            "objective": objective,
            "training": {**TRAINING, "epochs": 1, "steps_per_epoch": None},
            "hardware": HARDWARE,
        }
        made[name] = jepalm.train(tree, name=name, data_dir=work / "data", run_dir=work / "runs")
    return made


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """Name of a family."""
    return request.param


@pytest.fixture(scope="module")
def model(models, family):
    """Its model."""
    return models[family]


@pytest.fixture(scope="module")
def exported(models, family, work):
    """Its model, exported and loaded again."""
    folder = work / "exported" / family
    trained = load_trained(RunFolder(models[family].path), hardware=HardwareConfig(**HARDWARE))
    with whole_folder(folder) as made:
        write_model(trained, made)
    return jepalm.load(folder, device="cpu", precision="fp32")


def read(model):
    """Texts that a model can read, with an action each where it reads some."""
    if model.reads_actions:
        return [f"floor {n % 4}" for n in range(5)], ["go up"] * 5
    return [f"{n} + 1" for n in range(5)], None


def rows(model):
    """Pairs that a model can read."""
    return (MOVES if model.reads_actions else PAIRS)[:6]


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, jepalm; print(sorted(set(dir(jepalm)) & {'load', 'train'})); "
        "sys.exit(str({'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules) or ''))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr.strip()) == ("['load', 'train']\n", "")


def test_a_name_that_the_package_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        jepalm.lood  # noqa: B018


def test_generate_writes_what_the_command_writes(model, work, jepalm_command):
    prompts, actions = read(model)
    asked = ["generate", prompts[3], "--json", "--run", model.path, "--device=cpu", "--precision=fp32"]
    code, out, err = jepalm_command(*asked, *(["--action", actions[3]] if actions else []), cwd=work)
    assert code == 0, err
    assert model.generate(prompts, actions=actions)[3:4] == json.loads(out)["texts"]


def test_generate_searches_as_many_beams_as_the_command(models, work, jepalm_command):
    model, causal = models["local"], models["causal"]
    asked = ["generate", "3 + 1", "--json", "--run", model.path, "--device=cpu", "--precision=fp32"]
    code, out, err = jepalm_command(*asked, "--beams=4", cwd=work)
    assert code == 0, err
    assert model.generate(["3 + 1"], beams=4) == json.loads(out)["texts"]
    with pytest.raises(UsageError, match="has no beams to search"):
        causal.generate(["3 + 1"], beams=4)


def test_an_exported_model_does_what_the_run_does(model, exported, work):
    prompts, actions = read(model)
    assert exported.generate(prompts, actions=actions) == model.generate(prompts, actions=actions)
    assert exported.score(rows(model)) == model.score(rows(model))
    for ours, theirs in zip(model.encode(prompts), exported.encode(prompts), strict=True):
        assert torch.equal(ours, theirs)
    assert (exported.step, exported.usual_score, exported.reads_actions) == (
        model.step,
        model.usual_score,
        model.reads_actions,
    )


def test_the_command_reads_an_exported_folder(models, exported, family, work, jepalm_command):
    prompts, actions = read(models[family])
    asked = ["generate", prompts[0], "--json", "--run", exported.path, "--device=cpu", "--precision=fp32"]
    code, out, err = jepalm_command(*asked, *(["--action", actions[0]] if actions else []), cwd=work)
    assert code == 0, err
    own = {} if actions is None else {"actions": actions[:1]}
    assert json.loads(out)["texts"] == models[family].generate(prompts[:1], **own)


def test_embeddings_of_texts_are_one_a_token_in_order_and_batches(model):
    prompts, _ = read(model)
    texts = [*prompts, "5 + 1" if not model.reads_actions else "floor"]
    found = model.encode(texts)
    assert [tuple(one.shape) for one in found] == [(len(text), 16) for text in texts]
    assert {(one.dtype, one.device.type) for one in found} == {(torch.float32, "cpu")}
    for whole, alone in zip(found, model.encode(texts, batch_size=1), strict=True):
        torch.testing.assert_close(whole, alone)


def test_predicted_embeddings_have_the_length_that_is_asked_for(models):
    for name in ONE_EMBEDDING_A_TOKEN:
        prompts, actions = read(models[name])
        found = models[name].predict_embeddings(prompts, actions=actions, length=4)
        assert [tuple(one.shape) for one in found] == [(4, 16)] * len(prompts), name
        alone = models[name].predict_embeddings(prompts, actions=actions, length=4, batch_size=1)
        torch.testing.assert_close(torch.cat(found), torch.cat(alone))


def test_without_a_length_the_length_head_says_how_many_embeddings(models):
    texts = models["parallel"].generate(["1 + 1", "2 + 2"])
    assert list(map(len, models["parallel"].predict_embeddings(["1 + 1", "2 + 2"]))) == list(map(len, texts))
    assert [len(one) for one in models["recurrent"].predict_embeddings(["1 + 1"])] == [10]


def test_a_causal_model_with_a_latent_term_predicts_one_embedding_of_the_other_view(models):
    found = models["llm-jepa"].predict_embeddings(["1 + 1", "2 + 2 + 2"])
    assert [tuple(one.shape) for one in found] == [(1, 16)] * 2
    with pytest.raises(UsageError, match="predicts no embeddings: it was trained without latent prediction"):
        models["causal"].predict_embeddings(["1 + 1"])


def test_the_score_of_a_causal_model_is_the_mean_nats_of_the_targets_tokens(models):
    model = models["causal"]
    trained = load_trained(RunFolder(model.path), hardware=HardwareConfig(**HARDWARE))
    source, target = (trained.tokenizer.encode(text) for text in PAIRS[5])
    begin = prompt_row(source)
    with torch.no_grad():
        logits = trained.causal.model(torch.tensor([[*begin, *target]]))[0, len(begin) - 1 : -1]
    expected = float(F.cross_entropy(logits, torch.tensor(target)))
    assert model.usual_score == "nll"
    assert model.score([PAIRS[5]]) == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("name", ["local", "recurrent"])
def test_the_score_of_a_light_decoder_is_the_likelihood_of_what_it_writes(models, name):
    """The likeliest first token costs the least of all first tokens."""
    model = models[name]
    (written,) = model.generate(["1 + 1"], length=1, temperature=0)
    others = model.score([("1 + 1", letter) for letter in "0123456789 abcdefghijklmnopqrstuvwxyz"])
    assert model.usual_score == "nll"
    assert model.score([("1 + 1", written)])[0] <= min(others) + 1e-6


def test_the_distance_of_a_jepalm_is_that_of_its_objective(models):
    model = models["parallel"]
    trained = load_trained(RunFolder(model.path), hardware=HardwareConfig(**HARDWARE))
    source, target = PAIRS[3]
    (predicted,) = model.predict_embeddings([source], length=len(target))
    (of_target,) = model.encode([target])  # one encoder reads both, and adds nothing to a target
    squared = (predicted - of_target).square().sum(-1).mean()
    assert trained.config.objective.targets.encoder == "shared"
    assert model.usual_score == "distance"
    assert model.score([PAIRS[3]])[0] == pytest.approx(float(squared), rel=1e-4)
    assert model.score([PAIRS[3]], kind="nll")[0] > 0


def test_views_of_a_pair_have_a_distance_where_a_latent_term_is_on(models):
    found = models["llm-jepa"].score(PAIRS[:3], kind="distance")
    assert len(found) == 3
    assert all(0 <= one <= 2 for one in found)
    with pytest.raises(UsageError, match="has no distance: it was trained without latent prediction"):
        models["causal"].score(PAIRS[:3], kind="distance")


def test_scores_come_in_the_order_of_the_pairs_whatever_the_batch(model):
    many = list((MOVES if model.reads_actions else PAIRS)[:50]) * 2
    assert len(many) > AT_ONCE
    np.testing.assert_allclose(model.score(many), model.score(many[:50]) * 2, rtol=1e-4)


def test_rows_may_be_mappings(models):
    keyed = [{"source": source, "target": target} for source, target in PAIRS[:3]]
    assert models["causal"].score(keyed) == models["causal"].score(PAIRS[:3])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.generate("1 + 1"), r"prompts is one text \(give a list of texts\)"),
        (lambda model: model.encode(["1", 2]), "texts: number 2 is not a text"),
        (lambda model: model.generate(["1", "é"]), "prompt 2: the prompt has characters outside"),
        (lambda model: model.generate(["1"], actions=["go"]), "was trained without actions"),
        (lambda model: model.score([("1", "")]), "pair 1 has no target"),
        (lambda model: model.score([("1",)]), "pair 1 is neither a mapping nor a source, a target"),
        (lambda model: model.score([], kind="nl"), r"unknown score nl \(did you mean nll\?\)"),
        (lambda model: model.predict_embeddings(["1"], length=11), "this model predicts 1 to 10 tokens"),
        (lambda model: model.to("gpu"), "hardware.device='gpu'"),
        (lambda model: jepalm.load(model.path.parent / "none"), "no run at"),
        (lambda model: jepalm.load(model.path, checkpoint=7), "has no checkpoint 7"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(models, call, words):
    with pytest.raises(UsageError, match=words):
        call(models["parallel"])


def test_a_world_model_wants_an_action_for_each_state(models):
    with pytest.raises(UsageError, match="predicts what an action makes of a state"):
        models["world"].generate(["floor 1"])
    with pytest.raises(UsageError, match="2 texts and 1 actions"):
        models["world"].generate(["floor 1", "floor 2"], actions=["go up"])
    with pytest.raises(UsageError, match="pair 1 has no action"):
        models["world"].score([("floor 1", "floor 2")])


def test_nothing_in_gives_nothing_out(model):
    assert model.generate([]) == model.encode([]) == model.predict_embeddings([]) == model.score([]) == []


def test_moving_a_model_gives_the_model(models):
    model = models["parallel"]
    assert model.to("cpu") is model
    assert model.device == torch.device("cpu")
    assert repr(model).endswith("parallel: jepalm with a parallel decoder, step 2, on cpu>")


def test_a_model_of_hidden_spans_fills_its_prompts(data_root, train_tiny, tmp_path):
    asked = {"data__name": "spans", "objective__length__kind": "none", "training__steps": 1}
    run = train_tiny(tmp_path, **asked)
    model = jepalm.load(run.path, device="cpu", precision="fp32")
    first, second = model.generate(["ab_de", "a__"])
    assert (first[:2], first[3:], len(second)) == ("ab", "de", 3)
    with pytest.raises(UsageError, match="length does nothing for a model that fills gaps"):
        model.generate(["ab_de"], length=3)


def test_a_recipe_is_a_preset_a_file_a_mapping_or_a_config(tmp_path, monkeypatch):
    found = []

    def asked(config, *folders):
        found.append(config)
        raise UsageError("it is enough to be asked")

    monkeypatch.setattr("jepalm.api.training.new_session", asked)
    (tmp_path / "mine.yaml").write_text("preset: nano\nmodel: {dim: 32}\n")
    named, file, tree = "nano", tmp_path / "mine.yaml", {"preset": "nano", "model": {"dim": 32}}
    settings = {"model.dim": 32, "training.steps": 7}
    for recipe in (named, file, str(file), tree, resolve("nano")):
        with pytest.raises(UsageError, match="it is enough"):
            jepalm.train(recipe, data="pairs", settings=settings)
    assert found == [resolve("nano", flags={**settings, "data.name": "pairs"})] * 5


def test_a_recipe_stays_as_it_was_given(monkeypatch):
    def asked(*_):
        raise UsageError("it is enough to be asked")

    monkeypatch.setattr("jepalm.api.training.new_session", asked)
    recipe = {"preset": "nano", "hardware": {"device": "cpu"}}
    with pytest.raises(UsageError, match="it is enough"):
        jepalm.train(recipe, data="pairs", settings={"hardware.threads": 1})
    assert recipe == {"preset": "nano", "hardware": {"device": "cpu"}}


def test_a_recipe_that_is_none_is_one_line():
    with pytest.raises(UsageError, match="unknown preset nana"):
        jepalm.train("nana")
    with pytest.raises(UsageError, match=r"unknown key model.dmi \(did you mean model.dim\?\)"):
        jepalm.train("nano", settings={"model.dmi": 3})


def test_rows_are_prepared_as_a_file_of_them_is(work, tmp_path, jepalm_command):
    lines = (json.dumps({"source": source, "target": target}) + "\n" for source, target in PAIRS)
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    code, _, err = jepalm_command("prepare", "pairs", "rows.jsonl", cwd=tmp_path)
    assert code == 0, err
    of_file = json.loads((tmp_path / "data" / "rows" / "meta.json").read_text())
    found = jepalm.prepare_pairs(PAIRS, "pairs", data_dir=work / "data", licence="CC0")
    assert found.meta.content_sha256 == of_file["content_sha256"]
    assert (found.path, found.meta.licence) == (work / "data" / "pairs", "CC0")


def test_splits_that_are_given_stay_whole(tmp_path):
    found = jepalm.prepare_pairs(PAIRS[:40], "mine", validation=PAIRS[:3], test=PAIRS[3:7], data_dir=tmp_path)
    counts = {name: split.pairs for name, split in found.meta.splits.items()}
    assert counts == {"train": 40, "validation": 3, "test": 4}


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([*PAIRS, ("a", "")], {}, "row 61 of train: target is empty"),
        ([*PAIRS, ("a", "b", "c")], {}, "row 61 of train: has an action, but earlier rows have none"),
        ([*PAIRS, "ab"], {}, "row 61 of train: is neither a mapping nor"),
        ([], {}, "there is no pair for train"),
        (PAIRS, {"alphabet": "latin"}, "alphabet=latin"),
        (PAIRS, {"tokenizer": "bpe"}, "unknown tokenizer bpe"),
        (PAIRS, {"split": (90.0, 5.0, 6.0)}, "split 90/5/6 is out of range"),
    ],
)
def test_rows_that_cannot_be_prepared_are_one_line(tmp_path, given, options, words):
    with pytest.raises(UsageError, match=words):
        jepalm.prepare_pairs(given, "mine", data_dir=tmp_path, **options)
    assert list(tmp_path.glob("*")) == []
