//! Questions about partitions on behalf of a request: each goes to the core that owns its partition, and the reply
//! leaves when all are answered.
//!
//! *Owns*: which row of a reply an answer is for, and how many are still to come. *Never*: knows the form of a reply.
//! *Runs on*: the core whose client asked.

use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{Question, ShardMessage, TopicPartition};
use crate::broker::shard::Shard;

/// A row of a reply: the place of its topic, and its own in that.
pub type RowPlace = (usize, usize);

/// What is to be asked.
#[derive(Debug, Default)]
pub struct Questions {
    rows: Vec<RowPlace>,
    /// As many as `rows`.
    asked: Vec<(TopicPartition, Question)>,
}

/// What was asked, and is not answered yet.
#[derive(Debug)]
pub struct Awaited {
    rows: Vec<RowPlace>,
    left: usize,
}

impl Questions {
    pub fn add(&mut self, row: RowPlace, of: TopicPartition, question: Question) {
        self.rows.push(row);
        self.asked.push((of, question));
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Asks the owners. The answers come as `ShardMessage::Answer` for the job that is made of `work`.
    pub(in crate::broker) fn ask(
        self,
        shard: &mut Shard,
        asker: Asker,
        work: impl FnOnce(Awaited) -> Work,
        effects: &mut Effects,
    ) {
        assert!(!self.is_empty(), "who asks nothing waits for ever");
        let job = shard.add_job(asker, work(Awaited { rows: self.rows, left: self.asked.len() }));
        for (at, (to, question)) in (0..).zip(self.asked) {
            let owner = shard.owner(to.topic, to.partition);
            shard.send(owner, ShardMessage::Ask { job, at, to, question }, effects);
        }
    }
}

impl Awaited {
    /// The row that an answer is for.
    pub fn on_answer(&mut self, at: u32) -> RowPlace {
        assert!(self.left > 0, "a question is answered once");
        self.left -= 1;
        self.rows[at as usize]
    }

    pub fn is_over(&self) -> bool {
        self.left == 0
    }
}
