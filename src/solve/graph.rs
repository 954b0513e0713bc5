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

/// Splits `arms` into those that beat their way to every other arm and the rest, if some arm does.
///
/// An edge a → b where a ever beats b: the first part is the strongly connected component from
/// which everything is reached. All of `arms` when the graph is strongly connected; `None` when no
/// arm reaches every other.
pub fn dominant(edges: &[Edge], arms: &[usize], total: usize) -> Option<Vec<usize>> {
    let mut beats = vec![Vec::new(); total];
    let mut beaten_by = vec![Vec::new(); total];
    for e in edges {
        let (a, b) = (e.a as usize, e.b as usize);
        for (winner, loser, mass) in [(a, b, e.wins), (b, a, e.losses)] {
            if mass > 0.0 && a != b {
                beats[winner].push(loser);
                beaten_by[loser].push(winner);
            }
        }
    }
    let reach = |next: &[Vec<usize>], from: usize, seen: &mut Vec<bool>| {
        let mut stack = vec![from];
        seen[from] = true;
        while let Some(a) = stack.pop() {
            for &b in &next[a] {
                if !seen[b] {
                    seen[b] = true;
                    stack.push(b);
                }
            }
        }
    };
    // The last start that still found something new reaches everything, if any arm does.
    let mut seen = vec![false; total];
    let mut mother = *arms.first()?;
    for &a in arms {
        if !seen[a] {
            mother = a;
            reach(&beats, a, &mut seen);
        }
    }
    let mut seen = vec![false; total];
    reach(&beats, mother, &mut seen);
    if arms.iter().any(|&a| !seen[a]) {
        return None;
    }
    let mut top = vec![false; total];
    reach(&beaten_by, mother, &mut top);
    Some(arms.iter().copied().filter(|&a| top[a]).collect())
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
    fn dominant_arms() {
        let edge = |a, b, wins, losses| Edge { a, b, wins, losses };
        // 0 and 1 beat each other and 2; 3 is elsewhere.
        let edges = [
            edge(0, 1, 1.0, 1.0),
            edge(1, 2, 2.0, 0.0),
            edge(3, 3, 1.0, 1.0),
        ];
        assert_eq!(dominant(&edges, &[0, 1, 2], 4), Some(vec![0, 1]));
        assert_eq!(dominant(&edges, &[3], 4), Some(vec![3]));
        let cycle = [
            edge(0, 1, 1.0, 0.0),
            edge(1, 2, 1.0, 0.0),
            edge(0, 2, 0.0, 1.0),
        ];
        assert_eq!(dominant(&cycle, &[0, 1, 2], 3), Some(vec![0, 1, 2]));
        // 0 and 1 both only beat 2.
        let two_tops = [edge(0, 2, 1.0, 0.0), edge(1, 2, 1.0, 0.0)];
        assert_eq!(dominant(&two_tops, &[0, 1, 2], 3), None);
        // The loser comes first.
        assert_eq!(dominant(&[edge(0, 1, 0.0, 1.0)], &[0, 1], 2), Some(vec![1]));
        // A self pair says nothing about order.
        assert_eq!(dominant(&[edge(0, 0, 1.0, 0.0)], &[0, 1], 2), None);
    }
}
