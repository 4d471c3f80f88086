#!/usr/bin/env python3
"""Measures what consumer groups cost a broker: commits, idle members, and how soon a group is stable.

The broker runs on processor 0, what asks it on processor 1, with a fresh broker on an empty directory for each run.

    cargo build --release --bin corelog --example floor --example generator --example groups
    perf/groups.py --repeats 4 --json perf/results/NAME.json

Scenarios:
  commits          20,000 offset commits a second of 16 groups
  commits-beside   the same beside producers at a fixed rate
  idle             members that only send heartbeats, evenly spread, each over a connection of its own: broker against
                   a bare loop that waits, reads and answers (`sink`), and against the same in a glommio executor
                   (`floor`), in turn
  idle-together    the same, with ten heartbeats at a time
  join-classic     99 members join a new group, then one more: how long until all are stable, in heartbeats
  join-consumer    the same with the consumer protocol (KIP-848)
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess

from run import (GENERATOR_CPU, ROOT, SERVER_CPU, Bench, Server, check_scenarios, check_work_dir, host, keep, say,
                 spread, told)

# As many as a process may usually have files, with a heartbeat so often that 6,667 come a second.
IDLE = dict(blocks=5, groups_per_block=900, members=4, heartbeat_ms=2700)
PRODUCE = dict(partitions=16, connections=16, record_bytes=1000, batch_bytes=1, in_flight=64)

BROKER, SINK, FLOOR = "broker", "sink", "floor"


class Groups(Bench):
    def sink(self):
        self.fresh()
        command = [self.bin / "examples" / "groups", "--bootstrap", f"127.0.0.1:{self.options.port}", "--cpu",
                   str(SERVER_CPU), "sink"]
        return Server(SINK, command, self.work / "log").wait(self.options.port)

    def ask(self, mode, server, **flags):
        """A run of perf/groups; flags that are True have no value."""
        words = ["--bootstrap", f"127.0.0.1:{self.options.port}", "--cpu", str(GENERATOR_CPU), "--json", "--pid",
                 str(server.process.pid), mode]
        for name, value in flags.items():
            words += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}={value}"]
        command = [str(self.bin / "examples" / "groups"), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), command


def finish(started, server):
    process, command = started
    out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{err}\n{server.name} said:\n{open(server.log).read()[-4000:]}")
    result = json.loads(out)
    result["command"] = " ".join(["groups", *command[1:]])
    return result


def commits(bench, _, beside=False):
    with bench.broker() as server:
        load = dict(rate=bench.options.commit_rate, seconds=int(bench.options.seconds))
        if not beside:
            return finish(bench.ask("commits", server, **load), server)
        # The producers begin before the commits and end after them.
        producing = bench.start("produce", server, rate=bench.options.produce_rate, **PRODUCE,
                                **{"seconds": bench.options.seconds + 1})
        result = finish(bench.ask("commits", server, **load), server)
        result["produce"] = bench.finish(producing, server)
        return result


def idle(bench, side, together=1):
    start = {BROKER: bench.broker, SINK: bench.sink,
             FLOOR: lambda: bench.floor(partitions=1, file_mib=1)}[side]
    with start() as server:
        flags = dict(IDLE, own_connections=True, together=together, seconds=int(bench.options.seconds))
        if side != BROKER:
            flags["raw_sink"] = True
        return finish(bench.ask("idle", server, **flags), server)


def join(bench, _, protocol):
    with bench.broker() as server:
        return finish(bench.ask("join", server, protocol=protocol), server)


# Each scenario's sides, and one run of one side.
SCENARIOS = {
    "commits": ([BROKER], commits),
    "commits-beside": ([BROKER], lambda bench, side: commits(bench, side, beside=True)),
    "idle": ([BROKER, SINK, FLOOR], idle),
    "idle-together": ([BROKER, SINK, FLOOR], lambda bench, side: idle(bench, side, together=10)),
    "join-classic": ([BROKER], lambda bench, side: join(bench, side, "classic")),
    "join-consumer": ([BROKER], lambda bench, side: join(bench, side, "consumer")),
}

COLUMNS = [
    ("requests/s", "requests_per_s", "{:.0f}"),
    ("p50 us", "p50_us", "{:.0f}"),
    ("p99 us", "p99_us", "{:.0f}"),
    ("p99.9 us", "p999_us", "{:.0f}"),
    ("max us", "max_us", "{:.0f}"),
    ("server CPU %", "server_cpu_percent", "{:.1f}"),
    ("CPU us/request", "cpu_us_per_request", "{:.2f}"),
    ("new group, heartbeats", "new_group_heartbeats", "{:.2f}"),
    ("one more, heartbeats", "one_more_heartbeats", "{:.2f}"),
]


def run_scenario(bench, name):
    sides, run = SCENARIOS[name]
    results = {side: [] for side in sides}
    for turn in range(bench.options.repeats):
        # Forwards and backwards in turn.
        for side in sides if turn % 2 == 0 else reversed(sides):
            result = run(bench, side)
            results[side].append(result)
            told = ", ".join(f"{title} {form.format(result[key])}" for title, key, form in COLUMNS if key in result)
            say(f"{name} {turn + 1}/{bench.options.repeats} {side}: {told}")
            if "produce" in result:
                beside = result["produce"]
                say(f"  producers: {beside['requests_per_s']:.0f} requests/s, p50 {beside['p50_us']:.0f} us, "
                    f"p99 {beside['p99_us']:.0f} us")
    return results


def table(name, results):
    print(f"\n{name}: medians of {len(next(iter(results.values())))} (spread)")
    print(f"  {'':22}" + "".join(f" {side:>20}" for side in results))
    for title, key, form in COLUMNS:
        if not all(key in result for runs in results.values() for result in runs):
            continue
        cells = []
        for runs in results.values():
            values = [result[key] for result in runs]
            cells.append(f"{form.format(statistics.median(values))} ({spread(values):.0f} %)")
        print(f"  {title:22}" + "".join(f" {cell:>20}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="scenario", help=", ".join(SCENARIOS) + " (default: all)")
    parser.add_argument("--repeats", type=int, default=4, help="runs of each side (4)")
    parser.add_argument("--seconds", type=float, default=5, help="measured in each run (5)")
    parser.add_argument("--warmup-seconds", type=float, default=1, help="of the producers, before that (1)")
    parser.add_argument("--commit-rate", type=int, default=20_000, help="offset commits a second (20000)")
    parser.add_argument("--produce-rate", type=float, default=10_000, help="commits-beside: requests a second (10000)")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before every run; on the disk to be measured")
    parser.add_argument("--port", type=int, default=19395)
    parser.add_argument("--durability", default="sync", help="the broker's (sync)")
    parser.add_argument("--broker-flag", action="append", default=[], help="one more word of `corelog serve`")
    parser.add_argument("--json", metavar="FILE", help="write host, arguments and every run to FILE")
    parser.add_argument("--add", action="store_true", help="to the scenarios that are in FILE")
    options = parser.parse_args()
    check_scenarios(parser, options, SCENARIOS)
    check_work_dir(parser, options)

    bench = Groups(options)
    bench.fresh()
    record = {"host": host(bench.work), "arguments": told(options, "add"), "scenarios": {}}
    path = pathlib.Path(options.json) if options.json else None
    if options.add and path and path.exists():
        before = json.loads(path.read_text())
        record["scenarios"] = before["scenarios"]
        record["host"]["begun"] = before["host"].get("begun", before["host"]["date"])
    measured = {}
    try:
        for name in options.scenario or list(SCENARIOS):
            measured[name] = run_scenario(bench, name)
            for side, runs in measured[name].items():
                record["scenarios"].setdefault(name, {}).setdefault(side, []).extend(runs)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
        if path and record["scenarios"]:
            keep(record, path)
    print(", ".join(f"{name} {value}" for name, value in record["host"].items()))
    for name, results in record["scenarios"].items():
        table(name, results)


if __name__ == "__main__":
    main()
