//! Files as they come and go: text, JSON and TOML read through one door, and files written whole.
//!
//! Whatever is read is UTF-8, a byte order mark before it is skipped, and a JSON object that has a
//! key twice is refused at every depth, as TOML refuses it.

pub mod json;
mod text;
mod toml;
mod write;

pub use self::toml::from_toml;
pub use text::{MARK, lines, read, string, unmarked, utf8};
pub use write::{sync_folder, write_whole};
