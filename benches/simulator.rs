//! CoPG's toy, one method at a time: 20 seeds × 2,000 steps on one thread.

use criterion::{Criterion, criterion_group, criterion_main};
use pistar::bandit::Problem;
use pistar::loss::Objective;
use pistar::observer::Silent;
use pistar::sim::{Config, Optimizer, run};

fn simulator(c: &mut Criterion) {
    let toy = r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
                  "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#;
    let problem = Problem::from_json(toy).expect("a problem");
    let mut group = c.benchmark_group("sim");
    for objective in Objective::ALL {
        let config = Config {
            objectives: vec![objective],
            seeds: 20,
            key: 0,
            samples: 10_000,
            batch: 512,
            epochs: 100,
            drop_last: false,
            optimizer: Optimizer::adam(1e-3),
            threads: 1,
        };
        group.bench_function(objective.name(), |b| {
            b.iter(|| run(&problem, &config, |_| Ok(()), &Silent))
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(300));
    targets = simulator
}
criterion_main!(benches);
