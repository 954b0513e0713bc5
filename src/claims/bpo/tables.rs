//! The paper's tables, recomputed from their printed cells.

use super::Finding;
use crate::error::Result;

/// A method's rows: table 5's seeds and table 1's mean ± deviation on TL;DR, Helpfulness and
/// Harmfulness, and table 1's Overall.
pub(super) struct Method {
    name: &'static str,
    pub seeds: [[f64; 3]; 3],
    pub printed: [(f64, f64); 3],
    overall: (f64, f64),
}

const fn method(
    name: &'static str,
    seeds: [[f64; 3]; 3],
    printed: [(f64, f64); 3],
    overall: (f64, f64),
) -> Method {
    Method {
        name,
        seeds,
        printed,
        overall,
    }
}

/// Offline, on-policy and BPO, for each of DPO, IPO and SLiC.
pub(super) const METHODS: [Method; 9] = [
    method(
        "offline DPO",
        [[68.9, 72.3, 74.8], [84.8, 85.8, 76.0], [78.4, 76.3, 77.9]],
        [(72.0, 2.4), (82.2, 4.4), (77.5, 0.9)],
        (77.2, 2.6),
    ),
    method(
        "on-policy DPO",
        [[77.6, 77.5, 76.6], [90.8, 89.4, 91.6], [96.3, 96.8, 97.7]],
        [(77.2, 0.4), (90.6, 0.9), (96.9, 0.6)],
        (88.3, 0.6),
    ),
    method(
        "BPO (DPO)",
        [[91.5, 88.6, 88.4], [93.8, 93.0, 93.8], [96.2, 99.6, 97.2]],
        [(89.5, 1.4), (93.5, 0.4), (97.7, 1.4)],
        (93.6, 1.1),
    ),
    method(
        "offline IPO",
        [[67.3, 75.5, 62.7], [87.0, 91.0, 66.8], [93.8, 83.6, 92.8]],
        [(68.5, 5.3), (81.6, 10.6), (90.1, 4.6)],
        (80.1, 6.8),
    ),
    method(
        "on-policy IPO",
        [[83.3, 84.6, 83.2], [95.6, 95.2, 92.8], [96.8, 96.0, 90.8]],
        [(83.7, 0.6), (94.5, 1.2), (94.5, 2.7)],
        (90.9, 1.5),
    ),
    method(
        "BPO (IPO)",
        [[90.2, 86.2, 89.3], [95.6, 96.8, 96.6], [95.6, 97.4, 96.0]],
        [(88.6, 1.7), (96.3, 0.5), (96.3, 0.8)],
        (93.7, 1.0),
    ),
    method(
        "offline SLiC",
        [[74.0, 73.6, 74.4], [83.0, 85.6, 82.2], [93.8, 83.6, 92.8]],
        [(74.0, 0.3), (83.6, 1.5), (95.1, 0.9)],
        (84.2, 0.9),
    ),
    method(
        "on-policy SLiC",
        [[83.3, 81.4, 83.2], [89.4, 89.0, 92.4], [96.0, 95.0, 94.0]],
        [(82.6, 0.9), (90.3, 1.5), (91.8, 5.8)],
        (88.2, 2.7),
    ),
    method(
        "BPO (SLiC)",
        [[89.4, 88.4, 90.1], [94.2, 90.8, 92.6], [95.4, 96.8, 97.4]],
        [(89.3, 0.7), (92.5, 1.4), (94.7, 1.9)],
        (92.2, 1.3),
    ),
];

const OFFLINE_IPO: usize = 3;
const OFFLINE_SLIC: usize = 6;
const ON_POLICY_SLIC: usize = 7;
const BPO_SLIC: usize = 8;
const TLDR: usize = 0;
const HELPFULNESS: usize = 1;
const HARMFULNESS: usize = 2;

/// The supervised model's win rate on Helpfulness (table 1).
const SFT_HELPFULNESS: f64 = 66.2;

/// The golden model's win rates as appendix A.1 prints them: TL;DR, Helpfulness.
const GOLD: (f64, f64) = (91.5, 3.8);

/// One decimal is printed; a cell agrees if rounding explains the difference, up or down at a half.
fn rounds_to(value: f64, printed: f64) -> bool {
    (value - printed).abs() < 0.05 + 1e-9
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation that divides by n − `lost`.
fn deviation(values: &[f64], lost: usize) -> f64 {
    let m = mean(values);
    let squares: f64 = values.iter().map(|v| (v - m).powi(2)).sum();
    (squares / (values.len() - lost) as f64).sqrt()
}

/// (method, task) of every cell.
fn cells() -> impl Iterator<Item = (usize, usize)> {
    (0..METHODS.len()).flat_map(|m| (0..3).map(move |task| (m, task)))
}

/// Whether a cell of table 1 has table 5's mean.
pub(super) fn mean_agrees((m, task): (usize, usize)) -> bool {
    rounds_to(mean(&METHODS[m].seeds[task]), METHODS[m].printed[task].0)
}

fn deviation_agrees((m, task): (usize, usize), lost: usize) -> bool {
    rounds_to(
        deviation(&METHODS[m].seeds[task], lost),
        METHODS[m].printed[task].1,
    )
}

pub(super) fn means() -> Result<Finding> {
    let off: Vec<(usize, usize)> = cells()
        .filter(|&cell| !(mean_agrees(cell) && deviation_agrees(cell, 0)))
        .collect();
    let total = cells().count();
    let mut named: Vec<&str> = off.iter().map(|&(m, _)| METHODS[m].name).collect();
    named.dedup();
    let of = |m: usize| mean(&METHODS[m].seeds[HARMFULNESS]);
    let printed = |m: usize| METHODS[m].printed[HARMFULNESS].0;
    Ok(Finding::refuted(
        !off.is_empty(),
        format!(
            "{} of {total} cells agree to the digit printed; not those of {}",
            total - off.len(),
            named.join(", ")
        ),
    )
    .against(
        "offline SLiC, Harmfulness",
        of(OFFLINE_SLIC),
        printed(OFFLINE_SLIC),
    )
    .against(
        "on-policy SLiC, Harmfulness",
        of(ON_POLICY_SLIC),
        printed(ON_POLICY_SLIC),
    )
    .against("BPO (SLiC), Harmfulness", of(BPO_SLIC), printed(BPO_SLIC)))
}

pub(super) fn copied_row() -> Result<Finding> {
    let (ipo, slic) = (&METHODS[OFFLINE_IPO], &METHODS[OFFLINE_SLIC]);
    let same = ipo.seeds[HARMFULNESS] == slic.seeds[HARMFULNESS];
    // How many rows of one task agree with a later one in all three seeds.
    let twins = cells()
        .filter(|&(m, task)| {
            let mine = METHODS[m].seeds[task];
            METHODS[m + 1..]
                .iter()
                .any(|later| later.seeds[task] == mine)
        })
        .count();
    let value = mean(&slic.seeds[HARMFULNESS]);
    let cell = |m| (m, HARMFULNESS);
    Ok(Finding::misprint(
        same && mean_agrees(cell(OFFLINE_IPO)) && deviation_agrees(cell(OFFLINE_IPO), 0),
        !mean_agrees(cell(OFFLINE_SLIC)),
        format!(
            "{twins} pair of rows agrees in all three seeds of a task; the numbers give table 1's cell of offline IPO, {}, and not that of offline SLiC",
            ipo.printed[HARMFULNESS].0
        ),
    )
    .against("mean of the row", value, slic.printed[HARMFULNESS].0))
}

pub(super) fn deviations() -> Result<Finding> {
    // Where the means disagree the deviations cannot be compared.
    let comparable: Vec<(usize, usize)> = cells().filter(|&cell| mean_agrees(cell)).collect();
    let agree = |lost| {
        let fits = comparable.iter();
        fits.filter(|&&cell| deviation_agrees(cell, lost)).count()
    };
    let (by_n, by_less) = (agree(0), agree(1));
    Ok(Finding::holds_if(
        by_n == comparable.len(),
        by_less < comparable.len(),
        format!(
            "of {} cells whose mean agrees, dividing by n gives {by_n} deviations and dividing by n − 1 {by_less}",
            comparable.len()
        ),
    ))
}

pub(super) fn overall() -> Result<Finding> {
    let (mut means, mut averaged, mut own, mut ratios) = (0, 0, 0, Vec::new());
    for m in &METHODS {
        let tasks = m.printed.map(|(mean, _)| mean);
        // Cells are rounded already, and their mean is rounded again.
        let near = |value: f64, printed: f64| (value - printed).abs() < 0.1 - 1e-9;
        means += usize::from(near(mean(&tasks), m.overall.0));
        averaged += usize::from(near(mean(&m.printed.map(|(_, sd)| sd)), m.overall.1));
        let by_seed: Vec<f64> = (0..3).map(|s| mean(&m.seeds.map(|task| task[s]))).collect();
        own += usize::from(near(deviation(&by_seed, 0), m.overall.1));
        ratios.push(deviation(&by_seed, 0) / m.overall.1);
    }
    let n = METHODS.len();
    ratios.sort_by(f64::total_cmp);
    Ok(Finding::holds_if(
        means == n && averaged == n,
        own < n,
        format!(
            "{means} of {n} means follow from the three tasks'; ± is the mean of the tasks' deviations in {averaged}, the deviation of the overall win rate over table 5's seeds in {own}"
        ),
    )
    .measure("deviation of the overall over what is printed, median", ratios[n / 2]))
}

/// (comparisons of a BPO cell with a baseline's, those where BPO's mean is higher, those where it
/// is higher by more than both deviations together), by the given cells.
fn wins(cell: impl Fn(usize, usize) -> (f64, f64)) -> (usize, usize, usize) {
    let (mut all, mut higher, mut clear) = (0, 0, 0);
    for loss in 0..3 {
        for task in 0..3 {
            let (ours, spread) = cell(3 * loss + 2, task);
            for baseline in [3 * loss, 3 * loss + 1] {
                let (theirs, other) = cell(baseline, task);
                all += 1;
                higher += usize::from(ours > theirs);
                clear += usize::from(ours - theirs > spread + other);
            }
        }
    }
    (all, higher, clear)
}

pub(super) fn all_variants() -> Result<Finding> {
    let (all, higher, clear) = wins(|m, task| METHODS[m].printed[task]);
    let (_, by_seeds, _) = wins(|m, task| {
        let seeds = &METHODS[m].seeds[task];
        (mean(seeds), deviation(seeds, 0))
    });
    Ok(Finding::refuted(
        higher < all,
        format!(
            "table 1: BPO's mean is higher in {higher} of {all} comparisons, by more than both deviations together in {clear}; by table 5's seeds higher in {by_seeds}"
        ),
    )
    .measure("offline SLiC, Harmfulness", METHODS[OFFLINE_SLIC].printed[HARMFULNESS].0)
    .measure("BPO (SLiC), Harmfulness", METHODS[BPO_SLIC].printed[HARMFULNESS].0))
}

pub(super) fn gold_helpfulness() -> Result<Finding> {
    // The golden model is BPO (DPO) with K = 1: some seed must have both its numbers.
    let ours = &METHODS[2].seeds;
    let has =
        |helpful: f64| (0..3).any(|s| ours[TLDR][s] == GOLD.0 && ours[HELPFULNESS][s] == helpful);
    let corrected = 93.8;
    Ok(Finding::misprint(
        has(corrected),
        !has(GOLD.1) && GOLD.1 < SFT_HELPFULNESS,
        format!(
            "a seed of BPO (DPO) in table 5 has {} and {corrected}, none has {}, which is below the supervised model's {SFT_HELPFULNESS}",
            GOLD.0, GOLD.1
        ),
    )
    .against("Helpfulness", corrected, GOLD.1))
}
