#!/usr/bin/env python3
"""Measures how long a broker takes to come back after kill -9, with much that only its journal has.

A broker with a large journal takes small batches on many partitions until the journal holds as much as wanted; then it
is killed and started again on what it left. Told is the time from the start of the process until it says that it is
ready.

    cargo build --release --bin corelog --example generator
    perf/restart.py --partitions 2000 --journal-mib 512 --held-mib 170 --repeats 3 --json perf/results/NAME.json
"""

import argparse
import os
import re
import shutil
import statistics
import time
import urllib.request

from run import MIB, ROOT, Bench, Server, host, keep, say, spread

HTTP_PORT_STEP = 1
READY = re.compile(r"INFO ready$", re.MULTILINE)
READY_SECONDS_MAX = 120
REPLAYED = re.compile(r"replayed (\d+) commits of \d+ journals: (\d+) entries, (\d+) bytes")


def metric(port, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


def command(bench):
    options = bench.options
    return [bench.bin / "corelog", "serve", "--listen", f"127.0.0.1:{options.port}", "--data-dir", bench.work / "data",
            "--http-listen", f"127.0.0.1:{options.port + HTTP_PORT_STEP}", "--cores", "0-0",
            "--journal-bytes", str(options.journal_mib * MIB), *options.broker_flag]


def fill(bench):
    """Ends with a killed broker."""
    options = bench.options
    (bench.fresh()).mkdir()
    log = bench.work / "log"
    server = Server("broker", command(bench), log).wait(options.port)
    loading = bench.start("produce", server, partitions=options.partitions, connections=64, record_bytes=1024,
                          in_flight=5, batch_bytes=1, seconds=60, warmup_seconds=0)[0]
    used = 0
    while used < options.held_mib * MIB and loading.poll() is None:
        time.sleep(0.02)
        used = metric(options.port + HTTP_PORT_STEP, "corelog_journal_used_bytes")
    server.process.kill()
    server.process.wait()
    loading.kill()
    loading.wait()
    return used


def restart(bench):
    """One start on what the one before left."""
    log = bench.work / "log"
    began = time.monotonic()
    with Server("broker", command(bench), log) as server:
        # The port may still accept for the process before, whose requests to the kernel end after it.
        while not READY.search(log.read_text()):
            if server.process.poll() is not None or time.monotonic() > began + READY_SECONDS_MAX:
                raise SystemExit(f"the broker did not get ready:\n{log.read_text()}")
            time.sleep(0.005)
        ready = time.monotonic() - began
        text = log.read_text()
    replayed = REPLAYED.search(text)
    if not replayed:
        raise SystemExit(f"there was nothing to replay:\n{text}")
    commits, entries, size = (int(group) for group in replayed.groups())
    return {"ready_s": ready, "commits": commits, "entries": entries, "bytes": size}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=2000)
    parser.add_argument("--journal-mib", type=int, default=512)
    parser.add_argument("--held-mib", type=int, default=170)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before every run; on the disk to be measured")
    parser.add_argument("--port", type=int, default=19397)
    parser.add_argument("--broker-flag", action="append", default=[], help="one more word of `corelog serve`")
    parser.add_argument("--json", metavar="FILE", help="write host, arguments and every run to FILE")
    options = parser.parse_args()
    bench = Bench(options)
    options.seconds = options.warmup_seconds = 0
    bench.fresh()
    arguments = {name: getattr(options, name) for name in ("partitions", "journal_mib", "held_mib", "broker_flag")}
    record = {"host": host(bench.work), "arguments": arguments, "runs": []}
    try:
        for _ in range(options.repeats):
            used = fill(bench)
            run = restart(bench)
            run["used_before_bytes"] = used
            say(f"journal {used / MIB:.0f} MiB: {run['commits']} commits, {run['bytes'] / MIB:.0f} MiB, "
                f"ready in {run['ready_s']:.2f} s")
            record["runs"].append(run)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
        if options.json and record["runs"]:
            keep(record, options.json)
    ready = [run["ready_s"] for run in record["runs"]]
    print(f"ready in {statistics.median(ready):.2f} s, median of {len(ready)} (spread {spread(ready):.0f} %)")


if __name__ == "__main__":
    main()
