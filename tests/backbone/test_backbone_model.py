"""The adapter against the library's own pass, and against itself in other layouts."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from jepalm.config import ModelConfig
from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.errors import JepalmError, UsageError
from jepalm.model.backbone import Backbone
from jepalm.model.backbone_loading import fingerprint_of

KINDS = ["llama", "gemma"]


def drawn(model, *lengths, seed=0):
    """Texts of any tokens but the specials, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, model.vocab_size, (len(lengths), max(lengths)), generator=generator)
    return ids * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def theirs(backbones, kind, ids):
    """Our tokens but the padding, and the library's logits of them after each of our ids (T, V')."""
    tokenizer = load_backbone_tokenizer(backbones[kind])
    own = [tokenizer.order[token] for token in ids.tolist()]
    begun = tokenizer.library("", add_special_tokens=True).input_ids + own
    lm = AutoModelForCausalLM.from_pretrained(backbones[kind], attn_implementation="eager").eval()
    with torch.no_grad():
        logits = lm(input_ids=torch.tensor([begun]), use_cache=False).logits[0, -len(own) :]
    known = [place for place, old in enumerate(tokenizer.order) if place and old is not None]
    return known, logits[:, [tokenizer.order[place] for place in known]]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_library(backbones, build, kind):
    model = build(kind)
    ids = drawn(model, 9)
    known, expected = theirs(backbones, kind, ids[0])
    with torch.no_grad():
        ours = model(ids)[0, :, known]
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_new_padding_is_never_likelier_than_the_average(build):
    model = build("llama")
    with torch.no_grad():
        logits = model(drawn(model, 9))  # (1, T, V)
    known = torch.tensor([place for place, old in enumerate(model.order) if old is not None])
    rows = model.lm.get_output_embeddings().weight[known]  # tokens, and rows of no token
    torch.testing.assert_close(model.lm.get_output_embeddings().weight[0], rows.mean(0), atol=1e-2, rtol=0)
    assert (logits.softmax(-1)[..., 0] <= 1 / model.vocab_size).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["auto", "matmul"])
def test_packed_texts_equal_texts_read_alone(build, kind, attention):
    model = build(kind, attention=attention, predictor_tokens=2)
    lengths = ((7, 5), (3, 8))
    predicting = model.tokens.num_embeddings + torch.arange(2)
    rows, alone, segments = [], [], []
    for place, (first, second) in enumerate(lengths):
        one = torch.cat((drawn(model, first, seed=2 * place)[0], predicting))
        two = drawn(model, second, seed=2 * place + 1)[0]
        width = sum(lengths[0]) + 2
        rows.append(F.pad(torch.cat((one, two)), (0, width - len(one) - len(two))))
        numbers = torch.tensor([0] * len(one) + [1] * len(two))
        segments.append(F.pad(numbers, (0, width - len(numbers)), value=2))
        alone += [one, two]
    with torch.no_grad():
        packed = model.hidden(torch.stack(rows), segments=torch.stack(segments))
        separate = [model.hidden(text[None])[0] for text in alone]
    for place, (one, two) in enumerate(zip(separate[::2], separate[1::2], strict=True)):
        both = torch.cat((one, two))
        torch.testing.assert_close(packed[place, : len(both)], both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_right_changes_nothing(build, kind):
    model = build(kind)
    ids = drawn(model, 6, 9)
    with torch.no_grad():
        together, alone = model.hidden(ids)[0, :6], model.hidden(ids[:1, :6])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_reading_with_a_cache_equals_reading_at_once(build, kind):
    """Texts of unequal length, longer than the sliding window."""
    model = build(kind)
    ids, more = drawn(model, 9, 3, 6), drawn(model, 2, 2, 2, seed=1)
    lengths = torch.tensor([9, 3, 6])
    with torch.no_grad():
        cache = model.new_cache(3)
        first = model.hidden(ids, cache)
        cache.lengths = lengths  # as generation does
        after = [model.hidden(more[:, [step]], cache)[:, 0] for step in range(2)]
        for row, length in enumerate(lengths):
            whole = model.hidden(torch.cat((ids[row, :length], more[row]))[None])[0]
            torch.testing.assert_close(first[row, :length], whole[:length], atol=1e-5, rtol=1e-5)
            for step in range(2):
                torch.testing.assert_close(after[step][row], whole[length + step], atol=1e-5, rtol=1e-5)
    assert (cache.filled, cache.room) == (11, 32)


@pytest.mark.parametrize("r", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_recomputing_gives_the_same_gradients(build, kind, r):
    found = []
    for recompute in (False, True):
        torch.manual_seed(3)
        model = build(kind, r, gradient_checkpointing=recompute).train()
        calls = []
        layer = model.lm.base_model.layers[0].self_attn
        layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(None))
        model(drawn(model, 8, 5)).square().mean().backward()
        found.append((len(calls), {name: p.grad for name, p in model.named_parameters()}))
    (once, plain), (again, recomputed) = found
    assert (once, again) == (1, 2)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-4)


def test_adapters_are_all_that_learns_and_all_that_is_saved(build):
    model = build("llama", r=2)
    whole = build("llama")
    # q 16x32, k and v 16x16, o 32x16, gate and up 16x32, down 32x16: rank 2 times in + out, 2 layers
    expected = 2 * 2 * (48 + 32 + 32 + 48 + 3 * 48)
    assert model.parameters_by_part() == {"adapters": expected}
    assert sum(p.numel() for p in model.parameters()) == expected
    assert (
        model.n_frozen
        == sum(p.numel() for p in whole.parameters())
        == sum(whole.parameters_by_part().values())
    )
    assert whole.parameters_by_part().keys() == {"decoder", "vocabulary"}
    assert build("gemma").parameters_by_part().keys() == {"decoder"}
    assert {name.split(".")[0] for name in model.state_dict()} == {"adapters", "fingerprint"}
    assert sum(t.numel() for t in model.state_dict().values()) == expected + 32


def test_adapters_at_the_start_change_nothing_and_alpha_is_twice_the_rank(build):
    model, whole = build("llama", r=2), build("llama")
    ids = drawn(model, 7)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), whole(ids), atol=0, rtol=0)
    layers = [layer for layer in model.lm.modules() if isinstance(layer, LoraLayer)]
    assert {layer.scaling["default"] for layer in layers} == {2.0}


def test_other_seeds_draw_other_adapters(build):
    def down(seed):
        torch.manual_seed(seed)
        return next(iter(build("llama", r=2).adapters.parameters()))

    assert torch.equal(down(1), down(1))
    assert not torch.equal(down(1), down(2))


def test_a_copy_shares_what_stands_still_and_nothing_else(build):
    model = build("gemma", r=2)
    made = copy.deepcopy(model)
    ids = drawn(model, 7)
    own, others = model._frozen(), made._frozen()
    assert len(own) == len(others)
    assert all(one is other for one, other in zip(own, others, strict=True))
    with torch.no_grad():
        before = model(ids)
        for weight in made.parameters():
            weight.add_(1.0)
        assert torch.equal(model(ids), before)
        assert not torch.equal(made(ids), before)


def test_what_stands_still_may_stay_in_half_precision(backbones, model_config, tmp_path):
    lm = AutoModelForCausalLM.from_pretrained(backbones["llama"])
    lm.to(torch.bfloat16).save_pretrained(tmp_path)
    load_backbone_tokenizer(backbones["llama"]).library.save_pretrained(tmp_path)
    config = model_config("llama", r=2).model_copy(update={"backbone": str(tmp_path)})
    half, full = (Backbone(config, 282, half=half, predictor_tokens=2) for half in (True, False))
    assert {p.dtype for p in half._frozen()} == {torch.bfloat16}
    assert {p.dtype for p in full._frozen()} == {torch.float32}
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert torch.equal(half.fingerprint, full.fingerprint)
    whole = Backbone(config.model_copy(update={"lora": ModelConfig().lora}), 282, half=True)
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = half(drawn(half, 8)).float().square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in half.parameters())


def test_adapters_of_another_backbone_are_refused(build):
    model, other = build("llama", r=2), build("llama", r=2)
    saved = model.state_dict()
    other.load_state_dict(saved)
    with torch.no_grad():
        other.lm.get_input_embeddings().weight[5, 5] += 1e-6
    other.fingerprint = fingerprint_of(other.lm)
    with pytest.raises(JepalmError, match="another backbone"):
        other.load_state_dict(saved)


def test_a_model_that_lacks_weights_is_refused(backbones, model_config, tmp_path):
    shutil.copytree(backbones["llama"], tmp_path / "llama")
    file = tmp_path / "llama" / "model.safetensors"
    weights = load_file(file)
    del weights["lm_head.weight"]
    save_file(weights, file, {"format": "pt"})
    config = model_config("llama").model_copy(update={"backbone": str(tmp_path / "llama")})
    with pytest.raises(UsageError, match=r"lacks weights of a causal model, such as lm_head\.weight"):
        Backbone(config, 282)
    file.write_bytes(b"broken")
    with pytest.raises(UsageError, match="cannot load the model"):
        Backbone(config, 282)


def test_a_context_longer_than_the_model_reads_is_refused(build):
    with pytest.raises(UsageError, match="it reads 63 tokens"):
        build("gemma", context_len=64)
    assert build("llama", context_len=64).context_len == 64


def test_fused_attention_of_a_model_that_caps_scores_is_refused(build):
    with pytest.raises(UsageError, match="caps its attention scores"):
        build("gemma", attention="sdpa")


def test_another_vocabulary_than_the_datas_is_refused(model_config):
    with pytest.raises(UsageError, match="280 tokens, the data's 100"):
        Backbone(model_config("gemma"), 100)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dim": 64}, "model.dim does nothing with model.backbone"),
        ({"causal": {"n_layers": 2}}, "model.causal.n_layers does nothing"),
        ({"backbone": None}, "model.lora does nothing without model.backbone"),
        ({"lora": {"alpha": 3}}, "model.lora does nothing with model.lora.r=0"),
    ],
)
def test_settings_that_do_nothing_are_refused(changed, words):
    given = {"family": "causal", "backbone": "some/model", "lora": {"r": 2}, **changed}
    with pytest.raises(ValueError, match=words):
        ModelConfig.model_validate(given)
