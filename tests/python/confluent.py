"""confluent-kafka, with a librdkafka newer than that of the Rust tests, against a broker.

python confluent.py HOST:PORT, by tests/interop.sh. Topics are named after the port, and deleted at the end.
"""

import sys

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

BOOTSTRAP = sys.argv[1]
TOPIC = "confluent-" + BOOTSTRAP.rpartition(":")[2]
PARTITIONS = 4
BEGIN_MS = 1_700_000_000_000
COUNT = 2_000


def record(number):
    return b"key %d" % number, b"value %d" % number, BEGIN_MS + number


def produce():
    failed = []
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "compression.type": "zstd"})
    for number in range(COUNT):
        key, value, timestamp = record(number)
        producer.produce(
            TOPIC,
            value,
            key,
            partition=number % PARTITIONS,
            timestamp=timestamp,
            on_delivery=lambda error, _: error and failed.append(error),
        )
        producer.poll(0)
    assert producer.flush(60) == 0 and not failed, failed


def consume():
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    found = [[] for _ in range(PARTITIONS)]
    for _ in range(COUNT):
        message = consumer.poll(60)
        assert message is not None, f"nothing comes after {sum(map(len, found))} records"
        assert message.error() is None, message.error()
        found[message.partition()].append((message.key(), message.value(), message.timestamp()[1]))
    for partition, rows in enumerate(found):
        assert rows == [record(number) for number in range(partition, COUNT, PARTITIONS)], f"partition {partition}"
    asked = TopicPartition(TOPIC, 1, BEGIN_MS + 1_002)
    offset = consumer.offsets_for_times([asked], timeout=60)[0].offset
    assert offset == 251, f"{offset} found by time"
    watermarks = consumer.get_watermark_offsets(TopicPartition(TOPIC, 1), timeout=60)
    assert watermarks == (0, COUNT // PARTITIONS), watermarks
    consumer.close()


def check_admin(admin):
    [described] = [future.result(60) for future in admin.describe_topics(TopicCollection([TOPIC])).values()]
    assert len(described.partitions) == PARTITIONS, described
    partition = TopicPartition(TOPIC, 0)
    offsets = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(60)
    assert offsets.offset == COUNT // PARTITIONS, offsets
    deleted = admin.delete_records([TopicPartition(TOPIC, 0, 4)])[partition].result(60)
    assert deleted.low_watermark == 4, deleted
    group = TOPIC + "-group"
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(TOPIC, 0, 7)])
    admin.alter_consumer_group_offsets([asked])[group].result(60)
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(60)
    assert [row.offset for row in listed.topic_partitions] == [7], listed.topic_partitions
    assert group in [row.group_id for row in admin.list_consumer_groups().result(60).valid]
    assert admin.describe_consumer_groups([group])[group].result(60).state == ConsumerGroupState.EMPTY
    admin.delete_consumer_groups([group])[group].result(60)
    admin.create_partitions([NewPartitions(TOPIC, PARTITIONS + 1)])[TOPIC].result(60)
    assert admin.describe_cluster().result(60).nodes


def main():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config={"retention.ms": "-1"})])[TOPIC].result(60)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC)
    settings = admin.describe_configs([resource])[resource].result(60)
    assert settings["retention.ms"].value == "-1", settings["retention.ms"]
    change = ConfigResource(
        ConfigResource.Type.TOPIC,
        TOPIC,
        incremental_configs=[ConfigEntry("retention.ms", "70000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin.incremental_alter_configs([change])[change].result(60)
    settings = admin.describe_configs([resource])[resource].result(60)
    assert settings["retention.ms"].value == "70000", settings["retention.ms"]
    produce()
    consume()
    check_admin(admin)
    admin.delete_topics([TOPIC])[TOPIC].result(60)
    assert TOPIC not in admin.list_topics(timeout=60).topics


main()
