//! Why a request was not answered as wished.
//!
//! *Owns*: the kinds, and their sentences. *Never*: decides what is tried again. *Runs on*: any thread.

use std::fmt;

/// For the user to read, with what a program has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientError {
    pub kind: Kind,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nobody answered, or not in Kafka's protocol. What became of a request that was sent is not known.
    NoAnswer,
    /// The broker has no version of the API that this program speaks. Nothing was asked.
    NotSpoken,
    /// The broker answered that it will not.
    Refused,
}

impl ClientError {
    pub fn new(kind: Kind, message: impl Into<String>) -> ClientError {
        ClientError { kind, message: message.into() }
    }

    pub fn no_answer(message: impl Into<String>) -> ClientError {
        ClientError::new(Kind::NoAnswer, message)
    }

    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ClientError {}
