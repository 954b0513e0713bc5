//! Rows for TensorBoard: TFRecord frames of `Event` messages.
//!
//! Source: `tensorflow/core/lib/io/record_writer.h`, `core/util/event.proto`,
//! `core/framework/summary.proto`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::evaluation::EVAL;
use super::metrics::MetricsRow;
use crate::error::{Error, Result};
use crate::file;

/// Name of the file. It is the same for every process of a run, which so has every step once.
pub const EVENTS: &str = "events.out.tfevents.0";

/// The file, at its end.
pub(super) struct Events {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Events {
    /// A new file, or what an older one has up to the step of a checkpoint.
    pub fn open(dir: &Path, steps: Option<u64>) -> Result<Self> {
        let path = dir.join(EVENTS);
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = file::own(&path, options)?;
        let mut old = Vec::new();
        (file.read_to_end(&mut old)).map_err(Error::io(&path, "read"))?;
        let bytes = steps.map_or(0, |steps| whole(&old, steps)) as u64;
        file.set_len(bytes).map_err(Error::io(&path, "write to"))?;
        let mut events = Self { file, path, bytes };
        if bytes == 0 {
            let mut event = head(0);
            field(&mut event, VERSION, b"brain.Event:2");
            events.add(&event)?;
        }
        Ok(events)
    }

    /// A row's numbers under the names that `transformers` gives them there: `eval_loss` is
    /// `eval/loss`, and `loss` is `train/loss`.
    pub fn row(&mut self, row: &MetricsRow) -> Result<()> {
        let mut summary = Vec::new();
        let mut scalar = |name: &str, value: f64| {
            let tag = match name.strip_prefix(EVAL) {
                Some(name) => format!("eval/{name}"),
                None => format!("train/{name}"),
            };
            let mut message = Vec::new();
            field(&mut message, TAG, tag.as_bytes());
            message.push(SIMPLE_VALUE);
            message.extend((value as f32).to_le_bytes());
            field(&mut summary, VALUE, &message);
        };
        for (name, value) in &row.metrics {
            scalar(name, *value);
        }
        match row.tokens_per_second {
            Some(rate) => {
                scalar("epoch", row.epoch);
                scalar("num_tokens", row.num_tokens as f64);
                scalar("tokens_per_second", rate);
            }
            None => scalar("eval_runtime", row.eval_runtime.unwrap_or(f64::NAN)),
        }
        let mut event = head(row.step);
        field(&mut event, SUMMARY, &summary);
        self.add(&event)
    }

    /// Has them reach the disk.
    pub fn sync(&self) -> Result<()> {
        (self.file.sync_all()).map_err(Error::io(&self.path, "write to"))
    }

    fn add(&mut self, event: &[u8]) -> Result<()> {
        let frame = frame(event);
        let written = self.file.write_all(&frame);
        match &written {
            Ok(()) => self.bytes += frame.len() as u64,
            // No half of an event stays; the error that matters is the first one.
            Err(_) => drop(self.file.set_len(self.bytes)),
        }
        written.map_err(Error::io(&self.path, "write to"))
    }
}

// Number and wire type of the fields: of Event,
const WALL_TIME: u8 = 1 << 3 | 1;
const STEP: u8 = 2 << 3;
const VERSION: u8 = 3 << 3 | 2;
const SUMMARY: u8 = 5 << 3 | 2;
// of Summary,
const VALUE: u8 = 1 << 3 | 2;
// and of Summary.Value.
const TAG: u8 = 1 << 3 | 2;
const SIMPLE_VALUE: u8 = 2 << 3 | 5;

/// An event without its content.
fn head(step: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut event = vec![WALL_TIME];
    event.extend(now.unwrap_or_default().as_secs_f64().to_le_bytes());
    event.push(STEP);
    varint(&mut event, step);
    event
}

fn field(message: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    message.push(key);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// Length, its checksum, the bytes, their checksum.
fn frame(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut frame = length.to_vec();
    frame.extend(masked(&length).to_le_bytes());
    frame.extend(event);
    frame.extend(masked(event).to_le_bytes());
    frame
}

/// How many bytes of a file are whole frames of no later step.
fn whole(bytes: &[u8], steps: u64) -> usize {
    let mut end = 0;
    let number = |at: usize| -> Option<u64> {
        let bytes = bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    while let Some(length) = number(end) {
        let event = end + 12..(end + 12).saturating_add(length as usize);
        let Some(event) = bytes.get(event) else { break };
        let framed = frame(event);
        let step = (event.get(10..).unwrap_or_default().iter())
            .scan(false, |over, byte| {
                let take = !*over;
                *over = byte & 0x80 == 0;
                take.then_some(u64::from(byte & 0x7f))
            })
            .enumerate()
            .take(9)
            .fold(0, |number, (i, part)| number | part << (7 * i));
        if bytes[end..].get(..framed.len()) != Some(&framed) || step > steps {
            break;
        }
        end += framed.len();
    }
    end
}

/// CRC-32C (Castagnoli), reflected.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

/// A checksum as it stands in a frame.
fn masked(bytes: &[u8]) -> u32 {
    crc(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_published_ones() {
        // RFC 3720, B.4.
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc(&up), 0x46dd_794e);
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn whole_frames_up_to_a_step_stay() {
        let frames: Vec<Vec<u8>> = [0, 3, 300, 1 << 40].map(|step| frame(&head(step))).into();
        let all = frames.concat();
        let end = |count: usize| frames[..count].concat().len();
        for (steps, count) in [(0, 1), (2, 1), (3, 2), (299, 2), (300, 3), (u64::MAX, 4)] {
            assert_eq!(whole(&all, steps), end(count), "{steps}");
        }
        for cut in 1..frames[3].len() {
            assert_eq!(whole(&all[..all.len() - cut], u64::MAX), end(3), "{cut}");
        }
        let mut spoiled = all.clone();
        spoiled[end(2) + 13] ^= 1;
        assert_eq!(whole(&spoiled, u64::MAX), end(2));
    }
}
