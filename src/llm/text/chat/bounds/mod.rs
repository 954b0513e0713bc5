//! Limits on what a chat template may do: it is somebody else's program, and ends soon with little memory.
//!
//! Instructions are counted by the engine. What they cannot bound is the size of what one of them
//! makes, so templates are rewritten before they run ([`rewrite`]): operators that make text and
//! lists are [`operators`] of ours, operands pass through filters that count them, and so does what
//! filters and calls give. Every list and object knows its size ([`values`]).

pub(super) mod operators;
pub(super) mod rewrite;
pub(super) mod values;

use std::cell::Cell;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use values::{Dict, List};

/// Instructions of a rendering.
pub(super) const FUEL: u64 = 20_000_000;

/// Bytes of all that a rendering looks at and makes.
const WORK: u64 = 256 << 20;

/// Bytes of a value.
pub(super) const LARGEST: u64 = 64 << 20;

/// Bytes of a rendering.
pub(super) const TEXT: usize = 16 << 20;

/// Bytes that an entry of a list or object counts as, besides its own.
pub(super) const ENTRY: u64 = 32;

/// How deep lists and objects hold one another.
pub(super) const DEPTH: usize = 100;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(WORK) };
}

/// Begins a rendering on this thread.
pub(super) fn begin() {
    LEFT.set(WORK);
}

/// Counts work.
///
/// # Errors
/// If it is more than a rendering may do.
pub(super) fn charge(bytes: u64) -> Result<(), Error> {
    let left = LEFT.get().checked_sub(bytes.saturating_add(ENTRY / 2));
    LEFT.set(left.unwrap_or(0));
    match left {
        Some(_) => Ok(()),
        None => Err(wrong(format!(
            "it takes more than {} MB of work",
            WORK >> 20
        ))),
    }
}

/// How large a value is when it is written out, and how deep.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub bytes: u64,
    pub depth: usize,
}

impl Weight {
    /// The weight with another entry.
    pub fn and(self, entry: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(entry.bytes).saturating_add(ENTRY),
            depth: self.depth.max(entry.depth + 1),
        }
    }

    /// # Errors
    /// If it is too large, or too deep.
    pub fn check(self) -> Result<Self, Error> {
        if self.bytes > LARGEST {
            return Err(large());
        }
        if self.depth > DEPTH {
            let problem = format!("it makes lists or objects more than {DEPTH} deep");
            return Err(wrong(problem));
        }
        Ok(self)
    }
}

/// A value's weight; looking at what is not ours is work.
///
/// # Errors
/// If it is too large or too deep, or work is at its end.
pub(super) fn weigh(value: &Value) -> Result<Weight, Error> {
    of(value, DEPTH)?.check()
}

fn of(value: &Value, levels: usize) -> Result<Weight, Error> {
    if let Some(text) = value.as_str() {
        let bytes = text.len() as u64;
        return Ok(Weight { bytes, depth: 0 });
    }
    if let Some(list) = value.downcast_object_ref::<List>() {
        return Ok(list.weight());
    }
    if let Some(dict) = value.downcast_object_ref::<Dict>() {
        return Ok(dict.weight());
    }
    let mut all = Weight::default();
    if !matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map
    ) {
        return Ok(all);
    }
    let Some(levels) = levels.checked_sub(1) else {
        return Ok(Weight {
            bytes: 0,
            depth: DEPTH,
        });
    };
    let is_map = value.kind() == ValueKind::Map;
    for entry in value.try_iter()? {
        charge(4 * ENTRY)?;
        all = all.and(of(&entry, levels)?);
        if is_map {
            all = all.and(of(&value.get_item(&entry)?, levels)?);
        }
        all.check()?;
    }
    Ok(all)
}

pub(super) fn large() -> Error {
    wrong(format!("it makes more than {} MB of text", LARGEST >> 20))
}

pub(super) fn wrong(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}
