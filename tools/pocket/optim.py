"""Muon for the matrices inside the blocks."""
from __future__ import annotations

import torch


def newton_schulz(g):
    """Approximate orthogonal factor of each matrix in a stack."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Muon:
    """Nesterov momentum, then an orthogonalised update; equal shapes are batched. Decay is decoupled."""

    def __init__(self, params, lr, momentum=0.95, decay=0.05):
        self.lr, self.mom, self.decay, self.groups = lr, momentum, decay, {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.buf = {s: torch.zeros(len(ps), *s, device=ps[0].device) for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, factor):
        for s, ps in self.groups.items():
            g, m = torch.stack([p.grad for p in ps]), self.buf[s]
            m.lerp_(g, 1 - self.mom)
            u = newton_schulz(g.lerp(m, self.mom)).float() * (max(1, s[0] / s[1]) ** .5 * self.lr * factor)
            torch._foreach_mul_(ps, 1 - self.lr * factor * self.decay)
            torch._foreach_sub_(ps, list(u.unbind(0)))
