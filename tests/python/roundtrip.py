"""kafka-python against a broker: writes with each codec, reads back, finds by time, reads as a group, and administers
topics and groups.

python roundtrip.py HOST:PORT, by tests/interop.sh. Topics are named after the port, and deleted at the end.
"""

import sys
import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic, OffsetSpec
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

BOOTSTRAP = sys.argv[1]
TOPIC = "kafka-python-" + BOOTSTRAP.rpartition(":")[2]
GROUP = TOPIC + "-group"
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 4
BEGIN_MS = 1_700_000_000_000
PER_PARTITION = 200


def record(codec, partition, number):
    """Key, value, headers and timestamp: some without a key, some without a value (this client wants one of them)."""
    key = b"key %d" % number if number % 3 else None
    value = b"%d %d " % (partition, number) + b"pad " * 20 if number % 3 != 1 else None
    headers = [("codec", str(codec).encode()), ("number", b"%d" % number)]
    return key, value, headers, BEGIN_MS + number * 10


def produce(codec, begin):
    """Sends PER_PARTITION records to each partition, and checks the offsets of the acknowledgements."""
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", compression_type=codec, linger_ms=5)
    sent = {}
    for number in range(begin, begin + PER_PARTITION):
        for partition in range(PARTITIONS):
            key, value, headers, timestamp = record(codec, partition, number)
            sent[partition, number] = producer.send(
                TOPIC, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp
            )
    producer.flush(timeout=60)
    for (_, number), future in sent.items():
        offset = future.get(timeout=60).offset
        assert offset == number, f"offset {offset} for record {number}"
    producer.close()


def consume(consumer):
    """Reads everything there is, by partition."""
    partitions = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found = {partition.partition: [] for partition in partitions}
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        records = consumer.poll(timeout_ms=60_000)
        assert records, f"nothing comes, at {[consumer.position(partition) for partition in partitions]}"
        for partition, rows in records.items():
            found[partition.partition].extend(rows)
    return found


def check_records(consumer):
    found = consume(consumer)
    for partition, rows in found.items():
        assert len(rows) == len(CODECS) * PER_PARTITION, f"{len(rows)} records"
        for number, row in enumerate(rows):
            expect = record(CODECS[number // PER_PARTITION], partition, number)
            seen = row.key, row.value, list(row.headers), row.timestamp
            assert (row.offset, seen) == (number, expect), f"{row} is not {expect}"


def check_times(consumer):
    last = len(CODECS) * PER_PARTITION - 1
    for after_ms, expect in [(-1, 0), (0, 0), (1, 1), (4_995, 500), (last * 10, last), (last * 10 + 1, None)]:
        found = consumer.offsets_for_times({TopicPartition(TOPIC, 1): BEGIN_MS + after_ms})[TopicPartition(TOPIC, 1)]
        offset = found and found.offset
        assert offset == expect, f"{offset}, not {expect}, {after_ms} ms after the beginning"


class Member(threading.Thread):
    """Reads the topic as a member of a group, commits what it has read, and leaves when it is told."""

    def __init__(self, seen):
        super().__init__(daemon=True)
        self.seen, self.assigned, self.leaving = seen, set(), threading.Event()
        self.consumer = KafkaConsumer(
            TOPIC,
            bootstrap_servers=BOOTSTRAP,
            group_id=GROUP,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=10_000,
        )
        self.start()

    def run(self):
        while not self.leaving.is_set():
            polled = self.consumer.poll(timeout_ms=1_000)
            for rows in polled.values():
                self.seen.extend((row.partition, row.offset) for row in rows)
            if polled:
                self.consumer.commit()
            self.assigned = {partition.partition for partition in self.consumer.assignment()}
        self.consumer.close()

    def leave(self):
        self.leaving.set()
        self.join(60)


def wait(what, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not in 60 s: {what}"
        time.sleep(0.02)


def check_group(admin):
    """Two members share the partitions, one leaves and the other goes on; together they read everything once."""
    total = len(CODECS) * PER_PARTITION * PARTITIONS
    seen = []
    first, second = Member(seen), Member(seen)
    wait("two members share", lambda: len(first.assigned) == len(second.assigned) == PARTITIONS // 2)
    wait("everything is read", lambda: len(set(seen)) == total)
    second.leave()
    wait("the one left has everything", lambda: len(first.assigned) == PARTITIONS)
    [described] = admin.describe_groups([GROUP]).values()
    assert described["group_state"] == "Stable" and len(described["members"]) == 1, described
    first.leave()
    assert len(seen) == total, f"{len(seen)} records are read, {total} are there"
    offsets = admin.list_group_offsets(GROUP)[GROUP]
    assert [row.offset for row in offsets.values()] == [len(CODECS) * PER_PARTITION] * PARTITIONS, offsets
    partition = TopicPartition(TOPIC, 0)
    admin.alter_group_offsets(GROUP, {partition: OffsetAndMetadata(7, "seven", -1)})
    found = admin.list_group_offsets(GROUP)[GROUP][partition]
    assert (found.offset, found.metadata) == (7, "seven"), found
    admin.delete_group_offsets(GROUP, [partition])
    assert partition not in admin.list_group_offsets(GROUP)[GROUP]
    listed = admin.list_groups(states_filter=["Empty"], types_filter=["classic"])
    assert GROUP in [group["group_id"] for group in listed], listed
    admin.delete_groups([GROUP])
    assert GROUP not in [group["group_id"] for group in admin.list_groups()]


def check_settings(admin):
    def retention_ms():
        [found] = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)], config_filter="all").values()
        return found[TOPIC]["retention.ms"]

    default = retention_ms()
    change = [ConfigResource(ConfigResourceType.TOPIC, TOPIC, {"retention.ms": "70000"})]
    admin.alter_configs(change)
    assert "70000" in str(retention_ms()), retention_ms()
    admin.reset_configs(change)
    assert retention_ms() == default, retention_ms()


def check_admin(admin):
    try:
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    assert TOPIC in admin.list_topics()
    check_settings(admin)
    admin.create_partitions({TOPIC: NewPartitions(PARTITIONS + 2)})
    [topic] = admin.describe_topics([TOPIC])
    assert len(topic["partitions"]) == PARTITIONS + 2, topic
    [topic] = admin.describe_topic_partitions([TOPIC])["topics"]
    assert [row["partition_index"] for row in topic["partitions"]] == list(range(PARTITIONS + 2)), topic
    partition = TopicPartition(TOPIC, 0)
    assert admin.delete_records({partition: 4})[partition]["low_watermark"] == 4
    found = admin.list_partition_offsets({partition: OffsetSpec.EARLIEST})[partition]
    assert found.offset == 4, found
    logs = [log for broker in admin.describe_log_dirs() for log in broker["log_dirs"]]
    assert any(topic["name"] == TOPIC for log in logs for topic in log["topics"]), logs
    assert admin.describe_producers([partition])[partition].active_producers
    assert admin.describe_metadata_quorum()["topics"]
    assert admin.list_partition_reassignments() == {}
    # A group that nobody has been in yet goes back to the beginning.
    admin.alter_group_offsets(GROUP, {partition: OffsetAndMetadata(7, "", -1)})
    admin.reset_group_offsets(GROUP, {partition: OffsetSpec.EARLIEST})
    assert admin.list_group_offsets(GROUP)[GROUP][partition].offset == 4
    admin.delete_groups([GROUP])
    admin.delete_topics([TOPIC])
    assert TOPIC not in admin.list_topics()


def main():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    for round_, codec in enumerate(CODECS):
        produce(codec, round_ * PER_PARTITION)
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    check_records(consumer)
    check_times(consumer)
    consumer.close()
    check_group(admin)
    check_admin(admin)
    admin.close()


main()
