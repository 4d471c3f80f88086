"""Histogram logs that HdrHistogram for Python reads and writes: ours with tags by it, its own by us.

python hlog.py CORELOG, by tests/interop.sh.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader, HistogramLogWriter

CORELOG = sys.argv[1]
HIGHEST_NS = 3_600_000_000_000
PERCENTILES = [0, 50, 90, 99, 99.9, 99.99, 100]
TAGS = ["produce", "produce.invalid", "e2e", ""]


def convert(path, form, out):
    subprocess.run([CORELOG, "convert", path, "--to", form, "--out", out], check=True)


def intervals():
    """Values by tag and start in seconds: none, one, and many over seven powers of ten."""
    rng = random.Random(7)
    for start, count in enumerate([1, 10, 1000, 20_000]):
        for tag in TAGS:
            yield tag, start, [int(10 ** rng.uniform(3, 10)) for _ in range(count)]


def near(found, expect):
    """Three digits, and half a microsecond at the low end."""
    return abs(found - expect) <= expect * 0.002 + 512


def check_ours_by_theirs(work):
    expect = list(intervals())
    lines = [f"{tag},{start}.000,1.000,{value},1" for tag, start, values in expect for value in values]
    csv = work / "in.csv"
    csv.write_text("tag,start_s,length_s,value_ns,count\n" + "\n".join(lines) + "\n")
    hlog = work / "ours.hlog"
    convert(csv, "hlog", hlog)
    reader = HistogramLogReader(str(hlog), HdrHistogram(1, HIGHEST_NS, 3))
    for tag, start, values in expect:
        found = reader.get_next_interval_histogram()
        assert found, f"no interval where {tag} {start} should be"
        values.sort()
        assert (found.get_tag() or "") == tag, f"tag {found.get_tag()}, not {tag}"
        assert found.get_start_time_stamp() == start * 1000, found.get_start_time_stamp()
        assert found.get_end_time_stamp() == start * 1000 + 1000, found.get_end_time_stamp()
        assert found.get_total_count() == len(values), f"{found.get_total_count()} values, not {len(values)}"
        for percentile in PERCENTILES:
            rank = max(1, -(-len(values) * percentile // 100))
            value = found.get_value_at_percentile(percentile)
            assert near(value, values[int(rank) - 1]), f"{value}, not {values[int(rank) - 1]} at {percentile} of {tag}"
        assert near(found.get_max_value(), values[-1])
    assert reader.get_next_interval_histogram() is None, "an interval too many"


def check_theirs_by_ours(work):
    hlog = work / "theirs.hlog"
    histograms = []
    with open(hlog, "w", encoding="utf-8") as out:
        writer = HistogramLogWriter(out)
        writer.output_log_format_version()
        writer.output_base_time(1_700_000_000_000)
        writer.output_legend()
        for _, start, values in intervals():
            histogram = HdrHistogram(1, HIGHEST_NS, 3)
            for value in values:
                histogram.record_value(value)
            writer.output_interval_histogram(histogram, start + 0.5, start + 1.5)
            histograms.append((start, histogram))
    out = work / "theirs.json"
    convert(hlog, "json", out)
    found = json.loads(out.read_text())
    assert found["started_wall_ms"] == 1_700_000_000_500, found["started_wall_ms"]
    assert len(found["intervals"]) == len(histograms)
    for interval, (start, histogram) in zip(found["intervals"], histograms):
        assert (interval["start_ns"], interval["length_ns"]) == (start * 10**9, 10**9)
        theirs = [(item.value_iterated_to, item.count_at_value_iterated_to) for item in histogram.get_recorded_iterator()]
        assert sum(count for _, count in interval["counts"]) == histogram.get_total_count()
        assert [count for _, count in interval["counts"]] == [count for _, count in theirs]
        assert interval["latency"]["max_ns"] == histogram.get_max_value()
        assert interval["latency"]["p50_ns"] == histogram.get_value_at_percentile(50)


with tempfile.TemporaryDirectory() as directory:
    check_ours_by_theirs(Path(directory))
    check_theirs_by_ours(Path(directory))
