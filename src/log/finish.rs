//! What recovery does first: a compaction that was cut short is undone or finished.
//!
//! *Owns*: which files go, and which get another name. *Never*: looks into a file: a name with both ends is given only
//! to one that is complete and durable. *Runs on*: the core that owns the partition.

use std::collections::VecDeque;
use std::path::Path;

use crate::base::disk::DiskOp;
use crate::base::ids::Offset;

use super::segment::FileName;

/// What a compaction left.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    pub(super) cleaned: Vec<Offset>,
    /// First offset, the offset behind the last, and the file's length.
    pub(super) swaps: Vec<(Offset, Offset, u64)>,
}

impl Unfinished {
    /// The operations, to be carried out one after the other, each of which may be done twice. Of `found`, the first
    /// offsets and lengths of segments, what will be there is left. The log begins at `start`.
    pub(super) fn plan(&self, found: &mut Vec<(Offset, u64)>, start: Offset, dir: &Path) -> VecDeque<DiskOp> {
        let delete = |name: FileName| DiskOp::Delete { path: name.path(dir) };
        let mut ops: VecDeque<DiskOp> = self.cleaned.iter().map(|base| delete(FileName::Cleaned(*base))).collect();
        for &(base, end, len) in &self.swaps {
            let swap = FileName::Swap(base, end);
            if end <= start {
                ops.push_back(delete(swap));
                continue;
            }
            // The old index would be taken for the new segment's.
            ops.push_back(delete(FileName::Index(base)));
            for (old, _) in found.iter().filter(|(old, _)| *old > base && *old < end) {
                ops.extend([FileName::Index(*old), FileName::Snapshot(*old), FileName::Segment(*old)].map(delete));
            }
            found.retain(|(old, _)| *old < base || *old >= end);
            found.push((base, len));
            found.sort_unstable();
            ops.push_back(DiskOp::Rename { from: swap.path(dir), to: FileName::Segment(base).path(dir) });
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_finished_and_what_was_not_complete_goes() {
        let unfinished = Unfinished {
            cleaned: vec![Offset(50)],
            swaps: vec![(Offset(0), Offset(9), 1), (Offset(10), Offset(30), 77)],
        };
        let mut found: Vec<(Offset, u64)> = [10, 20, 30, 50].map(|base| (Offset(base), 100)).into();
        let ops = unfinished.plan(&mut found, Offset(12), Path::new("t-0"));
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().trim_start_matches('0').to_owned();
        let said: Vec<String> = ops
            .iter()
            .map(|op| match op {
                DiskOp::Delete { path } => format!("delete {}", name(path)),
                DiskOp::Rename { to, .. } => format!("make {}", name(to)),
                other => panic!("{other:?}"),
            })
            .collect();
        let expect = [
            "delete 50.cleaned",
            "delete .00000000000000000009.swap",
            "delete 10.index",
            "delete 20.index",
            "delete 20.snapshot",
            "delete 20.log",
            "make 10.log",
        ];
        assert_eq!(said, expect);
        assert_eq!(found, [(Offset(10), 77), (Offset(30), 100), (Offset(50), 100)]);
    }
}
