//! Deliberate bugs: what the simulator must find, so that its silence says something.
//!
//! A hook is one `if bug::on(Bug::…)` at the place concerned. Without the feature `bugs`, which no product is built
//! with, it is a constant and nothing of it is left.
//!
//! *Owns*: the list, and which bug this thread has. *Never*: has one on in a product. *Runs on*: every core, in tests.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// What was written counts as safe although the topic asks for a sync.
    AckBeforeSync,
    /// A failed sync passes for a good one.
    IgnoreFailedSync,
    /// Consumers are shown what is not safe yet.
    ShowUnsafe,
    /// Recovery takes batches without looking at their checksums.
    SkipTailCheck,
    /// Recovery leaves what lies beyond the end of the log where it is.
    KeepStaleTail,
    /// Recovery takes whole batches of an earlier segment that a recycled file still holds.
    TakeStaleBatches,
    /// Recovery goes past a full segment without syncing it.
    SkipSealSync,
    /// Recovery forgets which batches of which producers it has seen.
    ForgetProducers,
    /// A batch gets offsets that another has.
    ReuseOffset,
    /// A batch that was stored before is stored again.
    StoreDuplicates,
    /// Metadata is answered for before it is synced.
    CommitMetaBeforeSync,
    /// A replay leaves some of the journal's entries out.
    ForgetJournalEntry,
    /// The journal lets go of what its segment has, but not durably.
    FlushBeforeSync,
    /// The journal writes over what is not needed before a header says so.
    ReuseJournalSpace,
    /// A commit counts as safe while one before it is on its way.
    CommitOutOfOrder,
    /// A log that lacks what the journal knew of does not write that down.
    ForgetMustReach,
    /// A compacted segment takes the place of others before it is durable.
    SwapBeforeSync,
    /// Keys whose hashes begin alike are one key.
    ConfuseKeys,
    /// Tombstones go before their time.
    DropTombstones,
    /// A client is told that records are deleted before that is durable.
    AnswerDeletionsEarly,
    /// The same, before followers have deleted them too.
    AnswerDeletionsAlone,
    /// A follower keeps what its leader has deleted.
    KeepStart,
    /// What may be given up yet is compacted, and takes the place of what is committed.
    CompactUncommitted,
    /// A start does not look at what was noted: which journals there were, and how far logs were durable.
    ForgetNotes,
    /// A group is told that its offsets are committed before they are safe.
    AnswerGroupsEarly,
    /// The same, before those in sync have them.
    AnswerGroupsAlone,
    /// A coordinator is loaded without what its log has and may be committed yet.
    LoadGroupsEarly,
    /// A start takes what was known of a log before it was truncated for true.
    ForgetTruncations,
    /// A leader answers for what its followers do not have.
    AckBeforeInSync,
    /// What was set first of a topic stays, whatever is set later.
    KeepOldSettings,
    /// A leader shows consumers what its followers do not have.
    ShowUncommitted,
    /// Somebody who lacks records leads before nobody does.
    ElectOutsideIsr,
    /// A follower is in sync that lacks what is committed.
    JoinInSyncEarly,
    /// A leader does not look at the epoch of what a follower has.
    KeepDivergent,
    /// A follower cuts its log to what it knows to be committed, not to what its leader has.
    CutToHighWatermark,
    /// What a broker tells of its partitions takes the place of something newer.
    TakeStaleReports,
    /// Metadata that gossip tells of again is applied over what came after it.
    TakeStaleMetadata,
}

impl Bug {
    pub const ALL: &[Bug] = &[
        Bug::AckBeforeSync,
        Bug::IgnoreFailedSync,
        Bug::ShowUnsafe,
        Bug::SkipTailCheck,
        Bug::KeepStaleTail,
        Bug::TakeStaleBatches,
        Bug::SkipSealSync,
        Bug::ForgetProducers,
        Bug::ReuseOffset,
        Bug::StoreDuplicates,
        Bug::CommitMetaBeforeSync,
        Bug::ForgetJournalEntry,
        Bug::FlushBeforeSync,
        Bug::ReuseJournalSpace,
        Bug::CommitOutOfOrder,
        Bug::ForgetMustReach,
        Bug::SwapBeforeSync,
        Bug::ConfuseKeys,
        Bug::DropTombstones,
        Bug::AnswerDeletionsEarly,
        Bug::AnswerDeletionsAlone,
        Bug::KeepStart,
        Bug::CompactUncommitted,
        Bug::ForgetNotes,
        Bug::AnswerGroupsEarly,
        Bug::AnswerGroupsAlone,
        Bug::LoadGroupsEarly,
        Bug::ForgetTruncations,
        Bug::AckBeforeInSync,
        Bug::KeepOldSettings,
        Bug::ShowUncommitted,
        Bug::ElectOutsideIsr,
        Bug::JoinInSyncEarly,
        Bug::KeepDivergent,
        Bug::CutToHighWatermark,
        Bug::TakeStaleReports,
        Bug::TakeStaleMetadata,
    ];
}

#[cfg(feature = "bugs")]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread's shards have this bug, and no other.
#[cfg(feature = "bugs")]
pub fn set(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(feature = "bugs")]
pub fn on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

#[cfg(not(feature = "bugs"))]
#[inline(always)]
pub const fn on(_: Bug) -> bool {
    false
}
