//! The run-off held against what defines it: the largest margin, the balance, the sums that are kept.

use super::super::super::graph::{components, strong_components};
use super::*;
use crate::bandit::{Beta, Comparisons, PairLaw, Problem, Simplex};
use crate::random::{Purpose, Stream};

/// `a` beats `b` with that mass.
fn beats(a: u32, b: u32, mass: f64) -> Edge {
    let (wins, losses) = if a < b { (mass, 0.0) } else { (0.0, mass) };
    let (a, b) = (a.min(b), a.max(b));
    Edge { a, b, wins, losses }
}

/// Groups and components of arms by those comparisons.
fn parts_of(edges: &[Edge], arms: usize) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    let pairs = Comparisons::Listed {
        edges: edges.to_vec(),
        bradley_terry: false,
    };
    (strong_components(edges, arms), components(&pairs, arms))
}

fn problem(arms: usize) -> Problem {
    let uniform = Simplex::uniform(arms);
    let [first, second] = [(); 2].map(|()| uniform.to_vec());
    let law = PairLaw::Product { first, second };
    let prompt = Prompt::new("x", 1.0, &vec![0.0; arms], &uniform, &law);
    Problem::new(Beta::new("beta", 1.0).unwrap(), vec![prompt.unwrap()]).unwrap()
}

/// The answer where those comparisons are all.
fn answer(edges: &[Edge], arms: usize) -> Result<Part> {
    let (groups, parts) = parts_of(edges, arms);
    limit(0, &problem(arms).prompts()[0], edges, &groups, &parts, 1.0)
}

/// Arm 0 in a group of its own, 1 and 2 in one, 3 to 5 in one: cycles.
fn sizes_1_2_3() -> Vec<Edge> {
    let pairs = [(1, 2), (2, 1), (3, 4), (4, 5), (5, 3)];
    pairs.map(|(a, b)| beats(a, b, 1.0)).to_vec()
}

/// By hand: of n₁ŵ₁² + n₂ŵ₂² + n₃ŵ₃² with margins of 1, the least is where Σ nŵ = 0.
#[test]
fn directions_have_the_largest_margin() {
    for (extra, right) in [
        (vec![(0, 1), (1, 3)], vec![4.0 / 3.0, 1.0 / 3.0, -2.0 / 3.0]),
        // A margin of 2 is wide enough already.
        (
            vec![(0, 1), (1, 3), (0, 3)],
            vec![4.0 / 3.0, 1.0 / 3.0, -2.0 / 3.0],
        ),
        // 0 and {1, 2} both beat {3, 4, 5}, not each other.
        (vec![(0, 3), (1, 3)], vec![0.5, 0.5, -0.5]),
        // {3, 4, 5} beats both.
        (vec![(3, 0), (3, 1)], vec![-0.5, -0.5, 0.5]),
        (vec![(3, 0)], vec![-0.75, 0.0, 0.25]),
    ] {
        let mut edges = sizes_1_2_3();
        edges.extend(extra.iter().map(|&(a, b)| beats(a, b, 0.5)));
        let (groups, parts) = parts_of(&edges, 6);
        let race = Race::new(6, &edges, &groups, &parts);
        for (k, group) in groups.iter().enumerate() {
            let at = race.directions()[k];
            let right = right[group.len() - 1];
            assert!(
                (at - right).abs() < 1e-10,
                "{extra:?} {group:?}: {at}, not {right}"
            );
        }
    }
}

/// On random comparisons between groups (a group of a larger number never beats one of a smaller), the
/// balance holds at every group, and the sum over every component is kept.
#[test]
fn levels_balance_the_pulls() {
    let mut solved = 0;
    for i in 0..200 {
        let mut stream = Stream::new(0, Purpose::Start, i);
        let homes = [0usize, 1, 1, 2, 2, 2, 3, 4];
        let mut edges = sizes_1_2_3();
        for a in 0..8u32 {
            for b in 0..8u32 {
                let lower = homes[a as usize] < homes[b as usize];
                if lower && stream.uniform() < 0.25 {
                    edges.push(beats(a, b, (14.0 * (stream.uniform() - 0.5)).exp()));
                }
            }
        }
        let (groups, parts) = parts_of(&edges, 8);
        let race = Race::new(8, &edges, &groups, &parts);
        let inner: Vec<f64> = (0..8).map(|_| 4.0 * stream.uniform() - 2.0).collect();
        let Some(levels) = race.levels(&edges, &inner) else {
            continue;
        };
        solved += 1;
        let directions = race.directions();
        let mut pull = vec![0.0; groups.len()];
        let mut size = vec![1e-300f64; groups.len()];
        for e in &edges {
            let (w, l, mass) = if e.wins > 0.0 {
                (e.a as usize, e.b as usize, e.wins)
            } else {
                (e.b as usize, e.a as usize, e.losses)
            };
            let (k, m) = (race.home[w], race.home[l]);
            if k != m && (directions[k] - directions[m] - 1.0).abs() < 1e-7 {
                let by = mass * (inner[l] - inner[w] + levels[m] - levels[k]).exp();
                pull[k] += by;
                pull[m] -= by;
                size[k] += by;
                size[m] += by;
            }
        }
        for (k, group) in groups.iter().enumerate() {
            let drift = group.len() as f64 * directions[k];
            assert!(
                (pull[k] - drift).abs() < 1e-7 * (size[k] + drift.abs()),
                "{i}: {group:?}: {} against {drift}",
                pull[k]
            );
        }
        for part in &parts {
            let sum: f64 = part.iter().map(|&a| levels[race.home[a]]).sum();
            assert!(sum.abs() < 1e-7, "{i}: {part:?} sums to {sum}");
        }
    }
    assert!(solved > 100, "{solved} of 200 have a balance");
}

/// Two that nobody beats and that do not meet, and one that beats all: what each is told.
#[test]
fn the_note_says_what_was_found() {
    let one = answer(&[beats(0, 1, 0.5), beats(0, 2, 0.5)], 3).unwrap();
    assert!(!one.method.contains("balance") && one.unique && one.rest == Rest::Boundary);
    assert!(!one.note.unwrap().contains("nothing compares"));
    let two = answer(&[beats(0, 2, 0.25), beats(1, 2, 0.75)], 3).unwrap();
    assert!(two.method.contains("balance") && two.unique);
    let note = two.note.unwrap();
    assert!(
        note.contains("nothing compares {0} {1}") && !note.contains("the start moves"),
        "{note}"
    );
    let odds = two.log_policy.unwrap();
    assert!((odds[1] - odds[0] - 3f64.ln()).abs() < 1e-10);
    // Two races apart: the odds between them are those of the start.
    let apart = answer(&[beats(0, 1, 0.5), beats(2, 3, 0.5)], 4).unwrap();
    assert!(!apart.unique && apart.note.unwrap().contains("the start moves"));
}

/// Arms 2 and 3 lose to 0 and 1, but how often they beat each other sets how soon they fall.
#[test]
fn losers_among_themselves_count_where_several_win() {
    let edges = [
        beats(0, 2, 0.5),
        beats(1, 3, 0.5),
        beats(2, 3, 3.0),
        beats(3, 2, 1.0),
    ];
    let odds = answer(&edges, 4).unwrap().log_policy.unwrap();
    // Arm 3 is ln 3 below 2, so 1's wins over it pull by a third of 0's over 2.
    assert!((odds[1] - odds[0] + 3f64.ln()).abs() < 1e-9, "{odds:?}");
}

/// However many groups there are, one that nobody beats ends with everything; several, of more than
/// the cap, are refused by name.
#[test]
fn many_groups_are_refused_only_where_several_win() {
    let arms = GROUPS_CAP as u32 + 2;
    let mut edges: Vec<Edge> = (2..arms).map(|a| beats(a - 1, a, 0.1)).collect();
    edges.push(beats(0, arms - 1, 0.1));
    let refused = answer(&edges, arms as usize);
    assert!(matches!(refused, Err(Error::TooLarge { arms: 302, .. })));
    edges.push(beats(0, 1, 0.1));
    let part = answer(&edges, arms as usize).unwrap();
    assert_eq!(part.log_policy.unwrap()[0], 0.0);
}

/// At the cap itself the directions are looked for.
#[test]
fn the_cap_is_within() {
    let arms = GROUPS_CAP as u32;
    let edges: Vec<Edge> = (2..arms)
        .flat_map(|a| [beats(0, a, 0.1), beats(1, a, 0.1)])
        .collect();
    let odds = answer(&edges, arms as usize).unwrap().log_policy.unwrap();
    assert!((odds[0] - 0.5f64.ln()).abs() < 1e-9 && odds[2] == f64::NEG_INFINITY);
}
