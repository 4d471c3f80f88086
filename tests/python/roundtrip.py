"""kafka-python against a broker: writes with each codec, reads back, finds by time, and administers topics.

python roundtrip.py HOST:PORT, by tests/interop.sh. Topics are named after the port, and deleted at the end.
"""

import sys

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError

BOOTSTRAP = sys.argv[1]
TOPIC = "kafka-python-" + BOOTSTRAP.rpartition(":")[2]
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


def check_admin(admin):
    try:
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    assert TOPIC in admin.list_topics()
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
    check_admin(admin)
    admin.close()


main()
