#!/usr/bin/env python3
"""Measures how long producers cannot write after kill -9 of a leader: three brokers, default settings.

Before each kill a writer puts a record at a time into every partition, each with acks=all, and goes on while one of the
brokers is killed, each in its turn, the controller too: it asks the others who leads now, every few milliseconds, and
sends again. Told is the time from the kill until every partition that the killed broker led has acknowledged a record
again, and the same for the first of them. Then the broker is started again, and the next kill waits until all replicas
are in sync and every broker leads its share.

    cargo build --release --bin corelog
    perf/failover.py --kills 50 --json perf/results/NAME.json

What a client adds by its own back-off is not in it: `tests/cluster.rs` measures that with librdkafka. All brokers share
the processors of one machine, with the writer.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import struct
import sys
import time

from cluster import Cluster
from run import ROOT, check_work_dir, host, keep, say, told

NODES, TOPIC = 3, "t"
METADATA, PRODUCE, ELECT_LEADERS, DESCRIBE_QUORUM = (3, 4), (0, 7), (43, 0), (55, 0)
METADATA_TOPIC = "__cluster_metadata"
# A settled cluster, and the end of a failover.
SETTLED_SECONDS_MAX, FAILOVER_SECONDS_MAX = 60, 60
PAUSE_SECONDS = 0.005
ANSWER_SECONDS = 1.0
CRC32C = [0] * 256
for number in range(256):
    crc = number
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    CRC32C[number] = crc


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def batch(value):
    """One record without key, at this time."""
    body = b"\x00\x00\x00\x01" + bytes([2 * len(value)]) + value + b"\x00"
    record = bytes([2 * len(body)]) + body
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    return struct.pack(">qiiBI", 0, len(tail) + 9, 0, 2, crc32c(tail)) + tail


class Reply:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def text(self):
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def numbers(self):
        return [self.take("i") for _ in range(self.take("i"))]


class Connection:
    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, api, body):
        frame = struct.pack(">hhi", *api, 1) + text("failover") + body
        self.stream.sendall(struct.pack(">i", len(frame)) + frame)
        reply = Reply(self.receive(struct.unpack(">i", self.receive(4))[0]))
        reply.take("i")
        return reply

    def receive(self, count):
        data = b""
        while len(data) < count:
            more = self.stream.recv(count - len(data))
            if not more:
                raise OSError("the connection has ended")
            data += more
        return data


class Failing(Cluster):
    """A cluster of which brokers are killed, and that says who leads what."""

    def __init__(self, options):
        self.controller = -1
        flags = ["--min-insync-replicas", "2", *options.broker_flag]
        super().__init__(options, NODES, lambda node: (node - 1) % os.cpu_count(), flags)

    def kill(self, node):
        self.servers.pop(node).process.send_signal(signal.SIGKILL)

    def partitions(self, asked=None):
        """Of each partition: leader, replicas, in-sync replicas; as one of the brokers says."""
        for node in [asked] if asked else self.servers:
            try:
                reply = Connection(self.port(node)).ask(METADATA, struct.pack(">i", 1) + text(TOPIC) + b"\0")
            except OSError:
                continue
            reply.take("i")
            for _ in range(reply.take("i")):
                reply.take("i"), reply.text(), reply.take("i"), reply.text()
            reply.text()
            self.controller = reply.take("i")
            found = {}
            for _ in range(reply.take("i")):
                reply.take("h"), reply.text(), reply.take("?")
                for _ in range(reply.take("i")):
                    _, index, leader = reply.take("hii")
                    found[index] = (leader, reply.numbers(), reply.numbers())
            if found:
                return found
        return {}

    def voters(self):
        """How many brokers decide on metadata."""
        topic = bytes([len(METADATA_TOPIC) + 1]) + METADATA_TOPIC.encode()
        # In the compact form: a tag section behind the header, each row and the message.
        body = b"\0" + b"\2" + topic + b"\2" + struct.pack(">i", 0) + b"\0" + b"\0" + b"\0"
        reply = Connection(self.port(self.controller)).ask(DESCRIBE_QUORUM, body)
        reply.take("x"), reply.take("hB"), reply.take(f"B{len(METADATA_TOPIC)}s"), reply.take("B"), reply.take("ihiiq")
        return reply.take("B") - 1

    def settle(self):
        """Until all brokers decide, all replicas are in sync, and the first of each partition leads it."""
        until = time.monotonic() + SETTLED_SECONDS_MAX
        while True:
            rows = self.partitions().values()
            if len(rows) == self.options.partitions and self.voters() == NODES and all(
                    len(replicas) == len(in_sync) == NODES for _, replicas, in_sync in rows):
                if all(leader == replicas[0] for leader, replicas, _ in rows):
                    return
                Connection(self.port(self.controller)).ask(ELECT_LEADERS, struct.pack(">ii", -1, 5000))
            if time.monotonic() > until:
                raise SystemExit(f"not all replicas are in sync after {SETTLED_SECONDS_MAX} s: {self.partitions()}")
            time.sleep(0.05)


class Writer:
    """One record at a time, to the leader of a partition."""

    def __init__(self, cluster):
        self.cluster, self.connections, self.leaders = cluster, {}, {}

    def write(self, partition):
        """Whether a record was acknowledged by all in-sync replicas."""
        node = self.leaders.get(partition, (-1,))[0]
        if node not in self.cluster.servers:
            return False
        records = batch(b"x")
        row = struct.pack(">iii", 1, partition, len(records)) + records
        body = struct.pack(">hhii", -1, -1, 900, 1) + text(TOPIC) + row
        try:
            if node not in self.connections:
                self.connections[node] = Connection(self.cluster.port(node))
            reply = self.connections[node].ask(PRODUCE, body)
        except OSError:
            self.connections.pop(node, None)
            return False
        reply.take("i"), reply.text(), reply.take("i")
        return reply.take("ih")[1] == 0

    def learn(self):
        self.leaders = self.cluster.partitions()


def measure(cluster, writer, begun):
    """Seconds until the first and until the last partition that the killed broker led can be written to again."""
    writer.learn()
    for partition in range(cluster.options.partitions):
        while not writer.write(partition):
            time.sleep(PAUSE_SECONDS)
            writer.learn()
    victim = (begun - 1) % NODES + 1
    waiting = [partition for partition, row in writer.leaders.items() if row[0] == victim]
    cluster.kill(victim)
    start = time.monotonic()
    took = []
    while waiting:
        writer.learn()
        written = [partition for partition in waiting if writer.leaders.get(partition, (victim,))[0] != victim
                   and writer.write(partition)]
        took += [time.monotonic() - start] * len(written)
        waiting = [partition for partition in waiting if partition not in written]
        if time.monotonic() - start > FAILOVER_SECONDS_MAX:
            raise SystemExit(f"partitions {waiting} cannot be written after {FAILOVER_SECONDS_MAX} s")
        time.sleep(PAUSE_SECONDS)
    cluster.start(victim).wait(cluster.port(victim))
    cluster.settle()
    say(f"kill {begun}: broker {victim} led {len(took)} of "
        f"{cluster.options.partitions} partitions, written again after {1000 * took[0]:.0f} to {1000 * took[-1]:.0f} ms")
    return {"broker": victim, "partitions": len(took), "first_ms": 1000 * took[0], "last_ms": 1000 * took[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--work-dir", default="perf-data", help="emptied before the run")
    parser.add_argument("--port", type=int, default=19400, help="the brokers have the ports after it")
    parser.add_argument("--broker-flag", action="append", default=[], help="one more word of `corelog serve`")
    parser.add_argument("--json", metavar="FILE", help="write host and every kill to FILE")
    options = parser.parse_args()
    check_work_dir(parser, options)
    # Brokers do not outlive whoever measures them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    cluster = Failing(options)
    try:
        cluster.create_topic(TOPIC, options.partitions)
        cluster.settle()
        writer = Writer(cluster)
        kills = [measure(cluster, writer, number + 1) for number in range(options.kills)]
    finally:
        cluster.stop()
    worst = [kill["last_ms"] for kill in kills]
    summary = {"p50_ms": statistics.median(worst), "worst_ms": max(worst), "best_ms": min(worst)}
    print(f"{len(kills)} kills: written again after {summary['p50_ms']:.0f} ms (median), "
          f"{summary['best_ms']:.0f} to {summary['worst_ms']:.0f} ms")
    if options.json:
        keep({"host": host(cluster.work), "arguments": told(options), "kills": kills, "summary": summary}, options.json)
    shutil.rmtree(cluster.work, ignore_errors=True)


if __name__ == "__main__":
    main()
