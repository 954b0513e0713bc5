//! The ways of an operation side by side.

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};
use pistar::Result;
use pistar::llm::internals::tensor::tape::{LeafGradients, Node, Tape};
use pistar::random::{Purpose, Stream};

/// Numbers of inputs and of the cotangent, and whole numbers.
pub struct Dice(Stream);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Stream::new(seed, Purpose::Start, 7))
    }

    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let count = shape.iter().product();
        let numbers = (0..count).map(|_| -> f64 { StandardNormal.sample(self.0.rng()) });
        let numbers: Vec<f64> = numbers.collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    pub fn below(&mut self, n: usize) -> usize {
        let z: f64 = StandardNormal.sample(self.0.rng());
        (z.abs() * 1e6) as usize % n
    }

    pub fn indices(&mut self, count: usize, n: usize) -> Rc<[u32]> {
        (0..count).map(|_| self.below(n) as u32).collect()
    }
}

/// How an operation is done.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// As `ops` dispatches: our own kernel on a CPU in f32 and f64.
    Dispatched,
    /// By candle's operations, with our backward.
    Composed,
    /// By candle's operations, with candle's gradient.
    Plain,
}

/// An operation on all its differentiable inputs.
pub type Op = Box<dyn Fn(Way, &Tape, &[Node]) -> Result<Node>>;

/// An operation, and inputs.
pub struct Case {
    pub inputs: Vec<Tensor>,
    pub op: Op,
}

/// How far results may be from f64's.
pub struct Rounding {
    /// In f32: the largest difference, relative to the largest number.
    pub single: f64,
    /// In bf16, given the same rounded inputs: the norm of the difference of the value and of each
    /// gradient, relative to the norm, in units of 2⁻⁸, by which a number is rounded at most.
    pub half: [f64; 2],
}

/// Random inputs from a seed: small ones, or ones that several threads share.
pub type Make = fn(u64, bool) -> Case;

/// The value, and the gradients of `Σ cotangent · value`; the cotangent is in f64, or rounded to bf16
/// first.
pub fn run(inputs: &[Tensor], seed: u64, op: &Op, way: Way, half: bool) -> (Tensor, Vec<Tensor>) {
    let tape = Tape::recording(inputs.len());
    let mut leaves = LeafGradients::new(inputs.len());
    let nodes: Vec<Node> = (inputs.iter().enumerate())
        .map(|(i, t)| tape.leaf(i, t.clone()))
        .collect();
    let output = op(way, &tape, &nodes).unwrap();
    let value = output.value().clone();
    let mut cotangent = Dice::new(seed).tensor(value.dims());
    if half {
        cotangent = cotangent.to_dtype(DType::BF16).unwrap();
    }
    let cotangent = cotangent.to_dtype(value.dtype()).unwrap();
    tape.backward([(output, cotangent)], &mut leaves).unwrap();
    let gradients = (0..inputs.len()).map(|i| leaves.get(i).unwrap().clone());
    (value, gradients.collect())
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

/// Largest difference, relative to the largest number (at least 1).
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let size = b.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    (a.iter().zip(&b)).fold(0.0f64, |m, (a, b)| {
        if (a - b).is_nan() {
            f64::INFINITY
        } else {
            m.max((a - b).abs() / size)
        }
    })
}

/// Norm of the difference, relative to the norm; to that of numbers of 2⁻⁸ if it is less (a gradient
/// may be 0).
pub fn off(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b.powi(2)).sum();
    let least = b.len() as f64 * 2f64.powi(-16);
    (difference / size.max(least)).sqrt()
}

pub fn all(tensors: &[Tensor], dtype: DType) -> Vec<Tensor> {
    tensors.iter().map(|t| t.to_dtype(dtype).unwrap()).collect()
}

/// In f64 within 1e-12 of the twin, in f32 and bf16 within `rounding` of the twin in f64; the kernel's
/// gradient is that of its value; and its bits do not depend on the number of threads.
pub fn hold(make: Make, rounding: Rounding) {
    for seed in 0..6 {
        for big in [false, true] {
            let case = make(seed, big);
            let wanted = run(&case.inputs, seed, &case.op, Way::Plain, false);
            for way in [Way::Dispatched, Way::Composed] {
                let found = run(&case.inputs, seed, &case.op, way, false);
                compare(&found, &wanted, 1e-12);
                let single = all(&case.inputs, DType::F32);
                let single = run(&single, seed, &case.op, way, false);
                assert_eq!(single.0.dtype(), DType::F32);
                compare(&single, &wanted, rounding.single);
            }
            halved(&case, seed, rounding.half.map(|units| units / 256.0));
        }
        differentiate(&make(seed, false), seed);
    }
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let case = make(1, true);
            [case.inputs.clone(), all(&case.inputs, DType::F32)].map(|inputs| {
                let (value, gradients) = run(&inputs, 1, &case.op, Way::Dispatched, false);
                let all = [vec![value], gradients].concat();
                all.iter().map(numbers).collect::<Vec<_>>()
            })
        })
    };
    let one = bits(1);
    assert!(one == bits(2) && one == bits(3), "bits depend on threads");
}

/// In bf16 what is dispatched is composed, and value and gradients are near those in f64 of the same
/// inputs and cotangent.
fn halved(case: &Case, seed: u64, bounds: [f64; 2]) {
    let half = all(&case.inputs, DType::BF16);
    let found = run(&half, seed, &case.op, Way::Composed, true);
    let wanted = run(&all(&half, DType::F64), seed, &case.op, Way::Plain, true);
    let far = off(&found.0, &wanted.0);
    assert!(far < bounds[0], "bf16 value: {far:e}");
    for (i, (found, wanted)) in found.1.iter().zip(&wanted.1).enumerate() {
        assert_eq!(found.dtype(), DType::BF16);
        let far = off(found, wanted);
        assert!(far < bounds[1], "bf16 gradient {i}: {far:e}");
    }
    let dispatched = run(&half, seed, &case.op, Way::Dispatched, true);
    compare(&dispatched, &found, f64::MIN_POSITIVE);
}

pub fn compare(found: &(Tensor, Vec<Tensor>), wanted: &(Tensor, Vec<Tensor>), tolerance: f64) {
    let far = distance(&found.0, &wanted.0);
    assert!(far < tolerance, "value: {far:e}");
    assert_eq!(found.1.len(), wanted.1.len());
    for (i, (found, wanted)) in found.1.iter().zip(&wanted.1).enumerate() {
        let far = distance(found, wanted);
        assert!(far < tolerance, "gradient {i}: {far:e}");
    }
}

/// Central differences of `Σ cotangent · value` in a few coordinates of every input.
fn differentiate(case: &Case, seed: u64) {
    let (value, gradients) = run(&case.inputs, seed, &case.op, Way::Dispatched, false);
    let cotangent = numbers(&Dice::new(seed).tensor(value.dims()));
    let mut dice = Dice::new(seed + 100);
    let total = |inputs: &[Tensor]| -> f64 {
        let nodes: Vec<Node> = inputs.iter().map(|t| Node::constant(t.clone())).collect();
        let value = (case.op)(Way::Dispatched, &Tape::idle(), &nodes).unwrap();
        (numbers(value.value()).iter().zip(&cotangent))
            .map(|(x, c)| x * c)
            .sum()
    };
    for (k, gradient) in gradients.iter().enumerate() {
        let gradient = numbers(gradient);
        for _ in 0..8 {
            let i = dice.below(gradient.len());
            let moved = |step: f64| {
                let mut inputs = case.inputs.clone();
                let mut x = numbers(&inputs[k]);
                x[i] += step;
                inputs[k] = Tensor::from_vec(x, inputs[k].shape(), &Device::Cpu).unwrap();
                total(&inputs)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let far = (slope - gradient[i]).abs() / gradient[i].abs().max(1.0);
            assert!(far < 1e-7, "input {k}, number {i}: {slope} {}", gradient[i]);
        }
    }
}
