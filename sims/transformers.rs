//! Transformers in the place of a sim's tables, each response one arm; a build without the feature `llm` refuses them.

#[cfg(feature = "llm")]
mod with {
    use crate::Result;
    use crate::bandit::Problem;
    use crate::llm::language::{Bandit, LAYERS, START, Seeds, WIDTH, spelled, start};
    use crate::llm::model::decoder::Decoder;
    use crate::observer::Work;
    use crate::sim::{Config, Row, Trained, phases, run_with};
    use crate::sims::run::Run;
    use serde_json::{Value, json};

    /// Record of the policies that are trained on a problem, for the manifest.
    pub fn record(problem: &Problem) -> Result<Value> {
        let bandit = spelled(problem)?;
        let language = bandit.language();
        Ok(json!({
            "transformer": {
                "symbols": language.symbols(),
                "length": language.length(),
                "prompts": language.prompts(),
                "width": WIDTH,
                "layers": LAYERS,
                "precision": "f64",
                "start": format!("fitted to the reference, |Δ ln π| ≤ {START:e}"),
            }
        }))
    }

    /// Trains transformers as [`run`](crate::sim::run) trains tables.
    pub fn train(
        problem: &Problem,
        config: &Config,
        rows: impl FnMut(&[Row]) -> Result<()>,
        work: &dyn Work,
    ) -> Result<()> {
        let bandit = spelled(problem)?;
        let make = |objective, seeds| -> Result<Box<dyn Trained + '_>> {
            let seeds = Seeds::new(&bandit, objective, seeds, config.optimizer)?;
            Ok(Box::new(seeds))
        };
        run_with(bandit.problem(), config, &make, rows, work)
    }

    /// Transformers at a problem's reference, fitted once for all runs that start from them.
    pub struct Starts {
        bandit: Bandit,
        /// Of each seed, so many.
        members: usize,
        models: Vec<Decoder>,
    }

    impl Starts {
        /// Those of so many seeds, of members each whose weights are their own.
        pub fn new(
            problem: &Problem,
            run: &Run,
            seeds: usize,
            members: usize,
        ) -> anyhow::Result<Self> {
            let bandit = spelled(problem)?;
            let all: Vec<u64> = (0..(seeds * members) as u64).collect();
            let models = run.map(&all, |&index| Ok(start(&bandit, index)?))?;
            Ok(Self {
                bandit,
                members,
                models,
            })
        }

        /// Trains them in phases.
        pub fn phases(&self, config: &phases::Config) -> Result<Vec<phases::Row>> {
            let make = |seed: usize| -> Result<Box<dyn Trained + '_>> {
                let of = &self.models[seed * self.members..][..config.ensemble.members];
                let starts = of.iter().map(Decoder::copy).collect::<Result<_>>()?;
                Ok(Box::new(Seeds::at(&self.bandit, starts, config.optimizer)?))
            };
            phases::run_with(self.bandit.problem(), config, &make)
        }
    }
}

#[cfg(not(feature = "llm"))]
mod with {
    use crate::bandit::Problem;
    use crate::observer::Work;
    use crate::sim::{Config, Row, phases};
    use crate::sims::run::Run;
    use crate::{Error, Result};
    use serde_json::Value;

    fn missing() -> Error {
        let problem = "this build has no transformers";
        Error::invalid("--policy", problem, "build with the feature `llm`")
    }

    pub fn record(_: &Problem) -> Result<Value> {
        Err(missing())
    }

    pub fn train(
        _: &Problem,
        _: &Config,
        _: impl FnMut(&[Row]) -> Result<()>,
        _: &dyn Work,
    ) -> Result<()> {
        Err(missing())
    }

    /// None can be made.
    pub enum Starts {}

    impl Starts {
        pub fn new(_: &Problem, _: &Run, _: usize, _: usize) -> anyhow::Result<Self> {
            Err(missing().into())
        }

        pub fn phases(&self, _: &phases::Config) -> Result<Vec<phases::Row>> {
            match *self {}
        }
    }
}

pub use with::{Starts, record, train};
