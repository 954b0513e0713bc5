//! Machines by their names, their memory, and bytes as people write them.

use crate::error::{Error, Result};
pub use crate::llm::tensor::machine::Machine;
use crate::llm::tensor::{device, memory};

impl Machine {
    /// The machine of a device's name, `cpu`, `cuda` or `cuda:N`, which need not be there.
    ///
    /// # Errors
    /// Another name.
    pub fn named(device: &str) -> Result<Self> {
        let number = device.strip_prefix("cuda:").map(str::parse::<usize>);
        match (device, number) {
            ("cpu", _) => Ok(Self::new(true)),
            ("cuda", _) | (_, Some(Ok(_))) => Ok(Self::new(false)),
            _ => {
                let problem = format!("it is `{device}`");
                Err(Error::invalid(
                    "device",
                    problem,
                    "give cpu, cuda or cuda:N",
                ))
            }
        }
    }

    /// Bytes of the memory of a device of that name, if this machine has it and says.
    pub fn memory(device: &str) -> Option<u64> {
        match device {
            "cpu" => memory::of_machine(),
            name => {
                let device = device::device(name).ok()?;
                device::memory(&device)
                    .ok()
                    .flatten()
                    .map(|memory| memory.total)
            }
        }
    }
}

/// Units of bytes, with what they are.
const UNITS: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("TiB", 1 << 40),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("TB", 1_000_000_000_000),
];

/// Bytes as people write them: `141GB`, `139.8GiB`, `512 MiB`.
///
/// # Errors
/// A number without unit, or no number.
pub fn parse(place: &str, text: &str) -> Result<u64> {
    let fail = |problem: String| {
        let remedy = "give a number with its unit: 141GB (10⁹ bytes each), 139GiB (2³⁰ each), or MB, MiB, TB, TiB";
        Err(Error::invalid(place, problem, remedy))
    };
    let text = text.trim();
    let at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let Ok(number) = number.trim().parse::<f64>() else {
        return fail(format!("it is `{text}`"));
    };
    if unit.is_empty() {
        return fail(format!("`{text}` has no unit"));
    }
    let known = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let Some((_, each)) = known else {
        return fail(format!("`{unit}` is no unit of memory"));
    };
    match number * *each as f64 {
        bytes if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => fail(format!("it is `{text}`")),
    }
}

/// GPUs by name, with the memory that their vendor states, in units of 10⁹ bytes. What a driver
/// leaves to a program is a little less or more: measure, and give it as `--memory`.
pub const GPUS: [(&str, u64); 12] = [
    ("h200", 141),
    ("h100-80", 80),
    ("h100-94", 94),
    ("b200", 180),
    ("a100-40", 40),
    ("a100-80", 80),
    ("l40s", 48),
    ("l4", 24),
    ("a10", 24),
    ("rtx-3090", 24),
    ("rtx-4090", 24),
    ("rtx-5090", 32),
];

/// Bytes of a GPU's memory.
///
/// # Errors
/// A name that is not on the list.
pub fn gpu(name: &str) -> Result<u64> {
    match GPUS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
    {
        Some((_, gigabytes)) => Ok(gigabytes * 1_000_000_000),
        None => {
            let names = GPUS.map(|(name, _)| name).join(", ");
            let remedy = format!("give one of {names}; or --device cuda --memory 48GB");
            Err(Error::invalid(
                "gpu",
                format!("`{name}` is not known"),
                remedy,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_people_write_them() {
        for (text, bytes) in [
            ("141GB", 141_000_000_000),
            ("139GiB", 139 << 30),
            (" 1.5 gib ", 3 << 29),
            ("512MiB", 512 << 20),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(parse("memory", text).unwrap(), bytes, "{text}");
        }
        for text in [
            "12", "", "GB", "-1GB", "12 G", "1e40GB", "0GB", "nanGB", "infGB",
        ] {
            let error = parse("memory", text).unwrap_err().to_string();
            assert!(error.contains("139GiB"), "{error}");
        }
        assert_eq!(gpu("H200").unwrap(), 141_000_000_000);
        assert!(gpu("h300").unwrap_err().to_string().contains("h200"));
    }
}
