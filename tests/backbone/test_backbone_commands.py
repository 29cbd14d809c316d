"""A backbone on the command line."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

run_command = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))["run_command"]
TINY = (
    "model.source_len=12",
    "model.target_len=12",
    "model.causal.context_len=32",
    "training.steps=4",
    "training.batch_size=8",
    "hardware.threads=1",
    "hardware.precision=fp32",
)


@pytest.fixture
def work(tmp_path):
    rows = [{"source": f"{n % 5} + 1 =", "target": f" {n % 5 + 1}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def prepared(work, backbone):
    code, out, err = run_command("prepare", "pairs", "rows.jsonl", "--tokenizer", backbone, cwd=work)
    assert code == 0, err
    return out


def test_from_pairs_to_an_exported_folder(work, backbones):
    backbone = backbones["gemma"]
    shown = prepared(work, backbone)
    assert f"bpe:280, 277 symbols + 3, of {backbone}" in shown
    assert f"jepalm train model.backbone={backbone} --preset lora --data rows" in shown
    asked = ("train", "--preset", "lora", f"model.backbone={backbone}", "--data", "rows", *TINY)
    code, out, err = run_command(*asked, cwd=work)
    assert code == 0, err
    # rank 16 of 2 layers, 16 to 32 and back: q, o, gate, up, down 48 each, k and v 32 each
    assert f"adapters {16 * 2 * (5 * 48 + 2 * 32):,} · frozen" in out
    assert run_command("generate", "3 + 1 =", cwd=work)[0] == 0
    code, out, err = run_command("export", "runs/latest", "--to", "out", cwd=work)
    assert code == 0, err
    assert "of step 4" in out
    names = {path.name for path in (work / "out").iterdir()}
    assert names >= {"model.safetensors", "tokenizer.json", "config.json", "README.md"}
    written = [
        run_command("generate", "3 + 1 =", "--json", "--precision=fp32", "--run", run, cwd=work)[1]
        for run in ("runs/latest", "out")
    ]
    assert json.loads(written[0])["texts"] == json.loads(written[1])["texts"]


def test_data_of_other_tokens_is_one_line(work, backbones):
    prepared(work, "byte")
    asked = ("train", "--preset", "lora", f"model.backbone={backbones['llama']}", "--data", "rows", *TINY)
    code, _, err = run_command(*asked, cwd=work)
    assert code == 2
    assert err == (
        f"error: data/rows was not prepared with the tokenizer of {backbones['llama']} "
        f"(prepare it with --tokenizer {backbones['llama']})\n"
    )


def test_the_missing_extra_is_one_line(work, backbones, monkeypatch):
    prepared(work, backbones["gemma"])
    monkeypatch.setattr("jepalm.data.backbone_tokenizer.find_spec", lambda name: None)
    from jepalm.data.backbone_tokenizer import load_backbone_tokenizer

    load_backbone_tokenizer.cache_clear()
    asked = ("train", "--preset", "lora", f"model.backbone={backbones['gemma']}", "--data", "rows", *TINY)
    code, _, err = run_command(*asked, cwd=work)
    assert code == 2
    assert err == "error: a Hugging Face model needs transformers and peft (pip install 'jepalm[hf]')\n"


def test_hidden_spans_need_a_tokenizer_with_a_mask(work, backbones):
    (work / "text.txt").write_text("to be or not\n" * 50)
    asked = ("prepare", "text", "text.txt", "--pairing", "spans", "--tokenizer", backbones["gemma"])
    code, _, err = run_command(*asked, cwd=work)
    assert code == 2
    assert "has no mask for hidden spans" in err


def test_a_causal_model_of_our_own_loads_no_library():
    code = "import sys, jepalm.session; sys.exit(bool({'transformers', 'peft'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
