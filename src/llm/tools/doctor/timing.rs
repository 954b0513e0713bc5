//! Timing of operations on a device.

use std::time::Instant;

use candle_core::{Device, Tensor};

use super::evaluate::nodes;
use super::place::Place;
use crate::error::Result;
use crate::llm::tensor::ops::Operation;
use crate::llm::tensor::tape::{LeafGradients, Tape};
use crate::random::{Purpose, Stream};

/// Effort of a measurement: how often it is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Seconds after which no further repetition begins.
    pub seconds: f64,
    /// Most repetitions.
    pub most: usize,
    /// Least repetitions, however long they take.
    pub least: usize,
}

impl Effort {
    /// Median of each of the seconds that `f` gives, the first round not counted.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn medians<const N: usize>(
        self,
        f: impl FnMut(usize) -> Result<[f64; N]>,
    ) -> Result<[f64; N]> {
        Ok(self.series(f)?.map(median))
    }

    /// All of the seconds that `f` gives, the first round not counted.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn series<const N: usize>(
        self,
        mut f: impl FnMut(usize) -> Result<[f64; N]>,
    ) -> Result<[Vec<f64>; N]> {
        f(0)?;
        let begin = Instant::now();
        let mut all: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        for round in 1..=self.most.max(self.least) {
            for (list, seconds) in all.iter_mut().zip(f(round)?) {
                list.push(seconds);
            }
            if round >= self.least && begin.elapsed().as_secs_f64() > self.seconds {
                break;
            }
        }
        Ok(all)
    }
}

/// Remark on a time that another program had a part in.
pub const BUSY: &str = "the machine is busy with something else: run it again when it is idle";

/// How far measurements of one thing may be apart: three quarters of them within so many times a
/// quarter. On machines with nothing else to do it was below 1.2.
const APART: f64 = 1.5;

/// True if measurements of one thing are so far apart that something else ran beside them.
pub fn disagree(list: &[f64]) -> bool {
    let mut list = list.to_vec();
    list.sort_by(f64::total_cmp);
    let at = |share: f64| list[(share * (list.len() - 1) as f64).round() as usize];
    list.len() > 1 && at(0.75) > APART * at(0.25)
}

/// The middle one, or the mean of the two.
pub fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    match list.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => list[n / 2],
        n => 0.5 * (list[n / 2 - 1] + list[n / 2]),
    }
}

/// Seconds that `f` takes until the device has done all of it, and what it gives.
///
/// # Errors
/// Those of `f`, or a failing device.
pub fn seconds<T>(device: &Device, f: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    device.synchronize()?;
    let begin = Instant::now();
    let result = f()?;
    device.synchronize()?;
    Ok((begin.elapsed().as_secs_f64(), result))
}

/// Random numbers by the gigabyte: a million normal ones, over and over, each tensor beginning
/// elsewhere. Never zeros, which processors multiply with less power and at a higher clock.
pub struct Pool {
    numbers: Vec<f32>,
    drawn: usize,
}

/// Normal numbers that are drawn.
const DRAWN: usize = 1 << 20;

impl Pool {
    /// Draws the numbers.
    pub fn new(seed: u64) -> Self {
        use ndarray_rand::rand_distr::{Distribution, StandardNormal};
        let mut stream = Stream::new(seed, Purpose::Doctor, 1 << 32);
        let numbers = (0..DRAWN).map(|_| StandardNormal.sample(stream.rng()));
        Self {
            numbers: numbers.collect(),
            drawn: 0,
        }
    }

    /// Numbers of that deviation there.
    ///
    /// # Errors
    /// A failing device.
    pub fn tensor(&mut self, shape: &[usize], deviation: f64, place: &Place) -> Result<Tensor> {
        let count: usize = shape.iter().product();
        let from = self.drawn % DRAWN;
        // Odd, so that tensors of equal size are not equal.
        self.drawn += count | 1;
        let mut numbers = Vec::with_capacity(count);
        let scaled = |x: &f32| x * deviation as f32;
        let mut rest = &self.numbers[from..];
        while numbers.len() < count {
            let part = &rest[..rest.len().min(count - numbers.len())];
            numbers.extend(part.iter().map(scaled));
            rest = &self.numbers;
        }
        place.put(&Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }
}

/// A call's inputs, several times over.
pub struct Timed<'a> {
    call: &'a dyn Operation,
    device: Device,
    inputs: Vec<Vec<Tensor>>,
    cotangent: Tensor,
    constants: Vec<Tensor>,
}

/// Most sets of inputs.
const SETS: usize = 64;

impl<'a> Timed<'a> {
    /// Makes so many sets of inputs that together they are larger than `cache` bytes: in a training
    /// step, too, weights and activations come from memory.
    ///
    /// # Errors
    /// A failing device.
    pub fn new(
        call: &'a dyn Operation,
        pool: &mut Pool,
        place: &Place,
        cache: usize,
    ) -> Result<Self> {
        let list = call.inputs();
        let numbers: usize = list.iter().map(|i| i.shape.iter().product::<usize>()).sum();
        let bytes = numbers * place.dtype.size_in_bytes();
        let sets = (cache / bytes.max(1) + 1).min(SETS);
        let mut set = || -> Result<Vec<Tensor>> {
            (list.iter())
                .map(|input| pool.tensor(&input.shape, input.deviation, place))
                .collect()
        };
        let inputs = (0..sets).map(|_| set()).collect::<Result<_>>()?;
        Ok(Self {
            call,
            device: place.device.clone(),
            inputs,
            cotangent: pool.tensor(&call.output(), 1.0, place)?,
            constants: (call.constants()?.iter())
                .map(|constant| Ok(place.constant(constant)?.tensor))
                .collect::<Result<_>>()?,
        })
    }

    /// Seconds of forward and backward, with all inputs trained but constants.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn round(&self, round: usize) -> Result<[f64; 2]> {
        let inputs = &self.inputs[round % self.inputs.len()];
        let count = inputs.len();
        let tape = Tape::recording(count);
        let nodes = nodes(self.call, &tape, inputs);
        let constants = &self.constants;
        let (forward, output) = seconds(&self.device, || self.call.run(&tape, &nodes, constants))?;
        let cotangent = self.cotangent.to_dtype(output.value().dtype())?;
        let mut leaves = LeafGradients::new(count);
        let seeds = [(output, cotangent)];
        let (backward, ()) = seconds(&self.device, || tape.backward(seeds, &mut leaves))?;
        Ok([forward, backward])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_leave_the_first_round_out() {
        let effort = Effort {
            seconds: 60.0,
            most: 4,
            least: 1,
        };
        let times = [[100.0, 0.0], [3.0, 1.0], [1.0, 9.0], [2.0, 2.0], [4.0, 4.0]];
        let medians = effort.medians(|round| Ok(times[round])).unwrap();
        assert_eq!(medians, [2.5, 3.0]);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn times_of_a_busy_machine_disagree() {
        let steady = [1.0, 1.02, 0.99, 1.1, 1.0, 5.0];
        assert!(!disagree(&steady) && !disagree(&[1.0]) && !disagree(&[]));
        assert!(disagree(&[1.0, 2.3, 1.1, 2.0, 0.9, 2.4]) && disagree(&[1.0, 2.0]));
    }

    #[test]
    fn a_pool_gives_other_numbers_each_time_and_none_is_zero() {
        let mut pool = Pool::new(1);
        let place = Place::reference();
        let [a, b] = [(); 2].map(|()| pool.tensor(&[8, DRAWN / 4], 2.0, &place).unwrap());
        let [a, b] = [a, b].map(|t| t.flatten_all().unwrap().to_vec1::<f64>().unwrap());
        assert_eq!(a.len(), 2 * DRAWN);
        assert_ne!(a, b);
        assert_eq!(a[..10], a[DRAWN..][..10]);
        assert!(a.iter().all(|&x| x != 0.0));
        let square: f64 = a.iter().map(|x| x * x).sum();
        assert!((square / a.len() as f64 - 4.0).abs() < 0.05);
    }
}
