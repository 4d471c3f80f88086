"""What retention and compaction do to those who produce meanwhile: two scenarios of run.py.

A topic is filled, then an open loop of producers writes to another one. In the runs of one side the old topic is told,
shortly before anything is measured, to let go of all its segments, or to be compacted; in those of the other it lies
there. The load is `corelog bench`, so that latency counts from the time at which a record was to be sent.
"""

import concurrent.futures
import json
import os
import resource
import shutil
import subprocess
import time
import urllib.request

OLD, LIVE = "old", "live"
MIB = 1 << 20

# Of the topic that lies there: one partition, so that one compaction is all of it.
OLD_SETTINGS = ["durability=write", "retention.ms=-1", "min.cleanable.dirty.ratio=0"]
FILL = ["--producers=8", "--in-flight=16", "--batch-size=16KiB", "--linger-ms=2", "--rate=0", "--warmup=0s",
        "--duration=500ms", "--interval=500ms"]
LOAD = ["--producers=4", "--partitions=10", "--record-size=1000", "--linger-ms=0", "--acks=all", "--interval=500ms"]

# The old topic is told so long before the measurement.
HEAD_SECONDS = 0.3
FLAGS = ["--log-cleaner-backoff-ms=50", "--log-retention-check-interval-ms=1000", "--tail-cache-bytes=16MiB"]
DONE_WITHIN_SECONDS = 60
TICKS = os.sysconf("SC_CLK_TCK")


class Upkeep:
    """One run."""

    def __init__(self, bench, cpu):
        self.options, self.cpu = bench.options, cpu
        self.corelog = str(bench.bin / "corelog")
        self.http = self.options.port + 1
        self.data = bench.work / "data"
        self.server = bench.broker(flags=[*FLAGS, f"--http=127.0.0.1:{self.http}"])

    def tool(self, *words):
        command = [self.corelog, *words, "--bootstrap", f"127.0.0.1:{self.options.port}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def bench(self, topic, *words):
        return json.loads(self.tool("bench", "--json", "--topic", topic, "--cpus", str(self.cpu), *words))

    def metrics(self, *names):
        """Sums over the cores."""
        sums = dict.fromkeys(names, 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as page:
            for line in page.read().decode().splitlines():
                name = line.split("{")[0].removeprefix("corelog_").removesuffix("_total")
                if name in sums:
                    sums[name] += float(line.split()[-1])
        return sums

    def spent_s(self):
        """Processor seconds so far: the broker's, those of the tools that have ended, and the whole machine's."""
        words = open(f"/proc/{self.server.process.pid}/stat").read().rsplit(")", 1)[1].split()
        tools = resource.getrusage(resource.RUSAGE_CHILDREN)
        user, nice, system, _idle, _iowait, irq, softirq = map(int, open("/proc/stat").readline().split()[1:8])
        return ((int(words[11]) + int(words[12])) / TICKS, tools.ru_utime + tools.ru_stime,
                (user + nice + system + irq + softirq) / TICKS)

    def fill(self, segment_bytes):
        settings = [f"--set={setting}" for setting in [*OLD_SETTINGS, f"segment.bytes={segment_bytes}"]]
        self.tool("topic", "create", OLD, "--partitions=1", *settings)
        keys = [f"--keys=uniform:{self.options.upkeep_keys}", f"--record-size={self.options.upkeep_record_bytes}",
                f"--compression={self.options.upkeep_compression}", "--payload-ratio=2"]
        seed = 0
        while sum(path.stat().st_size for path in self.data.glob(f"{OLD}-0/*.log")) < self.options.upkeep_mib * MIB:
            seed += 1
            self.bench(OLD, *FILL, *keys, f"--seed={seed}")
        os.sync()


def tell(run, delay_seconds, settings, is_done):
    """Changes the old topic after a while, and says what was done and when."""
    names = ("compacted_bytes", "compaction_write_bytes", "deleted_segments", "deleted_segment_bytes")
    time.sleep(delay_seconds)
    run.tool("topic", "alter", OLD, *[f"--set={setting}" for setting in settings])
    began = time.monotonic()
    while not is_done(counts := run.metrics(*names)):
        if time.monotonic() > began + DONE_WITHIN_SECONDS:
            raise SystemExit(f"the old topic is as it was: {counts}")
        time.sleep(0.05)
    return began, time.monotonic(), counts


def upkeep(bench, cpu, settings, segment_bytes, is_done):
    """One run; without `settings` the old topic is left alone. `is_done` is asked with the metrics."""
    options, run = bench.options, Upkeep(bench, cpu)
    load = [*LOAD, f"--rate={options.upkeep_rate}", f"--warmup={options.warmup_seconds}s",
            f"--duration={options.seconds}s"]
    with run.server, concurrent.futures.ThreadPoolExecutor(1) as beside:
        run.fill(segment_bytes)
        began, before = time.monotonic(), run.spent_s()
        delay = max(options.warmup_seconds - HEAD_SECONDS, 0)
        told = beside.submit(tell, run, delay, settings, is_done) if settings else None
        result = converted(run.bench(LIVE, *load), load)
        # The warm-up's work is taken for as much a second as the rest's.
        measured_part = result["seconds"] / (time.monotonic() - began)
        server, tools, machine = ((now - then) * measured_part for now, then in zip(run.spent_s(), before))
        result.update(server_cpu_s=server, generator_cpu_s=tools, other_cpu_s=max(machine - server - tools, 0))
        if told:
            first, last, counts = told.result()
            measured = began + options.warmup_seconds
            share = (min(last, measured + options.seconds) - max(first, measured)) / options.seconds
            size = counts["compacted_bytes"] or counts["deleted_segment_bytes"]
            result["upkeep"] = dict(counts, seconds=last - first, mb_per_s=size / 1e6 / (last - first),
                                    share_of_measurement=max(share, 0),
                                    left=counts["compaction_write_bytes"] / size)
    shutil.rmtree(run.data, ignore_errors=True)
    return result


def converted(summary, words):
    """As the other scenarios have it; what they count in requests are records here."""
    produce, throughput, seconds = summary["produce"], summary["throughput"], summary["measured_s"]
    return {
        "command": " ".join(["corelog bench", *words]),
        "requests": round(throughput["acked_records"] * seconds), "requests_per_s": throughput["acked_records"],
        "bytes": round(throughput["acked_bytes"] * seconds), "mb_per_s": throughput["acked_bytes"] / 1e6,
        "seconds": seconds, "intervals_invalid": summary["intervals_invalid"],
        "errors": {str(name): count for name, count in summary["complaints"]},
        **{name + "_us": produce[key + "_ns"] / 1000
           for name, key in (("p50", "p50"), ("p99", "p99"), ("p999", "p99_9"), ("max", "max"))},
    }


def deleted(bench, cpu, side):
    settings = ["retention.bytes=1"] if side == "deleting" else []
    # What is deleted at a time is bounded, so that many segments take some seconds.
    return upkeep(bench, cpu, settings, 16 * MIB,
                  lambda counts: counts["deleted_segment_bytes"] > 0.9 * bench.options.upkeep_mib * MIB)


def compacted(bench, cpu, side):
    settings = ["cleanup.policy=compact"] if side == "compacting" else []
    return upkeep(bench, cpu, settings, 64 * MIB, lambda counts: counts["compacted_bytes"] > 0)


def lines(results):
    """For people: what became of the old topic, in the runs in which something did."""
    done = [result["upkeep"] for result in results if "upkeep" in result]
    rows = [("old topic MB/s", "mb_per_s", "{:.0f}"), ("share of the run", "share_of_measurement", "{:.2f}"),
            ("left of a byte", "left", "{:.2f}")]
    return [(title, form, [one[key] for one in done]) for title, key, form in rows if done]
