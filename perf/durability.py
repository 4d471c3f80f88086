#!/usr/bin/env python3
"""Measures what durable acknowledgements cost: one broker, the same load, three ways to acknowledge.

  sync       written to the commit journal of its core and synced, all partitions together (durability=sync)
  write      written, not synced (durability=write)
  partition  synced file by file, one fdatasync for each partition with something new (durability=sync without journal)

The broker runs on processor 0, the raw generator on processor 1: it sends one batch of one record a request, with so
many connections as there are producers. A round is A B C C B A, each run with a fresh broker on an empty directory;
ratios are taken within a round, and their medians and spreads are told. Only ratios of one invocation say anything.

    cargo build --release --bin corelog --example generator --example commits
    perf/durability.py --rounds 4 --json perf/results/NAME.json
    perf/durability.py --only '256x*' --rounds 1 --json perf/results/NAME.json --add

A cell is PARTITIONSxPRODUCERSxRECORD; `single` is one producer with one request in flight. Without --all only some of
them are measured. All of them take long: with --slice 90 a call ends after so many seconds, and the same call again goes
on where FILE ends, until every cell has its rounds:

    until perf/durability.py --all --rounds 2 --slice 90 --json FILE; do sleep 60; done

With --bare the bare loops of perf/commits.rs run first, on the same disk. With --paced 0.6 the load is open loop, at that share of what the slowest mode takes, which is looked
for first: then latencies mean something. A run writes up to some GB, which are deleted after it.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from run import ROOT, Bench, check_work_dir, derive, host, keep, say, spread, told

PARTITIONS, PRODUCERS = (1, 16, 256, 2000), (1, 16, 64)
RECORDS = {"100B": 100, "1KiB": 1024, "64KiB": 64 << 10}
# Of one connection, as the clients have it by default.
IN_FLIGHT = 5
USUAL = ("single", "1x1x1KiB", "16x16x100B", "16x16x1KiB", "256x16x1KiB", "256x64x1KiB", "2000x64x1KiB", "16x16x64KiB")
QUICK = ("single", "16x16x1KiB")
FREE_BYTES_MIN = 20 << 30


def cells():
    """Every cell's name and what it asks of the generator."""
    loads = {"single": dict(partitions=1, connections=1, record_bytes=RECORDS["1KiB"], in_flight=1)}
    for record, record_bytes in RECORDS.items():
        for partitions in PARTITIONS:
            for producers in PRODUCERS:
                loads[f"{partitions}x{producers}x{record}"] = dict(
                    partitions=partitions, connections=producers, record_bytes=record_bytes, in_flight=IN_FLIGHT)
    return {name: dict(load, batch_bytes=1) for name, load in loads.items()}


def modes(corelog):
    """The flags of each mode, as far as this build has them."""
    words = subprocess.run([corelog, "settings"], capture_output=True, text=True, check=True).stdout.split()
    if "durability" in words:
        return {"sync": ["--durability", "sync"], "write": ["--durability", "write"],
                "partition": ["--durability", "sync", "--journal-bytes", "0"]}
    say("this build has no setting `durability`: without the mode sync")
    return {"write": [], "partition": ["--log-flush-interval-messages", "1"]}


def aims(cell, load):
    """Metric, measured mode, reference mode (or none), and what the ratio (or value) should be."""
    if cell == "single":
        return [("p50_us", "sync", None, "<=", 130)]
    if load["record_bytes"] >= RECORDS["64KiB"]:
        return [("requests_per_s", "sync", "write", ">=", 0.9)]
    if load["partitions"] < 16:
        return []
    return [("requests_per_s", "sync", "write", ">=", 0.95), ("requests_per_s", "sync", "partition", ">=", 2),
            ("p99_us", "sync", "partition", "<=", 0.5)]


COLUMNS = [
    ("requests/s", "requests_per_s", "{:.0f}"),
    ("MB/s", "mb_per_s", "{:.1f}"),
    ("p50 us", "p50_us", "{:.0f}"),
    ("p99 us", "p99_us", "{:.0f}"),
    ("CPU us/request", "cpu_us_per_request", "{:.2f}"),
    ("disk bytes/byte", "write_amplification", "{:.2f}"),
    ("disk writes/req", "disk_writes_per_request", "{:.3f}"),
    ("flushes/request", "flushes_per_request", "{:.3f}"),
    ("server CPU %", "server_cpu_percent", "{:.0f}"),
    ("generator CPU %", "generator_cpu_percent", "{:.0f}"),
    # The kernel's own threads, and everything that should not run meanwhile.
    ("other CPU %", "other_cpu_percent", "{:.0f}"),
]


def run(bench, flags, load, rate=0):
    if shutil.disk_usage(bench.work.parent).free < FREE_BYTES_MIN:
        raise SystemExit(f"less than {FREE_BYTES_MIN >> 30} GiB are free beside {bench.work}")
    with bench.broker(flags=flags) as server:
        device = bench.work.stat().st_dev
        disk = f"{os.major(device)}:{os.minor(device)}"
        result = derive(bench.generate("produce", server, disk=disk, rate=rate, **load))
    shutil.rmtree(bench.work / "data", ignore_errors=True)
    requests, size = result["requests"], result["bytes"]
    result["write_amplification"] = result["disk_bytes"] / size if size else 0
    result["disk_writes_per_request"] = result["disk_writes"] / requests if requests else 0
    result["flushes_per_request"] = result["disk_flushes"] / requests if requests else 0
    return result


def run_round(bench, cell, load, sides, paced, turn):
    """Every mode twice, in the order A B C C B A; or once, forwards and backwards in turn."""
    options, results = bench.options, {mode: [] for mode in sides}
    rate = 0
    if paced:
        slowest = min(run(bench, flags, load)["requests_per_s"] for flags in sides.values())
        rate = round(paced * slowest)
        say(f"{cell}: {rate} requests/s")
    order = [*sides, *reversed(sides)]
    half = turn % 2 * len(sides)
    for mode in order[half:half + len(sides)] if options.once else order:
        result = run(bench, sides[mode], load, rate)
        results[mode].append(result)
        say(f"{cell} {mode}: {result['requests_per_s']:.0f} requests/s, p50 {result['p50_us']:.0f} us, "
            f"p99 {result['p99_us']:.0f} us, {result['cpu_us_per_request']:.1f} us a request, "
            f"server {result['server_cpu_percent']:.0f} %, generator {result['generator_cpu_percent']:.0f} %, "
            f"other {result['other_cpu_percent']:.0f} %")
    return results


def bare(bench):
    """What the device does without a broker: the loops of perf/commits.rs."""
    path = bench.fresh() / "commits.json"
    path.parent.mkdir()
    command = [bench.bin / "examples" / "commits", "--dir", path.parent, "--json", path, "--seconds", "0.25",
               "--repeats", "2"]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"date": host(bench.work)["date"], "loops": json.loads(path.read_text())}


def begin_record(bench, sides):
    """What is in the file that is added to, or a new record."""
    options = bench.options
    # What a call adds is no part of how it is measured.
    arguments = told(options, "add", "slice", "bare")
    record = {"host": host(bench.work), "arguments": arguments, "flags": sides, "cells": {}}
    path = pathlib.Path(options.json) if options.json else None
    if path and path.exists() and (options.add or options.slice):
        now, record = record, json.loads(path.read_text())
        if options.slice and record["arguments"] != arguments:
            raise SystemExit(f"{path} was begun with other arguments: {record['arguments']}")
        record.setdefault("added", []).append({name: now["host"][name] for name in ("date", "commit", "load_before")})
    return record


def missing(options, cells, chosen):
    """The rounds that the record has not."""
    has = {name: len(cells[name]["rounds"]) if name in cells else 0 for name in chosen}
    return [(turn, name) for turn in range(options.rounds) for name in chosen if has[name] <= turn]


def measure(bench, record, chosen, sides):
    """Adds rounds to the record; how many are missing then."""
    options, cells = bench.options, record["cells"]
    all_rounds = [(turn, name) for turn in range(options.rounds) for name in chosen]
    began, longest = time.monotonic(), 0
    for turn, name in missing(options, cells, chosen) if options.slice else all_rounds:
        at = time.monotonic()
        if options.slice and at - began + longest > options.slice:
            break
        say(f"round {turn + 1} of {options.rounds}, {name}")
        cell = cells.setdefault(name, {"load": chosen[name], "rounds": []})
        results = run_round(bench, name, chosen[name], sides, options.paced, turn)
        longest = max(longest, time.monotonic() - at)
        most = max(result["other_cpu_percent"] for side in results.values() for result in side)
        if most > options.other_max:
            say(f"{name}: thrown away, something else used {most:.0f} % of a processor")
        else:
            cell["rounds"].append(results)
    return len(missing(options, cells, chosen)) if options.slice else 0


def of_round(results, mode, key):
    return statistics.mean(result[key] for result in results[mode])


def ratios(rounds, measured, reference, key):
    """One a round."""
    return [of_round(results, measured, key) / of_round(results, reference, key)
            for results in rounds if of_round(results, reference, key)]


def table(cell, load, rounds):
    sides = list(rounds[0])
    pairs = [("sync", other) for other in sides if "sync" in sides and other != "sync"] or [("write", "partition")]
    title = ", ".join(f"{name} {value}" for name, value in load.items() if name != "batch_bytes")
    print(f"\n{cell} ({title}): medians of {len(rounds)} rounds (spread)")
    print(f"  {'':16}" + "".join(f" {side:>18}" for side in sides)
          + "".join(f" {'/'.join(pair):>18}" for pair in pairs))
    for name, key, form in COLUMNS:
        cells = []
        for side in sides:
            values = [of_round(results, side, key) for results in rounds]
            cells.append(f"{form.format(statistics.median(values))} ({spread(values):.0f} %)")
        for pair in pairs:
            values = ratios(rounds, *pair, key)
            cells.append(f"{statistics.median(values):.2f} ({spread(values):.0f} %)" if values else "-")
        print(f"  {name:16}" + "".join(f" {text:>18}" for text in cells))
    for key, measured, reference, relation, bound in aims(cell, load):
        if measured not in sides or (reference and reference not in sides):
            continue
        values = (ratios(rounds, measured, reference, key) if reference
                  else [of_round(results, measured, key) for results in rounds])
        value = statistics.median(values)
        good = value >= bound if relation == ">=" else value <= bound
        of = f"{measured} / {reference}" if reference else measured
        print(f"  aim: {key} of {of} {relation} {bound}: {value:.2f}, {'met' if good else 'MISSED'}")
    errors = sum(sum(result["errors"].values()) for results in rounds for side in results.values() for result in side)
    if errors:
        print(f"  errors: {errors}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every cell")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cells whose names match, as '256x*x1KiB'")
    parser.add_argument("--modes", help="some of sync,write,partition")
    parser.add_argument("--quick", action="store_true", help="one short run of each mode, of two cells")
    parser.add_argument("--rounds", type=int, default=2, help="of six runs each (2)")
    parser.add_argument("--once", action="store_true", help="each mode once a round: A B C, and C B A in the next")
    parser.add_argument("--paced", type=float, default=0, metavar="SHARE", help="open loop, see above")
    parser.add_argument("--seconds", type=float, default=2, help="measured in each run (2)")
    parser.add_argument("--warmup-seconds", type=float, default=1, help="before that (1)")
    parser.add_argument("--other-max", type=float, default=1000, metavar="PERCENT",
                        help="keep no round in which anything else used more of a processor; the kernel's own threads "
                             "use up to half of one")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before every run; on the disk to be measured")
    parser.add_argument("--port", type=int, default=19394)
    parser.add_argument("--broker-flag", action="append", default=[], help="one more word of `corelog serve`")
    parser.add_argument("--json", metavar="FILE", help="write host, arguments and every run to FILE")
    parser.add_argument("--add", action="store_true", help="to what is in FILE")
    parser.add_argument("--slice", type=float, default=0, metavar="SECONDS", help="measure for so long, see above")
    parser.add_argument("--bare", action="store_true", help="the bare loops of the device first")
    options = parser.parse_args()
    loads = cells()
    patterns = options.only or (["*"] if options.all else QUICK if options.quick else USUAL)
    chosen = {name: load for name, load in loads.items() if any(fnmatch.fnmatch(name, one) for one in patterns)}
    if not chosen:
        parser.error(f"no cell matches: {', '.join(loads)}")
    if options.quick:
        options.rounds, options.seconds, options.warmup_seconds, options.once = 1, 1, 0.5, True
    check_work_dir(parser, options)

    bench = Bench(options)
    bench.fresh()
    sides = modes(bench.bin / "corelog")
    if options.modes:
        sides = {mode: flags for mode, flags in sides.items() if mode in options.modes.split(",")}
    record = begin_record(bench, sides)
    path = pathlib.Path(options.json) if options.json else None
    left = 0
    try:
        if options.bare:
            record.setdefault("bare", []).append(bare(bench))
        left = measure(bench, record, chosen, sides)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
        record["cells"] = {name: cell for name, cell in record["cells"].items() if cell["rounds"]}
        if path and record["cells"]:
            keep(record, path)
    if left:
        say(f"{left} rounds are left: the same call again goes on")
        sys.exit(1)
    print(", ".join(f"{name} {value}" for name, value in record["host"].items()))
    for name, cell in record["cells"].items():
        table(name, cell["load"], cell["rounds"])


if __name__ == "__main__":
    main()
