#!/usr/bin/env python3
"""Measures `corelog bench` against librdkafka's generator, in turn, on one processor each time.

A sink that acknowledges and keeps nothing runs on processor 0, so that no disk has a part in it; the generator, with
all its threads, on processor 1. Both send records of 100 bytes to one partition as fast as they can, acknowledged
(acks=1), in batches of up to 256 KiB. librdkafka has the settings that make it fastest here. The two sides run in the
order ABBA again and again, each against a fresh sink, and the result is the ratio of the medians. Only ratios of one
invocation say anything.

    cargo build --release --bin corelog --example generator
    perf/generators.py --repeats 4 --json perf/results/NAME.json

librdkafka is that of the locked rdkafka-sys crate, built here with its own flags (-O2) below the target directory.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

from run import GENERATOR_CPU, ROOT, SERVER_CPU, Server, host, say, spread

RECORD_BYTES = 100

LIBRDKAFKA_FLAGS = ["linger.ms=50", "queue.buffering.max.messages=1000000", "batch.size=262144",
                    "batch.num.messages=100000"]
BENCH_FLAGS = ["--rate=0", "--linger-ms=50", "--batch-size=262144", "--acks=1", "--partitions=1", "--threads=1"]


def run(command, **options):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done


def build_librdkafka(target):
    """librdkafka's generator, built once."""
    metadata = json.loads(run(["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT).stdout)
    package = next(package for package in metadata["packages"] if package["name"] == "rdkafka-sys")
    source = pathlib.Path(package["manifest_path"]).parent / "librdkafka"
    version = package["version"].split("+")[-1]
    build = target / "perf" / f"librdkafka-{version}"
    program = build / "rdkafka_performance"
    if not program.exists():
        say(f"building librdkafka {version}, which takes half a minute")
        shutil.rmtree(build, ignore_errors=True)
        shutil.copytree(source, build)
        run(["./configure", "--disable-zstd", "--disable-ssl", "--disable-sasl", "--disable-curl"], cwd=build)
        run(["make", f"-j{os.cpu_count()}", "-C", "src", "librdkafka.a"], cwd=build)
        run(["gcc", "-O2", "-Isrc", "-o", program.name, "examples/rdkafka_performance.c", "src/librdkafka.a",
             "-lz", "-lpthread", "-ldl", "-lm", "-lrt"], cwd=build)
    return program, version


def sink(options):
    """The other end, on a processor of its own."""
    log = options.target_dir / "perf" / "ack-sink.log"
    command = [options.target_dir / "release" / "examples" / "generator", "ack-sink", "--partitions", "1",
               "--bootstrap", f"127.0.0.1:{options.port}", "--cpu", str(SERVER_CPU)]
    return Server("ack-sink", command, log).wait(options.port)


def pinned(command):
    return ["taskset", "-c", str(GENERATOR_CPU), *command]


def with_librdkafka(options, program):
    """Records a second, for a number of records that takes about the time asked for."""
    command = [program, "-P", "-b", f"127.0.0.1:{options.port}", "-t", "load", "-s", RECORD_BYTES, "-a", 1,
               "-c", options.librdkafka_records]
    for flag in LIBRDKAFKA_FLAGS:
        command += ["-X", flag]
    with sink(options):
        output = run(pinned(command))
    # It says so once a second, and once more at the end.
    said = re.findall(r"% (\d+) messages produced .* (\d+) delivered .*, (\d+) failed\) in (\d+)ms",
                      output.stdout + output.stderr)
    sent, delivered, failed, ms = map(int, said[-1])
    if failed or delivered != sent:
        raise SystemExit(f"librdkafka sent {sent} records, of which {delivered} arrived and {failed} failed")
    return delivered / ms * 1000


def with_bench(options):
    command = [options.target_dir / "release" / "corelog", "bench", f"--bootstrap=127.0.0.1:{options.port}",
               f"--record-size={RECORD_BYTES}", f"--duration={options.seconds}s", "--warmup=1s",
               f"--cpus={GENERATOR_CPU}", *BENCH_FLAGS, "--json"]
    with sink(options):
        summary = json.loads(run(pinned(command)).stdout)
    return summary["throughput"]["acked_records"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4, help="runs of each side (4)")
    parser.add_argument("--seconds", type=int, default=4, help="measured in each run of corelog bench (4)")
    parser.add_argument("--librdkafka-records", type=int, default=8_000_000, help="sent in each of its runs (8000000)")
    parser.add_argument("--target-dir", type=pathlib.Path, default=ROOT / "target")
    parser.add_argument("--port", type=int, default=9292)
    parser.add_argument("--json", metavar="FILE", help="where the record goes")
    options = parser.parse_args()
    options.target_dir = options.target_dir.resolve()
    program, version = build_librdkafka(options.target_dir)
    facts = host(options.target_dir) | {"librdkafka": version, "command": " ".join(sys.argv)}
    record = {"host": facts, "bench_flags": BENCH_FLAGS, "librdkafka_flags": LIBRDKAFKA_FLAGS}
    sides = {"bench": lambda: with_bench(options), "librdkafka": lambda: with_librdkafka(options, program)}
    results = {name: [] for name in sides}
    for turn in range(options.repeats):
        for name in sorted(sides, reverse=turn % 2 == 1):
            rate = sides[name]()
            results[name].append(rate)
            say(f"{turn + 1}/{options.repeats} {name}: {rate / 1e6:.2f} million records/s")
    medians = {name: statistics.median(rates) for name, rates in results.items()}
    for name, rates in results.items():
        print(f"{name:12} {medians[name] / 1e6:6.2f} million records/s of {RECORD_BYTES} bytes "
              f"(spread {spread(rates):.0f} %)")
    print(f"ratio        {medians['bench'] / medians['librdkafka']:6.2f}")
    if options.json:
        record |= {"records_per_s": results, "ratio": medians["bench"] / medians["librdkafka"]}
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
