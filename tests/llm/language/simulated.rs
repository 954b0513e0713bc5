//! Transformers in the place of a sim's tables: the same data, minibatches and losses.

use std::collections::BTreeMap;

use pistar::Result;
use pistar::bandit::{Dataset, Evidence, Problem};
use pistar::llm::language::{Seeds, spelled};
use pistar::loss::Objective;
use pistar::observer::Silent;
use pistar::sim::{Config, Optimizer, Row, Trained, run, run_with};
use pistar::solve::fixed_point;

const OBJECTIVES: [Objective; 6] = [
    Objective::COPG,
    Objective::IPO,
    Objective::RLOO,
    Objective::PG_ZERO,
    Objective::PG_SOFT_VALUE,
    Objective::REWARD_MODEL,
];

/// CoPG's bandit.
fn toy() -> Problem {
    let toy = r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
        "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#;
    Problem::from_json(toy).unwrap()
}

fn config(epochs: usize, optimizer: Optimizer) -> Config {
    Config {
        objectives: OBJECTIVES.to_vec(),
        seeds: 2,
        key: 0,
        samples: 2000,
        batch: 200,
        epochs,
        drop_last: false,
        optimizer,
        threads: 2,
    }
}

fn transformers(problem: &Problem, config: &Config) -> Vec<Row> {
    let bandit = spelled(problem).unwrap();
    let make = |objective, seeds| -> Result<Box<dyn Trained + '_>> {
        let seeds = Seeds::new(&bandit, objective, seeds, config.optimizer)?;
        Ok(Box::new(seeds))
    };
    let mut all = Vec::new();
    let rows = |rows: &[Row]| {
        all.extend_from_slice(rows);
        Ok(())
    };
    run_with(bandit.problem(), config, &make, rows, &Silent).unwrap();
    all
}

type Regrets = BTreeMap<(Objective, usize, usize), f64>;

fn by_place(rows: &[Row]) -> Regrets {
    let place = |row: &Row| ((row.objective, row.seed, row.epoch), row.regret);
    rows.iter().map(place).collect()
}

#[test]
fn they_start_and_end_where_tables_do() {
    let problem = toy();
    let config_of = |lr| config(60, Optimizer::adam(lr));
    let of_transformers = by_place(&transformers(&problem, &config_of(3e-4)));
    let mut of_tables = Vec::new();
    let rows = |rows: &[Row]| {
        of_tables.extend_from_slice(rows);
        Ok(())
    };
    run(&problem, &config_of(3e-2), rows, &Silent).unwrap();
    let of_tables = by_place(&of_tables);
    assert!(of_transformers.keys().eq(of_tables.keys()));
    for seed in 0..2 {
        let dataset = Dataset::preferences(&problem, 2000, 0, seed as u64);
        let evidence = Evidence::from_dataset(&problem, &dataset);
        for objective in OBJECTIVES {
            let at = |of: &Regrets, epoch| of[&(objective, seed, epoch)];
            let name = objective.name();
            let (start, table) = (at(&of_transformers, 0), at(&of_tables, 0));
            assert!((start - table).abs() < 1e-5, "{name}: {start} {table}");
            // Minibatches keep both from the dataset's limit; both are near each other.
            let (end, table) = (at(&of_transformers, 60), at(&of_tables, 60));
            println!("{name:14} {seed} {end:.5} {table:.5}");
            assert!((end - table).abs() < 0.03, "{name}: {end} {table}");
            if objective == Objective::COPG {
                let limit = fixed_point(objective, &problem, &evidence).unwrap();
                assert!(limit.unique && limit.regret.unwrap() < 1e-12);
                assert!(end < 1e-3, "{end}");
            }
        }
    }
}

#[test]
fn threads_change_no_byte_and_sgd_moves() {
    let problem = toy();
    for optimizer in [Optimizer::adam(1e-4), Optimizer::Sgd { lr: 1e-3 }] {
        let two = config(2, optimizer);
        let one = Config {
            threads: 1,
            ..two.clone()
        };
        let rows = transformers(&problem, &two);
        assert_eq!(rows, transformers(&problem, &one));
        let regrets = by_place(&rows);
        for objective in OBJECTIVES {
            assert_ne!(regrets[&(objective, 0, 0)], regrets[&(objective, 0, 2)]);
        }
    }
}

#[test]
fn what_cannot_be_spelled_is_refused() {
    let uneven = r#"{"beta": 0.5, "prompts": [
        {"reward": [1, 2, 3], "behavior": [[0.3, 0.3, 0.4], [0.3, 0.3, 0.4]]},
        {"reward": [1, 2], "behavior": [[0.3, 0.7], [0.3, 0.7]]}]}"#;
    let problem = Problem::from_json(uneven).unwrap();
    let error = spelled(&problem).unwrap_err().to_string();
    assert!(
        error.contains("prompts[1]: it has 2 arms and prompt 0 has 3"),
        "{error}"
    );
}
