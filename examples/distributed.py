"""Distributed data parallel training of a model with a QP layer: the gradients are those of one process.

    torchrun --nproc-per-node 2 examples/distributed.py          # gloo on CPUs
    torchrun --nproc-per-node 8 examples/distributed.py          # nccl where there are GPUs

Each process has its part of the batch. The layer needs nothing special: it is stateless, and has the gradient of a
parameter summed over its part, of which DistributedDataParallel takes the mean over the processes, as of any other.
"""

from __future__ import annotations

import argparse
import copy
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import qplayer_gpu as qp


class Portfolio(nn.Module):
    """Weights of assets that balance predicted returns and a learned risk: x >= 0, sum x = 1."""

    def __init__(self, features: int, assets: int):
        super().__init__()
        self.returns = nn.Linear(features, assets, dtype=torch.float64)
        self.risk = nn.Parameter(torch.eye(assets, dtype=torch.float64))
        self.layer = qp.QPLayer()
        self.register_buffer("ones", torch.ones(1, assets, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """[B, features] -> [B, assets]."""
        one, none = self.ones[:, 0], torch.zeros_like(self.ones[0])
        H = self.risk @ self.risk.mT
        return self.layer(H, -self.returns(features), A=self.ones, b=one, lb=none).check().x


def data(count: int, features: int, assets: int) -> tuple[Tensor, Tensor]:
    """Features and the returns that follow, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return x, x @ torch.randn(features, assets, generator=generator, dtype=torch.float64)


def step(model: nn.Module, features: Tensor, returns: Tensor) -> Tensor:
    """The loss of a batch, its gradients in the parameters."""
    model.zero_grad()
    loss = -(model(features) * returns).sum(-1).mean()
    loss.backward()
    return loss


def main() -> None:
    """Trains, then compares the gradients with those of one process that has the whole batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64, help="in each process")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    torch.manual_seed(0)
    model = Portfolio(8, 12).to(device)
    alone, model = copy.deepcopy(model), DistributedDataParallel(model)
    features, returns = (t.to(device) for t in data(world * args.batch, 8, 12))
    part = slice(rank * args.batch, (rank + 1) * args.batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for i in range(args.steps):
        alone.load_state_dict(model.module.state_dict())
        loss = step(model, features[part], returns[part])
        whole = step(alone, features, returns)
        pairs = zip(model.parameters(), alone.parameters(), strict=True)
        difference = max((p.grad - q.grad).abs().max().item() for p, q in pairs)
        if rank == 0:
            print(f"step {i}: loss of this part {loss.item():.6f}, of the whole {whole.item():.6f}, ", end="")
            print(f"largest difference of gradients {difference:.1e}")
        if difference > 1e-8:  # the solves are good to 1e-9
            raise SystemExit("the gradients of the processes are not those of one")
        optimizer.step()
    dist.barrier()  # no process leaves while another still needs it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
