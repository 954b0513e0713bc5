//! Report on what each method gains and forgets, against what the paper says.

mod scorers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::observer::Observer;
use anyhow::{Result, ensure};

use super::super::judge::mean;
use super::super::report::{Claim, at, cells, half};
use super::tasks::OFFSETS;
use crate::rows::study_rehearsal::{
    AM, DEFAULT_CLUSTERS, FORGET, MAIN, METHODS, RM, RM_MA, RM_OFFSETS, Row, SR, Setting,
    default_of, paths, read_rows, settings, swept,
};
use crate::sims::report::{markdown, number};
use crate::stats::deviation;
use scorers::Scorers;

pub fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let (rows, scorers) = read_rows(dir, observer)?;
    for method in METHODS {
        ensure!(
            default_of(&rows, method).is_some(),
            "rows.csv: none of {method}; run the study to its end"
        );
    }
    let (of_scorers, of_policies) = (Scorers(&scorers), Policies(&rows));
    let claims = [of_scorers.claims(), of_policies.claims()].concat();
    let header = ["statement", "difference, 95 % interval over seeds", "here"];
    Ok(format!(
        "## What scores\n\n{}\n## What is gained and forgotten\n\n{}\n## Rewards of each class\n\n{}\n## Rehearsal over its clusters\n\n{}\n{}\n\
         ## What the paper says\n\n{}",
        of_scorers.table(),
        of_policies.table(),
        of_policies.classes(),
        of_policies.clusters(),
        of_policies.range(),
        markdown(&header, &cells(&claims)),
    ))
}

/// A mean with its interval over seeds.
fn shown<'a>(values: impl IntoIterator<Item = &'a f64>) -> String {
    let values: Vec<f64> = values.into_iter().copied().collect();
    number(mean(&values)) + &half(&values).map_or(String::new(), |h| format!(" ± {}", number(h)))
}

/// A number of each seed.
type BySeed = BTreeMap<u64, f64>;

/// What one has above another, seed by seed.
fn less(ours: &BySeed, theirs: &BySeed) -> Vec<f64> {
    let both = ours
        .iter()
        .filter_map(|(seed, x)| Some(x - theirs.get(seed)?));
    both.collect()
}

fn claim(words: impl Into<String>, differences: Vec<f64>) -> Claim {
    Claim {
        words: words.into(),
        differences,
        above: true,
    }
}

/// The policies' rows.
struct Policies<'a>(&'a [Row]);

fn net(row: &Row) -> f64 {
    row.win - row.lose
}

impl Policies<'_> {
    fn setting(&self, method: &str) -> Option<Setting> {
        default_of(self.0, method)
    }

    /// A number of a setting's last judgement on a set.
    fn end(&self, setting: &Setting, set: &str, of: impl Fn(&Row) -> f64) -> BySeed {
        let last = paths(self.0, setting, set).into_iter();
        last.filter_map(|(seed, path)| Some((seed, of(path.last()?))))
            .collect()
    }

    /// The same of a method.
    fn last(&self, method: &str, set: &str, of: impl Fn(&Row) -> f64) -> BySeed {
        let setting = self.setting(method);
        setting.map_or(BySeed::new(), |s| self.end(&s, set, of))
    }

    /// What a method's last judgement has above its first but so many.
    fn gain_since(&self, method: &str, set: &str, share: f64, of: fn(&Row) -> f64) -> Vec<f64> {
        let Some(setting) = self.setting(method) else {
            return Vec::new();
        };
        let found = paths(self.0, &setting, set).into_values();
        let gain = |path: Vec<&Row>| {
            let from = path.get((share * (path.len() - 1) as f64).round() as usize)?;
            Some(of(path.last()?) - of(from))
        };
        found.filter_map(gain).collect()
    }

    /// By how much a method has more of a number of a set than another, where both are at the smaller of their final
    /// KL on the main set.
    fn at_equal_kl(&self, ours: &str, theirs: &str, set: &str, of: fn(&Row) -> f64) -> Vec<f64> {
        let curves = |method: &str| -> BTreeMap<u64, super::super::report::Path> {
            let Some(setting) = self.setting(method) else {
                return BTreeMap::new();
            };
            let (far, on) = (paths(self.0, &setting, MAIN), paths(self.0, &setting, set));
            let both = on.into_iter().filter_map(|(seed, path)| {
                let points = path.iter().zip(far.get(&seed)?);
                let points = points.map(|(row, far)| (row.written, of(row), far.kl));
                Some((seed, points.collect()))
            });
            both.collect()
        };
        let theirs = curves(theirs);
        let gap = |(seed, ours): (u64, super::super::report::Path)| {
            let theirs = theirs.get(&seed)?;
            let kl = ours.last()?.2.min(theirs.last()?.2);
            Some(at(&ours, kl) - at(theirs, kl))
        };
        curves(ours).into_iter().filter_map(gap).collect()
    }

    fn name(setting: &Setting) -> String {
        match setting.clusters {
            0 => setting.method.clone(),
            c => format!("{}, c = {c}, γ = {}", setting.method, setting.gamma),
        }
    }

    fn table(&self) -> String {
        let header = [
            "",
            "main: win",
            "lose",
            "reward",
            "KL",
            "forget: win",
            "lose",
            "reward",
            "KL",
            "NLL of D_R",
        ];
        let line = |setting: Setting| {
            let of = |set: &str, f: fn(&Row) -> f64| shown(self.end(&setting, set, f).values());
            let mut line = vec![Self::name(&setting)];
            for set in [MAIN, FORGET] {
                line.extend([
                    of(set, |r| r.win),
                    of(set, |r| r.lose),
                    of(set, |r| r.reward),
                    of(set, |r| r.kl),
                ]);
            }
            line.push(of(MAIN, |r| r.nll));
            line
        };
        let start = |set: &str, f: fn(&Row) -> f64| {
            let first = self.0.iter().find(|r| r.set == set && r.written == 0);
            first.map_or(String::new(), |r| number(f(r)))
        };
        let mut initial = vec!["initial policy".to_string()];
        for set in [MAIN, FORGET] {
            initial.extend(["–".into(), "–".into(), start(set, |r| r.reward), "0".into()]);
        }
        initial.push(String::new());
        let mut lines = vec![initial];
        let mut all = settings(self.0);
        all.retain(|s| s.clusters == 0 || s.clusters == DEFAULT_CLUSTERS);
        all.sort_by_key(|s| METHODS.iter().position(|m| *m == s.method));
        lines.extend(all.into_iter().map(line));
        markdown(&header, &lines)
    }

    /// The rule's reward of each class at the end.
    fn classes(&self) -> String {
        let sets: BTreeSet<&str> = (self.0.iter())
            .map(|r| r.set.as_str())
            .filter(|set| *set != MAIN && *set != FORGET)
            .collect();
        let mut lines = Vec::new();
        for method in METHODS {
            let mut line = vec![method.to_string()];
            let each = sets
                .iter()
                .map(|set| shown(self.last(method, set, |r| r.reward).values()));
            line.extend(each);
            lines.push(line);
        }
        let header: Vec<&str> = std::iter::once("").chain(sets).collect();
        markdown(&header, &lines)
    }

    fn clusters(&self) -> String {
        let line = |s: Setting| {
            let of = |set: &str, f: fn(&Row) -> f64| shown(self.end(&s, set, f).values());
            vec![
                s.clusters.to_string(),
                of(MAIN, |r| r.reward),
                of(MAIN, net),
                of(FORGET, net),
                of(MAIN, |r| r.nll),
            ]
        };
        let header = [
            "c",
            "main: reward",
            "wins less losses",
            "forget: wins less losses",
            "NLL of D_R",
        ];
        let lines: Vec<Vec<String>> = swept(self.0).into_iter().map(line).collect();
        markdown(&header, &lines)
    }

    /// By how much the reward differs over c, and over the seeds of one c.
    fn range(&self) -> String {
        let ends: Vec<Vec<f64>> = (swept(self.0).iter())
            .map(|s| self.end(s, MAIN, |r| r.reward).into_values().collect())
            .collect();
        let means: Vec<f64> = ends.iter().map(|of| mean(of)).collect();
        let within: Vec<f64> = ends.iter().map(|of| deviation(of)).collect();
        format!(
            "The standard deviation of the mean rewards over c is {}, that of the seeds of one c {}; the paper speaks of \
             0.05 over c, on another scale.\n",
            number(deviation(&means)),
            number(mean(&within)),
        )
    }

    fn claims(&self) -> Vec<Claim> {
        let last = |method: &str, set: &str, of: fn(&Row) -> f64| self.last(method, set, of);
        let nets = |ours: &str, theirs: &str, set: &str| {
            less(&last(ours, set, net), &last(theirs, set, net))
        };
        let gains = |method: &str, set: &str| last(method, set, net).into_values().collect();
        let lost = |method: &str| -> Vec<f64> {
            last(method, FORGET, net)
                .into_values()
                .map(|n| -n)
                .collect()
        };
        let offset = OFFSETS.iter().fold(0.0, |most: f64, o| most.max(o.abs()));
        let mut claims = vec![
            claim(
                format!("{RM} wins more than it loses on the main set"),
                gains(RM, MAIN),
            ),
            claim(
                format!("{AM} wins more than it loses on the main set"),
                gains(AM, MAIN),
            ),
            claim(
                format!("{AM} wins more, less what it loses, on the main set than {RM}"),
                nets(AM, RM, MAIN),
            ),
            claim(
                "… at an equal KL on the main set",
                self.at_equal_kl(AM, RM, MAIN, net),
            ),
            claim(
                format!("{RM}'s wins less losses on the main set fall in the second half"),
                (self.gain_since(RM, MAIN, 0.5, net).into_iter())
                    .map(|x| -x)
                    .collect(),
            ),
            claim(
                "… while its scores rise",
                self.gain_since(RM, MAIN, 0.5, |r| r.score.unwrap_or_default()),
            ),
            claim(
                format!("{RM} loses more than it wins on the forget set"),
                lost(RM),
            ),
            claim(format!("{RM_MA} does too"), lost(RM_MA)),
            claim(
                format!("{RM_OFFSETS} of up to ±{offset}, does too"),
                lost(RM_OFFSETS),
            ),
            claim(
                format!("{RM} loses more, less what it wins, on the forget set than {AM}"),
                nets(AM, RM, FORGET),
            ),
            claim(
                "… at an equal KL on the main set",
                self.at_equal_kl(AM, RM, FORGET, net),
            ),
            claim(
                format!("{RM_MA} loses more, less what it wins, on the forget set than {AM}"),
                nets(AM, RM_MA, FORGET),
            ),
            claim(
                "… at an equal KL on the main set",
                self.at_equal_kl(AM, RM_MA, FORGET, net),
            ),
            claim(
                format!("offsets make {RM} lose more on the forget set"),
                nets(RM, RM_OFFSETS, FORGET),
            ),
            claim("… and win less on the main set", nets(RM, RM_OFFSETS, MAIN)),
            claim(
                format!("{SR} wins more, less what it loses, on the main set than {AM}"),
                nets(SR, AM, MAIN),
            ),
            claim("… on the forget set", nets(SR, AM, FORGET)),
            claim(
                "… on the forget set at an equal KL on the main set",
                self.at_equal_kl(SR, AM, FORGET, net),
            ),
            claim(
                "… and keeps what it rehearses the more probable",
                less(&last(AM, MAIN, |r| r.nll), &last(SR, MAIN, |r| r.nll)),
            ),
            claim(
                "… no less probable than it was to the initial policy",
                (self.gain_since(SR, MAIN, 0.0, |r| r.nll).into_iter())
                    .map(|x| -x)
                    .collect(),
            ),
        ];
        let Some(own) = self.setting(SR) else {
            return claims;
        };
        let rewards = self.end(&own, MAIN, |r| r.reward);
        for setting in swept(self.0).into_iter().filter(|s| *s != own) {
            let words = format!(
                "c = {} has more reward on the main set than c = {}",
                setting.clusters, own.clusters
            );
            let theirs = self.end(&setting, MAIN, |r| r.reward);
            claims.push(claim(words, less(&theirs, &rewards)));
        }
        claims
    }
}
