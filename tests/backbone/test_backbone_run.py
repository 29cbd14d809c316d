"""A backbone from prepared pairs to an exported folder: training, resuming, writing, scoring."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jepalm.atomic import whole_folder
from jepalm.config import HardwareConfig, from_mapping
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.speed.writing import n_parameters, untrained_counterpart
from jepalm.evaluation.text.likelihood import CausalScorer
from jepalm.generation.embeddings import predict
from jepalm.generation.export import write_model
from jepalm.generation.loading import load_folder, load_trained
from jepalm.generation.prompts import read_prompt
from jepalm.generation.writer import Prompt
from jepalm.generation.writers import writer_for
from jepalm.model.backbone import Backbone
from jepalm.session import new_session, resumed_session
from jepalm.training.checkpoint import MODEL, OPTIMIZER, find_checkpoint
from jepalm.training.estimate import Estimate
from jepalm.training.optimizer import build_optimizer

CPU = {"device": "cpu", "precision": "fp32", "threads": 1}
KINDS = ["llama", "gemma"]


@pytest.fixture(scope="module")
def config(backbones):
    def settings(kind, r, data=None, steps=4, lr=1e-2, objective=None, **training):
        return from_mapping(
            {
                "data": {"name": data or kind},
                "model": {
                    "family": "causal",
                    "backbone": backbones[kind],
                    "lora": {"r": r, "dropout": 0.1 if r else 0.0},
                    "source_len": 12,
                    "target_len": 12,
                    "causal": {"context_len": 32},
                },
                "objective": objective or {},
                "optimizer": {"lr": lr, "warmup_steps": 2},
                "training": {
                    "steps": steps,
                    "batch_size": 8,
                    "log_every": 2,
                    "validate_every": steps // 2,
                    "validation_batches": 1,
                    "samples": 1,
                    **training,
                },
                "hardware": CPU,
            }
        )

    return settings


@pytest.fixture(scope="module")
def train(pairs_data):
    def trained(settings, runs):
        with new_session(settings, pairs_data) as session:
            run = session.open_folder(runs, "tiny", Estimate(0.0, 0, 0, 0))
            session.train(run, None)
        return run

    return trained


@pytest.fixture(scope="module")
def runs(config, train, tmp_path_factory):
    """Finished runs of both models, whole (r = 0) and with adapters."""
    root = tmp_path_factory.mktemp("runs")
    return {(kind, r): train(config(kind, r), root) for kind in KINDS for r in (0, 2)}


def loaded(run):
    return load_trained(run, hardware=HardwareConfig(**CPU))


def export(trained, folder, half=False):
    with whole_folder(folder) as made:
        write_model(trained, made, half=half)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0, 2])
def test_resuming_gives_the_weights_of_a_run_that_never_stopped(
    runs, config, train, pairs_data, tmp_path, kind, r
):
    straight = find_checkpoint(runs[kind, r]).path
    killed = train(config(kind, r), tmp_path)
    shutil.rmtree(find_checkpoint(killed).path)  # as if it had ended after the checkpoint before
    assert find_checkpoint(killed).step == 2
    with resumed_session(killed.path, {}, [], pairs_data) as session:
        session.train(killed, None)
    resumed = find_checkpoint(killed).path
    for name in (MODEL, OPTIMIZER):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0, 2])
def test_saved_weights_load_back_bit_for_bit(runs, kind, r):
    trained = loaded(runs[kind, r])
    saved, own = load_file(trained.checkpoint.path / MODEL), trained.objective.state_dict()
    assert saved.keys() == own.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in saved.items())


def test_a_checkpoint_of_adapters_holds_nothing_else(runs):
    trained = loaded(runs["llama", 2])
    parts = trained.objective.parameters_by_part()
    saved = load_file(trained.checkpoint.path / MODEL)
    assert sum(tensor.numel() for tensor in saved.values()) == parts["adapters"] + 32  # the fingerprint
    moments = load_file(trained.checkpoint.path / OPTIMIZER)
    assert all(".adapters." in name for name in moments)
    manifest = json.loads(runs["llama", 2].manifest.read_text())
    assert manifest["parameters"] == {"total": sum(parts.values()), **parts}
    assert n_parameters(trained.objective) == parts["adapters"] + parts["frozen"]


def test_the_optimizer_gets_the_adapters_alone(runs, build):
    objective = loaded(runs["gemma", 2]).objective
    optimizer = build_optimizer(objective, from_mapping({}).optimizer)
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert given == {id(p) for p in objective.model.adapters.parameters()}
    frozen = dict(build("gemma").lm.named_parameters())
    now = dict(objective.model.lm.named_parameters())
    for name, before in frozen.items():
        after = now.get(name, now.get(name.replace(".weight", ".base_layer.weight")))
        assert torch.equal(after, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0, 2])
def test_the_exported_folder_gives_the_same_logits(runs, tmp_path, kind, r):
    trained = loaded(runs[kind, r])
    model, tokenizer = trained.objective.model, trained.objective.model.tokenizer
    text = "3 + 1 = 4"
    ids = torch.tensor([trained.tokenizer.encode(text)])
    with torch.no_grad():
        ours = model(ids)[0]
    export(trained, tmp_path / "out")
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    library = AutoTokenizer.from_pretrained(tmp_path / "out")
    begun = library(text, return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = lm(input_ids=begun).logits[0, -len(ours) :]
    known = [place for place, old in enumerate(tokenizer.order) if old is not None]
    theirs = theirs[:, [tokenizer.order[place] for place in known]]
    torch.testing.assert_close(ours[:, known], theirs, atol=1e-5, rtol=1e-5)
    assert library.pad_token_id not in (None, library.eos_token_id)
    assert lm.config.pad_token_id == library.pad_token_id
    assert lm.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0, 2])
def test_the_exported_folder_writes_as_the_run_does(runs, tmp_path, kind, r):
    trained = loaded(runs[kind, r])
    prompts = [Prompt(read_prompt(trained, f"{n} + 1 =").ids) for n in range(4)]
    own = writer_for(trained).write(prompts, seed=0).ids
    export(trained, tmp_path / "out")
    again = load_folder(tmp_path / "out", hardware=HardwareConfig(**CPU))
    assert again.tokenizer.encode("3 + 1 =") == trained.tokenizer.encode("3 + 1 =")
    assert writer_for(again).write(prompts, seed=0).ids == own
    assert again.config.model.lora.r == 0


def test_predictor_tokens_go_with_the_exported_folder(config, train, tmp_path):
    latent = {"latent": {"weight": 1.0, "predictor": "linear"}}
    trained = loaded(train(config("llama", 2, objective=latent), tmp_path / "runs"))
    prompts = [Prompt(read_prompt(trained, "3 + 1 =").ids)]
    (own,) = predict(trained, prompts)
    export(trained, tmp_path / "out")
    (again,) = predict(load_folder(tmp_path / "out", hardware=HardwareConfig(**CPU)), prompts)
    torch.testing.assert_close(again, own, atol=1e-5, rtol=1e-4)


def test_an_untrained_backbone_is_exported_as_it_came(backbones, build):
    for kind in KINDS:
        before = AutoModelForCausalLM.from_pretrained(backbones[kind])
        after = build(kind).plain()
        for name, weight in before.state_dict().items():
            now = after.state_dict()[name]
            if kind == "llama" and len(weight) == 282:  # the padding took the first row of no token
                weight, now = (torch.cat((rows[:280], rows[281:])) for rows in (weight, now))
            assert torch.equal(now, weight), name


def test_half_precision_is_exported_when_asked(runs, tmp_path):
    export(loaded(runs["llama", 2]), tmp_path / "out", half=True)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_a_folder_in_the_way_is_left_alone(runs, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="there already"):
        export(loaded(runs["llama", 2]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def end_after(trained, text):
    """Chance that the model ends after a text."""
    with torch.no_grad():
        last = trained.objective.model(torch.tensor([trained.tokenizer.encode(text)]))[0, -1]
    return float(last.softmax(-1)[TextTokenizer.END])


def test_pairs_are_learned_and_their_ends_too(config, train, tmp_path, continue_text):
    trained = loaded(train(config("llama", 0, steps=120), tmp_path))
    made = continue_text(trained, "3 + 1 =", length=12)
    assert made.text[0] in (" 4", " 4 4")  # both follow this source
    assert made.nfe < 12
    assert end_after(trained, "3 + 1 = 4 4") > 0.5


def test_adapters_learn_the_end(runs, config, train, tmp_path):
    trained = loaded(train(config("llama", 8, steps=60, lr=3e-2), tmp_path))
    before, after = (end_after(one, "3 + 1 = 4 4") for one in (loaded(runs["llama", 2]), trained))
    assert before < 0.05
    assert after > 0.2


def test_a_scorer_gives_the_nats_of_the_model(runs):
    trained = loaded(runs["gemma", 2])
    scorer = CausalScorer("gemma", trained.objective, trained.hardware, TextTokenizer.END)
    prompt, text = (trained.tokenizer.encode(part) for part in ("1 + 1 =", " 2 2"))
    (nats,) = scorer.nll([prompt], [text])
    prompt = [*prompt, TextTokenizer.END]
    with torch.no_grad():
        logits = trained.objective.model(torch.tensor([prompt + text]))[0]
    expected = -logits.log_softmax(-1)[range(len(prompt) - 1, len(prompt) + len(text) - 1), text]
    torch.testing.assert_close(torch.tensor(nats).float(), expected, atol=1e-5, rtol=1e-5)


def test_data_of_another_tokenizer_is_refused(config, pairs_data):
    for data in ("char", "llama"):
        with (
            pytest.raises(UsageError, match="was not prepared with the tokenizer of"),
            new_session(config("gemma", 0, data=data), pairs_data),
        ):
            pass


def test_nothing_of_equal_size_is_built_beside_a_backbone(runs):
    with pytest.raises(UsageError, match="give --baseline RUN"):
        untrained_counterpart(loaded(runs["gemma", 0]), None)


def test_phases_teach_the_adapters(config, train, tmp_path):
    phases = [{"name": "all"}, {"name": "again", "train": ["adapters"]}]
    run = train(config("llama", 2, phases=phases), tmp_path)
    model = loaded(run).objective.model
    assert isinstance(model, Backbone)
    ups = [weight for name, weight in model.adapters.named_parameters() if ".up." in name]
    assert all(weight.abs().sum() > 0 for weight in ups)  # they start at zero


@pytest.mark.parametrize("kind", KINDS)
def test_one_view_is_predicted_from_the_other(config, train, tmp_path, rows_of, kind):
    latent = {"weight": 1.0, "predictor_tokens": 2, "predictor": "linear", "target": "ema"}
    run = train(config(kind, 2, objective={"latent": latent, "tube": {"weight": 0.02}}), tmp_path)
    (first, last), (held_out, _) = rows_of(run), rows_of(run, "validation")
    assert {"train/term/latent", "train/term/tube"} <= last.keys()
    assert last["train/term/latent"] < first["train/term/latent"] < 2
    assert held_out["validation/view_rank"] >= 1
    model = loaded(run).objective.model
    width = model.tokens.weight.shape[1]
    parts = model.parameters_by_part()
    assert (parts["predictor_tokens"], parts["predictor"]) == (2 * width, width**2)
    assert not torch.equal(model.predictor.weight, torch.eye(width))
