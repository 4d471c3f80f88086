//! Looking at the metadata from outside.
//!
//! *Owns*: which file counts, and what it says. *Never*: changes anything. *Runs on*: a thread of the command line,
//! while no broker has the files.

use super::contents::Contents;
use super::image::Image;
use super::raft_log::generation_of;
use crate::base::ids::NodeId;

/// The directory of the metadata, in the data directory.
pub const DIR: &str = "meta";

/// The file that counts among those with these names.
pub fn newest(names: impl IntoIterator<Item = String>) -> Option<String> {
    names.into_iter().filter(|name| generation_of(name).is_some()).max()
}

/// What the file of this name says, with what may not be committed yet; `bytes` are all of it. `None` when it is
/// damaged, or of a newer version.
pub fn image(name: &str, bytes: &[u8]) -> Option<Image> {
    // Whose files they are does not matter to what can be seen from here.
    Contents::read(generation_of(name)?, bytes, NodeId(0)).ok()?.newest_image().ok()
}

#[cfg(test)]
mod tests {
    use super::super::frame::{VERSION_OF_RECORDS, encode_frame_of};
    use super::*;

    #[test]
    fn a_file_of_before_there_were_several_brokers_is_read() {
        let created = [&[2, 0, 1, b't'][..], &[7; 16], &[0, 0, 0, 3, 0, 0]].concat();
        let name = format!("{:020}.meta", 1);
        let file = encode_frame_of(VERSION_OF_RECORDS, 1, 0, &created);
        let image = image(&name, &file).expect("it is sound");
        assert_eq!(image.topic("t").map(|topic| topic.partitions), Some(3));
    }
}
