//! Minimum cuts of dense graphs (Dinic's algorithm), for SLiC's linear program.

/// Residual capacities below this share of what an edge was made from are rounding.
const ROUNDING: f64 = 1e-14;

/// A network on `n` nodes with residual capacities in a dense table.
pub(super) struct Network {
    n: usize,
    residual: Vec<f64>,
    /// What counts as no capacity, edge by edge, so that edges of any size keep their meaning.
    floor: Vec<f64>,
}

impl Network {
    pub(super) fn new(n: usize) -> Self {
        Self {
            n,
            residual: vec![0.0; n * n],
            floor: vec![0.0; n * n],
        }
    }

    /// Adds an edge whose capacity was computed from numbers of size `scale`.
    pub(super) fn add(&mut self, from: usize, to: usize, capacity: f64, scale: f64) {
        self.residual[from * self.n + to] += capacity;
        for edge in [from * self.n + to, to * self.n + from] {
            self.floor[edge] += ROUNDING * scale;
        }
    }

    /// What can still be pushed along an edge, 0 if it is only rounding.
    pub(super) fn capacity(&self, from: usize, to: usize) -> f64 {
        let edge = from * self.n + to;
        if self.residual[edge] > self.floor[edge] {
            self.residual[edge]
        } else {
            0.0
        }
    }

    /// Pushes a maximum flow from `source` to `sink` and returns its value.
    pub(super) fn maximum_flow(&mut self, source: usize, sink: usize) -> f64 {
        let mut value = 0.0;
        loop {
            let level = self.levels(source);
            if level[sink] == usize::MAX {
                return value;
            }
            let mut next = vec![0; self.n];
            while let Some(pushed) = self.augment(source, sink, &level, &mut next) {
                value += pushed;
            }
        }
    }

    /// The nodes that can still be reached from `from`.
    pub(super) fn reachable(&self, from: usize) -> Vec<bool> {
        self.levels(from)
            .into_iter()
            .map(|l| l != usize::MAX)
            .collect()
    }

    /// Turns every edge round.
    pub(super) fn reverse(&mut self) {
        for i in 0..self.n {
            for j in 0..i {
                self.residual.swap(i * self.n + j, j * self.n + i);
            }
        }
    }

    fn levels(&self, from: usize) -> Vec<usize> {
        let mut level = vec![usize::MAX; self.n];
        level[from] = 0;
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(a) = queue.pop_front() {
            for b in 0..self.n {
                if level[b] == usize::MAX && self.capacity(a, b) > 0.0 {
                    level[b] = level[a] + 1;
                    queue.push_back(b);
                }
            }
        }
        level
    }

    /// One augmenting path in the level graph, found without recursion.
    fn augment(
        &mut self,
        source: usize,
        sink: usize,
        level: &[usize],
        next: &mut [usize],
    ) -> Option<f64> {
        let mut path = vec![source];
        while let Some(&a) = path.last() {
            if a == sink {
                let edges = || path.windows(2).map(|e| (e[0], e[1]));
                let pushed = edges()
                    .map(|(a, b)| self.residual[a * self.n + b])
                    .fold(f64::INFINITY, f64::min);
                for (a, b) in path.windows(2).map(|e| (e[0], e[1])) {
                    self.residual[a * self.n + b] -= pushed;
                    self.residual[b * self.n + a] += pushed;
                }
                return Some(pushed);
            }
            let open = (next[a]..self.n).find(|&b| {
                level[b] != usize::MAX && level[b] == level[a] + 1 && self.capacity(a, b) > 0.0
            });
            match open {
                Some(b) => {
                    next[a] = b;
                    path.push(b);
                }
                None => {
                    next[a] = self.n;
                    path.pop();
                    if let Some(&parent) = path.last() {
                        next[parent] += 1;
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn flow_equals_the_cheapest_cut_by_enumeration() {
        for seed in 0..200 {
            let mut stream = Stream::new(seed, Purpose::Problem, 9);
            let n = 6;
            let mut capacity = vec![0.0; n * n];
            let mut network = Network::new(n);
            for i in 0..n {
                for j in 0..n {
                    if i != j && stream.uniform() < 0.6 {
                        capacity[i * n + j] = stream.uniform();
                        network.add(i, j, capacity[i * n + j], 1.0);
                    }
                }
            }
            let cut = |set: usize| -> f64 {
                let inside = |i: usize| set >> i & 1 == 1;
                (0..n * n)
                    .filter(|e| inside(e / n) && !inside(e % n))
                    .map(|e| capacity[e])
                    .sum()
            };
            // Node 0 is the source, node 5 the sink.
            let best = (0..1usize << n)
                .filter(|s| s & 1 == 1 && s >> 5 & 1 == 0)
                .map(cut)
                .fold(f64::INFINITY, f64::min);
            let flow = network.maximum_flow(0, 5);
            assert!((flow - best).abs() < 1e-12, "seed {seed}: {flow} {best}");
            let set: usize = (network.reachable(0).iter().enumerate())
                .map(|(i, &r)| usize::from(r) << i)
                .sum();
            assert!(
                (cut(set) - best).abs() < 1e-12,
                "seed {seed}: the reachable set is not a minimum cut"
            );
        }
    }
}
