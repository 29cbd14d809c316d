"""Exact match of targets that end with the end token, and of targets that were cut."""

from dataclasses import replace

import torch

from jepalm.data.batches import Batch, pad_rows, with_end
from jepalm.evaluation.validation.exact_match import exact_match

CPU = torch.device("cpu")


def test_what_is_written_is_compared_without_the_end_token():
    source, target = pad_rows([[5], [6], [7]], CPU), pad_rows([[8, 9], [9], [8, 8]], CPU)
    whole = torch.tensor([True, True, False])
    batch = replace(Batch(source, with_end(target, whole), None, 3, 7), whole=whole)
    assert exact_match([batch], lambda part: [[8, 9], [9, 9], [8, 8]]) == 1 / 3
