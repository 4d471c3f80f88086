#!/usr/bin/env python3
"""Measures what replication costs: three brokers, each record on all of them, against one broker, under the same load.

All brokers run on processor 0 and the generator on processor 1, so that what is compared is work and not processors.
The sides run in the order ABBA again and again, each with fresh brokers on empty directories. `full` is a closed loop,
of which the records acknowledged for each second of the brokers' processor time count; `half` sends at a fixed rate
that both sides can take, and the latency counts. Of that, the stages of Produce requests tell how long the leader's own
write took in the mean, from where it was queued until it was safe, and how long it waited for the others after that.

    cargo build --release
    perf/replicated.py --repeats 4 --json perf/results/NAME.json
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import urllib.request

from cluster import Cluster
from run import GENERATOR_CPU, ROOT, SERVER_CPU, check_scenarios, check_work_dir, host, keep, say, spread, told

BROKERS, PARTITIONS = 3, 12
# Followers fetch everything, and all of it is acknowledged by all: what a user who fears for records would choose.
LOAD = ["--acks", "all", "--partitions", str(PARTITIONS), "--producers", "4", "--record-size", "1000", "--linger-ms", "0",
        "--cpus", str(GENERATOR_CPU)]
SCENARIOS = {"full": 0, "half": None}
THREE, ONE, OTHER = "three brokers", "one broker", "three of other build"
TICKS = os.sysconf("SC_CLK_TCK")
# A line of /metrics, and the stages of a write that is safe on its leader, and then elsewhere.
STAGE = re.compile(r'^corelog_request_stage_seconds_(sum|count)\{[^}]*api="produce",stage="(\w+)"\} (\S+)$', re.MULTILINE)
OWN_WRITE, OTHERS = ("write_queue", "device_write", "sync"), ("ack_wait",)


def cpu_seconds(cluster):
    total = 0
    for server in cluster.servers.values():
        fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def stage_sums(cluster):
    """Of all Produce requests so far: how many, and seconds that they waited, by stage; on all brokers together."""
    sums = {}
    for node in cluster.servers:
        with urllib.request.urlopen(f"http://{cluster.http(node)}/metrics", timeout=10) as reply:
            for kind, stage, value in STAGE.findall(reply.read().decode()):
                sums[kind, stage] = sums.get((kind, stage), 0) + float(value)
    return sums


def mean_us(before, after, stages):
    spent = {key: after[key] - before.get(key, 0) for key in after}
    return 1e6 * sum(spent["sum", stage] for stage in stages) / max(spent["count", stages[0]], 1)


def run(options, side, rate):
    count, binary = 1 if side == ONE else BROKERS, options.against if side == OTHER else None
    with Cluster(options, count, lambda _: SERVER_CPU, ["--durability", options.durability], binary) as cluster:
        cluster.create_topic("load", PARTITIONS, "--set", f"min.insync.replicas={min(count, 2)}")

        def bench(rate, seconds):
            command = [str(cluster.binary), "bench", "--json", "--bootstrap", cluster.bootstrap(), "--topic", "load",
                       "--rate", str(rate), "--duration", f"{seconds}s", "--warmup", "0s", *LOAD]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(command)}\n{done.stderr}{done.stdout}")
            return "corelog " + " ".join(command[1:]), json.loads(done.stdout)

        # A closed loop in a run of its own: it fills the caches, and does not count for what is measured.
        bench(0, options.warmup_seconds)
        cpu, stages = cpu_seconds(cluster), stage_sums(cluster)
        command, told = bench(rate, options.seconds)
        cpu, after = cpu_seconds(cluster) - cpu, stage_sums(cluster)
    acked = told["throughput"]["acked_records"]
    return {"command": command, "acked_per_s": acked, "cpu_share": cpu / options.seconds,
            "acked_per_cpu_s": acked * options.seconds / cpu, "p50_us": told["produce"]["p50_ns"] / 1000,
            "p99_us": told["produce"]["p99_ns"] / 1000, "own_us": mean_us(stages, after, OWN_WRITE),
            "others_us": mean_us(stages, after, OTHERS), "intervals_invalid": told["intervals_invalid"]}


COLUMNS = [("acked/s", "acked_per_s", "{:.0f}"), ("acked/CPU s", "acked_per_cpu_s", "{:.0f}"),
           ("brokers' CPU", "cpu_share", "{:.2f}"), ("p50 us", "p50_us", "{:.0f}"), ("p99 us", "p99_us", "{:.0f}"),
           ("own write us", "own_us", "{:.0f}"), ("others us", "others_us", "{:.0f}")]


def table(name, results):
    sides = list(results)
    print(f"\n{name}: medians of {len(results[THREE])} (spread), and how many times that of {THREE}")
    print(f"  {'':14}" + "".join(f"{side:>28}" for side in sides))
    for title, key, form in COLUMNS:
        first = statistics.median([result[key] for result in results[THREE]])
        cells = []
        for side in sides:
            values = [result[key] for result in results[side]]
            ratio = f"{statistics.median(values) / first:.2f}" if first else "-"
            cells.append(f"{form.format(statistics.median(values))} ({spread(values):.0f} %) {ratio}")
        print(f"  {title:14}" + "".join(f"{cell:>28}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="scenario", help=", ".join(SCENARIOS) + " (default: both)")
    parser.add_argument("--repeats", type=int, default=4, help="runs of each side (4)")
    parser.add_argument("--seconds", type=int, default=5, help="measured in each run (5)")
    parser.add_argument("--warmup-seconds", type=int, default=2, help="before that (2)")
    parser.add_argument("--half-rate", type=int, default=10_000, help="half: records a second (10,000)")
    parser.add_argument("--durability", default="sync", help="the brokers' (sync)")
    parser.add_argument("--against", metavar="BINARY", help="three brokers of another build too: what a change brings")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before every run; on the disk to be measured")
    parser.add_argument("--port", type=int, default=19393)
    parser.add_argument("--json", metavar="FILE", help="write host, commands and every run to FILE")
    options = parser.parse_args()
    check_scenarios(parser, options, SCENARIOS)
    check_work_dir(parser, options)

    os.makedirs(options.work_dir, exist_ok=True)
    record = {"host": host(options.work_dir), "arguments": told(options, "against"), "scenarios": {}}
    try:
        for name in options.scenario or SCENARIOS:
            sides = [THREE, ONE, OTHER] if options.against else [THREE, ONE]
            results = {side: [] for side in sides}
            for turn in range(options.repeats):
                for side in sides if turn % 2 else reversed(sides):
                    rate = options.half_rate if SCENARIOS[name] is None else SCENARIOS[name]
                    result = run(options, side, rate)
                    results[side].append(result)
                    say(f"{name} {turn + 1}/{options.repeats} {side}: {result['acked_per_s']:.0f}/s, "
                        f"p50 {result['p50_us']:.0f} us, p99 {result['p99_us']:.0f} us, "
                        f"{result['acked_per_cpu_s']:.0f} for each CPU second")
            record["scenarios"][name] = results
    finally:
        shutil.rmtree(options.work_dir, ignore_errors=True)
        if options.json and record["scenarios"]:
            keep(record, options.json)
    for name, results in record["scenarios"].items():
        table(name, results)


if __name__ == "__main__":
    main()
