//! The data directory as a place to write to: until a sync fails, of whatever file and on whatever core.
//!
//! What a device has of what it was given before a failed sync is not known, and a second sync that succeeds says
//! nothing about it (fsync(2) reports a lost write once). So the first failure ends all writing at once; what is
//! known to be safe is still read. Kafka's `ReplicaManager.handleLogDirFailure` does the same with its directories.
//! In a cluster the broker asks to be relieved, like one that stops: others lead what they have in sync, and this one
//! follows nobody. What nobody else has stays here, to be read.
//!
//! *Owns*: that no core writes on when one knows. *Never*: syncs again; ends the process. *Runs on*: every core.

use crate::base::ids::CoreId;
use crate::base::time::Now;
use crate::broker::control::Control;
use crate::broker::effect::Effects;
use crate::broker::message::ShardMessage;
use crate::broker::shard::Shard;

impl Shard {
    /// Why the data directory takes no more writes, once it does not.
    pub fn directory_failure(&self) -> Option<&str> {
        self.offline.as_deref()
    }

    /// A sync failed on this core, or a write of its journal, as `cause` says. Does nothing the second time.
    pub(in crate::broker) fn take_directory_offline(&mut self, cause: &str, now: Now, effects: &mut Effects) {
        if self.offline.is_some() {
            return;
        }
        tracing::error!(
            "core {}: the data directory takes no more writes: {cause}. What the device has of records that were not \
             synced is not known; all others are safe and still served. Producers get KAFKA_STORAGE_ERROR, topics can \
             be neither created nor deleted here. Other brokers lead what they have in sync. See what the kernel says of the device (dmesg), put it right, and start \
             the broker again: it recovers what is there.",
            self.core()
        );
        self.end_writing(cause, now, effects);
        for core in (0..self.config.cores).map(CoreId) {
            if core != self.config.core {
                self.send(core, ShardMessage::DirectoryOffline { cause: cause.to_owned() }, effects);
            }
        }
    }

    /// Another core has seen a failure that ends all writing.
    pub(in crate::broker) fn on_directory_offline(
        &mut self,
        from: CoreId,
        cause: &str,
        now: Now,
        effects: &mut Effects,
    ) {
        if self.offline.is_some() {
            return;
        }
        tracing::error!("core {}: takes no more writes, as core {from} does not: {cause}", self.core());
        self.end_writing(cause, now, effects);
    }

    fn end_writing(&mut self, cause: &str, now: Now, effects: &mut Effects) {
        let message = format!("the data directory takes no more writes: {cause}");
        for owner in self.partitions.owner_numbers() {
            self.on_partition(owner, now, effects, |partition, cache, out| {
                partition.take_offline(&message, cache, out);
            });
        }
        self.commits.end_writing();
        self.offline = Some(message);
        self.follow_nobody();
        Control::on_directory_offline(self, effects);
        self.on_writing_ended(now);
    }
}
