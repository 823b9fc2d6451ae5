"""Draws rows of compare.py --json as bars, one group of bars a case: plot.py ROWS.jsonl OUT.svg [--title TEXT]

Needs matplotlib (python/requirements-bench.txt). Where a row has the machine's limit, a line marks it.
"""
import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
import matplotlib.pyplot as plt  # noqa: E402

OURS = "spanwise"


def read_rows(path):
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [row for row in rows if "peer" in row]


def groups_of(rows):
    """Cases in the order of their first row: their name, limit, and the rate of each engine."""
    groups = {}
    for row in rows:
        what = row["case"]
        name = f"{row['bench']} {what.get('context', what['tokens'])}\n{what['dtype']}"
        group = groups.setdefault(name, {"limit": None, "rates": {}})
        group["limit"] = row["floor"] or group["limit"]
        group["rates"].setdefault(OURS, row["value"])
        group["rates"][row["peer"]] = row["peer_value"]
    return groups


def draw(groups, title, out):
    engines = [OURS] + sorted({name for group in groups.values() for name in group["rates"]} - {OURS})
    benches = sorted({name.split(" ")[0] for name in groups})
    figure, axes = plt.subplots(1, len(benches), figsize=(5 * len(benches), 3.6), squeeze=False)
    width = 0.8 / len(engines)
    for axis, bench in zip(axes[0], benches):
        shown = {name: group for name, group in groups.items() if name.startswith(bench + " ")}
        for e, engine in enumerate(engines):
            at = [g + (e - (len(engines) - 1) / 2) * width for g in range(len(shown))]
            bars = axis.bar(at, [group["rates"].get(engine, 0) for group in shown.values()], width, label=engine)
            axis.bar_label(bars, fmt="%.3g", fontsize=7)
        for g, group in enumerate(shown.values()):
            if group["limit"]:
                label = "the machine's limit" if g == 0 else None
                axis.hlines(group["limit"], g - 0.45, g + 0.45, colors="black", linestyles="dashed", label=label)
        axis.set_xticks(range(len(shown)), list(shown), fontsize=8)
        axis.set_ylabel("tokens a second")
        axis.legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    # The same rows give the same file.
    figure.savefig(out, format="svg", metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "spanwise"
    try:
        rows = read_rows(options.rows)
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(f"plot.py: {error}")
    if not rows:
        sys.exit(f"plot.py: {options.rows} has no rows of compare.py")
    draw(groups_of(rows), options.title, options.out)


if __name__ == "__main__":
    main()
