//! Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, the second stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How soon it is said that a signal was heard.
const SOON: Duration = Duration::from_millis(100);

/// Set by the first signal from now on; the second one ends the process at once, with status 130.
/// Says `what` is done before the end when the first one comes.
pub fn asked(what: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if !ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    for signal in signals {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, 130, asked.clone())
            .and_then(|_| flag::register(signal, asked.clone()))
            .context("signals: cannot be heard")?;
    }
    let heard = asked.clone();
    std::thread::spawn(move || {
        while !heard.load(Ordering::Relaxed) {
            std::thread::sleep(SOON);
        }
        tell!("\nstopping {what}; again to stop at once");
    });
    Ok(asked)
}

/// Whether a signal was ignored when this process began, as `nohup` has it: then it stays so.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
