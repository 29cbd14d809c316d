"""Several processes as torchrun starts them: `torchrun --nproc-per-node=8 -m jepalm train ...`."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from jepalm.hardware import Hardware
from jepalm.objective import Objective
from jepalm.run import RunFolder
from jepalm.training.checkpoint import Checkpoint, load_model, load_optimizer, save_checkpoint
from jepalm.training.optimizer import Optimizer
from jepalm.training.peers import Peer, meet

LAST_MOMENT_S = 1.0
"""What gloo's threads get at the end; a fifth of it was too little once, on a machine with other work."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    world_size: int = 1
    peers: tuple[Peer, ...] = ()
    """All of them, this one too; none of one alone."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def max(self, value: int) -> int:
        """The largest value over all processes, so that all leave a loop at the same step."""
        if self.world_size == 1:
            return value
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        flag = torch.tensor(value, device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return int(flag.item())

    def broadcast(self, text: str) -> str:
        """The first process's text, in all of them."""
        if self.world_size == 1:
            return text
        box = [text]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Go on once all processes have come here."""
        if self.world_size > 1:
            dist.barrier()


class WholeModel:
    """A model that every process holds as a whole, and so does one alone.

    Attributes:
        objective: owns the model; what is trained is marked so.
        hardware: its device.
        processes: those that train it.
        divided: whether a process holds only a part of every weight.
    """

    divided = False

    def __init__(self, objective: Objective, hardware: Hardware, processes: Processes) -> None:
        self.objective, self.hardware, self.processes = objective, hardware, processes

    def wrapped(self, *, partial: bool = False) -> nn.Module:
        """The objective with gradients that are the mean over all processes.

        Args:
            partial: a step may leave some of what is trained without a gradient; costs a walk of the graph.
        """
        if self.processes.world_size == 1:
            return self.objective
        gc.collect()  # a wrapper of an earlier phase would hold on to the gradients
        ids = [self.hardware.device.index] if self.hardware.device.type == "cuda" else None
        return DistributedDataParallel(self.objective, device_ids=ids, find_unused_parameters=partial)

    def exchange_gradients(self, model: nn.Module, now: bool) -> None:
        """Whether the next backward pass of a wrapped model adds up gradients over processes."""
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = now

    def measured(self) -> Objective:
        """The objective that the first process validates."""
        return self.objective

    def save(
        self, run: RunFolder, optimizer: Optimizer, state: dict[str, Any], before: Callable[[], None]
    ) -> Checkpoint | None:
        """Write a checkpoint of `state["step"]`, by the first process; None in the others.

        Args:
            run: the folder.
            optimizer: over the objective's parameters.
            state: what is saved beside the tensors.
            before: called first; what it raises ends the save.

        Raises:
            JepalmError: see `save_checkpoint`.
        """
        if not self.processes.first:
            return None
        before()
        return save_checkpoint(run, self.objective, optimizer, state)

    def load(self, checkpoint: Checkpoint, optimizer: Optimizer) -> None:
        """Load a checkpoint into objective and optimizer.

        Raises:
            JepalmError: it belongs to another config.
        """
        load_model(checkpoint, self.objective)
        load_optimizer(checkpoint, self.objective, optimizer)


@contextmanager
def join_processes(hardware: Hardware) -> Iterator[Processes]:
    """Join the processes that torchrun started; alone, do nothing."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Processes()
        return
    if hardware.device.type == "cuda":
        torch.cuda.set_device(hardware.device)
    dist.init_process_group("nccl" if hardware.device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), world_size, meet())
    finally:
        leave_group()


def leave_group() -> None:
    """Leave the group of processes, after gloo's threads have let go of the last tensors.

    A thread of gloo needs the interpreter's lock to drop a tensor, and the end of the group waits for that
    thread with the lock in hand (torch 2.13), wherever the last to know the group is dropped: a process that
    leaves at once after a sum can wait forever. Nothing tells when the threads are idle; they get a moment.
    """
    if dist.get_backend() == "gloo":
        time.sleep(LAST_MOMENT_S)
    dist.destroy_process_group()
