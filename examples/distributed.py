"""The training of sudoku.py, data parallel: each process solves its part of each batch.

    torchrun --nproc-per-node 2 examples/distributed.py                  # gloo on CPUs
    torchrun --nproc-per-node 8 examples/distributed.py --device cuda    # nccl
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nproc-per-node 2 --max-restarts 3 examples/distributed.py --resume

The layer needs nothing special: it is stateless, and has the gradient of a parameter summed over its part, of which
DistributedDataParallel takes the mean over the processes, as of any other. With --max-restarts, torchrun starts the
processes anew when one of them dies, and with --resume they go on from the last checkpoint. Without the variable,
PyTorch 2.13 gives the new processes a store in which they find the addresses of the dead ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from harness import LEADS, curves
from sudoku import PANELS, Rules, parse_arguments, random_rules, split, train


class Part:
    """The part of this process of the batches of a loader, which is in the same order in all processes."""

    def __init__(self, loader: DataLoader):
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Sequence[Tensor]]:
        for batch in self.loader:
            yield [t[dist.get_rank() :: dist.get_world_size()] for t in batch]


def main() -> None:
    """Trains as sudoku.py does, with the same options."""
    args = parse_arguments("distributed")
    if args.device == "cuda":
        args.device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(args.device)
    dist.init_process_group("nccl" if "cuda" in args.device else "gloo")
    if args.batch % dist.get_world_size() or args.train % dist.get_world_size():
        raise SystemExit("--batch and --train must be multiples of the number of processes: all weigh the same")
    logs = {}
    loader, held_back = split(args)
    for layer in args.layer:
        torch.manual_seed(args.seed)
        model = DistributedDataParallel(Rules(random_rules(), layer, args.backend).to(args.device))
        logs[layer] = train(model, Part(loader), held_back, args, args.out / layer)
    if LEADS:
        curves(logs, PANELS, args.out / "curves.png", log_scale="loss")
    dist.barrier()  # no process leaves while another still needs it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
