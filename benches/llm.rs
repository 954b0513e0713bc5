//! The stages of a training step: each operation forward and with its backward, at
//! the shapes of a 25M and of a 260K Llama, and the optimiser.

use std::rc::Rc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use criterion::Criterion;
use ndarray_rand::rand_distr::{Distribution, StandardNormal};
use pistar::Result;
use pistar::llm::internals::tensor::ops::{self, Activation, Attention, Rope, Starts};
use pistar::llm::internals::tensor::optimizer::{AdamW, Config, gradient_norm};
use pistar::llm::internals::tensor::parameters::Parameters;
use pistar::llm::internals::tensor::tape::{LeafGradients, Node, Tape};
use pistar::random::{Purpose, Stream};

/// Sequences, their length, and a Llama's widths.
struct Shape {
    name: &'static str,
    sequences: usize,
    length: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    inner: usize,
    vocabulary: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "25m",
        sequences: 8,
        length: 128,
        width: 384,
        heads: 6,
        kv_heads: 2,
        inner: 1024,
        vocabulary: 16_000,
    },
    Shape {
        name: "260k",
        sequences: 16,
        length: 128,
        width: 64,
        heads: 8,
        kv_heads: 4,
        inner: 172,
        vocabulary: 512,
    },
];

fn random(shape: &[usize]) -> Tensor {
    let mut stream = Stream::new(1, Purpose::Start, shape.len() as u64);
    let numbers = (0..shape.iter().product::<usize>()).map(|_| -> f32 {
        let z: f32 = StandardNormal.sample(stream.rng());
        0.1 * z
    });
    let numbers: Vec<f32> = numbers.collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).expect("memory")
}

/// Times an operation alone, and with its backward.
fn time(
    c: &mut Criterion,
    shape: &Shape,
    name: &str,
    inputs: &[Tensor],
    op: impl Fn(&Tape, &[Node]) -> Result<Node>,
) {
    let mut group = c.benchmark_group(format!("{}/{name}", shape.name));
    let constants: Vec<Node> = inputs.iter().cloned().map(Node::constant).collect();
    group.bench_function("forward", |b| b.iter(|| op(&Tape::idle(), &constants)));
    let cotangent = op(&Tape::idle(), &constants)
        .expect("a result")
        .value()
        .clone();
    group.bench_function("both", |b| {
        b.iter(|| {
            let tape = Tape::recording(inputs.len());
            let leaves = inputs.iter().enumerate();
            let nodes: Vec<Node> = leaves.map(|(i, t)| tape.leaf(i, t.clone())).collect();
            let output = op(&tape, &nodes)?;
            tape.backward(
                [(output, cotangent.clone())],
                &mut LeafGradients::new(inputs.len()),
            )
        })
    });
}

fn operations(c: &mut Criterion, s: &Shape) {
    let n = s.sequences * s.length;
    let head_dim = s.width / s.heads;
    let starts: Starts = (0..=s.sequences).map(|i| i * s.length).collect();
    let x = random(&[n, s.width]);
    let linear = |tape: &Tape, x: &[Node]| ops::linear(tape, &x[0], &x[1], None);
    time(
        c,
        s,
        "linear-up",
        &[x.clone(), random(&[s.inner, s.width])],
        linear,
    );
    let inner = random(&[n, s.inner]);
    time(
        c,
        s,
        "linear-down",
        &[inner.clone(), random(&[s.width, s.inner])],
        linear,
    );
    time(
        c,
        s,
        "rms_norm",
        &[x.clone(), random(&[s.width])],
        |tape, x| ops::rms_norm(tape, &x[0], &x[1], 1e-5, 0.0),
    );
    let table = Rope {
        cos: random(&[s.length, head_dim / 2]),
        sin: random(&[s.length, head_dim / 2]),
        interleaved: false,
    };
    time(c, s, "rope", std::slice::from_ref(&x), |tape, x| {
        ops::rope(tape, &x[0], s.heads, &table, &starts)
    });
    let form = Attention {
        heads: s.heads,
        kv_heads: s.kv_heads,
        head_dim,
        scale: (head_dim as f64).sqrt().recip(),
        window: None,
        slopes: None,
    };
    let kv = random(&[n, s.kv_heads * head_dim]);
    time(
        c,
        s,
        "attention",
        &[x.clone(), kv.clone(), kv],
        |tape, x| ops::attention(tape, [&x[0], &x[1], &x[2]], &form, &starts),
    );
    time(c, s, "gated", &[inner.clone(), inner], |tape, x| {
        ops::gated(tape, &x[0], &x[1], Activation::Silu)
    });
    time(c, s, "add", &[x.clone(), x.clone()], |tape, x| {
        ops::add(tape, &x[0], &x[1])
    });
    let ids: Rc<[u32]> = (0..n).map(|i| (i * 7919 % s.vocabulary) as u32).collect();
    let table = random(&[s.vocabulary, s.width]);
    time(
        c,
        s,
        "embedding",
        std::slice::from_ref(&table),
        |tape, x| ops::embedding(tape, &x[0], &ids),
    );
    time(c, s, "token_log_probs", &[x, table], |tape, x| {
        ops::token_log_probs(tape, &x[0], &x[1], None, &ids, 1.0)
    });
}

fn optimizer(c: &mut Criterion, s: &Shape) {
    let mut parameters = Parameters::new(DType::F32, &Device::Cpu);
    let weight = random(&[s.vocabulary, s.width]);
    let id = parameters.add("weight", &weight).expect("a new name");
    let mut gradients = LeafGradients::new(1);
    let tape = Tape::recording(1);
    let node = parameters.node(&tape, id);
    tape.backward([(node, weight)], &mut gradients)
        .expect("a gradient");
    let mut optimizer = AdamW::new(&parameters, Config::default()).expect("constants");
    let mut group = c.benchmark_group(format!("{}/optimizer", s.name));
    group.bench_function("adamw", |b| {
        b.iter(|| optimizer.step(&parameters, &gradients, 1e-4, 1.0))
    });
    group.bench_function("norm", |b| {
        b.iter(|| gradient_norm(&parameters, &gradients))
    });
}

/// On `RAYON_NUM_THREADS` threads, inside the pool as a training run is.
fn main() {
    let pool = rayon::ThreadPoolBuilder::new().build().expect("threads");
    pool.install(|| {
        let mut criterion = Criterion::default()
            .sample_size(20)
            .measurement_time(Duration::from_secs(1))
            .warm_up_time(Duration::from_millis(200))
            .configure_from_args();
        for shape in &SHAPES {
            operations(&mut criterion, shape);
            optimizer(&mut criterion, shape);
        }
        criterion.final_summary();
    });
}
