#!/usr/bin/env python3
"""Measures the broker against its floor, in turn, under the same load.

The servers run on processor 0 and the generator on processor 1. Each scenario runs the two sides in the order ABBA
again and again, every run with a fresh server on an empty directory, and ends in the ratio of the medians. Only
ratios of one invocation say anything: the figures themselves belong to the machine. But for one scenario the floor does
not sync, so the broker acknowledges what is written (durability=write), which is not its default; perf/durability.py
compares both.

    cargo build --release --bin corelog --example floor --example generator
    perf/run.py --repeats 4 --json perf/results/NAME.json large small

Scenarios:
  large        256 KiB batches, 16 partitions, 8 requests in flight: broker against floor, both into fresh space
  recycled     the same, but the floor writes over small files again and again: what recycled space could bring
  small        one record of 1 KB a request, 64 partitions, 64 requests in flight: broker against floor
  single       one record, one request in flight: broker against floor
  durable      the same, and both answer when it is durable (durability=sync)
  fetch-tail   what was just written is read again and again: broker against a plain loop of vectored sends
  fetch-cold   producers at a fixed rate, alone and while others read what no cache holds: broker against itself
  deleted      producers at a fixed rate, alone and while retention deletes the segments of another topic
  compacted    the same, while another topic is compacted

With --against BINARY another build of the broker takes the floor's place in those that produce: what a change costs.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

import upkeep

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVER_CPU, GENERATOR_CPU = 0, 1
MIB = 1 << 20

# What the producing scenarios ask of the generator, and the size of the floor's files. Writing where nothing was
# written since the file was allocated costs a file system much more than writing over something: files must be so
# large that the floor does not come round within a run, or so small that it does within the warm-up.
PRODUCE = {
    "large": dict(partitions=16, batch_bytes=256 << 10, record_bytes=1000, in_flight=8, file_mib=1024),
    "recycled": dict(partitions=16, batch_bytes=256 << 10, record_bytes=1000, in_flight=8, file_mib=64),
    "small": dict(partitions=64, batch_bytes=1, record_bytes=1000, in_flight=64, file_mib=64),
    "single": dict(partitions=1, batch_bytes=1, record_bytes=1000, in_flight=1, file_mib=64),
    "durable": dict(partitions=1, batch_bytes=1, record_bytes=1000, in_flight=1, file_mib=64),
}
DURABLE = "durable"

TAIL = dict(partitions=16, batch_bytes=256 << 10, in_flight=4)
TAIL_BYTES = 64 * MIB

COLD = dict(partitions=4, batch_bytes=256 << 10, in_flight=2)
# The side that another build of the broker takes.
OTHER = "other build"

LIVE = dict(partitions=16, batch_bytes=16 << 10, record_bytes=1000, in_flight=64)


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Server:
    """A server in a process of its own, ready when its port accepts."""

    def __init__(self, name, command, log):
        self.name, self.log = name, log
        with open(log, "w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    def wait(self, port, seconds=60):
        until = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{open(self.log).read()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except OSError:
                if time.monotonic() > until:
                    raise SystemExit(f"{self.name} does not accept on port {port}:\n{open(self.log).read()}")
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            say(f"  {self.name} did not stop within 20 s: killed")
            self.process.kill()
            self.process.wait()


class Bench:
    def __init__(self, options):
        self.options = options
        self.bin = pathlib.Path(options.target_dir) / "release"
        self.generator_path = self.bin / "examples" / "generator"
        self.work = pathlib.Path(options.work_dir).resolve()

    def fresh(self):
        """An empty directory, and a disk that has nothing left to do for the run before."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        os.sync()
        return self.work / "data"

    def floor(self, partitions, file_mib, flags=()):
        port, data = self.options.port, self.fresh()
        command = [self.bin / "examples" / "floor", "--listen", f"127.0.0.1:{port}", "--dir", data,
                   "--partitions", str(partitions), "--file-mib", str(file_mib), "--cpu", str(SERVER_CPU), *flags]
        return Server("floor", command, self.work / "log").wait(port)

    def broker(self, binary=None, flags=None):
        port, data = self.options.port, self.fresh()
        flags = ["--durability", self.options.durability] if flags is None else flags
        command = [binary or self.bin / "corelog", "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", data,
                   "--cores", f"{SERVER_CPU}-{SERVER_CPU}", *self.options.broker_flag, *flags]
        return Server("broker", command, self.work / "log").wait(port)

    def send_sink(self, batch_bytes):
        port = self.options.port
        self.fresh()
        command = [self.generator_path, "send-sink", "--bootstrap", f"127.0.0.1:{port}", "--cpu", str(SERVER_CPU),
                   "--batch-bytes", str(batch_bytes)]
        return Server("send-sink", command, self.work / "log").wait(port)

    def start(self, mode, server, **flags):
        """Starts a generator; None and False flags are left out."""
        flags = {"bootstrap": f"127.0.0.1:{self.options.port}", "cpu": GENERATOR_CPU,
                 "seconds": self.options.seconds, "warmup_seconds": self.options.warmup_seconds,
                 "server_pid": server.process.pid, **flags}
        command = [str(self.generator_path), mode, "--json"]
        for name, value in flags.items():
            if value is True:
                command.append("--" + name.replace("_", "-"))
            elif value is not None and value is not False:
                command.append(f"--{name.replace('_', '-')}={value}")
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), command

    def finish(self, started, server):
        process, command = started
        out, err = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{err}\n{server.name} said:\n{open(server.log).read()[-4000:]}")
        if err:
            say(err.rstrip())
        result = json.loads(out)
        result["command"] = " ".join(["generator", *command[1:]])
        if result["errors"]:
            say(f"  errors: {result['errors']}")
        return result

    def generate(self, mode, server, **flags):
        return self.finish(self.start(mode, server, **flags), server)


def produce(bench, name, side):
    load = dict(PRODUCE[name])
    file_mib = load.pop("file_mib")
    durable = name == DURABLE
    if side == "floor":
        server = bench.floor(load["partitions"], file_mib, ["--durable"] if durable else [])
    else:
        binary = bench.options.against if side == OTHER else None
        server = bench.broker(binary, ["--durability", "sync"] if durable else None)
    with server:
        return bench.generate("produce", server, raw_sink=side == "floor", **load)


def fetch_tail(bench, side):
    load = dict(partitions=TAIL["partitions"], in_flight=TAIL["in_flight"], topic="tail")
    if side == "send-sink":
        with bench.send_sink(TAIL["batch_bytes"]) as server:
            return bench.generate("fetch", server, raw_sink=True, **load)
    with bench.broker() as server:
        preload(bench, server, "tail", TAIL, TAIL_BYTES)
        return bench.generate("fetch", server, **load)


def preload(bench, server, topic, load, wanted_bytes):
    bench.generate("produce", server, topic=topic, partitions=load["partitions"], batch_bytes=load["batch_bytes"],
                   requests=wanted_bytes // load["batch_bytes"], seconds=600, warmup_seconds=0)


def fetch_cold(bench, side):
    """One run: `side` says whether the producers are alone."""
    with bench.broker() as server:
        preload(bench, server, "cold", COLD, bench.options.cold_mib * MIB)
        # The producers' topic is made before anything is measured, and pushes the cold one out of the cache.
        producers = dict(topic="live", rate=bench.options.live_rate, **LIVE)
        bench.generate("produce", server, **{**producers, "seconds": 1, "warmup_seconds": 0})
        readers = dict(topic="cold", partitions=COLD["partitions"], in_flight=COLD["in_flight"], fetch_bytes=4 * MIB)
        if side == "alone":
            return bench.generate("produce", server, **producers)
        reading = bench.start("fetch", server, **readers, **{"seconds": bench.options.seconds + 1})
        result = bench.generate("produce", server, **producers)
        result["cold"] = bench.finish(reading, server)
        result["cold_alone"] = bench.generate("fetch", server, **readers)
        result["disk_mb_per_s"] = disk_speed(bench)
        return result


def disk_speed(bench):
    """What dd reads from the same files, past the page cache, 1 MiB at a time."""
    files = sorted(bench.work.glob("data/**/cold-*/*.log"), key=lambda path: path.stat().st_size)
    if not files:
        return None
    size = files[-1].stat().st_size
    start = time.monotonic()
    subprocess.run(["dd", f"if={files[-1]}", "of=/dev/null", "bs=1M", "iflag=direct"], check=True,
                   stderr=subprocess.DEVNULL)
    return size / 1e6 / (time.monotonic() - start)


# Scenario: the measured side, the side it is compared with, and one run.
SCENARIOS = {
    **{name: ("broker", "floor", lambda bench, side, name=name: produce(bench, name, side)) for name in PRODUCE},
    "fetch-tail": ("broker", "send-sink", fetch_tail),
    "fetch-cold": ("with readers", "alone", fetch_cold),
    "deleted": ("deleting", "alone", lambda bench, side: upkeep.deleted(bench, GENERATOR_CPU, side)),
    "compacted": ("compacting", "alone", lambda bench, side: upkeep.compacted(bench, GENERATOR_CPU, side)),
}


def sides(bench, name):
    measured, reference, run = SCENARIOS[name]
    return measured, OTHER if bench.options.against and name in PRODUCE else reference, run


def derive(result):
    """Processor time by what it was spent on."""
    cpu, requests, size = result.get("server_cpu_s", 0), result["requests"], result["bytes"]
    result["cpu_s_per_gb"] = cpu / (size / 1e9) if size else 0
    result["cpu_us_per_request"] = cpu * 1e6 / requests if requests else 0
    result["server_cpu_percent"] = 100 * cpu / result["seconds"] if result["seconds"] else 0
    result["generator_cpu_percent"] = 100 * result["generator_cpu_s"] / result["seconds"] if result["seconds"] else 0
    result["other_cpu_percent"] = 100 * result["other_cpu_s"] / result["seconds"] if result["seconds"] else 0
    return result


COLUMNS = [
    ("MB/s", "mb_per_s", "{:.1f}"),
    ("requests/s", "requests_per_s", "{:.0f}"),
    ("CPU s/GB", "cpu_s_per_gb", "{:.3f}"),
    ("CPU us/request", "cpu_us_per_request", "{:.2f}"),
    ("p50 us", "p50_us", "{:.0f}"),
    ("p99 us", "p99_us", "{:.0f}"),
    ("p99.9 us", "p999_us", "{:.0f}"),
    ("server CPU %", "server_cpu_percent", "{:.0f}"),
    ("generator CPU %", "generator_cpu_percent", "{:.0f}"),
    # The kernel's own threads, and everything that should not run meanwhile.
    ("other CPU %", "other_cpu_percent", "{:.0f}"),
]


def spread(values):
    """Of the largest from the smallest, in percent of the median."""
    middle = statistics.median(values)
    return 100 * (max(values) - min(values)) / middle if middle else 0


def run_scenario(bench, name):
    measured, reference, run = sides(bench, name)
    results = {measured: [], reference: []}
    for turn in range(bench.options.repeats):
        order = (reference, measured) if turn % 2 == 0 else (measured, reference)
        for side in order:
            result = derive(run(bench, side))
            results[side].append(result)
            say(f"{name} {turn + 1}/{bench.options.repeats} {side}: {result['mb_per_s']:.1f} MB/s, "
                f"{result['requests_per_s']:.0f} requests/s, p50 {result['p50_us']:.0f} us, "
                f"p99 {result['p99_us']:.0f} us, server {result['server_cpu_percent']:.0f} %, "
                f"generator {result['generator_cpu_percent']:.0f} %, other {result['other_cpu_percent']:.0f} %")
    return results


def table(name, results):
    measured, reference = results
    print(f"\n{name}: {measured} against {reference}, medians of {len(results[measured])} (spread)")
    print(f"  {'':16} {measured:>22} {reference:>22} {'ratio':>8}")
    for title, key, form in COLUMNS:
        cells, medians = [], []
        for side in (measured, reference):
            values = [result[key] for result in results[side]]
            medians.append(statistics.median(values))
            cells.append(f"{form.format(medians[-1])} ({spread(values):.0f} %)")
        ratio = f"{medians[0] / medians[1]:.2f}" if medians[1] else "-"
        print(f"  {title:16} {cells[0]:>22} {cells[1]:>22} {ratio:>8}")
    cold = [result for result in results[measured] if "cold" in result]
    if cold:
        for title, speeds in [
            ("cold reading", [result["cold"]["mb_per_s"] for result in cold]),
            ("the same alone", [result["cold_alone"]["mb_per_s"] for result in cold]),
            ("dd of the same", [result["disk_mb_per_s"] for result in cold if result["disk_mb_per_s"]]),
        ]:
            if speeds:
                print(f"  {title:16} {statistics.median(speeds):.1f} MB/s ({spread(speeds):.0f} %)")
    for title, form, values in upkeep.lines(results[measured]):
        print(f"  {title:16} {form.format(statistics.median(values))} ({spread(values):.0f} %)")
    errors = {}
    for side in results.values():
        for result in side:
            for code, count in result["errors"].items():
                errors[code] = errors.get(code, 0) + count
    if errors:
        print(f"  errors: {errors}")


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def host(work):
    """What a record says of the machine; `work` is on the disk that is measured."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 "unknown")
    device, fs = (output("findmnt", "-n", "-o", "SOURCE,FSTYPE", "-T", str(work)).split() + ["unknown"] * 2)[:2]
    block = pathlib.Path("/sys/class/block") / pathlib.Path(device).name
    queue = next((path / "queue" for path in (block, block.resolve().parent) if (path / "queue").exists()), None)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "kernel": os.uname().release,
        "cpu": f"{os.cpu_count()} x {model}",
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "file_system": fs,
        "device": device,
        "scheduler": (queue / "scheduler").read_text().strip() if queue else "unknown",
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "load_before": os.getloadavg()[0],
    }


def check_scenarios(parser, options, known):
    for name in options.scenario:
        if name not in known:
            parser.error(f"there is no scenario {name}: {', '.join(known)}")


def check_work_dir(parser, options):
    if pathlib.Path(options.work_dir).exists() and any(pathlib.Path(options.work_dir).iterdir()):
        parser.error(f"{options.work_dir} is not empty: this would delete it")


def told(options, *besides):
    """The arguments for a record: where things lie on this machine is nobody's business."""
    places = {"target_dir", "work_dir", "json", "port", *besides}
    return {name: value for name, value in vars(options).items() if name not in places}


def keep(record, file):
    path = pathlib.Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="scenario", help=", ".join(SCENARIOS) + " (default: all)")
    parser.add_argument("--repeats", type=int, default=4, help="runs of each side (4)")
    parser.add_argument("--seconds", type=float, default=5, help="measured in each run (5)")
    parser.add_argument("--warmup-seconds", type=float, default=2, help="before that (2)")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before every run; on the disk to be measured")
    parser.add_argument("--port", type=int, default=19393)
    parser.add_argument("--cold-mib", type=int, default=4096, help="fetch-cold: what is read, above the tail cache")
    parser.add_argument("--live-rate", type=float, default=2000, help="fetch-cold: requests a second of the producers")
    parser.add_argument("--upkeep-mib", type=int, default=1536, help="deleted, compacted: of the other topic (1536)")
    parser.add_argument("--upkeep-keys", type=int, default=100_000, help="the same: keys in it (100,000)")
    parser.add_argument("--upkeep-record-bytes", type=int, default=1000, help="the same: of a value (1000)")
    parser.add_argument("--upkeep-compression", default="none", help="the same: of its records (none)")
    parser.add_argument("--upkeep-rate", type=int, default=10_000, help="the same: records a second of the load (10,000)")
    parser.add_argument("--durability", default="write", help="the broker's (write)")
    parser.add_argument("--broker-flag", action="append", default=[], help="one more word of `corelog serve`")
    parser.add_argument("--against", metavar="BINARY", help="another build of the broker, instead of the floor")
    parser.add_argument("--json", metavar="FILE", help="write host, commands and every run to FILE")
    options = parser.parse_args()
    check_scenarios(parser, options, SCENARIOS)
    check_work_dir(parser, options)

    bench = Bench(options)
    bench.fresh()
    facts = host(bench.work)
    record = {"host": facts, "arguments": told(options, "against"), "scenarios": {}}
    try:
        for name in options.scenario or list(SCENARIOS):
            record["scenarios"][name] = run_scenario(bench, name)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
        if options.json and record["scenarios"]:
            keep(record, options.json)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for name, results in record["scenarios"].items():
        table(name, results)


if __name__ == "__main__":
    main()
