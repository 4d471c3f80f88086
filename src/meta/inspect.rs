//! Looking at the metadata from outside.
//!
//! *Owns*: which file counts, and what it says. *Never*: changes anything. *Runs on*: a thread of the command line,
//! while no broker has the files.

use super::frame::read_file;
use super::image::Image;
use super::store::generation_of;
use crate::base::ids::NodeId;

/// The directory of the metadata, in the data directory.
pub const DIR: &str = "meta";

/// The file that counts among those with these names.
pub fn newest(names: impl IntoIterator<Item = String>) -> Option<String> {
    names.into_iter().filter(|name| generation_of(name).is_some()).max()
}

/// What the file of this name says; `bytes` are all of it. `None` when it is damaged, or of a newer version.
pub fn image(name: &str, bytes: &[u8]) -> Option<Image> {
    let records = read_file(generation_of(name)?, bytes).ok()?;
    let mut image = Image::default();
    // Whose files they are does not matter to what can be seen from here.
    let home = NodeId(0);
    records.into_iter().all(|record| image.apply(&image.placed(record, home)).is_ok()).then_some(image)
}

#[cfg(test)]
mod tests {
    use super::super::frame::encode_frame;
    use super::*;

    #[test]
    fn a_file_of_before_there_were_several_brokers_is_read() {
        let created = [&[2, 0, 1, b't'][..], &[7; 16], &[0, 0, 0, 3, 0, 0]].concat();
        let name = format!("{:020}.meta", 1);
        let image = image(&name, &encode_frame(1, 0, &created)).expect("it is sound");
        assert_eq!(image.topic("t").map(|topic| topic.partitions), Some(3));
    }
}
