"""BarrierNet's filter of a robot among obstacles (Xiao et al., arXiv 2111.11277), a script of qpth's: one line changed.

The network sees where a unicycle is and proposes a turn and an acceleration; the layer takes the closest ones that keep
it out of a disc, by a control barrier function of second order whose gains the network chooses too. It learns from an
expert whose gains are fixed. A QP with one half-space has a closed form, and that is what the answers are checked by.

    cd examples && python -m ported.barriernet
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qplayer_gpu.compat import QpthQPFunction as QPFunction  # was: from qpth.qp import QPFunction

OBSTACLE, RADIUS, GOAL = (40.0, 15.0), 6.0, (50.0, 25.0)


def rows(states: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """``G u <= h``, [B, 1, 2] and [B, 1], of states [B, 4]: position, heading, speed; and gains [B, 2]."""
    x, y, heading, speed = states.unbind(-1)
    dx, dy, cosine, sine = x - OBSTACLE[0], y - OBSTACLE[1], heading.cos(), heading.sin()
    barrier = dx**2 + dy**2 - RADIUS**2
    rate = 2 * speed * (dx * cosine + dy * sine)
    turned = 2 * speed * (dy * cosine - dx * sine)
    G = -torch.stack([turned, 2 * (dx * cosine + dy * sine)], -1).unsqueeze(1)
    h = 2 * speed**2 + gains.sum(-1) * rate + gains.prod(-1) * barrier
    return G, h.unsqueeze(-1)


def closed_form(p: Tensor, G: Tensor, h: Tensor) -> Tensor:
    """The point of the half-space that is nearest to -p: [B, 2]."""
    a, excess = G.squeeze(1), -(G.squeeze(1) * p).sum(-1, keepdim=True) - h
    return -p - a * excess.clamp(min=0) / a.square().sum(-1, keepdim=True)


class BarrierNet(nn.Module):
    """Proposal and gains by a network, the control by a QP; the last QP is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()).double()
        self.proposal, self.gains = nn.Linear(32, 2).double(), nn.Linear(32, 2).double()

    def forward(self, states: Tensor) -> Tensor:
        """[B, 4] -> [B, 2]."""
        seen = self.body((states - states.new_tensor([40, 15, 0, 1])) / states.new_tensor([15, 15, 2, 1]))
        p, gains = self.proposal(seen), 4 * torch.sigmoid(self.gains(seen))
        G, h = rows(states, gains)
        self.qp = p, G, h
        Q = torch.eye(2, dtype=p.dtype).expand(len(p), 2, 2)
        e = torch.Tensor().to(p)
        return QPFunction(verbose=-1)(Q, p, G, h, e, e)


def demonstrations(count: int) -> tuple[Tensor, Tensor]:
    """States outside of the disc, and what the expert does there: [count, 4], [count, 2]."""
    low, high = torch.tensor([[25.0, 0, -3.1, 0.5], [55, 30, 3.1, 2]]).double()
    states = low + (high - low) * torch.rand(4 * count, 4).double()
    far = (states[:, :2] - states.new_tensor(OBSTACLE)).norm(dim=-1) > 1.05 * RADIUS
    states = states[far][:count]
    wanted = torch.atan2(GOAL[1] - states[:, 1], GOAL[0] - states[:, 0])
    turn = torch.remainder(wanted - states[:, 2] + torch.pi, 2 * torch.pi) - torch.pi
    control = torch.stack([turn, 1.5 - states[:, 3]], -1)
    return states, closed_form(-control, *rows(states, torch.full_like(control, 0.5)))


def train(steps: int = 100, batch: int = 128) -> tuple[list[float], tuple[Tensor, ...]]:
    """The losses, and the last answers with their QPs."""
    torch.manual_seed(0)
    states, controls = demonstrations(steps * batch)
    model = BarrierNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for x, u in zip(states.split(batch), controls.split(batch), strict=True):
        answer = model(x)
        loss = nn.functional.mse_loss(answer, u)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, (answer, *model.qp)


def error(answer: Tensor, p: Tensor, G: Tensor, h: Tensor) -> float:
    """How far answers are from the closed form."""
    return (answer - closed_form(p, G, h)).abs().max().item()


if __name__ == "__main__":
    losses, last = train()
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, {error(*last):.1e} from the closed form")
