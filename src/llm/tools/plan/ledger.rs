//! Ledger of memory: who holds how many bytes, and the peaks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

/// Purpose of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Weights of the policy, or of the network of scores.
    Weights,
    /// Its master weights in f32, if its own are bf16.
    Masters,
    /// Its optimiser's two moments.
    Moments,
    /// Its gradients.
    Gradients,
    /// Weights of a reference model.
    Reference,
    /// Weights, masters, moments and gradients of a separate value network.
    ValueNetwork,
    /// Weights that generation lays out anew.
    Generator,
    /// Keys and values of sequences that are generated.
    Cache,
    /// Numbers that networks computed and a backward, or the next operation, needs.
    Activations,
    /// Memory that an operation needs while it runs, and gradients of activations on their way back.
    Transients,
    /// Buffers of matrix products and of random numbers, tables: there from first use to the end.
    Workspaces,
}

/// Moment of a run: phase, operation and block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Loading, generation, reference, forward, backward, optimiser step or checkpoint.
    pub phase: Phase,
    /// The operation, such as `token_log_probs`.
    pub operation: &'static str,
    /// The block that it is in, from 0.
    pub block: Option<usize>,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Weights are read.
    Loading,
    /// Completions are written.
    Generation,
    /// A reference gives its numbers.
    Reference,
    /// Networks give theirs.
    Forward,
    /// Cotangents go back.
    Backward,
    /// Weights are changed.
    Optimiser,
    /// Weights and moments are written to the disk.
    Checkpoint,
}

impl Phase {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Generation => "generation",
            Self::Reference => "reference",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Optimiser => "optimiser step",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Bytes by what they are for.
pub type Bytes = BTreeMap<Kind, u64>;

/// The most bytes at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peak {
    /// Number of bytes.
    pub bytes: u64,
    /// The bytes by purpose.
    pub of: Bytes,
    /// Moment of the peak.
    pub at: Moment,
}

/// Largest need of a single operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Largest {
    /// Number of bytes.
    pub bytes: u64,
    /// The operation.
    pub operation: &'static str,
}

/// The books: clones are the same books.
#[derive(Debug, Clone)]
pub struct Ledger(Rc<RefCell<Books>>);

#[derive(Debug)]
struct Books {
    /// Sums of u64, which a u128 holds however absurd the sizes.
    live: BTreeMap<Kind, u128>,
    now: Moment,
    /// The most so far, in each phase.
    peaks: BTreeMap<Phase, Peak>,
    largest: Option<Largest>,
}

/// Bytes that are given back when the last who holds them lets go.
#[derive(Debug, Clone)]
pub struct Held(Rc<Lease>);

#[derive(Debug)]
struct Lease {
    ledger: Ledger,
    kind: Kind,
    bytes: u64,
}

impl Held {
    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Their purpose.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The ledger that they are in.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(live) = self.ledger.0.borrow_mut().live.get_mut(&self.kind) {
            *live -= u128::from(self.bytes);
        }
    }
}

/// Bytes, or the most that can be told.
fn clamped(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

impl Ledger {
    /// A ledger in which nothing is held.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Books {
            live: BTreeMap::new(),
            now: Moment {
                phase: Phase::Loading,
                operation: "weights",
                block: None,
            },
            peaks: BTreeMap::new(),
            largest: None,
        })))
    }

    /// Takes bytes.
    pub fn take(&self, kind: Kind, bytes: u64) -> Held {
        let mut books = self.0.borrow_mut();
        *books.live.entry(kind).or_default() += u128::from(bytes);
        let total = clamped(books.live.values().sum());
        let phase = books.now.phase;
        if books
            .peaks
            .get(&phase)
            .is_none_or(|peak| total > peak.bytes)
        {
            let of = books.live.iter().map(|(kind, sum)| (*kind, clamped(*sum)));
            let (of, at) = (of.collect(), books.now.clone());
            let peak = Peak {
                bytes: total,
                of,
                at,
            };
            books.peaks.insert(phase, peak);
        }
        let ledger = self.clone();
        Held(Rc::new(Lease {
            ledger,
            kind,
            bytes,
        }))
    }

    /// Says what comes now.
    pub fn enter(&self, phase: Phase) {
        let mut books = self.0.borrow_mut();
        books.now.phase = phase;
        books.now.block = None;
    }

    /// Says which operation comes now.
    pub fn operation(&self, name: &'static str) {
        self.0.borrow_mut().now.operation = name;
    }

    /// Says which block the operations to come are in.
    pub fn enter_block(&self, block: Option<usize>) {
        self.0.borrow_mut().now.block = block;
    }

    /// The block that operations are in now.
    pub fn block(&self) -> Option<usize> {
        self.0.borrow().now.block
    }

    /// Notes what an operation needs while it runs.
    pub fn transient(&self, operation: &'static str, bytes: u64) {
        let largest = &mut self.0.borrow_mut().largest;
        if largest.is_none_or(|largest| bytes > largest.bytes) {
            *largest = Some(Largest { bytes, operation });
        }
    }

    /// Bytes of that kind now.
    pub fn live(&self, kind: Kind) -> u64 {
        self.0.borrow().live.get(&kind).copied().map_or(0, clamped)
    }

    /// The most of each phase.
    pub fn peaks(&self) -> BTreeMap<Phase, Peak> {
        self.0.borrow().peaks.clone()
    }

    /// The most that an operation needed while it ran.
    pub fn largest(&self) -> Option<Largest> {
        self.0.borrow().largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back_by_the_last_holder() {
        let ledger = Ledger::new();
        let weights = ledger.take(Kind::Weights, 10);
        ledger.enter(Phase::Forward);
        ledger.enter_block(Some(3));
        ledger.operation("linear");
        let (a, b) = (weights.clone(), ledger.take(Kind::Activations, 5));
        drop(weights);
        drop(b);
        ledger.take(Kind::Activations, 2);
        assert_eq!(ledger.live(Kind::Weights), 10);
        drop(a);
        assert_eq!(ledger.live(Kind::Weights), 0);
        let peaks = ledger.peaks();
        assert_eq!(peaks[&Phase::Loading].bytes, 10);
        let forward = &peaks[&Phase::Forward];
        assert_eq!(forward.bytes, 15);
        assert_eq!(
            forward.of,
            Bytes::from([(Kind::Weights, 10), (Kind::Activations, 5)])
        );
        assert_eq!(
            (forward.at.operation, forward.at.block),
            ("linear", Some(3))
        );
    }
}
