"""A decoder with context on embeddings of a model without, tried with tiny runs."""

import one_pass_warm_start


def test_a_decoder_learns_to_read_the_embeddings_of_another_run(train_tiny, data_root, tmp_path, capsys):
    light = {"model__decoder__kind": "local", "objective__length__kind": "none", "data__name": "windows"}
    light |= {"model__source_len": 6, "model__target_len": 6, "objective__generation__weight": 1}
    runs = [train_tiny(tmp_path / str(m), **light, model__decoder__context=m) for m in (0, 1)]
    given = ["--data-dir", str(data_root), "--steps", "3", "--pairs", "2"]
    assert one_pass_warm_start.main([*(str(run.path) for run in runs), *given]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| as it was", "| decoder", "| predictor and decoder"]
    assert rows[0][2:] != rows[1][2:] != rows[2][2:]
