// kafkajs against a broker: writes, reads as a group, reads offsets, and administers topics and groups.
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

// Two members read everything; one leaves, and the other goes on with what comes.
async function consume(kafka, admin) {
  const groupId = `${topic}-group`;
  const seen = new Set();
  const wait = async (what, done) => {
    const deadline = Date.now() + 60_000;
    while (!done()) {
      assert.ok(Date.now() < deadline, `not in 60 s: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const start = async () => {
    const member = { assigned: [] };
    member.consumer = kafka.consumer({ groupId, heartbeatInterval: 200, sessionTimeout: 10_000 });
    member.consumer.on(member.consumer.events.GROUP_JOIN, ({ payload }) => {
      member.assigned = payload.memberAssignment[topic] ?? [];
    });
    await member.consumer.connect();
    await member.consumer.subscribe({ topic, fromBeginning: true });
    await member.consumer.run({
      eachMessage: async ({ partition, message }) => seen.add(`${partition} ${message.offset}`),
    });
    return member;
  };
  const [first, second] = [await start(), await start()];
  await wait("two members share", () => first.assigned.length === 2 && second.assigned.length === 2);
  await wait("everything is read", () => seen.size === 2 * perPartition * partitions);
  await second.consumer.disconnect();
  await wait("the one left has everything", () => first.assigned.length === partitions);
  await first.consumer.disconnect();
  const [{ partitions: offsets }] = await admin.fetchOffsets({ groupId, topics: [topic] });
  assert.deepEqual(offsets.map((row) => row.offset), Array(partitions).fill(String(2 * perPartition)));
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: "7" }] });
  const [{ partitions: reset }] = await admin.fetchOffsets({ groupId, topics: [topic] });
  assert.equal(reset.find((row) => row.partition === 0).offset, "7");
  assert.ok((await admin.listGroups()).groups.some((group) => group.groupId === groupId));
  const described = await admin.describeGroups([groupId]);
  assert.equal(described.groups[0].state, "Empty");
  const [deleted] = await admin.deleteGroups([groupId]);
  assert.deepEqual([deleted.groupId, deleted.errorCode], [groupId, 0]);
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

  await consume(kafka, admin);
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
  const configEntries = [{ name: "retention.ms", value: "70000" }];
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries }] });
  const changed = await admin.describeConfigs({ resources: [{ type: 2, name: topic, configNames: ["retention.ms"] }] });
  assert.equal(changed.resources[0].configEntries[0].configValue, "70000");
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "4" }] });
  const [{ low }] = (await admin.fetchTopicOffsets(topic)).filter((row) => row.partition === 0);
  assert.equal(low, "4");
  assert.ok((await admin.describeCluster()).brokers.length > 0);
  await admin.deleteTopics({ topics: [topic] });
  assert.ok(!(await admin.listTopics()).includes(topic));
  await admin.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
