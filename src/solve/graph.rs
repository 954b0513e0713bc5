//! The comparison graph: which arms are compared with which, and who beats whom.

use crate::bandit::{Comparisons, Edge};

/// The connected components of the graph with an edge where two arms are compared, each sorted,
/// in order of their smallest arm.
pub fn components(comparisons: &Comparisons, arms: usize) -> Vec<Vec<usize>> {
    match comparisons {
        Comparisons::Listed { edges, .. } => {
            let compared = edges.iter().filter(|e| e.weight() > 0.0);
            let pairs: Vec<[u32; 2]> = compared.map(|e| [e.a, e.b]).collect();
            groups(arms, pairs.iter().map(|pair| &pair[..]))
        }
        Comparisons::Product { first, second } => {
            // A bipartite graph is as connected as two stars of it: one through some arm of each law.
            let shown = |law: &[f64]| {
                (0..arms as u32)
                    .filter(|&a| law[a as usize] > 0.0)
                    .collect()
            };
            let (first, second): (Vec<u32>, Vec<u32>) = (shown(first), shown(second));
            let star = |centre: &[u32], of: &[u32]| -> Vec<u32> {
                (centre.first().into_iter().filter(|_| !of.is_empty()))
                    .chain(of.iter().filter(|_| !centre.is_empty()))
                    .copied()
                    .collect()
            };
            let stars = [star(&first, &second), star(&second, &first)];
            groups(arms, stars.iter().map(Vec::as_slice))
        }
    }
}

/// The classes into which lists join arms: arms of one list are in one class. Each is sorted, in
/// order of their smallest arm.
pub(super) fn groups<'a>(arms: usize, lists: impl Iterator<Item = &'a [u32]>) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..arms).collect();
    fn root(parent: &mut [usize], mut a: usize) -> usize {
        while parent[a] != a {
            parent[a] = parent[parent[a]];
            a = parent[a];
        }
        a
    }
    for list in lists {
        for pair in list.windows(2) {
            let a = root(&mut parent, pair[0] as usize);
            let b = root(&mut parent, pair[1] as usize);
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut groups = vec![Vec::new(); arms];
    for a in 0..arms {
        groups[root(&mut parent, a)].push(a);
    }
    groups.retain(|g| !g.is_empty());
    groups
}

/// Groups and arms that a message names before the rest is counted.
const SHOWN: usize = 8;

/// `{0, 2, 5}`, at most [`SHOWN`] arms; `names` are the arms' indices in the file.
pub(super) fn arm_list(arms: &[usize], names: &[usize]) -> String {
    let mut shown: Vec<String> = arms
        .iter()
        .take(SHOWN)
        .map(|&a| names[a].to_string())
        .collect();
    if arms.len() > SHOWN {
        shown.push(format!("… {} arms", arms.len()));
    }
    format!("{{{}}}", shown.join(", "))
}

/// `{0, 2} {1}`, at most [`SHOWN`] components.
pub(super) fn listing(components: &[Vec<usize>], names: &[usize]) -> String {
    let mut groups: Vec<String> = components
        .iter()
        .take(SHOWN)
        .map(|g| arm_list(g, names))
        .collect();
    if components.len() > SHOWN {
        groups.push(format!("… {} components", components.len()));
    }
    groups.join(" ")
}

/// Says in words how a disconnected graph falls apart.
pub fn describe(components: &[Vec<usize>], names: &[usize]) -> String {
    format!(
        "the comparison graph is not connected: components {}; the policy within each is \
         determined, how much mass each gets is not; shown is the limit of gradient flow from the \
         reference, which conserves the sum of the logits of each",
        listing(components, names)
    )
}

/// The strongly connected components of the graph with an edge from each arm to those it ever beats:
/// arms that beat their way to each other. Each is sorted; those that are beaten come before those
/// that beat them (Tarjan).
pub fn strong_components(edges: &[Edge], arms: usize) -> Vec<Vec<usize>> {
    let mut beats = vec![Vec::new(); arms];
    for e in edges.iter().filter(|e| e.a != e.b) {
        for (winner, loser, mass) in [(e.a, e.b, e.wins), (e.b, e.a, e.losses)] {
            if mass > 0.0 {
                beats[winner as usize].push(loser as usize);
            }
        }
    }
    const NEW: usize = usize::MAX;
    let (mut number, mut low) = (vec![NEW; arms], vec![0; arms]);
    let mut open = vec![false; arms];
    let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
    for start in 0..arms {
        if number[start] != NEW {
            continue;
        }
        // Arms on the way, each with the place of the next arm to look at.
        let mut way = vec![(start, 0)];
        while let Some((a, at)) = way.last_mut() {
            let a = *a;
            if *at == 0 {
                (number[a], low[a], open[a]) = (next, next, true);
                next += 1;
                stack.push(a);
            }
            if let Some(&b) = beats[a].get(*at) {
                *at += 1;
                if number[b] == NEW {
                    way.push((b, 0));
                } else if open[b] {
                    low[a] = low[a].min(number[b]);
                }
                continue;
            }
            if low[a] == number[a] {
                let cut = stack.iter().rposition(|&b| b == a).unwrap_or(0);
                let mut group = stack.split_off(cut);
                group.iter().for_each(|&b| open[b] = false);
                group.sort_unstable();
                found.push(group);
            }
            way.pop();
            if let Some((before, _)) = way.last() {
                low[*before] = low[*before].min(low[a]);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pairs: &[(u32, u32)]) -> Comparisons {
        let edges = (pairs.iter())
            .map(|&(a, b)| Edge {
                a,
                b,
                wins: 1.0,
                losses: 0.0,
            })
            .collect();
        Comparisons::Listed {
            edges,
            bradley_terry: false,
        }
    }

    #[test]
    fn components_of_lists_and_laws() {
        let graph = listed(&[(0, 3), (1, 1), (2, 4), (3, 5)]);
        assert_eq!(components(&graph, 6), [vec![0, 3, 5], vec![1], vec![2, 4]]);
        let law = |first: &[f64], second: &[f64]| Comparisons::Product {
            first: first.to_vec(),
            second: second.to_vec(),
        };
        // A pair that is never compared joins nothing.
        let never = Comparisons::Listed {
            edges: vec![Edge {
                a: 0,
                b: 1,
                wins: 0.0,
                losses: 0.0,
            }],
            bradley_terry: false,
        };
        assert_eq!(components(&never, 2), [vec![0], vec![1]]);
        // Disjoint supports connect everything; two equal point masses connect nothing.
        let disjoint = law(&[0.5, 0.5, 0.0, 0.0], &[0.0, 0.0, 0.5, 0.5]);
        assert_eq!(components(&disjoint, 4), [vec![0, 1, 2, 3]]);
        let point = law(&[0.0, 1.0, 0.0], &[0.0, 1.0, 0.0]);
        assert_eq!(components(&point, 3), [vec![0], vec![1], vec![2]]);
        let star = law(&[0.0, 1.0, 0.0], &[0.2, 0.3, 0.5]);
        assert_eq!(components(&star, 3), [vec![0, 1, 2]]);
        let uncovered = law(&[0.5, 0.5, 0.0], &[0.5, 0.5, 0.0]);
        assert_eq!(components(&uncovered, 3), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn description_names_the_files_arms() {
        let text = describe(&[vec![0, 2], vec![1]], &[0, 3, 7]);
        assert!(text.contains("{0, 7} {3}"), "{text}");
        let many: Vec<Vec<usize>> = (0..9).map(|a| vec![a]).collect();
        assert!(describe(&many, &[0; 9]).contains("… 9 components"));
        assert!(describe(&[(0..9).collect()], &[0; 9]).contains("… 9 arms"));
        let eight: Vec<Vec<usize>> = (0..8).map(|a| vec![a]).collect();
        assert!(!describe(&eight, &[0; 8]).contains('…'));
        assert!(!describe(&[(0..8).collect()], &[0; 8]).contains('…'));
    }

    #[test]
    fn arms_that_beat_their_way_to_each_other() {
        let edge = |a, b, wins, losses| Edge { a, b, wins, losses };
        let groups = |edges: &[Edge], arms| strong_components(edges, arms);
        // 0 and 1 beat each other and 2; 3 is elsewhere, and a self pair says nothing of order.
        let edges = [
            edge(0, 1, 1.0, 1.0),
            edge(1, 2, 2.0, 0.0),
            edge(3, 3, 1.0, 1.0),
        ];
        assert_eq!(groups(&edges, 4), [vec![2], vec![0, 1], vec![3]]);
        let cycle = [
            edge(0, 1, 1.0, 0.0),
            edge(1, 2, 1.0, 0.0),
            edge(0, 2, 0.0, 1.0),
        ];
        assert_eq!(groups(&cycle, 3), [vec![0, 1, 2]]);
        // The loser comes first, whichever of an edge it is.
        assert_eq!(groups(&[edge(0, 1, 0.0, 1.0)], 2), [vec![0], vec![1]]);
        assert_eq!(groups(&[edge(0, 1, 1.0, 0.0)], 2), [vec![1], vec![0]]);
        // Two cycles, one beating the other.
        let two = [
            edge(0, 1, 1.0, 1.0),
            edge(2, 3, 1.0, 1.0),
            edge(1, 2, 0.0, 1.0),
            edge(0, 3, 0.0, 1.0),
        ];
        assert_eq!(groups(&two, 4), [vec![0, 1], vec![2, 3]]);
    }
}
