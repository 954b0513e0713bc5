//! The reference's numbers before the first step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::batches::Batches;
use crate::error::Result;
use crate::llm::model::network::Network;
use crate::llm::train::reference::Cache;
use crate::observer::Observer;

/// How often the reference's numbers are saved while they are computed.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// Computes what a reference gives every response that the run will see, and keeps it in a file.
///
/// # Errors
/// Those of data and network, or a file that cannot be written.
pub fn precompute(
    plan: &Batches,
    network: &dyn Network,
    cache: &mut Cache,
    observer: &dyn Observer,
) -> Result<()> {
    precompute_until(plan, network, cache, &AtomicBool::new(false), observer).map(|_| ())
}

/// The same, until `stop` is set; what was computed by then is kept. Returns whether it is all.
///
/// # Errors
/// As [`precompute`].
pub(super) fn precompute_until(
    plan: &Batches,
    network: &dyn Network,
    cache: &mut Cache,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<bool> {
    let work = observer.begin("reference", plan.covering());
    let (before, mut saved) = (cache.len(), Instant::now());
    let mut all = true;
    for done in 0..plan.covering() {
        all = !stop.load(Ordering::Relaxed);
        if !all {
            break;
        }
        let (text, examples) = plan.batch(done)?;
        // Numbers that came with the responses stay.
        let parts = plan.parts(&text, &examples).into_iter();
        for part in parts.filter(|part| !part.recalled) {
            cache.fill(network, &part.sequences, plan.micro_batch())?;
        }
        cache.fill(network, &plan.mismatched(&text)?, plan.micro_batch())?;
        if saved.elapsed() > SAVE_EVERY {
            cache.save()?;
            saved = Instant::now();
        }
        work.advance(1);
    }
    drop(work);
    if cache.len() == before {
        Ok(all)
    } else {
        cache.save().map(|()| all)
    }
}
