//! Ctrl-C and SIGTERM: the first asks to stop, the second stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How soon it is said that a signal was heard.
const SOON: Duration = Duration::from_millis(100);

/// Set by the first signal from now on; the second one ends the process at once, with status 130.
/// Says `what` is done before the end when the first one comes.
pub fn asked(what: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
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
        eprintln!("\nstopping {what}; again to stop at once");
    });
    Ok(asked)
}
