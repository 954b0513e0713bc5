//! The most that a device does: matrix products and copies.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::place::Place;
use super::precision::Precision;
use super::report::{Quantity, Row, Unit};
use super::timing::{BUSY, Effort, Pool, disagree, median, seconds};
use crate::error::Result;
use crate::llm::tensor::ops;
use crate::llm::tensor::tape::{Node, Tape};
use crate::llm::tools::plan::Machine;
use crate::observer::Observer;

/// Measured ceilings of a device: its fastest matrix products and copies.
#[derive(Debug, Clone)]
pub struct Ceilings {
    /// The best of each precision, FLOP/s.
    products: Vec<(Precision, f64)>,
    /// Bytes read and written a second, if a copy ran.
    pub bandwidth: Option<f64>,
    /// Rows of the table.
    pub rows: Vec<Row>,
}

impl Ceilings {
    /// The best matrix product in that precision, FLOP/s.
    pub fn flops(&self, precision: Precision) -> Option<f64> {
        let mut of = self.products.iter().filter(|(p, _)| *p == precision);
        of.next().map(|(_, flops)| *flops)
    }

    /// Measures them: `x Wᵀ` of [`ops::linear`] for square and, as a head is, wide shapes; and a
    /// copy of more than any cache holds.
    pub fn measure(
        device: &Device,
        precisions: &[Precision],
        quick: bool,
        seed: u64,
        observer: &dyn Observer,
    ) -> Self {
        let shapes = shapes(device, quick);
        let work = observer.begin("", (precisions.len() * shapes.len() + 1) as u64);
        let effort = Effort {
            seconds: if quick { 0.1 } else { 0.5 },
            most: 50,
            least: if quick { 1 } else { 3 },
        };
        let mut pool = Pool::new(seed);
        let (mut rows, mut products) = (Vec::new(), Vec::new());
        for &precision in precisions {
            let mut best: Option<f64> = None;
            for &[n, i, o] in &shapes {
                let name = format!("{}, {n} × {i} × {o}", precision.name());
                work.note(format_args!("{name}"));
                let found = precision
                    .within(|| product([n, i, o], precision.dtype(), device, effort, &mut pool));
                rows.push(match found {
                    Ok(series) => {
                        let busy = disagree(&series);
                        let seconds = median(series);
                        let flops = 2.0 * (n * i * o) as f64 / seconds;
                        best = Some(best.unwrap_or(0.0).max(flops));
                        Row::note(name, Quantity::new(flops, Unit::Flops))
                            .remark(if busy { BUSY } else { "" })
                            .detail("seconds", seconds)
                            .detail("busy", busy)
                            .detail("precision", precision.name())
                            .detail("shape", [n, i, o].to_vec())
                    }
                    Err(error) => Row::failed(name, &error),
                });
                work.advance(1);
            }
            products.extend(best.map(|best| (precision, best)));
        }
        let bytes = copied_bytes(device, quick);
        work.note(format_args!("copy"));
        let copied = match device {
            Device::Cpu => Ok(host_copy(bytes, effort)),
            _ => device_copy(bytes, device, effort, &mut pool),
        };
        let name = format!(
            "copy of {}",
            Quantity::new(bytes as f64, Unit::Bytes).shown()
        );
        let bandwidth = match copied {
            Ok(seconds) => {
                let bandwidth = 2.0 * bytes as f64 / seconds;
                let found = Quantity::new(bandwidth, Unit::Bandwidth);
                let row = Row::note(name, found).remark("read and written");
                rows.push(row.detail("seconds", seconds).detail("bytes", bytes));
                Some(bandwidth)
            }
            Err(error) => {
                rows.push(Row::failed(name, &error));
                None
            }
        };
        work.advance(1);
        Self {
            products,
            bandwidth,
            rows,
        }
    }
}

/// N, I, O of the products.
fn shapes(device: &Device, quick: bool) -> Vec<[usize; 3]> {
    let square = |n: usize| [n; 3];
    match (device.is_cpu(), quick) {
        (true, true) => vec![square(768)],
        (true, false) => vec![square(512), square(1024), square(2048), [1024, 384, 4096]],
        (false, true) => vec![square(4096)],
        (false, false) => vec![
            square(1024),
            square(2048),
            square(4096),
            square(8192),
            [8192, 2048, 32768],
        ],
    }
}

/// Seconds of a product, again and again.
fn product(
    [n, i, o]: [usize; 3],
    dtype: DType,
    device: &Device,
    effort: Effort,
    pool: &mut Pool,
) -> Result<Vec<f64>> {
    let place = Place {
        dtype,
        device: device.clone(),
    };
    let x = Node::constant(pool.tensor(&[n, i], 1.0, &place)?);
    let w = Node::constant(pool.tensor(&[o, i], 1.0, &place)?);
    let tape = Tape::idle();
    let [series] = effort.series(|_| {
        let (seconds, _) = seconds(device, || ops::linear(&tape, &x, &w, None))?;
        Ok([seconds])
    })?;
    Ok(series)
}

/// Several times the last cache.
fn copied_bytes(device: &Device, quick: bool) -> usize {
    match (device.is_cpu(), quick) {
        (true, _) => (4 * Machine::new(true).last_cache as usize).clamp(1 << 26, 1 << 30),
        (false, true) => 1 << 28,
        (false, false) => 1 << 31,
    }
}

/// On a CPU: by all threads, into memory that has been touched before.
fn host_copy(bytes: usize, effort: Effort) -> f64 {
    let from: Vec<u64> = (0..bytes as u64 / 8)
        .into_par_iter()
        .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    let mut to = vec![1u64; from.len()];
    let part = from.len().div_ceil(rayon::current_num_threads()).max(1);
    let copy = |_| {
        let begin = std::time::Instant::now();
        (to.par_chunks_mut(part).zip(from.par_chunks(part))).for_each(|(to, from)| {
            to.copy_from_slice(from);
        });
        std::hint::black_box(&to);
        Ok([begin.elapsed().as_secs_f64()])
    };
    effort.medians(copy).map_or(f64::NAN, |[median]| median)
}

/// On a GPU: candle's copy within the device.
fn device_copy(bytes: usize, device: &Device, effort: Effort, pool: &mut Pool) -> Result<f64> {
    let place = Place {
        dtype: DType::F32,
        device: device.clone(),
    };
    let small = pool.tensor(&[1 << 20], 1.0, &place)?;
    let from = Tensor::cat(&vec![&small; bytes >> 22], 0)?;
    let [median] = effort.medians(|_| {
        let (seconds, _) = seconds(device, || Ok(from.copy()?))?;
        Ok([seconds])
    })?;
    Ok(median)
}
