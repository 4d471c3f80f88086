#!/usr/bin/env python3
"""Measures gossip in its simulated network: how fast it tells, and what it costs, for some numbers of brokers.

The network, its losses and all choices come from a seed, so the figures are the same on every machine. Told are the
time until 99 in a hundred brokers have a change of metadata, until the first suspects a broker that died and until 99 in
a hundred think it gone, and the bytes that a broker sends in a second with all headers from IP on. Each broker reports
two cores, a device and 100 partitions that change each second.

    cargo build --release --example gossip
    perf/gossip.py --seeds 5 --json perf/results/NAME.json --svg perf/results/NAME.svg
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from run import ROOT, host, keep, say, spread

BYTES_MAX = 20_000
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 460, 300, 60, 40, 50


def runs(options):
    program = pathlib.Path(options.target_dir) / "release" / "examples" / "gossip"
    for members in options.members:
        for loss in options.loss:
            say(f"{members} brokers, {loss} % lost")
            seeds = min(options.seeds, options.large_seeds) if members >= 300 else options.seeds
            command = [program, "--members", str(members), "--loss", str(loss), "--seeds", str(seeds)]
            lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
            yield summary(members, loss, [json.loads(line) for line in lines])


def summary(members, loss, lines):
    changes = [ms for line in lines for ms in line["change_99_ms"]]

    def of(*path):
        values = []
        for line in lines:
            for key in path:
                line = line[key]
            values.append(line)
        if None in values:
            raise SystemExit(f"{members} brokers, {loss} % lost: {path} never came to an end")
        return {"median": statistics.median(values), "spread": spread(values), "worst": max(values)}

    if None in changes:
        raise SystemExit(f"{members} brokers, {loss} % lost: a change did not reach everybody")
    return {
        "members": members, "loss_percent": loss, "seeds": len(lines),
        "change_99_ms": {"median": statistics.median(changes), "spread": spread(changes), "worst": max(changes)},
        "first_suspects_ms": of("death_ms", "first_suspects"),
        "suspected_99_ms": of("death_ms", "suspected_99"),
        "gone_99_ms": of("death_ms", "gone_99"),
        "bytes_per_second": of("bytes_per_second", "mean"),
        "bytes_per_second_of_the_busiest": of("bytes_per_second", "max"),
        "report_age_p50_ms": of("report_age_ms", "p50"),
        "report_age_p99_ms": of("report_age_ms", "p99"),
    }


def plot(rows, path):
    """Two panels: time against brokers, and bytes against brokers, both with a logarithmic axis of brokers."""
    panels = [
        ("seconds until 99 in a hundred know", 1000, [
            ("a change", "change_99_ms", "#1b6ca8"), ("a suspicion", "suspected_99_ms", "#c77f0a"),
            ("that one is gone", "gone_99_ms", "#a83232")]),
        ("kB a second that a broker sends", 1000, [
            ("mean", "bytes_per_second", "#1b6ca8"), ("the busiest", "bytes_per_second_of_the_busiest", "#a83232")]),
    ]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT}" '
           f'font-family="sans-serif" font-size="12">', f'<rect width="{2 * WIDTH}" height="{HEIGHT}" fill="white"/>']
    for number, (title, unit, lines) in enumerate(panels):
        out += panel(rows, number * WIDTH, title, unit, lines)
    out.append("</svg>")
    pathlib.Path(path).write_text("\n".join(out) + "\n")


def panel(rows, x0, title, unit, lines):
    counts = sorted({row["members"] for row in rows})
    top = max(row[key]["median"] / unit for row in rows for _, key, _ in lines)
    top = next(step for step in (1, 2, 5, 10, 15, 20, 30, 50, 100, 1000) if step >= top)

    def x(members):
        at = counts.index(members) / max(1, len(counts) - 1)
        return x0 + LEFT + at * (WIDTH - LEFT - 30)

    def y(value):
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    yield f'<text x="{x0 + LEFT}" y="20" font-weight="bold">{title}</text>'
    for step in range(6):
        value = top * step / 5
        yield f'<line x1="{x0 + LEFT}" y1="{y(value):.1f}" x2="{x0 + WIDTH - 30}" y2="{y(value):.1f}" stroke="#ddd"/>'
        yield f'<text x="{x0 + LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
    for members in counts:
        yield f'<text x="{x(members):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{members}</text>'
    yield f'<text x="{x0 + WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">brokers (dashed: 5 % of datagrams lost)</text>'
    for place, (name, key, colour) in enumerate(lines):
        for loss in sorted({row["loss_percent"] for row in rows}):
            points = [(x(row["members"]), y(row[key]["median"] / unit)) for row in rows if row["loss_percent"] == loss]
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in sorted(points))
            dashes = ' stroke-dasharray="6 4"' if loss else ""
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        yield f'<text x="{x0 + LEFT + 10}" y="{TOP + 14 + 16 * place}" fill="{colour}">{name}</text>'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser.add_argument("--members", type=numbers, default=[3, 10, 30, 100, 300, 1000])
    parser.add_argument("--loss", type=numbers, default=[0, 5])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--large-seeds", type=int, default=3, help="at most so many with 300 brokers and more")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--json")
    parser.add_argument("--svg")
    options = parser.parse_args()
    rows = []
    for row in runs(options):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.json:
        keep({"command": " ".join(["perf/gossip.py", *sys.argv[1:]]), "host": host("."), "runs": rows}, options.json)
    if options.svg:
        plot(rows, options.svg)
    if any(row["members"] == 100 and row["bytes_per_second"]["worst"] >= BYTES_MAX for row in rows):
        raise SystemExit(f"100 brokers send {BYTES_MAX} bytes a second or more")


if __name__ == "__main__":
    main()
