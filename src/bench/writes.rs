//! What a Corelog broker wrote to its devices for the records it took: from its counters before a run and after it.
//!
//! *Owns*: which of the broker's metrics these are, and the ratio. *Never*: asks the broker itself.
//! *Runs on*: any thread.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Bytes since the broker's start, or during a run with its warm-up and drain. Records that are only in the journal
/// yet will be written once more after the run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Writes {
    /// Of record batches, as producers sent them.
    pub appended_bytes: u64,
    /// Of everything that went to devices, in whole blocks, but for the zeros that a journal is made of once.
    pub device_bytes: u64,
    /// Of these, to journals and to segments.
    pub journal_bytes: u64,
    pub segment_bytes: u64,
}

impl Writes {
    /// From what `/metrics` shows, all cores together.
    pub fn parse(metrics: &str) -> Result<Writes, String> {
        let sum = |name: &str| {
            let values =
                metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' '));
            let values: Option<Vec<u64>> = values.map(|(_, value)| value.trim().parse().ok()).collect();
            let values = values.filter(|values| !values.is_empty());
            values
                .map(|values| values.iter().fold(0, |sum: u64, value| sum.saturating_add(*value)))
                .ok_or_else(|| format!("it does not tell {name}: this is no Corelog broker, or one of another version"))
        };
        let prewritten_bytes = sum("corelog_journal_prewritten_bytes_total")?;
        Ok(Writes {
            appended_bytes: sum("corelog_appended_bytes_total")?,
            device_bytes: sum("corelog_disk_write_bytes_total")?.saturating_sub(prewritten_bytes),
            journal_bytes: sum("corelog_journal_write_bytes_total")?,
            segment_bytes: sum("corelog_segment_write_bytes_total")?,
        })
    }

    /// What came to it since `before`.
    pub fn since(self, before: Writes) -> Result<Writes, String> {
        let less = |now: u64, before: u64| now.checked_sub(before).ok_or("its counters began anew in the middle");
        Ok(Writes {
            appended_bytes: less(self.appended_bytes, before.appended_bytes)?,
            device_bytes: less(self.device_bytes, before.device_bytes)?,
            journal_bytes: less(self.journal_bytes, before.journal_bytes)?,
            segment_bytes: less(self.segment_bytes, before.segment_bytes)?,
        })
    }

    /// Bytes written for each byte of records; none when there were no records.
    pub fn amplification(&self) -> Option<f64> {
        (self.appended_bytes > 0).then(|| self.device_bytes as f64 / self.appended_bytes as f64)
    }
}

impl AddAssign for Writes {
    fn add_assign(&mut self, more: Writes) {
        self.appended_bytes += more.appended_bytes;
        self.device_bytes += more.device_bytes;
        self.journal_bytes += more.journal_bytes;
        self.segment_bytes += more.segment_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE corelog_appended_bytes counter\n\
        corelog_appended_bytes_total{core=\"0\"} 1000\n\
        corelog_appended_bytes_total{core=\"1\"} 500\n\
        corelog_disk_write_bytes_total{core=\"0\"} 1008192\n\
        corelog_journal_prewritten_bytes_total{core=\"0\"} 1000000\n\
        corelog_disk_writes_total{core=\"0\"} 77\n\
        corelog_journal_write_bytes_total{core=\"0\"} 4096\n\
        corelog_segment_write_bytes_total{core=\"0\"} 4096\n# EOF\n";

    #[test]
    fn counters_of_all_cores_are_added_up_and_the_run_is_the_difference() {
        let now = Writes::parse(TEXT).expect("a broker's metrics");
        let expect = Writes { appended_bytes: 1500, device_bytes: 8192, journal_bytes: 4096, segment_bytes: 4096 };
        assert_eq!(now, expect);
        let before = Writes { appended_bytes: 500, device_bytes: 6192, ..Writes::default() };
        assert_eq!(now.since(before).expect("more").amplification(), Some(2.0));
        assert_eq!(now.since(now).expect("nothing").amplification(), None);
        assert!(before.since(now).expect_err("less").contains("began anew"));
    }

    #[test]
    fn metrics_of_somebody_else_are_told() {
        for text in ["", "kafka_server_bytes_total 5\n", &TEXT.replace("1008192", "many")] {
            let error = Writes::parse(text).expect_err("not these");
            assert!(error.contains("this is no Corelog broker"), "{error}");
        }
    }
}
