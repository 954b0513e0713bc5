//! Exact solvers against the number of arms. Quadratic ones stop at 10,000 arms, SLiC at its cap.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pistar::bandit::{Evidence, Problem, Shape, random_problem};
use pistar::loss::Objective;
use pistar::solve::{fixed_point, policy_gradient, slic};

const ARMS: [usize; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];

fn problem(arms: usize) -> Problem {
    let shape = Shape {
        prompts: 1,
        arms,
        beta: 0.5,
        reward_scale: 1.0,
    };
    random_problem(shape, 1).expect("a problem")
}

fn most_arms(objective: Objective) -> usize {
    use Objective as O;
    let fits = [O::DPO, O::REWARD_MODEL, O::IPO, O::IPO_COPG, O::IPO_GPO];
    let caps = [
        (&fits[..], 10_000),
        (&[O::SLIC], slic::CAP),
        (&[O::PG_VALUE], policy_gradient::FLOW_CAP),
    ];
    let cap = caps.iter().find(|(of, _)| of.contains(&objective));
    cap.map_or(usize::MAX, |(_, cap)| *cap)
}

fn solvers(c: &mut Criterion) {
    for arms in ARMS {
        let problem = problem(arms);
        let population = Evidence::population(&problem);
        c.bench_function(&format!("optimum/{arms}"), |b| {
            b.iter(|| {
                let optimum = problem.optimum();
                (optimum.objective, problem.objective(&optimum.policy))
            })
        });
        let mut group = c.benchmark_group("fixed-point");
        for objective in Objective::ALL.into_iter().filter(|&o| arms <= most_arms(o)) {
            let id = BenchmarkId::new(objective.name(), arms);
            group.bench_function(id, |b| {
                b.iter(|| fixed_point(objective, &problem, &population))
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = solvers
}
criterion_main!(benches);
