"""The processes of one run, as torchrun starts them; a run in one process is the case of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather

from passerby.types import TrainingError


class Workers:
    """`count` processes that each see a part of every batch; this one is number `rank`.

    Features are gathered with their gradient, so that every process computes the losses of the whole batch, and the
    gradients are averaged: together they take the step that one process would take with that batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.began = False
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
            self.began = True

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self.began:
            distributed.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, length: int) -> slice:
        """This process's rows of a batch of `length`; TrainingError where they cannot be shared out evenly."""
        if length % self.count:
            raise TrainingError(f"batches of {length} pictures cannot be shared by {self.count} processes evenly")
        each = length // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def gather(self, features: Tensor) -> Tensor:
        """The rows of all processes, in order of rank, with their gradient."""
        return features if self.count == 1 else torch.cat(all_gather(features.contiguous()))  # type: ignore[no-untyped-call]

    def average_gradients(self, module: nn.Module) -> None:
        """Replace every gradient by its mean over the processes."""
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        said = torch.tensor([int(flag)], device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return bool(said.item())

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block, then the others: what it wrote, they find."""
        if self.count > 1 and not self.first:
            distributed.barrier()
        yield
        if self.count > 1 and self.first:
            distributed.barrier()
