"""What the numbers of the loss terms count, for the axes of figures."""

from __future__ import annotations

UNITS = {
    "reconstruction": "nats a character or token",
    "generation": "nats a character or token",
    "embedding": "squared distance, sum over dims",
    "length": "squared positions",
    "kl": "nats a latent",
    "next_token": "nats a token",
    "tube": "1 - cosine",
}
DISTANCES = {
    "mse": UNITS["embedding"],
    "smooth_l1": "smooth L1 distance, sum over dims",
    "cosine": "1 - cosine",
    "energy": "energy score, of root mean squared distances",
}
LATENT_DISTANCES = {
    "cosine": "1 - cosine",
    "mse": "squared difference, mean over dims",
    "l2": "length of the difference",
    "infonce": "nats a pair",
}
