//! Loss × backend × size: value and gradient of a batch through the generic code.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pistar::loss::{Batch, Bound, InputKind, Objective};
use pistar::random::{Purpose, Stream};

const SIZES: [usize; 3] = [64, 4_096, 65_536];

fn batch(kind: InputKind, n: usize) -> Batch {
    let mut stream = Stream::new(0, Purpose::Problem, 0);
    let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| stream.uniform() - 0.5).collect() };
    // Groups and lists are of two responses each, all in the first slot.
    let (first, second, sizes) = match kind {
        InputKind::ScoredPairs | InputKind::LabelledPairs => (n, n, 0),
        InputKind::Singles | InputKind::Rated => (n, 0, 0),
        InputKind::Groups | InputKind::Tokens | InputKind::Lists => (2 * n, 0, n),
        other => panic!("a new variant: {other:?}"),
    };
    Batch {
        log_policy: [draw(first), draw(second)],
        log_reference: [draw(first), draw(second)],
        reward: [draw(first), draw(second)],
        baseline: draw(n),
        desirable: (0..n).map(|i| (i % 2) as f64).collect(),
        sizes: vec![2; sizes],
        weight: vec![1.0 / n as f64; n],
        ..Batch::default()
    }
}

fn bound(objective: Objective) -> Bound {
    let given = objective.with_examples(0.5.into());
    objective.bind(&given).expect("numbers in their ranges")
}

fn nd(loss: &Bound, batch: &Batch) -> f64 {
    loss.on_tape(batch).expect("a gradient").gradient[0][0]
}

#[cfg(feature = "llm")]
fn candle(loss: &Bound, batch: &Batch) -> f64 {
    use candle_core::{DType, Device};
    use pistar::backend::candle::{backward, constant, leaf};
    let (inputs, leaves) = batch
        .inputs(
            loss.spec().inputs,
            loss.columns().expect("a loss"),
            |v| leaf(v, DType::F64, &Device::Cpu),
            |v| constant(v, DType::F64, &Device::Cpu),
        )
        .expect("a batch of the right kind");
    let each = loss.loss(&inputs).expect("a loss");
    let leaves: Vec<_> = leaves.iter().collect();
    backward(&each, &batch.weight, &leaves).expect("a gradient")[0][0]
}

fn losses(c: &mut Criterion) {
    for objective in Objective::ALL {
        let loss = bound(objective);
        let mut group = c.benchmark_group(format!("loss/{}", objective.name()));
        for n in SIZES {
            let batch = batch(objective.spec().inputs, n);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(BenchmarkId::new("nd", n), |b| b.iter(|| nd(&loss, &batch)));
            #[cfg(feature = "llm")]
            group.bench_function(BenchmarkId::new("candle", n), |b| {
                b.iter(|| candle(&loss, &batch))
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = losses
}
criterion_main!(benches);
