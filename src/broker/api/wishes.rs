//! Wishes that core 0 decides on for a request, one for each of its rows but those that are refused before.
//!
//! *Owns*: which row of a reply a result is for. *Never*: knows what is wished, or the form of a reply. *Runs on*: the
//! core whose client asked.

use crate::broker::message::ControlOutcome;
use crate::meta::controller::MetaError;
use crate::wire::errors::ErrorCode;

/// The rows of a request, in its order, each with why core 0 was not asked about it.
#[derive(Debug)]
pub struct Rows<R>(Vec<(R, Option<MetaError>)>);

impl<R> Rows<R> {
    /// Parts what core 0 is to decide on from what is refused.
    pub fn part<W>(asked: impl IntoIterator<Item = (R, Result<W, MetaError>)>) -> (Rows<R>, Vec<W>) {
        let mut wishes = Vec::new();
        let rows = asked.into_iter().map(|(row, wish)| match wish {
            Ok(wish) => {
                wishes.push(wish);
                (row, None)
            }
            Err(error) => (row, Some(error)),
        });
        (Rows(rows.collect()), wishes)
    }

    /// What became of each row, with core 0's results for what it was asked: none is left without an answer.
    pub fn end(self, outcome: ControlOutcome) -> impl Iterator<Item = (R, Option<MetaError>)> {
        let (results, failed) = match outcome.results() {
            Ok(results) => (results, ErrorCode::UnknownServerError),
            Err(error) => (Vec::new(), error),
        };
        let mut results = results.into_iter();
        self.0.into_iter().map(move |(row, refused)| {
            let error = refused.or_else(|| match results.next() {
                Some(result) => result.err(),
                None => Some(MetaError { code: failed, message: failed.message().into() }),
            });
            (row, error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> MetaError {
        MetaError { code, message: code.message().into() }
    }

    #[track_caller]
    fn check(outcome: ControlOutcome, expect: [ErrorCode; 3]) {
        let asked = [("a", Ok(1)), ("b", Err(refused(ErrorCode::InvalidConfig))), ("c", Ok(3))];
        let (rows, wishes) = Rows::part(asked);
        assert_eq!(wishes, [1, 3]);
        let ended = rows.end(outcome).map(|(row, error)| (row, error.map_or(ErrorCode::None, |error| error.code)));
        assert_eq!(ended.collect::<Vec<_>>(), ["a", "b", "c"].into_iter().zip(expect).collect::<Vec<_>>());
    }

    #[test]
    fn results_find_the_rows_that_were_asked_about() {
        let results = vec![Ok(()), Err(refused(ErrorCode::PolicyViolation))];
        let expect = [ErrorCode::None, ErrorCode::InvalidConfig, ErrorCode::PolicyViolation];
        check(ControlOutcome::Results(results), expect);
    }

    #[test]
    fn a_failure_is_that_of_every_row_asked_about() {
        let expect = [ErrorCode::NotController, ErrorCode::InvalidConfig, ErrorCode::NotController];
        check(ControlOutcome::Failed(ErrorCode::NotController), expect);
    }

    #[test]
    fn a_row_without_a_result_is_not_a_success() {
        let expect = [ErrorCode::None, ErrorCode::InvalidConfig, ErrorCode::UnknownServerError];
        check(ControlOutcome::Results(vec![Ok(())]), expect);
    }
}
