"""What `jepalm export --onnx` writes: run by onnxruntime alone, it writes what the model writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jepalm
from jepalm.config import HardwareConfig
from jepalm.generation.loading import TrainedModel, load_trained
from jepalm.generation.onnx_export import TOLERANCE, check_onnx, write_onnx

pytestmark = pytest.mark.onnx
PLAIN = HardwareConfig(device="cpu", precision="fp32", threads=1, attention="matmul", packing=False)
LIGHT = {"objective__length__kind": "none", "objective__generation__weight": 1}
KINDS = {
    "parallel": {"objective__generation__weight": 1},
    "latents": {"model__latent__tokens": 2},
    "causal encoder": {"model__encoder__kind": "causal"},
    "aligned": {
        "model__source_positions": "aligned",
        "model__encoder__token_shift": 2,
        "objective__length__kind": "classification",
        "objective__length__relative": "true",
    },
    "local": {"model__decoder__kind": "local", "model__decoder__context": 3, **LIGHT},
    "recurrent": {"model__decoder__kind": "recurrent", **LIGHT},
}
PAD, END = 0, 2


@pytest.fixture(scope="module", params=KINDS)
def exported(
    request: pytest.FixtureRequest, train_tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A run with its three files beside it."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    run = train_tiny(folder / "runs", training__steps=20, **KINDS[request.param])
    trained = load_trained(run, hardware=PLAIN)
    check_onnx(trained)
    return trained, folder, write_onnx(trained, folder)


def greedy(folder: Path, trained: TrainedModel, prompt: str) -> str:
    """The loop of docs/export.md: nothing but numpy, onnxruntime and the tokenizer."""
    import onnxruntime

    parts = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder", "predictor", "decoder")
    }

    def run(name: str, **inputs: Any) -> dict[str, Any]:
        wanted = [one.name for one in parts[name].get_inputs()]
        names = [one.name for one in parts[name].get_outputs()]
        found = parts[name].run(names, {key: inputs[key] for key in wanted})
        return dict(zip(names, found, strict=True))

    model = trained.config.model
    ids = trained.tokenizer.encode(prompt + "\n")[-model.source_len :]
    lengths = np.array([len(ids)])
    read = run("encoder", ids=np.array([ids]), lengths=lengths)
    target_lengths = read.get("target_lengths", np.array([model.target_len]))
    predicted = run("predictor", **{"target_lengths": target_lengths, "lengths": lengths, **read})[
        "predicted"
    ]
    if not model.decoder.autoregressive:
        logits = run("decoder", predicted=predicted, target_lengths=target_lengths)["logits"][0]
        logits[:, : END + 1] = -np.inf
        return trained.tokenizer.decode(logits[: target_lengths[0]].argmax(-1))
    (m,) = [one.shape[1] for one in parts["decoder"].get_inputs() if one.name == "previous"]
    text, state = [], read.get("state")
    for place in range(model.target_len):
        before = [PAD] * m + ids + text
        previous = np.array([before[: -m - 1 : -1]])
        step = run("decoder", predicted=predicted[:, place], previous=previous, state=state)
        logits, state = step["logits"][0], step.get("next_state")
        logits[: END + (place == 0)] = -np.inf
        token = int(logits.argmax())
        if token == END:
            break
        text.append(token)
    return trained.tokenizer.decode(text)


def test_each_file_computes_what_the_model_computes(exported: Any):
    _, _, checked = exported
    assert [one.name for one in checked] == ["encoder.onnx", "predictor.onnx", "decoder.onnx"]
    assert all(one.difference < TOLERANCE / 10 for one in checked), checked


def test_the_files_write_the_text_that_the_model_writes(exported: Any):
    trained, folder, _ = exported
    prompts = ["3 abcd", "12 a", ""]
    model = jepalm.load(trained.run.path, device="cpu", precision="fp32")
    assert [greedy(folder, trained, one) for one in prompts] == model.generate(prompts, temperature=0)


@pytest.mark.parametrize("encoder", ["own", "shared"])
def test_a_world_model_is_exported_with_its_actions(encoder: str, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    moves = [(f"floor {n % 4}", f"floor {(n + 1) % 4}", "go up") for n in range(40)]
    data = jepalm.prepare_pairs(moves, "moves", data_dir=tmp_path)
    small = {"model.dim": 16, "model.n_heads": 2, "training.steps": 2, "training.batch_size": 4}
    small |= {"training.validation_batches": 1, "hardware.threads": 1, "hardware.device": "cpu"}
    settings = {**small, "model.action.encoder": encoder, "training.samples": 0}
    model = jepalm.train("transitions", data=data, settings=settings, run_dir=tmp_path / "runs")
    from jepalm.run import open_run

    checked = write_onnx(load_trained(open_run(model.path), hardware=PLAIN), tmp_path)
    assert all(one.difference < TOLERANCE / 10 for one in checked), checked


def test_the_command_writes_the_files_and_says_how_near_they_are(
    trained_run: Any, tmp_path: Path, capsys: Any
):
    pytest.importorskip("onnxruntime")
    from typer.testing import CliRunner

    from jepalm.cli import app

    found = CliRunner().invoke(
        app, ["export", str(trained_run.path), "--to", str(tmp_path / "out"), "--onnx"]
    )
    assert found.exit_code == 0, found.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"encoder.onnx", "predictor.onnx", "decoder.onnx", "model.safetensors"}
    assert "encoder.onnx" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["model_type"] == "jepalm"
    )
