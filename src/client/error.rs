//! Why a request was not answered as wished.
//!
//! *Owns*: the kinds, and their sentences. *Never*: decides what is tried again. *Runs on*: any thread.

use std::fmt;

use crate::wire::errors::ErrorCode;

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
    /// The broker answered that it will not; the code says why, where this program knows it.
    Refused(Option<ErrorCode>),
}

impl ClientError {
    pub fn new(kind: Kind, message: impl Into<String>) -> ClientError {
        ClientError { kind, message: message.into() }
    }

    pub fn no_answer(message: impl Into<String>) -> ClientError {
        ClientError::new(Kind::NoAnswer, message)
    }

    /// `what` is what the refusal is about.
    pub fn refused(what: &str, refusal: &Refusal) -> ClientError {
        ClientError::new(Kind::Refused(refusal.error()), format!("{what}: {refusal}"))
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

/// What a broker says to one of the things it was asked for, when it says no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: i16,
    /// The broker's own words.
    message: Option<String>,
}

impl Refusal {
    /// `None` for the code that says yes.
    pub fn of(code: i16, message: Option<&str>) -> Option<Refusal> {
        let message = message.filter(|message| !message.is_empty()).map(str::to_owned);
        (code != 0).then_some(Refusal { code, message })
    }

    pub fn error(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.code)
    }

    /// As Kafka's tools print it: `TOPIC_ALREADY_EXISTS`.
    pub fn name(&self) -> String {
        error_name(self.code)
    }

    /// The broker's words, or else what the code means.
    pub fn sentence(&self) -> &str {
        match (&self.message, self.error()) {
            (Some(message), _) => message,
            (None, Some(error)) => error.message(),
            (None, None) => "This program does not know the code; a newer one may.",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.sentence())
    }
}

/// The error's name, for people.
pub fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |code| code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_brokers_words_or_those_of_the_table() {
        let check = |code: i16, message: Option<&str>, expect: Option<&str>| {
            assert_eq!(Refusal::of(code, message).map(|refusal| refusal.to_string()).as_deref(), expect);
        };
        check(0, Some("all is well"), None);
        check(36, None, Some("TOPIC_ALREADY_EXISTS: There is a topic of that name."));
        check(36, Some(""), Some("TOPIC_ALREADY_EXISTS: There is a topic of that name."));
        check(36, Some("Topic 'a' is there."), Some("TOPIC_ALREADY_EXISTS: Topic 'a' is there."));
        check(999, None, Some("error 999: This program does not know the code; a newer one may."));
    }
}
