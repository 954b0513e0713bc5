//! Files as they come and go: text, JSON and TOML read through one door, and files written whole.
//!
//! Whatever is read is UTF-8, a byte order mark before it is skipped, and a JSON object that has a
//! key twice is refused at every depth, as TOML refuses it. Only regular files are opened, and pipes
//! that a shell hands over; nothing is written through a link.

mod folder;
pub mod json;
mod made;
mod open;
mod part;
mod staged;
mod text;
mod toml;
mod write;

pub use self::toml::from_toml;
pub use folder::{clean, discard, names, write_folder};
pub use made::{Made, only};
pub use open::{bounded, bytes, is_device, kind_of, open, own};
pub use part::{PART, folder_of};
pub use staged::{Sink, Staged};
pub use text::{MARK, lines, read, string, unmarked, utf8};
pub use write::write_whole;
