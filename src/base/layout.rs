//! Names in the data directory that more than one room must know.
//!
//! *Owns*: how a segment's file is named. *Never*: touches a file. *Runs on*: every core.

use super::ids::Offset;

/// The file of the segment that begins at `base`: 20 digits, as Kafka names it.
pub fn segment_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

/// The first offset of the segment whose file has this name.
pub fn segment_base(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let base = Offset(digits.parse().ok()?);
    (segment_name(base) == name && base.0 >= 0).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        let check = |name: &str, expect: Option<i64>| assert_eq!(segment_base(name), expect.map(Offset), "{name}");
        check("00000000000000000042.log", Some(42));
        check("0000000000000000042.log", None);
        check("000000000000000000042.log", None);
        check("-0000000000000000042.log", None);
        check("+0000000000000000042.log", None);
        check("00000000000000000042.index", None);
        check("99999999999999999999.log", None);
    }
}
