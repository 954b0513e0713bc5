//! Files as they come and go: text, JSON and TOML read through one door, and files written whole.
//!
//! Whatever is read is UTF-8, a byte order mark before it is skipped, and a JSON object that has a
//! key twice is refused at every depth, as TOML refuses it. Only regular files are opened, and pipes
//! that a shell hands over; nothing is written through a link.

pub mod json;
mod made;
mod open;
mod part;
mod text;
mod toml;
mod write;

pub use self::toml::from_toml;
pub use made::{Made, only};
pub use open::{bounded, bytes, is_device, kind_of, open, own};
pub use part::{PART, create_part, folder_of, part, part_for};
pub use text::{MARK, lines, read, string, unmarked, utf8};
pub use write::{sync_folder, write_whole};
