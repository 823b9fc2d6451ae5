"""The ways of composing cached documents, in plain PyTorch.

A mode is a tuple: ("causal",), ("set",), ("free",), ("free-seq",), ("ape", temperature, factor) or
("repair", choice, amount).
"""
from __future__ import annotations

import math

import numpy as np
import torch

from encoding import FREE, MODES
from model import attend, dense_mask, rotate

ALL = [("causal",), ("set",), ("free",), ("free-seq",), ("ape", .9, 1.0), ("ape", .9, .81), ("repair", "none", 0), ("repair", "first", 4),
       ("repair", "first", 16), ("repair", "random", .15), ("repair", "blend", .15), ("repair", "blend", .5), ("repair", "all", 0)]


class Ape:
    """Queries of the tail see the documents at temperature `temp`; `factor` times that group's log-sum-exp weighs it against the rest."""

    def __init__(self, mask, doc_keys, tail, temp, factor):
        self.mask, self.doc, self.tail, self.temp, self.factor = mask, doc_keys[:, None, None, :], tail[:, None, :, None], temp, factor

    def attend(self, q, k, v):
        s = ((q.float() @ k.float().mT) / math.sqrt(q.shape[-1])).masked_fill(~self.mask, -1e30)
        docs, rest = (s / self.temp).masked_fill(~self.doc, -1e30), s.masked_fill(self.doc, -1e30)
        w = torch.sigmoid(self.factor * docs.logsumexp(-1, keepdim=True) - rest.logsumexp(-1, keepdim=True))
        merged = w * docs.softmax(-1) * self.doc + (1 - w) * rest.softmax(-1)
        both = self.tail & (self.mask & self.doc).any(-1, keepdim=True)
        return (torch.where(both, merged, s.softmax(-1)) @ v.float()).to(v.dtype)


def to_batch(items, dev):
    n = max(i.n for i in items)
    fills = dict(tok=0, same=0, seg=0, ex=-1, tail=0, local=10 ** 6)
    b = {k: torch.full((len(items), n), fill) for k, fill in fills.items()}
    for row, i in enumerate(items):
        for k, v in dict(tok=i.ids, same=i.positions("set"), seg=i.seg, ex=np.zeros(i.n)).items():
            b[k][row, :i.n] = torch.from_numpy(v.astype(np.int64))
        p = i.prefix
        for length in i.doc_lens:
            b["local"][row, p:p + length] = torch.arange(length)
            p += length
        b["tail"][row, p:i.n] = 1
    b["flat"], b["tail"] = torch.arange(n).expand(len(items), n), b["tail"].bool()
    return {k: v.to(dev) for k, v in b.items()}


def repair(model, b, select, amount):
    """Documents encoded alone after the prefix (cached stream), placed one after another by re-rotating their keys, then
    some of their tokens recomputed with the whole prompt in view (live stream), together with the question."""
    enc, place, docs = model.angles(b["same"]), model.angles(b["flat"]), b["seg"] > 0
    parallel, full = dense_mask(b["ex"], b["seg"], b["same"]), dense_mask(b["ex"], torch.zeros_like(b["seg"]), b["flat"])

    def top(score):                                # the share `amount` of all document tokens with the highest score
        rank = score.float().masked_fill(~docs, float("-inf")).argsort(1, descending=True).argsort(1)
        return docs & (rank < (docs.sum(1) * amount).ceil()[:, None])
    if select == "all":
        chosen = docs
    elif select == "first":
        chosen = docs & (b["local"] < amount)
    elif select == "random":
        chosen = top(torch.rand(docs.shape, device=docs.device))
    else:
        chosen = torch.zeros_like(docs)
    cached = live = model.embed(b["tok"])
    for layer, blk in enumerate(model.blocks):
        (qc, kc, vc), (qa, ka, va) = blk.qkv(cached), blk.qkv(live)
        if select == "blend":                      # layer 0 in full: at layer 1 it shows which values change
            chosen = docs if layer == 0 else top((va.float() - vc.float()).pow(2).sum((1, 3))) if layer == 1 else chosen
        m = (b["tail"] | chosen)[:, None, :, None]
        k, v = torch.where(m, ka, kc), torch.where(m, va, vc)
        cached = blk.finish(cached, attend(rotate(qc, *enc), rotate(kc, *enc), vc, parallel))
        live = blk.finish(live, attend(rotate(qa, *place), rotate(k, *place), v, full))
    return live


def hidden(model, b, mode):
    """Last hidden states of a batch under a mode."""
    if mode[0] == "repair":
        return repair(model, b, *mode[1:])
    if mode[0] == "ape":
        return model(b["tok"], b["same"], Ape(dense_mask(b["ex"], b["seg"], b["same"]), b["seg"] > 0, b["tail"], *mode[1:]))
    sees, place = MODES[mode[0]]
    seg = b["seg"]
    if sees == "all":
        seg = torch.zeros_like(seg)
    elif sees == "self":
        seg = torch.where(seg > 0, seg + FREE, seg)
    return model(b["tok"], b[place], dense_mask(b["ex"], seg, b[place]))
