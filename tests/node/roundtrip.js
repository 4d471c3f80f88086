// kafkajs against a broker: writes, reads offsets, and administers topics. Its consumer works in groups only, so that
// what was written is counted here and read by other clients.
//
// node roundtrip.js HOST:PORT, by tests/interop.sh. Topics are named after the port, and deleted at the end.
"use strict";

const assert = require("node:assert/strict");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const bootstrap = process.argv[2];
const topic = `kafkajs-${bootstrap.split(":")[1]}`;
const partitions = 4;
const perPartition = 250;
const beginMs = 1_700_000_000_000;

function messages(partition) {
  return Array.from({ length: perPartition }, (_, number) => ({
    partition,
    key: number % 3 ? `key ${number}` : null,
    value: number % 5 ? `${partition} ${number} ${"pad ".repeat(20)}` : null,
    headers: { number: String(number) },
    timestamp: String(beginMs + number * 10),
  }));
}

async function produce(kafka, settings, compression, firstOffset) {
  const producer = kafka.producer(settings);
  await producer.connect();
  const all = Array.from({ length: partitions }, (_, partition) => messages(partition)).flat();
  const rows = await producer.send({ topic, acks: -1, compression, messages: all });
  assert.equal(rows.length, partitions);
  for (const row of rows) {
    assert.deepEqual([row.errorCode, row.baseOffset], [0, String(firstOffset)]);
  }
  await producer.disconnect();
}

async function main() {
  // Errors that are wanted would be printed too; the others are thrown.
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  const created = await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: partitions }] });
  assert.equal(created, true);
  assert.equal(await admin.createTopics({ topics: [{ topic }] }), false);

  await produce(kafka, {}, CompressionTypes.None, 0);
  await produce(kafka, { idempotent: true, maxInFlightRequests: 1 }, CompressionTypes.GZIP, perPartition);

  for (const row of await admin.fetchTopicOffsets(topic)) {
    assert.deepEqual([row.low, row.high], ["0", String(2 * perPartition)]);
  }
  for (const row of await admin.fetchTopicOffsetsByTimestamp(topic, beginMs + 1_005)) {
    assert.equal(row.offset, "101");
  }

  await admin.createPartitions({ topicPartitions: [{ topic, count: partitions + 2 }] });
  const [{ partitions: grown }] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics;
  assert.equal(grown.length, partitions + 2);
  const described = await admin.describeConfigs({ resources: [{ type: 2, name: topic }] });
  assert.equal(described.resources[0].errorCode, 0);
  assert.ok(described.resources[0].configEntries.some((entry) => entry.configName === "segment.bytes"));
  await admin.deleteTopics({ topics: [topic] });
  assert.ok(!(await admin.listTopics()).includes(topic));
  await admin.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
