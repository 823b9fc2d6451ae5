"""A plain Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings."""
from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from encoding import FREE, STALE
from export import SHAPE

try:
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
except ImportError:                                # an old torch: dense masks only
    BlockMask = ()


def rotate(x, cos, sin):                           # half-split pairing, as in Hugging Face's Llama
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat([-b, a], -1) * sin).to(x.dtype)


def norm(x, g, eps=SHAPE["eps"]):
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps) * g.float()).to(x.dtype)


def attend(q, k, v, mask):
    """q [B,H,T,D], k and v [B,G,S,D]; mask is a BlockMask, a boolean [B,1,T,S] (True = visible), or has an attend method."""
    if BlockMask and isinstance(mask, BlockMask):
        return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    if hasattr(mask, "attend"):
        return mask.attend(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, q, k, out = c["dim"], c["heads"] * c["hd"], c["kv"] * c["hd"], .02 / math.sqrt(2 * c["layers"])
        shapes = dict(wq=(q, d), wk=(k, d), wv=(k, d), wo=(d, q), wg=(c["ffn"], d), wu=(c["ffn"], d), wd=(d, c["ffn"]))
        self.hd, self.n1, self.n2 = c["hd"], nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape) * (out if name in ("wo", "wd") else .02)))

    def qkv(self, x):
        h = norm(x, self.n1)
        return [F.linear(h, w.to(h.dtype)).view(*x.shape[:2], -1, self.hd).transpose(1, 2) for w in (self.wq, self.wk, self.wv)]

    def finish(self, x, o):
        x = x + F.linear(o.transpose(1, 2).reshape(*x.shape[:2], -1), self.wo.to(x.dtype))
        h = norm(x, self.n2)
        return x + F.linear(F.silu(F.linear(h, self.wg.to(h.dtype))) * F.linear(h, self.wu.to(h.dtype)), self.wd.to(h.dtype))

    def forward(self, x, cos, sin, mask):
        q, k, v = self.qkv(x)
        return self.finish(x, attend(rotate(q, cos, sin), rotate(k, cos, sin), v, mask))


class Pocket(nn.Module):
    def __init__(self, c=SHAPE, device="cpu", dtype=torch.bfloat16):
        super().__init__()
        self.c, self.dtype, self.emb = c, dtype, nn.Parameter(torch.randn(c["vocab"], c["dim"]) * .02)
        self.blocks, self.n = nn.ModuleList(Block(c) for _ in range(c["layers"])), nn.Parameter(torch.ones(c["dim"]))
        self.to(device)
        step = c["theta"] ** (-torch.arange(0, c["hd"], 2, dtype=torch.float64) / c["hd"])
        a = torch.outer(torch.arange(2 * c["ctx"], dtype=torch.float64), step)
        self.cos, self.sin = (f(torch.cat([a, a], -1)).float().to(device) for f in (torch.cos, torch.sin))

    def angles(self, pos):
        return self.cos[pos.long()][:, None], self.sin[pos.long()][:, None]              # [B,1,T,hd]

    def embed(self, tok):
        return F.embedding(tok, self.emb).to(self.dtype)

    def head(self, x):
        return F.linear(norm(x, self.n), self.emb.to(x.dtype))

    def forward(self, tok, pos, mask):
        x, (cos, sin) = self.embed(tok), self.angles(pos)
        for b in self.blocks:
            x = b(x, cos, sin, mask)
        return x


def visible(ex_q, ex_k, seg_q, seg_k, pos_q, pos_k, i, j):
    """The one rule. Segments: 0 sees everything before it that is not stale; -1 the shared prefix; n > 0 document n (from
    FREE on: without the prefix; from STALE on: of a token that stands here for its own document only). Recomputed tokens come
    after all documents, so that what is before is a question of positions too."""
    own_q, own_k = seg_q - STALE * (seg_q >= STALE), seg_k - STALE * (seg_k >= STALE)
    seen = ((seg_q == 0) & (seg_k < STALE)) | (own_q == own_k) | ((seg_k == -1) & (own_q < FREE))
    return (i >= j) & (pos_q >= pos_k) & (ex_q == ex_k) & seen


def dense_mask(ex, seg, pos):
    n = torch.arange(ex.shape[1], device=ex.device)
    q, k = (lambda x: x[:, :, None]), (lambda x: x[:, None, :])
    return visible(q(ex), k(ex), q(seg), k(seg), q(pos), k(pos), n[:, None], n[None, :])[:, None]


def flex_mask(ex, seg, pos, build):
    rule = lambda b, h, i, j: visible(ex[b, i], ex[b, j], seg[b, i], seg[b, j], pos[b, i], pos[b, j], i, j)
    return build(rule, ex.shape[0], None, ex.shape[1], ex.shape[1], device=ex.device)
