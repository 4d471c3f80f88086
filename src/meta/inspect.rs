//! Looking at the metadata from outside.
//!
//! *Owns*: which file counts, and what it says. *Never*: changes anything. *Runs on*: a thread of the command line,
//! while no broker has the files.

use super::frame::read_file;
use super::image::Image;
use super::store::generation_of;

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
    records.iter().all(|record| image.apply(record).is_ok()).then_some(image)
}
