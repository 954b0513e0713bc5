//! Rows of the sim `am-hacking`: variants in the tasks of a world, round by round.

use std::collections::BTreeMap;
use std::path::Path;

use crate::observer::Observer;
use anyhow::{Context, Result};

use super::spread::Spread;
use super::table::{distinct, read, table};

/// The task that is never trained on.
pub const FORGET: &str = "forget";

table! {
    /// A variant's policy in one task of a world after some rounds; round 0 is the initial policy.
    pub struct Row {
        seed: u64,
        variant: String,
        round: u64,
        task: String,
        win: f64,
        kl: f64,
        reward: f64,
        score: f64,
    }
}

table! {
    /// The policy of the Advantage Model with rehearsal, by the clusters that examples are kept of: of each the best
    /// `kept`, at a weight `gamma`.
    pub struct ClusterRow {
        seed: u64,
        clusters: u64,
        kept: u64,
        gamma: f64,
        round: u64,
        task: String,
        win: f64,
        kl: f64,
        reward: f64,
        score: f64,
    }
}

/// The table of [`ClusterRow`]s.
pub const CLUSTERS: &str = "clusters.csv";

/// Rows over the number of clusters.
pub struct Clusters {
    rows: Vec<ClusterRow>,
}

impl Clusters {
    /// Reads the folder's, if it has them.
    ///
    /// # Errors
    /// A file that is not such a table.
    pub fn read(dir: &Path, observer: &dyn Observer) -> Result<Option<Self>> {
        let path = dir.join(CLUSTERS);
        if !path.exists() {
            return Ok(None);
        }
        let rows = read(&path, observer)?;
        Ok(Some(Self { rows }))
    }

    /// The numbers of clusters in the order of the file.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = Vec::new();
        for row in &self.rows {
            if !counts.contains(&row.clusters) {
                counts.push(row.clusters);
            }
        }
        counts
    }

    /// Examples kept in a cluster, and the weight of the rehearsal.
    pub fn settings(&self) -> Option<(u64, f64)> {
        self.rows.first().map(|row| (row.kept, row.gamma))
    }

    /// By round, of each world the mean over tasks, of those that are trained on or of the one that is not.
    pub fn curve(
        &self,
        clusters: u64,
        trained: bool,
        of: fn(&ClusterRow) -> f64,
    ) -> BTreeMap<u64, Vec<f64>> {
        let mut worlds: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
        let rows = self.rows.iter().filter(|r| r.clusters == clusters);
        for row in rows.filter(|r| (r.task != FORGET) == trained) {
            worlds
                .entry((row.round, row.seed))
                .or_default()
                .push(of(row));
        }
        let mut rounds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for ((round, _), values) in worlds {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            rounds.entry(round).or_default().push(mean);
        }
        rounds
    }

    /// The same after the last round, world by world.
    pub fn end(&self, clusters: u64, trained: bool, of: fn(&ClusterRow) -> f64) -> Vec<f64> {
        let curve = self.curve(clusters, trained, of);
        curve
            .into_iter()
            .next_back()
            .map_or(Vec::new(), |(_, values)| values)
    }
}

/// A run's rows.
pub struct Hacking {
    rows: Vec<Row>,
}

impl Hacking {
    /// Reads `rows.csv` of the folder.
    ///
    /// # Errors
    /// A file that is not such a table.
    pub fn read(dir: &Path, observer: &dyn Observer) -> Result<Self> {
        let rows = read(&dir.join("rows.csv"), observer)?;
        Ok(Self { rows })
    }

    fn names(&self, of: fn(&Row) -> &str) -> Vec<&str> {
        distinct(self.rows.iter().map(of))
    }

    /// The variants in the order of the file.
    pub fn variants(&self) -> Vec<&str> {
        self.names(|r| &r.variant)
    }

    /// The tasks in the order of the file.
    pub fn tasks(&self) -> Vec<&str> {
        self.names(|r| &r.task)
    }

    /// The rows of a variant in a task.
    pub fn of(&self, variant: &str, task: &str) -> impl Iterator<Item = &Row> {
        (self.rows.iter()).filter(move |r| r.variant == variant && r.task == task)
    }

    /// The last round.
    pub fn last(&self) -> u64 {
        self.rows.iter().map(|r| r.round).max().unwrap_or(0)
    }

    /// World and value after the last round.
    pub fn end(&self, variant: &str, task: &str, of: fn(&Row) -> f64) -> Vec<(u64, f64)> {
        let last = self.last();
        (self.of(variant, task))
            .filter(|r| r.round == last)
            .map(|r| (r.seed, of(r)))
            .collect()
    }

    /// What a variant ends with above another, world by world.
    pub fn above(&self, pair: [&str; 2], task: &str, of: fn(&Row) -> f64) -> Result<Above> {
        let other = self.end(pair[1], task, of);
        let mine = self.end(pair[0], task, of).into_iter();
        let each: Vec<f64> = mine
            .filter_map(|(seed, value)| {
                let same = other.iter().find(|(s, _)| *s == seed)?;
                Some(value - same.1)
            })
            .collect();
        let lower = each.iter().filter(|d| **d < 0.0).count();
        let spread = Spread::of(each)
            .with_context(|| format!("no world has both {} and {}", pair[0], pair[1]))?;
        Ok(Above { spread, lower })
    }
}

/// Paired differences over worlds.
pub struct Above {
    spread: Spread,
    lower: usize,
}

impl Above {
    /// Which way, as far as the band of the mean tells.
    pub fn words(&self) -> String {
        let Spread { mean, count, .. } = self.spread;
        let half = self.spread.half();
        let which = match half {
            Some(half) if mean < -half => "lower",
            Some(half) if mean > half => "higher",
            _ => "not reliably different",
        };
        let band = half.map_or(String::new(), |half| format!(" ± {half:.3}"));
        let lower = self.lower;
        format!("{which} (paired difference {mean:+.3}{band}; lower in {lower} of {count} worlds)")
    }
}
