"""One model over several processes, each of which holds a part of every weight, gradient and moment.

`fully_shard` (FSDP2) divides them; `torch.distributed.checkpoint` writes and reads each process's part, at
any number of processes. The weights of a checkpoint are consolidated to one file, so that everything that
reads a run reads a sharded one too.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jepalm.errors import JepalmError
from jepalm.hardware import Hardware
from jepalm.model.recomputing import transformer_blocks
from jepalm.objective import Objective
from jepalm.run import RunFolder
from jepalm.training.checkpoint import (
    MODEL,
    SHARDS,
    Checkpoint,
    checkpoint_bytes,
    misfit,
    moments_folder,
    writing,
)
from jepalm.training.distributed import Processes, WholeModel
from jepalm.training.optimizer import Optimizer, load_named_state, named_state

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


def is_sharded(hardware: Hardware) -> bool:
    """Whether a training divides its model: it is asked to, and there are other processes."""
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return hardware.parallel == "fsdp" and together


def shard(objective: nn.Module, hardware: Hardware) -> None:
    """Divide an objective among all processes; a block's weights are whole only while it computes.

    ZeRO, stage 3 (arXiv 1910.02054). In bf16 the weights of blocks are gathered in bf16 and their gradients
    are added up in float32. What stands outside of blocks stays in float32, as under autocast. All processes
    must have drawn the same weights.
    """
    from torch.distributed.device_mesh import init_device_mesh  # these take long to load
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(hardware.device.type, (dist.get_world_size(),))
    half = hardware.precision == "bf16"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,
    )
    for block in list(transformer_blocks(objective)):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh)


def whole(value: Tensor) -> Tensor:
    """A tensor of which each process may hold a part, whole; all processes must call it."""
    full = getattr(value, "full_tensor", None)  # of a DTensor alone
    found: Tensor = value if full is None else full()
    return found


class ShardedModel(WholeModel):
    """A model of which each process holds a part; all of them must call what it offers."""

    divided = True

    def __init__(self, objective: Objective, hardware: Hardware, processes: Processes) -> None:
        super().__init__(objective, hardware, processes)
        self._replica = copy.deepcopy(objective) if processes.first else None
        shard(objective, hardware)

    def wrapped(self, *, partial: bool = False) -> nn.Module:
        """The objective itself, which is divided where it stands."""
        return self.objective

    def exchange_gradients(self, model: nn.Module, now: bool) -> None:
        """Whether the next backward pass adds up gradients over processes."""
        cast("FSDPModule", self.objective).set_requires_gradient_sync(now)

    @torch.no_grad()
    def measured(self) -> Objective:
        """All weights and buffers gathered in a module of the same kind, on the first process."""
        own: dict[str, Tensor] = {}
        if self._replica is not None:
            own = {**self._replica.state_dict(), **dict(self._replica.named_buffers())}
        for name, value in {**self.objective.state_dict(), **dict(self.objective.named_buffers())}.items():
            found = whole(value)
            if name in own:
                own[name].copy_(found)
        return self._replica or self.objective

    def save(
        self, run: RunFolder, optimizer: Optimizer, state: dict[str, Any], before: Callable[[], None]
    ) -> Checkpoint:
        """Write a checkpoint of the first process's `state["step"]`, each process its part.

        Args:
            run: the folder, which all processes reach.
            optimizer: over the objective's parameters.
            state: the first process's counts.
            before: called by the first process; what it raises ends the save in all of them.

        Raises:
            JepalmError: not enough disk space, or a process cannot write. Nothing is left behind.
        """
        from torch.distributed.checkpoint.api import CheckpointException

        from jepalm.training.shards import write_consolidated, write_shards

        fault, place = JepalmError("the first process cannot save"), ""
        with ExitStack() as held:
            if self.processes.first:
                try:
                    before()
                    size = checkpoint_bytes(self.objective)
                    place = str(held.enter_context(writing(run, state, size)))
                except JepalmError as error:
                    fault = error
            folder = Path(self.processes.broadcast(place))
            if not folder.parts:
                raise fault
            try:
                write_consolidated(folder / MODEL, dict(self.objective.state_dict()))
                write_shards(folder / SHARDS, named_state(optimizer, self.objective))
            except CheckpointException as error:
                reason = str(next(iter(error.failures.values()))[0])
                if self.processes.first:
                    raise OSError(errno.EIO, reason) from None
                raise JepalmError(f"cannot save {folder}: {reason}") from None
        return Checkpoint.of(run, state["step"])

    def load(self, checkpoint: Checkpoint, optimizer: Optimizer) -> None:
        """Load a checkpoint of any kind into objective and optimizer; each process reads its part.

        Raises:
            JepalmError: it belongs to another config.
        """
        from torch.distributed.checkpoint.api import CheckpointException

        from jepalm.training.shards import read_parts, sizes

        folder = moments_folder(checkpoint)
        targets: dict[str, Tensor] = {}
        try:
            read_parts(checkpoint.path, dict(self.objective.state_dict()))
            known = sizes(folder)
            for name, parameter in self.objective.named_parameters():
                for key in (key for key in known if key.startswith(f"{name}/")):
                    of_all = key.endswith("/step")  # no process has a part of a count
                    targets[key] = torch.zeros(known[key]) if of_all else torch.zeros_like(parameter)
            read_parts(folder, targets)
        except (CheckpointException, RuntimeError, ValueError, KeyError):
            raise misfit(checkpoint, "model") from None
        load_named_state(optimizer, self.objective, targets)
