//! Transformers in the place of the policies of `continual` and `sim::multitask`: the same loops, losses and examples.

use pistar::Result;
use pistar::continual::{Method, Outcome, Plan, Score, Sequence, SequenceShape, run, run_with};
use pistar::llm::language::{Seeds, spelled};
use pistar::loss::Objective;
use pistar::sim::multitask::rehearsal::Kept;
use pistar::sim::multitask::{Critic, MultiTask, Row, Settings, Task, train_with};
use pistar::sim::{Optimizer, Trained, tables};

/// Two tasks on the same prompts, with independent rewards.
fn sequence() -> Sequence {
    let shape = SequenceShape {
        tasks: 2,
        prompts: 2,
        arms: 3,
        beta: 0.5,
        overlap: None,
        block: 1,
    };
    Sequence::random(&shape, 4).unwrap()
}

fn plan() -> Plan {
    Plan {
        steps: 400,
        rate: 4.0,
        replay: 1.0,
        likelihood: Some(0.1),
        score: Score::Reward,
        ..Plan::default()
    }
}

fn transformer(sequence: &Sequence, method: Method) -> Result<Outcome> {
    let bandit = spelled(&sequence.tasks()[0].problem)?;
    let make = || -> Result<Box<dyn Trained + '_>> {
        let seeds = Seeds::new(&bandit, Objective::COPR, 0..1, Optimizer::adam(1e-3))?;
        Ok(Box::new(seeds))
    };
    run_with(sequence, method, &plan(), &make)
}

#[test]
fn continual_learning_ends_where_tables_do() {
    let sequence = sequence();
    for method in [Method::COPR, Method::DPO] {
        let (table, network) = (
            run(&sequence, method, &plan()).unwrap(),
            transformer(&sequence, method).unwrap(),
        );
        let name = method.name;
        let apart = |a: &[f64], b: &[f64]| {
            let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            gaps.fold(0.0, f64::max)
        };
        assert!(apart(&table.initial, &network.initial) < 1e-5, "{name}");
        for (a, b) in table.accuracy.iter().zip(&network.accuracy) {
            println!("{name}: {a:.5?} {b:.5?}");
            assert!(apart(a, b) < 0.03, "{name}: {a:?} {b:?}");
            assert!(apart(a, &table.initial) > 0.05, "{name}: {a:?}");
        }
        // COPR learns the second task too; under DPO the first has gone too far to be turned.
        let second = apart(&table.accuracy[0], &table.accuracy[1]);
        assert_eq!(second > 0.05, method == Method::COPR, "{name}: {second}");
        let ends = [table, network].map(|of| of.history.last().unwrap().clone());
        let [table, network] = &ends;
        println!("{name}: {table:?} {network:?}");
        assert!(apart(&[table.fit], &[network.fit]) < 0.03, "{name}");
        assert!(
            apart(&table.multipliers, &network.multipliers) < 0.01,
            "{name}"
        );
        assert!(
            apart(&table.constraints, &network.constraints) < 0.03,
            "{name}"
        );
    }
}

#[test]
fn pulls_at_parameters_are_refused() {
    let error = transformer(&sequence(), Method::FIT_L2).unwrap_err();
    assert!(error.to_string().starts_with("method fit+l2"), "{error}");
}

/// Rounds of PPO with rehearsal.
#[test]
fn ppo_ends_where_tables_do() {
    let task = Task {
        name: "task",
        prompts: 2,
        offset: 1.0,
        scale: 1.0,
        style: 1.0,
        aligned: 0.0,
        trained: true,
    };
    let tasks = MultiTask::draw(&[task], 3, 0.5, 0.1, 3).unwrap();
    let scores: Vec<Vec<f64>> = (tasks.problem().prompts().iter())
        .map(|prompt| prompt.reward.clone())
        .collect();
    let kept = Kept {
        prompt: 0,
        arm: 1,
        cluster: 0,
        score: 0.0,
    };
    let settings = Settings {
        rounds: 100,
        steps: 4,
        lr: 1.0,
        epsilon: 0.2,
        critic: Critic::Exact,
        gamma: 0.1,
    };
    let run = |policy: &mut dyn Trained| -> (Row, Vec<f64>) {
        let (rows, policy) = train_with(&tasks, &scores, &[kept], &settings, policy).unwrap();
        let policy = policy.probabilities().concat();
        (rows.last().unwrap().clone(), policy)
    };
    let mut table = tables(tasks.problem(), 1, Optimizer::Sgd { lr: 1.0 }).unwrap();
    let bandit = spelled(tasks.problem()).unwrap();
    let mut network =
        Seeds::new(&bandit, Objective::PPO_CLIP, 0..1, Optimizer::adam(1e-3)).unwrap();
    let ((table, want), (network, got)) = (run(&mut *table), run(&mut network));
    println!("{table:?} {network:?} {want:.5?} {got:.5?}");
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 0.02, "{got} {want}");
    }
    assert!((table.score - network.score).abs() < 0.02);
    assert!(table.kl > 0.05, "{table:?}");
}
