//! Transformers in BPO's phases, in the place of tables.

use pistar::Result;
use pistar::bandit::{Beta, Policy, Problem};
use pistar::llm::language::{Bandit, Seeds, spelled, start, total_variation};
use pistar::llm::model::decoder::Decoder;
use pistar::sim::phases::{Config, Ensemble, Pairs, Reference, Row, policies_with, run_with};
use pistar::sim::{Optimizer, Trained};
use pistar::solve::bpo::{Inner, phases};

fn bandit() -> Bandit {
    let problem = r#"{"beta": 0.5, "prompts": [{"reward": [1, 0, 0.4], "reference": [0.2, 0.5, 0.3],
        "behavior": [[0.3, 0.4, 0.3]]}]}"#;
    spelled(&Problem::from_json(problem).unwrap()).unwrap()
}

/// Transformers of several weights, at the reference.
fn starts(bandit: &Bandit, count: u64) -> Vec<Decoder> {
    (0..count).map(|i| start(bandit, i).unwrap()).collect()
}

fn config(inner: Inner, reference: Reference, phases: usize) -> Config {
    Config {
        inner,
        reference,
        updates: 12,
        phases,
        pairs: Pairs::Drawn(64),
        ensemble: Ensemble::default(),
        every: 3,
        optimizer: Optimizer::Sgd { lr: 2e-3 },
        seeds: 1,
        key: 0,
        threads: 1,
    }
}

fn made<'a>(bandit: &'a Bandit, starts: &[Decoder], config: &Config) -> Box<dyn Trained + 'a> {
    let own = starts[..config.ensemble.members].iter();
    let own = own.map(|model| model.copy().unwrap()).collect();
    Box::new(Seeds::at(bandit, own, config.optimizer).unwrap())
}

fn rows(bandit: &Bandit, starts: &[Decoder], config: &Config) -> Vec<Row> {
    let make = |_| -> Result<Box<dyn Trained + '_>> { Ok(made(bandit, starts, config)) };
    run_with(bandit.problem(), config, &make).unwrap()
}

fn gap(a: &[Row], b: &[Row]) -> f64 {
    (a.iter().zip(b)).fold(0.0, |m, (a, b)| (a.reward - b.reward).abs().max(m))
}

/// With all pairs and steps enough each phase ends at the policy that is solved for, and at no other.
#[test]
fn expected_phases_end_at_the_solved_ones() {
    let bandit = bandit();
    let starts = starts(&bandit, 1);
    for inner in [Inner::Dpo, Inner::Ipo] {
        let solved: Vec<Policy> = (phases(bandit.problem(), inner, 2).unwrap().into_iter())
            .map(|point| point.policy.unwrap())
            .collect();
        let config = Config {
            updates: 1600,
            pairs: Pairs::Expected,
            optimizer: Optimizer::adam(3e-4),
            ..config(inner, Reference::Behaviour, 2)
        };
        let make = |_| -> Result<Box<dyn Trained + '_>> { Ok(made(&bandit, &starts, &config)) };
        let found = policies_with(bandit.problem(), &config, &make).unwrap();
        let off = |k: usize, of: usize| total_variation(&found[0][k], &solved[of]);
        println!("{inner:?} {:.1e} {:.1e}", off(0, 0), off(1, 1));
        assert!(off(0, 0) < 1e-9 && off(1, 1) < 1e-9, "{inner:?}");
        assert!(off(0, 1) > 0.05 && off(1, 0) > 0.05, "{inner:?}");
    }
}

/// As of tables: with one phase the reference never moves, τ = 1 with one update a phase is the policy itself,
/// and τ = 0 and what is given as it is at the start are static; all to the byte.
#[test]
fn the_references_meet_at_their_ends() {
    let bandit = bandit();
    let starts = starts(&bandit, 1);
    let with = |reference, phases| rows(&bandit, &starts, &config(Inner::Dpo, reference, phases));
    assert_eq!(with(Reference::Behaviour, 1), with(Reference::Static, 1));
    let average = |tau| Reference::Average { tau };
    assert_eq!(with(average(0.0), 12), with(Reference::Static, 12));
    assert_eq!(with(average(1.0), 12), with(Reference::Behaviour, 12));
    let (still, moved) = (with(Reference::Static, 12), with(Reference::Behaviour, 12));
    assert!(gap(&still, &moved) > 1e-6);
    let golden = with(Reference::Golden, 12);
    assert!(gap(&golden, &still) > 1e-6 && gap(&golden, &moved) > 1e-6);
}

/// With one update a phase β is only a learning rate of a lone transformer, and not of one held against the
/// policy that several merge into.
#[test]
fn in_an_ensemble_the_reference_does_not_cancel() {
    let bandit = bandit();
    let starts = starts(&bandit, 3);
    let run = |beta: f64, members| {
        let bandit = bandit.map(|p| p.at(Beta::new("beta", beta).unwrap()));
        let lr = 1e-3 / Inner::Ipo.first_step(beta);
        let config = Config {
            optimizer: Optimizer::Sgd { lr },
            ensemble: Ensemble {
                members,
                rank: None,
            },
            ..config(Inner::Ipo, Reference::Behaviour, 12)
        };
        rows(&bandit.unwrap(), &starts, &config)
    };
    let (alone, merged) = (
        gap(&run(0.5, 1), &run(4.0, 1)),
        gap(&run(0.5, 3), &run(4.0, 3)),
    );
    println!("{alone:.1e} {merged:.1e}");
    assert!(alone < 1e-10, "{alone:e}");
    assert!(merged > 1e-6, "{merged:e}");
    // What is made must be as many; a rank is a table's.
    let config = Config {
        ensemble: Ensemble {
            members: 2,
            rank: Some(1),
        },
        ..config(Inner::Ipo, Reference::Behaviour, 12)
    };
    let make = |_| -> Result<Box<dyn Trained + '_>> { Ok(made(&bandit, &starts, &config)) };
    let error = run_with(bandit.problem(), &config, &make).unwrap_err();
    assert!(error.to_string().contains("rank"), "{error}");
    let config = Config {
        ensemble: Ensemble {
            members: 2,
            rank: None,
        },
        ..config.clone()
    };
    let make = |_| -> Result<Box<dyn Trained + '_>> {
        let lone = vec![starts[0].copy()?];
        Ok(Box::new(Seeds::at(&bandit, lone, config.optimizer)?))
    };
    let error = run_with(bandit.problem(), &config, &make).unwrap_err();
    assert!(error.to_string().contains("members"), "{error}");
}
