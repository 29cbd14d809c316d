"""Two tiny random models with their tokenizers on disk, as a hub would give them."""

import json
import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

SAMPLE = ["the cat sat on the mat, 1 + 1 = 2\n", "add: 12 13 14 15, then the cat ran <end>\n"] * 20
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def backend_of(added, size=280):
    """A byte-pair tokenizer with these tokens in front, as the `tokenizers` library has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=added,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SAMPLE, trainer=trainer)
    return backend


def tokenizer_of(kind):
    """Llama-like: the end is the padding, too, and nothing is put in front; Gemma-like: both is otherwise."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if kind == "llama":
        backend = backend_of(["<|start|>", "<|stop|>"])
        names = {"bos_token": "<|start|>", "eos_token": "<|stop|>", "pad_token": "<|stop|>"}
    else:
        backend = backend_of(["<pad>", "<eos>", "<bos>", "<unk>"])
        template = {"single": "<bos> $A", "special_tokens": [("<bos>", 2)]}
        backend.post_processor = processors.TemplateProcessing(**template)
        names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def model_of(kind, n_rows):
    """Llama-like: tables apart, two rows of no token; Gemma-like: one table, windows, soft caps."""
    import torch
    import transformers

    torch.manual_seed(7)
    if kind == "llama":
        config = transformers.LlamaConfig(vocab_size=n_rows + 2, tie_word_embeddings=False, **SIZES)
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.Gemma2Config(
            vocab_size=n_rows,
            sliding_window=4,
            query_pre_attn_scalar=8,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
            pad_token_id=0,
            **SIZES,
        )
        model = transformers.Gemma2ForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)  # so that a wrong mask shows
    return model


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """Folders of the two models by kind."""
    root = tmp_path_factory.mktemp("backbones")
    for kind in ("llama", "gemma"):
        tokenizer = tokenizer_of(kind)
        tokenizer.save_pretrained(root / kind)
        model_of(kind, len(tokenizer)).save_pretrained(root / kind)
    return {kind: str(root / kind) for kind in ("llama", "gemma")}


@pytest.fixture(scope="session")
def model_config(backbones):
    """Settings of a backbone."""
    from jepalm.config import ModelConfig

    def settings(kind, r=0, context_len=32, **changed):
        return ModelConfig.model_validate(
            {
                "family": "causal",
                "backbone": backbones[kind],
                "lora": {"r": r},
                "source_len": 12,
                "target_len": 12,
                "causal": {"context_len": context_len},
                **changed,
            }
        )

    return settings


@pytest.fixture(scope="session")
def build(model_config):
    """A backbone in evaluation mode."""
    from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
    from jepalm.model.backbone import Backbone

    def made(kind, r=0, attention="auto", predictor_tokens=0, **changed):
        config = model_config(kind, r, **changed)
        size = load_backbone_tokenizer(config.backbone).text.vocab_size
        return Backbone(config, size, attention, predictor_tokens=predictor_tokens).eval()

    return made


@pytest.fixture(scope="session")
def pairs_data(tmp_path_factory, backbones):
    """Folder of the same pairs prepared with each model's tokenizer, and by characters."""
    from jepalm.data.job import Job
    from jepalm.data.pairs.preparing import prepare_pairs
    from jepalm.data.pairs.reading import PairFiles
    from jepalm.data.prepared import Origin, Request

    root = tmp_path_factory.mktemp("data")
    rows = [{"source": f"{n % 5} + 1 =", "target": f" {n % 5 + 1}" * (1 + n % 2)} for n in range(60)]
    path = root / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, tokenizer in {**backbones, "char": "char"}.items():
        asked = Request(pairing="pairs", tokenizer=tokenizer, split=(80.0, 10.0, 10.0))
        origin = Origin(source="given pairs", where=["rows.jsonl"])
        prepare_pairs(Job(root, name, "pairs", origin, "none", asked), PairFiles(path, False))
    return root
