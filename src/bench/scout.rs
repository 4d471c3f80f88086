//! Questions that generator threads have during a run, asked where their waiting disturbs nothing.
//!
//! *Owns*: the thread with the control connection, and the ways to it and back. *Never*: asks by itself.
//! *Runs on*: a thread of its own, not pinned.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use mio::Waker;

use crate::bench::control::{BenchError, Cluster, Control};
use crate::bench::producer::Node;
use crate::bench::topics::Topics;
use crate::wire::text::Text;

/// An answer about leaders serves everybody who asks within this time.
const SERVES_FOR: Duration = Duration::from_millis(50);

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    Cluster,
    /// For the thread's producer of that number.
    ProducerId(usize),
    /// Of a group, for the thread's member of that number.
    Coordinator(usize, Text),
}

pub enum Answer {
    Cluster(Result<Arc<Cluster>, BenchError>),
    ProducerId(usize, Result<(i64, i16), BenchError>),
    Coordinator(usize, Result<Node, BenchError>),
    /// The backlog is to be written.
    Fill,
    /// The schedule begins then.
    Start(u64),
}

/// How a thread is answered.
#[derive(Clone)]
pub struct Mailbox {
    pub sender: Sender<Answer>,
    pub waker: Arc<Waker>,
}

impl Mailbox {
    pub fn send(&self, answer: Answer) {
        // A thread that has ended needs no answer.
        if self.sender.send(answer).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// Answers until nobody is left who could ask.
pub fn answer_all(mut control: Control, topics: &Topics, questions: &Receiver<(Question, Mailbox)>) {
    let mut last: Option<(Instant, Arc<Cluster>)> = None;
    while let Ok((question, mailbox)) = questions.recv() {
        mailbox.send(match question {
            Question::ProducerId(producer) => Answer::ProducerId(producer, control.producer_id()),
            Question::Coordinator(member, group) => Answer::Coordinator(member, control.coordinator(&group)),
            Question::Cluster => {
                if last.as_ref().is_none_or(|(at, _)| at.elapsed() > SERVES_FOR) {
                    last = None;
                }
                Answer::Cluster(match &last {
                    Some((_, cluster)) => Ok(cluster.clone()),
                    None => control.cluster(topics).map(|cluster| {
                        let cluster = Arc::new(cluster);
                        last = Some((Instant::now(), cluster.clone()));
                        cluster
                    }),
                })
            }
        });
    }
}
