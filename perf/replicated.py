#!/usr/bin/env python3
"""Measures what replication costs: three brokers, each record on all of them, against one broker, under the same load.

All brokers run on processor 0 and the generator on processor 1, so that what is compared is work and not processors.
The sides run in the order ABBA again and again, each with fresh brokers on empty directories. `full` is a closed loop,
of which the records acknowledged for each second of the brokers' processor time count; `half` sends at a fixed rate
that both sides can take, and the latency counts.

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
import time

from run import GENERATOR_CPU, ROOT, SERVER_CPU, Server, check_scenarios, check_work_dir, host, keep, say, spread, told

BROKERS = 3
PORT_STEP = 100
READY = re.compile(r"INFO ready$", re.MULTILINE)
READY_SECONDS_MAX = 30
# Followers fetch everything, and all of it is acknowledged by all: what a user who fears for records would choose.
LOAD = ["--acks", "all", "--partitions", "12", "--producers", "4", "--record-size", "1000", "--linger-ms", "0",
        "--cpus", str(GENERATOR_CPU)]
SCENARIOS = {"full": 0, "half": None}
SIDES = {"three brokers": BROKERS, "one broker": 1}
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(servers):
    total = 0
    for server in servers:
        fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Cluster:
    """Brokers that know each other, ready for clients."""

    def __init__(self, options, count):
        self.servers, self.options = [], options
        work = options.work_dir
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        os.sync()
        for number in range(count):
            port = options.port + PORT_STEP * number
            command = [os.path.join(options.target_dir, "release", "corelog"), "serve", "--node-id", str(number + 1),
                       "--listen", f"127.0.0.1:{port}", "--data-dir", os.path.join(work, str(number + 1)),
                       "--cores", f"{SERVER_CPU}-{SERVER_CPU}", "--durability", options.durability]
            if count > 1:
                command += ["--peer-listen", f"127.0.0.1:{port + 10_000}"]
            if number:
                command += ["--seeds", f"127.0.0.1:{options.port}"]
            log = os.path.join(work, f"{number + 1}.log")
            self.servers.append(Server(f"broker {number + 1}", command, log).wait(port))
            self.wait_ready(log)
        self.await_brokers(count)

    def await_brokers(self, count):
        """All are brokers of the cluster when a topic can be placed on all."""
        until = time.monotonic() + READY_SECONDS_MAX
        while True:
            made = subprocess.run([self.servers[0].process.args[0], "topic", "create", "--bootstrap", self.bootstrap(),
                                   "load", "--partitions", "12", "--replication-factor", str(count),
                                   "--set", f"min.insync.replicas={min(count, 2)}"], capture_output=True, text=True)
            if made.returncode == 0:
                return
            if time.monotonic() > until:
                raise SystemExit(f"no topic with {count} replicas: {made.stderr}")
            time.sleep(0.2)

    def wait_ready(self, log):
        until = time.monotonic() + READY_SECONDS_MAX
        while not READY.search(open(log).read()):
            if time.monotonic() > until:
                raise SystemExit(f"a broker did not get ready:\n{open(log).read()}")
            time.sleep(0.02)

    def bootstrap(self):
        return f"127.0.0.1:{self.options.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.__exit__()


def run(options, count, rate):
    with Cluster(options, count) as cluster:
        command = [cluster.servers[0].process.args[0], "bench", "--json", "--bootstrap", cluster.bootstrap(), "--topic",
                   "load", "--rate", str(rate), "--duration", f"{options.seconds}s", "--warmup",
                   f"{options.warmup_seconds}s", *LOAD]
        before, began = cpu_seconds(cluster.servers), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        wall, cpu = time.monotonic() - began, cpu_seconds(cluster.servers) - before
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}{done.stdout}")
    told = json.loads(done.stdout)
    acked = told["throughput"]["acked_records"]
    return {"command": "corelog " + " ".join(command[1:]), "acked_per_s": acked, "cpu_share": cpu / wall,
            "acked_per_cpu_s": acked * wall / cpu, "p50_us": told["produce"]["p50_ns"] / 1000,
            "p99_us": told["produce"]["p99_ns"] / 1000, "intervals_invalid": told["intervals_invalid"]}


COLUMNS = [("acked/s", "acked_per_s", "{:.0f}"), ("acked/CPU s", "acked_per_cpu_s", "{:.0f}"),
           ("brokers' CPU", "cpu_share", "{:.2f}"), ("p50 us", "p50_us", "{:.0f}"), ("p99 us", "p99_us", "{:.0f}")]


def table(name, results):
    three, one = SIDES
    print(f"\n{name}: {three} against {one}, medians of {len(results[three])} (spread)")
    print(f"  {'':14} {three:>20} {one:>20} {'ratio':>8}")
    for title, key, form in COLUMNS:
        values = [[result[key] for result in results[side]] for side in (three, one)]
        medians = [statistics.median(side) for side in values]
        cells = [f"{form.format(middle)} ({spread(side):.0f} %)" for middle, side in zip(medians, values)]
        print(f"  {title:14} {cells[0]:>20} {cells[1]:>20} {medians[0] / medians[1]:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="scenario", help=", ".join(SCENARIOS) + " (default: both)")
    parser.add_argument("--repeats", type=int, default=4, help="runs of each side (4)")
    parser.add_argument("--seconds", type=int, default=5, help="measured in each run (5)")
    parser.add_argument("--warmup-seconds", type=int, default=2, help="before that (2)")
    parser.add_argument("--half-rate", type=int, default=10_000, help="half: records a second (10,000)")
    parser.add_argument("--durability", default="sync", help="the brokers' (sync)")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before every run; on the disk to be measured")
    parser.add_argument("--port", type=int, default=19393)
    parser.add_argument("--json", metavar="FILE", help="write host, commands and every run to FILE")
    options = parser.parse_args()
    check_scenarios(parser, options, SCENARIOS)
    check_work_dir(parser, options)

    os.makedirs(options.work_dir, exist_ok=True)
    record = {"host": host(options.work_dir), "arguments": told(options), "scenarios": {}}
    try:
        for name in options.scenario or SCENARIOS:
            results = {side: [] for side in SIDES}
            for turn in range(options.repeats):
                for side in list(SIDES) if turn % 2 else reversed(SIDES):
                    rate = options.half_rate if SCENARIOS[name] is None else SCENARIOS[name]
                    result = run(options, SIDES[side], rate)
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
