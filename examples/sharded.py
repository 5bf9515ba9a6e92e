r"""One large batch of QPs in parts, each solved by a process of its own, and the gradients of what they share summed.

    torchrun --nproc-per-node 2 examples/sharded.py                  # gloo on CPUs
    torchrun --nproc-per-node 8 examples/sharded.py --device cuda    # nccl, a GPU for each process
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        examples/sharded.py --device cuda                            # on each of two machines

Every problem projects a point on ``C x <= u``, and C and u, shared by all, are learned from points and projections. A
process has its part of the points and a copy of C and u. It solves, and differentiates the sum of its errors; the
gradient that the layer gives of a shared argument is the sum over its part, so that one all_reduce makes it that of the
whole batch. The answers stay where they are, and are gathered once at the end.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

import qplayer_gpu as qp
from harness import LEADS

N, ROWS = 16, 8  # of a problem
SETTINGS = qp.Settings(eps_abs=1e-8)


def project(points: Tensor, C: Tensor, u: Tensor, backend: str) -> qp.Solution:
    """The closest points of the polyhedron: [B, n]."""
    return qp.solve_qp(torch.eye(N).to(points), -points, C=C, u=u, settings=SETTINGS, backend=backend)


def part(args: argparse.Namespace, C: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The points of this process, and their projections; a program with files would read its part of them."""
    generator = torch.Generator().manual_seed(args.seed)
    points = torch.randn(args.batch, N, generator=generator, dtype=torch.double)
    own = points.tensor_split(dist.get_world_size())[dist.get_rank()].to(args.device)
    return own, project(own, C, u, args.backend).check().x


def learn(args: argparse.Namespace) -> dict[str, Tensor]:
    """What was learned, the last gradients, and all answers: the same in every process."""
    torch.manual_seed(args.seed)
    C, u = (t.to(args.device) for t in (torch.randn(ROWS, N, dtype=torch.double), torch.ones(ROWS).double()))
    points, targets = part(args, C, u)
    learned = {"C": C + 0.3 * torch.randn(ROWS, N).to(C), "u": u + 0.3}
    for t in learned.values():
        dist.broadcast(t, 0)  # all begin with the same
        t.requires_grad_()
    optimizer = torch.optim.Adam(learned.values(), lr=0.02)
    start = time.perf_counter()
    for step in range(args.steps):
        solution = project(points, **learned, backend=args.backend)
        loss = (solution.x - targets).square().sum() / args.batch
        optimizer.zero_grad()
        loss.backward()
        for t in (loss, *(t.grad for t in learned.values())):
            dist.all_reduce(t.detach())
        optimizer.step()
        if LEADS:
            print(f"step {step + 1:3}  error {loss.item():.3e}", flush=True)
    if LEADS:
        print(f"{args.steps * args.batch / (time.perf_counter() - start):.0f} QPs with gradients per second")
    answers = solution.x.new_empty(args.batch, N)
    dist.all_gather(list(answers.chunk(dist.get_world_size())), solution.x.detach())
    gradients = {f"gradient of {name}": t.grad for name, t in learned.items()}
    return {"x": answers, **{name: t.detach() for name, t in learned.items()}, **gradients}


def main() -> None:
    """Learns, and saves what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8192, help="problems, of all processes together")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="of the tensors: cpu or cuda")
    parser.add_argument("--backend", default="auto", help="of the layer: auto, cpu, torch, triton or cuda")
    parser.add_argument("--out", type=Path, default=Path("runs", "sharded"), help="folder of what is written")
    args = parser.parse_args()
    if args.device == "cuda":
        args.device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(args.device)
    dist.init_process_group("nccl" if "cuda" in args.device else "gloo")
    if args.batch % dist.get_world_size():
        raise SystemExit("--batch must be a multiple of the number of processes: all gather parts of one size")
    learned = learn(args)
    if LEADS:
        args.out.mkdir(parents=True, exist_ok=True)
        torch.save(learned, args.out / "learned.pt")
    dist.barrier()  # no process leaves while another still needs it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
