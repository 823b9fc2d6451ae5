"""Trains, evaluates and exports the pocket model on every GPU of the machine:

    python3 train.py BOOKS_DIR OUT_DIR --seconds 1400

All schedules run on elapsed time. OUT_DIR/model is a Hugging Face folder, rewritten every two minutes; OUT_DIR/results.json
holds the loss curve and the evaluation, OUT_DIR/log-0.txt what happened. A number written into OUT_DIR/seconds or OUT_DIR/rate
changes the end of training, or scales the learning rate, while the program runs.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import pickle
import shutil
import subprocess
import sys
import time

START = float(os.environ.get("POCKET_START", time.time()))
os.environ["POCKET_START"] = str(START)

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import encoding
import evaluate
import export
from books import Books
from encoding import C_ANSWER, C_CITE, C_DOC, C_FIRST, C_LM, C_VERDICT, STALE
from feed import Feed, longest_prompt
from model import Pocket, dense_mask, flex_mask, norm
from optim import Muon

HERE = os.path.dirname(os.path.abspath(__file__))
WATCHED = dict(documents=C_DOC, answers=C_ANSWER, citations=C_CITE, first=C_FIRST, verdicts=C_VERDICT, text=C_LM)
CLOCK_EVERY = 16                                   # steps between agreements of all GPUs on the time
KEEP_EVERY = 120                                   # seconds between checkpoints


def loss_weights(x, device):
    """Weight of each target class at the fraction x of the run: plain language modelling first, then mostly answers."""
    early = max(0.0, 1 - x / .4)
    by_class = [0.0, .03 + .12 * early, .03 + .12 * early, 1.0, .15 + .25 * early, 1.5, 5.0, 5.0]
    return torch.tensor(by_class, device=device)


def answer_loss(x, emb, n, target, w):
    ce = F.cross_entropy(F.linear(norm(x, n), emb.to(x.dtype)).float().flatten(0, 1), target.flatten(), reduction="none")
    return (ce * w.flatten()).sum() / w.sum(), ce


def taught_loss(x, emb, n, target, w, tx, temb, tn, taught):
    """The same, plus the distance (KL) to a teacher's distributions where `taught`, the factor on it, is not zero."""
    own = F.linear(norm(x, n), emb.to(x.dtype)).float().flatten(0, 1)
    ce = F.cross_entropy(own, target.flatten(), reduction="none")
    with torch.no_grad():
        wanted = F.linear(norm(tx, tn), temb.to(tx.dtype)).float().flatten(0, 1).log_softmax(-1)
    kl = (wanted.exp() * (wanted - own.log_softmax(-1))).sum(-1)
    return ((ce + kl * taught.flatten()) * w.flatten()).sum() / w.sum(), ce, kl


class Trainer:
    def __init__(self, a, rank, world, feed, log):
        self.a, self.rank, self.world, self.feed, self.log = a, rank, world, feed, log
        self.dev = f"cuda:{rank}" if a.device == "cuda" else "cpu"
        torch.manual_seed(1)                       # the same weights everywhere
        self.model = Pocket(device=self.dev)
        self.answers = torch.tensor([C_ANSWER, C_CITE, C_FIRST, C_VERDICT], device=self.dev)
        if a.init:
            export.read_weights(self.model, a.init)
        self.rest = [p for p in self.model.parameters() if p.dim() < 2 or p is self.model.emb]
        self.muon = Muon([p for b in self.model.blocks for p in b.parameters() if p.dim() == 2], a.muon)
        self.adam = torch.optim.AdamW(self.rest, lr=a.adam, weight_decay=0.0, betas=(.9, .95))
        compiled = a.device == "cuda"
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.blocks, self.loss_fn = [wrap(b) for b in self.model.blocks], wrap(taught_loss if a.teacher else answer_loss)
        if a.teacher:                              # reads the flat prompts; never changed
            self.teacher = Pocket(device=self.dev)
            export.read_weights(self.teacher, a.teacher)
            self.teacher.requires_grad_(False)
            self.teacher_blocks = [wrap(b) for b in self.teacher.blocks]
        self.mask = dense_mask
        if compiled:
            from torch.nn.attention.flex_attention import create_block_mask
            build = wrap(create_block_mask)
            self.mask = lambda ex, seg, pos: flex_mask(ex, seg, pos, build)
        self.params = list(self.model.parameters())

    def batch(self):
        out = []
        for i, x in enumerate(self.feed.q.get()):
            t = torch.from_numpy(x.astype(np.int64 if i in (0, 4, 5, 8) else np.int32))
            out.append(t.pin_memory().to(self.dev, non_blocking=True) if self.a.device == "cuda" else t)
        return out

    def share_gradients(self):
        flat = torch.cat([p.grad.flatten() for p in self.params])
        dist.all_reduce(flat)
        flat /= self.world
        for p, g in zip(self.params, flat.split([p.numel() for p in self.params])):
            p.grad.copy_(g.view_as(p))

    def _override(self, name, default):
        """The number in the file OUT_DIR/name, if there is one: a running program can be steered by it."""
        path = f"{self.a.out}/{name}"
        if not os.path.exists(path):
            return default
        with open(path, encoding="utf-8") as f:
            return float(f.read() or default)

    def agree(self, t0):
        """(elapsed fraction of the time allowed, factor on the learning rate) by the first GPU, on all of them."""
        seconds, begin = self._override("seconds", self.a.seconds), self.a.start_at
        x = min(1.0, begin + (1 - begin) * (time.time() - t0) / (seconds - (t0 - START)))
        t = torch.tensor([x, self._override("rate", 1.0)], dtype=torch.float64, device=self.dev)
        if self.world > 1:
            dist.broadcast(t, 0)
        return t.tolist()

    @torch.no_grad()
    def taught(self, tok, pos, ex, match):
        """The teacher's last hidden state of the flat prompt for every token that stands behind the documents."""
        mask = self.mask(ex, torch.zeros_like(ex), pos)
        h, (cos, sin) = self.teacher.embed(tok), self.teacher.angles(pos)
        for block in self.teacher_blocks:
            h = block(h, cos, sin, mask)
        return h.gather(1, match.clamp(min=0)[..., None].expand(-1, -1, h.shape[-1]))

    def step(self, x, lr):
        """One update; returns the mean loss of every watched class, the distances to the teacher and the number of tokens."""
        tok, pos, ex, seg, cls, *flat, match = self.batch()
        w = F.pad(loss_weights(x, self.dev)[cls[:, 1:]] * (ex[:, 1:] == ex[:, :-1]) * (ex[:, 1:] >= 0), (0, 1))
        target_cls = F.pad(cls[:, 1:], (0, 1))
        mask = self.mask(ex, seg, pos)
        h, (cos, sin) = self.model.embed(tok), self.model.angles(pos)
        for block in self.blocks:
            h = block(h, cos, sin, mask)
        args, kl = (h, self.model.emb, self.model.n, F.pad(tok[:, 1:], (0, 1)), w), None
        if self.a.teacher:
            answers = torch.isin(target_cls, self.answers) & (match >= 0) & (w > 0)
            loss, ce, kl = self.loss_fn(*args, self.taught(*flat, match), self.teacher.emb, self.teacher.n, answers * self.a.teach)
        else:
            loss, ce = self.loss_fn(*args)
        loss.backward()
        if self.world > 1:
            self.share_gradients()
        self.adam.param_groups[0]["lr"] = self.a.adam * lr
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        self.muon.step(lr)
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            mean = lambda values, of: (values * of.flatten()).sum() / of.sum().clamp(min=1)
            losses = [mean(ce, target_cls == k) for k in WATCHED.values()]
            if kl is not None:                     # over all answers, and those behind documents that were placed
                example = ex.clamp(min=0).long()
                mixed = torch.zeros_like(ex).scatter_reduce_(1, example, (seg >= STALE).int(), "amax").gather(1, example) > 0
                losses += [mean(kl, answers), mean(kl, answers & mixed)]
            return torch.stack(losses + [(ex >= 0).sum()])

    def keep(self):
        """Writes the weights beside the last ones, then puts them in their place."""
        if self.rank:
            return
        new, final = f"{self.a.out}/model.new", f"{self.a.out}/model"
        shutil.rmtree(new, ignore_errors=True)
        export.write_configs(new)
        export.write_weights(self.model, new)
        shutil.copyfile(self.a.tokenizer, f"{new}/tokenizer.json")
        shutil.rmtree(final, ignore_errors=True)
        os.rename(new, final)

    def rehearse(self, tok, books):
        """Every part that runs after training, once, on a few prompts: a fault must show at the start."""
        if self.rank == 0:
            for cell in [evaluate.Cell("modes", "single", 512, 4, 1, modes=evaluate.modes.ALL), evaluate.Cell("refusal", "single", 512, 4, 1),
                         evaluate.Cell("accuracy", "unans", 0, 4, 1, docs=4), evaluate.Cell("accuracy", "vt1", 4000, 9, 1)]:
                self.log("rehearsal", evaluate.run_cell(self.model, evaluate.fill(cell, tok, books)))
            self.keep()
            self.log("rehearsal done")

    def run(self, rehearsal):
        a, t0, x, rate, step, hist, curve, tokens = self.a, None, 0.0, 1.0, 0, [], [], 0
        kept = warm = 0
        while True:
            since = 0 if t0 is None else step - warm
            if t0 and since % CLOCK_EVERY == 0:
                x, rate = self.agree(t0)
                if x >= 1:
                    break
            lr = rate * min(1.0, (since + 1) / 60) * (1 - x) / (1 - a.start_at) if t0 else .01
            hist.append(self.step(x, lr))
            step += 1
            if step == a.warm:                     # compiled by now: the clock starts
                if a.device == "cuda":
                    torch.cuda.synchronize()
                self.log("compiled and warm", step, "steps, losses", [round(v, 3) for v in hist[-1].float().tolist()])
                rehearsal(self)
                t0, hist, kept, warm = time.time(), [], time.time(), step
            if t0 and len(hist) == 50:
                m = torch.stack(hist).float()
                tokens, hist = tokens + self.world * int(m[:, -1].sum()), []
                row = dict(step=step, seconds=round(time.time() - t0, 1), tokens=tokens, longest=longest_prompt(x), queue=self.feed.q.qsize())
                row.update(zip([*WATCHED, "distance", "placed"], [round(v, 4) for v in m.mean(0)[:-1].tolist()]))
                curve.append(row)
                if step % 200 < 50 or step < 700:
                    self.log(*[f"{k} {v}" for k, v in row.items()])
            self.feed.progress.value = x
            if t0 and time.time() - kept > KEEP_EVERY:
                kept = time.time()
                self.keep()
        self.keep()
        return curve


def _prepare_cells(a, rank, world):
    """Makes this GPU's share of the evaluation prompts in the background and leaves them in a file."""
    os.nice(10)
    tok, books = encoding.load_tokenizer(a.tokenizer), Books(a.books, "eval")
    mine = [c for i, c in enumerate(evaluate.plan(a.prompts, composed=a.prompts // 2, position=5 * a.prompts)) if i % world == rank]
    global _fill
    _fill = lambda c: evaluate.fill(c, tok, books)
    with mp.get_context("fork").Pool(a.workers) as pool:
        cells = pool.map(_call_fill, mine, chunksize=1)
    with open(f"{a.out}/cells-{rank}.tmp", "wb") as f:
        pickle.dump(cells, f)
    os.rename(f"{a.out}/cells-{rank}.tmp", f"{a.out}/cells-{rank}.pkl")


def _call_fill(cell):
    return _fill(cell)


def _evaluate(a, rank, model, preparing, log):
    path, results, begin = f"{a.out}/cells-{rank}.pkl", {}, time.time()
    preparing.join()
    with open(path, "rb") as f:
        cells = pickle.load(f)
    for cell in cells:
        if time.time() - begin > a.judge:
            log("no time left for", cell.name)
            break
        results.update(evaluate.run_cell(model, cell))
        with open(f"{a.out}/results-{rank}.json", "w", encoding="utf-8") as f:
            json.dump(results, f)
    log("evaluated", len(results), "cells")


def _rank(a, rank, world):
    logfile = open(f"{a.out}/log-{rank}.txt", "a", encoding="utf-8")

    def log(*args):
        line = f"[{time.time() - START:6.1f}] " + " ".join(map(str, args))
        print(line, file=logfile, flush=True)
        if rank == 0:
            print(line, flush=True)
    books = Books(a.books)
    feed = Feed(a.tokenizer, books, 2 + rank, a.rows, a.workers)                         # forks before CUDA is initialised
    preparing = mp.get_context("fork").Process(target=_prepare_cells, args=(a, rank, world))
    preparing.start()
    if a.device == "cuda":
        torch.cuda.set_device(rank)
        torch._dynamo.config.cache_size_limit = 64
    torch.set_float32_matmul_precision("high")
    if world > 1:
        dist.init_process_group("nccl" if a.device == "cuda" else "gloo", init_method=f"tcp://127.0.0.1:{a.port}", rank=rank, world_size=world)
    log("read", len(books.passages), "passages;", world, "processes", a.device)
    tok, held = encoding.load_tokenizer(a.tokenizer), Books(a.books, "eval")
    trainer = Trainer(a, rank, world, feed, log)
    curve = trainer.run(lambda t: t.rehearse(tok, held))
    feed.stop()
    if rank == 0:
        with open(f"{a.out}/curve.json", "w", encoding="utf-8") as f:
            json.dump(curve, f)
    log("trained", curve[-1:] and curve[-1])
    _evaluate(a, rank, trainer.model, preparing, log)


def _collect(a, world):
    """Puts the curve and every process's figures into one file."""
    results = {}
    for name in ["curve"] + [f"results-{k}" for k in range(world)]:
        path = f"{a.out}/{name}.json"
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                got = json.load(f)
            results.update({"curve": got} if name == "curve" else got)
    with open(f"{a.out}/results.json", "w", encoding="utf-8") as f:
        json.dump(results, f)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("books"), p.add_argument("out")
    p.add_argument("--seconds", type=float, default=1400, help="training ends so long after the start of the program")
    p.add_argument("--judge", type=float, default=600, help="evaluation ends at most so long after training")
    p.add_argument("--tokenizer", default=os.path.join(HERE, "../../models/pocket/tokenizer.json"), help="trained anew where it does not exist")
    p.add_argument("--init", default="", help="start from the weights in this folder")
    p.add_argument("--teacher", default="", help="learn answers also from what the model in this folder says to the flat prompts")
    p.add_argument("--teach", type=float, default=2.0, help="weight of the distance to the teacher beside the loss")
    p.add_argument("--start-at", type=float, default=0.0, help="enter the curriculum at this fraction")
    p.add_argument("--muon", type=float, default=.01, help="peak learning rate of the matrices")
    p.add_argument("--adam", type=float, default=2e-3, help="peak learning rate of the embedding and the norms")
    p.add_argument("--rows", type=int, default=16, help="rows of 4,096 tokens a step and GPU")
    p.add_argument("--workers", type=int, default=14, help="generating processes a GPU")
    p.add_argument("--prompts", type=int, default=128, help="evaluation prompts a cell")
    p.add_argument("--warm", type=int, default=6, help="steps before the clock starts")
    p.add_argument("--processes", type=int, default=0, help="default: one a GPU")
    p.add_argument("--device", default="cuda")
    p.add_argument("--port", type=int, default=29517)
    p.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    world = a.processes or torch.cuda.device_count() or 1
    if a.rank >= 0:
        return _rank(a, a.rank, world)
    if not os.path.exists(a.tokenizer):
        subprocess.run([sys.executable, os.path.join(HERE, "tokenizer.py"), a.books, os.path.dirname(a.tokenizer)], check=True)
    procs = []
    for k in range(world):
        env = dict(os.environ, TORCHINDUCTOR_CACHE_DIR=os.environ.get("TORCHINDUCTOR_CACHE_DIR", f"{a.out}/inductor") + f"-{k}", OMP_NUM_THREADS="4")
        procs.append(subprocess.Popen([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--rank", str(k), "--processes", str(world)], env=env))
    codes = []
    while len(codes) < world:                      # one that fails takes the others with it
        codes = [q.returncode for q in procs if q.poll() is not None]
        if any(codes):
            for q in procs:
                q.terminate()
            break
        time.sleep(1)
    _collect(a, world)
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
