#!/usr/bin/env python3
"""Runs one model of random weights through spanwise and through other engines, in turn, and prints the ratios.

Repeats alternate between the two engines of a row, with the machine's read bandwidth measured in between, so that both
meet the same machine. Values are medians, in tokens a second; a ratio above 1 says that spanwise is faster. Measure on
a quiet machine: engines suffer unequally from other processes, whose share of the CPUs stands in the last column. Peers
that are not installed are named and left out. Packages: python/requirements-bench.txt. Models are made once and kept.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import peers
import random_llama

ROOT = Path(__file__).resolve().parent.parent
DTYPES = ("bf16", "q8", "q4")
CASES = ("prefill", "decode")
UNIT = "tokens/s"
WARM_UP_CONTEXT, WARM_UP_TOKENS = 32, 4
BUSY = 0.05  # of the CPUs, used by other processes: worth a warning


class Failure(Exception):
    """What went wrong and what to do, in one line."""


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def list_of(known):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def shape_of(text):
    try:
        return random_llama.parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name, kind, default, text):
        shown = ",".join(default) if isinstance(default, (list, tuple)) else default
        parser.add_argument(name, type=kind, default=default, help=f"{text} (default: {shown})")

    add("--shape", shape_of, "1b", "1b, 8b or LAYERSxHIDDENxFFNxHEADSxKVHEADS")
    add("--cases", list_of(CASES), CASES, "what to measure")
    add("--dtypes", list_of(DTYPES), DTYPES, "weights in memory")
    add("--peers", list_of(tuple(peers.PEERS)), tuple(peers.PEERS), "engines to compare with")
    add("--threads", positive, len(os.sched_getaffinity(0)), "threads of each engine")
    add("--repeats", positive, 3, "measured runs of each engine and case")
    add("--prompt-tokens", positive, 512, "prompt of prefill")
    add("--context", positive, 512, "context of decode")
    add("--decode-tokens", positive, 64, "tokens decoded")
    add("--models", Path, ROOT / "build/bench-models", "folder that keeps the models")
    add("--spanwise", Path, ROOT / "build/release/spanwise", "the program")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser.parse_args()


def spanwise_rows(options, *words):
    command = [str(options.spanwise), "bench", *words, "--threads", str(options.threads), "--repeats", "1", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"cannot run {options.spanwise}: {error.strerror}; build it with make") from None
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} failed: {' '.join(done.stderr.split())}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def read_bandwidth(options):
    """GB/s"""
    for row in spanwise_rows(options, "limits"):
        if row["case"].get("what") == "memory read":
            return row["value"]
    raise Failure(f"{options.spanwise} bench limits has no row 'memory read'")


def our_row(options, folder, case, dtype):
    tokens = options.prompt_tokens if case == "prefill" else options.context
    # Quantising at each start takes far longer than the measurement, and the file holds what the peers read.
    model = folder / ("hf" if dtype == "bf16" else f"{dtype}.gguf")
    rows = spanwise_rows(options, case, "--model", str(model), "--dtype", dtype, "--prompt-tokens", str(tokens),
                         "--decode-tokens", str(options.decode_tokens))
    return rows[0]


class OthersClock:
    """The share of the CPUs' time that went to processes other than ours and the peer's."""

    def __init__(self, running):
        self.running = running
        self.before = self.times()

    def times(self):
        """Clock ticks of all CPUs: all, idle, and ours."""
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK") + self.running.cpu_ticks()
        return sum(ticks), ticks[3] + ticks[4], own

    def share(self):
        total, idle, own = (b - a for a, b in zip(self.before, self.times()))
        return max(0.0, (total - idle - own) / total) if total else 0.0


def their_rate(options, running, case, ids):
    if case == "prefill":
        return options.prompt_tokens / running.prefill(ids[:options.prompt_tokens])
    return options.decode_tokens / running.decode(ids[:options.context], options.decode_tokens)


def measure(options, folder, running, peer, case, dtype, bandwidths):
    """A row of the two engines, run in turn."""
    draw = random.Random(0)
    n_ids = max(options.prompt_tokens, options.context)
    prompts = [[draw.randrange(options.shape.vocab) for _ in range(n_ids)] for _ in range(options.repeats + 1)]
    if case == "prefill":
        running.prefill(prompts[-1][:options.prompt_tokens])
    else:
        running.decode(prompts[-1][:min(WARM_UP_CONTEXT, options.context)], WARM_UP_TOKENS)
    clock = OthersClock(running)
    ours, theirs = [], []
    for i in range(options.repeats):
        ours.append(our_row(options, folder, case, dtype))
        bandwidths.append(read_bandwidth(options))
        theirs.append(their_rate(options, running, case, prompts[i]))
        say(f"{case} {dtype} {i + 1}/{options.repeats}: spanwise {ours[-1]['value']:.4g}, {peer.name} {theirs[-1]:.4g} "
            f"{UNIT}, memory read {bandwidths[-1]:.3g} GB/s")
    others = clock.share()
    if others > BUSY:
        say(f"{case} {dtype}: other processes used {100 * others:.0f} % of the CPUs; measure again on a quiet machine")
    values = [row["value"] for row in ours]
    value, peer_value = statistics.median(values), statistics.median(theirs)
    floors = [row["floor"] for row in ours]
    floor = None if None in floors else statistics.median(floors)
    return {"bench": case, "case": ours[0]["case"] | {"shape": options.shape.name, "threads": options.threads},
            "value": value, "unit": UNIT, "floor": floor, "of_floor": value / floor if floor else None,
            "repeats": options.repeats, "min": min(values), "max": max(values),
            "peer": peer.name, "peer_version": peers.version(peer), "peer_value": peer_value,
            "peer_min": min(theirs), "peer_max": max(theirs), "ratio": value / peer_value,
            "others_cpu": others}


def measure_peer(options, folder, peer, dtype, bandwidths, report):
    say(f"{peer.name}: opening the {dtype} model")
    max_tokens = max(options.prompt_tokens, options.context + options.decode_tokens + 1)
    running = peers.Running(peer, folder, dtype, options.threads, max_tokens)
    try:
        for case in options.cases:
            report(measure(options, folder, running, peer, case, dtype, bandwidths))
    finally:
        running.close()


def bandwidth_row(options, values):
    return {"bench": "limits", "case": {"what": "memory read", "threads": options.threads},
            "value": statistics.median(values), "unit": "GB/s", "floor": None, "of_floor": None, "repeats": len(values),
            "min": min(values), "max": max(values)}


def spread_of(value, least, most):
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
    return f"{value:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def print_row(row):
    spread = spread_of(row["value"], row["min"], row["max"])
    if row["bench"] == "limits":
        print(f"memory read: {spread} GB/s", flush=True)
        return
    what = row["case"]
    tokens = f"{what['tokens']} tokens" + (f" at {what['context']}" if "context" in what else "")
    peer_spread = spread_of(row["peer_value"], row["peer_min"], row["peer_max"])
    of_floor = f"{100 * row['of_floor']:.0f} %" if row["of_floor"] else ""
    peer = f"{row['peer']} {row['peer_version']}"
    print(f"{row['bench']:<8} {what['dtype']:<5} {tokens:<17} {spread:<25} {peer:<22} {peer_spread:<25} "
          f"{row['ratio']:>6.2f} {of_floor:>9} {100 * row['others_cpu']:>7.0f} %", flush=True)


def installed(names):
    found = []
    for name in names:
        peer = peers.PEERS[name]
        if peers.version(peer) is None:
            say(f"{name} is left out: the package {peer.package} is not installed")
        else:
            found.append(peer)
    if not found:
        raise Failure("no peer is installed; install the packages of python/requirements-bench.txt")
    return found


def compare(options):
    engines = installed(options.peers)
    pairs = [(dtype, peer) for dtype in options.dtypes for peer in engines if dtype in peer.dtypes]
    if not pairs:
        raise Failure(f"none of {', '.join(peer.name for peer in engines)} runs {', '.join(options.dtypes)}")
    for peer in engines:
        if without := [dtype for dtype in options.dtypes if dtype not in peer.dtypes]:
            say(f"{peer.name} is measured with {', '.join(peer.dtypes)}, not with {', '.join(without)}")

    def progress(n, total):
        if n % 20 == 0 or n == total:
            say(f"writing the model: {n} of {total} tensors")

    folder = random_llama.make_model(options.models, options.shape, progress)
    if not options.json:
        print(f"shape {options.shape.name}, {options.threads} threads, medians of {options.repeats} in {UNIT}\n"
              f"{'':<32} {'spanwise':<25} {'peer':<48} {'ratio':>6} {'of limit':>9} {'others':>9}", flush=True)

    def report(row):
        print(json.dumps(row), flush=True) if options.json else print_row(row)

    bandwidths, failed = [], False
    for dtype, peer in pairs:
        try:
            measure_peer(options, folder, peer, dtype, bandwidths, report)
        except peers.PeerError as error:
            say(f"{peer.name} is left out of {dtype}: {error}")
            failed = True
    if bandwidths:
        report(bandwidth_row(options, bandwidths))
    return 1 if failed else 0


def main():
    try:
        return compare(arguments())
    except (Failure, OSError) as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
