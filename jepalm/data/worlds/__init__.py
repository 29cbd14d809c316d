"""Simulated worlds whose states and actions are texts."""

from __future__ import annotations

from jepalm.data.prepared import Simulated
from jepalm.data.worlds.base import AnyWorld
from jepalm.data.worlds.grid import Grid
from jepalm.data.worlds.home import Home

WORLDS: dict[str, type[AnyWorld]] = {world.name: world for world in (Home, Grid)}


def world_of(asked: Simulated) -> AnyWorld:
    """The simulator that prepared data were drawn from, built again from its meta.

    Raises:
        UsageError: a size that the world does not have.
    """
    return WORLDS[asked.world](asked.size, asked.objects, asked.noise, asked.distractors)
