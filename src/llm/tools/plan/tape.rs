//! A tape of bytes: the books of [`tensor::tape`](crate::llm::tensor::tape), with the numbers left out.
//!
//! An operation says what it makes, what its backward keeps, and what either needs while it runs
//! ([`Op`]). The rest, who lets go of what and when, is done here in the order in which the real tape
//! does it.

use std::cell::{Cell, RefCell};

use super::ledger::{Held, Kind, Ledger, Phase};
use super::ops::Needs;

/// A tensor's bytes, and where its gradient goes.
#[derive(Debug, Clone)]
pub struct Node {
    held: Held,
    slot: Option<usize>,
    /// Bytes of its gradient.
    gradient: u64,
}

impl Node {
    /// A tensor that nobody differentiates by.
    pub fn constant(held: Held) -> Self {
        let gradient = held.bytes();
        Self {
            held,
            slot: None,
            gradient,
        }
    }

    /// True if a gradient is wanted.
    pub fn wanted(&self) -> bool {
        self.slot.is_some()
    }

    fn target(&self) -> Target {
        (self.slot, self.gradient)
    }
}

/// Slot and bytes of a gradient.
type Target = (Option<usize>, u64);

/// Way in which an operation's backward gives an input its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Computed to fresh memory, then added.
    Fresh,
    /// Added to what is there, in its memory.
    InPlace,
    /// The output's gradient itself.
    Shared,
}

/// An operation, in bytes.
#[derive(Default)]
pub struct Op<'n> {
    /// Its name.
    pub name: &'static str,
    /// The output.
    pub out: u64,
    /// The inputs, and how each gets its gradient.
    pub inputs: Vec<(&'n Node, Option<How>)>,
    /// Inputs whose numbers the backward needs.
    pub keeps: Vec<&'n Node>,
    /// True if it needs the output's numbers.
    pub keeps_output: bool,
    /// Statistics made by the forward that the backward needs besides, in bytes.
    pub statistics: u64,
    /// True if the gradients of inputs are made before the first is added.
    pub together: bool,
    /// Memory that it needs while it runs.
    pub needs: Needs,
}

type Backward<'a> = Box<dyn FnOnce(Held, &mut Sums) + 'a>;

struct Step<'a> {
    slot: usize,
    name: &'static str,
    block: Option<usize>,
    backward: Backward<'a>,
    final_for: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Idle,
    Watching,
    Recording,
}

/// The operations so far.
pub struct Tape<'a> {
    ledger: Ledger,
    mode: Mode,
    leaves: usize,
    next: Cell<usize>,
    block: Cell<Option<usize>>,
    steps: RefCell<Vec<Step<'a>>>,
    used: RefCell<Vec<bool>>,
    /// Live activations at the beginning of each block.
    marks: RefCell<Vec<u64>>,
}

impl<'a> Tape<'a> {
    /// One that remembers.
    pub fn recording(ledger: &Ledger, leaves: usize) -> Self {
        Self::new(ledger, Mode::Recording, leaves)
    }

    /// One that remembers nothing.
    pub fn idle(ledger: &Ledger) -> Self {
        Self::new(ledger, Mode::Idle, 0)
    }

    fn new(ledger: &Ledger, mode: Mode, leaves: usize) -> Self {
        Self {
            ledger: ledger.clone(),
            mode,
            leaves,
            next: Cell::new(leaves),
            block: Cell::new(None),
            steps: RefCell::default(),
            used: RefCell::new(vec![false; leaves]),
            marks: RefCell::default(),
        }
    }

    /// Says which block the operations to come are in.
    pub fn enter(&self, block: Option<usize>) {
        self.block.set(block);
        let live = self.ledger.live(Kind::Activations);
        self.marks.borrow_mut().push(live);
    }

    /// Activations that the operations of a block keep: the most of those entered.
    pub fn kept_per_block(&self) -> u64 {
        let marks = self.marks.borrow();
        let each = marks.windows(2).map(|w| w[1].saturating_sub(w[0]));
        each.max().unwrap_or(0)
    }

    /// A parameter: the leaf of that index if it is trained. `gradient` is what its gradient takes.
    pub fn leaf(&self, held: &Held, leaf: Option<usize>, gradient: u64) -> Node {
        if let (Mode::Watching, Some(leaf)) = (self.mode, leaf) {
            self.used.borrow_mut()[leaf] = true;
        }
        Node {
            held: held.clone(),
            slot: leaf.filter(|_| self.mode == Mode::Recording),
            gradient,
        }
    }

    /// True if an operation on these will be recorded.
    pub fn wants(&self, inputs: &[&Node]) -> bool {
        self.mode == Mode::Recording && inputs.iter().any(|node| node.wanted())
    }

    /// Runs an operation.
    pub fn run(&self, op: Op) -> Node {
        let ledger = &self.ledger;
        ledger.operation(op.name, self.block.get());
        ledger.transient(op.name, op.needs.forward);
        let out = ledger.take(Kind::Activations, op.out);
        let statistics = ledger.take(Kind::Activations, op.statistics);
        drop(ledger.take(Kind::Transients, op.needs.forward));
        let inputs: Vec<&Node> = op.inputs.iter().map(|(node, _)| *node).collect();
        if !self.wants(&inputs) {
            return Node::constant(out);
        }
        let kept: Vec<Held> = (op.keeps.iter().map(|node| node.held.clone()))
            .chain(op.keeps_output.then(|| out.clone()))
            .chain([statistics])
            .collect();
        let gradients: Vec<(Target, How)> = (op.inputs.iter())
            .filter_map(|(node, how)| Some((node.target(), (*how)?)))
            .filter(|((slot, _), _)| slot.is_some())
            .collect();
        let leaves: Vec<usize> = (inputs.iter())
            .filter_map(|node| node.slot)
            .filter(|&slot| slot < self.leaves)
            .collect();
        let (name, needs, together) = (op.name, op.needs, op.together);
        let ledger = ledger.clone();
        let backward = Box::new(move |gradient: Held, sums: &mut Sums| {
            ledger.transient(name, needs.before.max(needs.backward));
            drop(ledger.take(Kind::Transients, needs.before));
            let needed = ledger.take(Kind::Transients, needs.backward);
            let made = |sums: &mut Sums, target: Target, how: How| match how {
                How::Shared => Sum::Shared(gradient.clone()),
                How::Fresh => Sum::Owned(sums.fresh(target)),
                How::InPlace => {
                    let so_far = target.0.and_then(|slot| sums.take_free(slot));
                    Sum::Owned(so_far.unwrap_or_else(|| sums.fresh(target)))
                }
            };
            let mut waiting = Vec::new();
            for (target, how) in gradients {
                let sum = made(sums, target, how);
                if together {
                    waiting.push((target, sum))
                } else {
                    sums.plus(target, sum)
                }
            }
            (waiting.into_iter()).for_each(|(target, sum)| sums.plus(target, sum));
            drop((needed, kept));
        });
        self.push(op.name, out, &leaves, backward)
    }

    fn push(
        &self,
        name: &'static str,
        out: Held,
        leaves: &[usize],
        backward: Backward<'a>,
    ) -> Node {
        let slot = self.next.get();
        self.next.set(slot + 1);
        let mut used = self.used.borrow_mut();
        let final_for = leaves.iter().copied().filter(|&leaf| !used[leaf]).collect();
        leaves.iter().for_each(|&leaf| used[leaf] = true);
        let block = self.block.get();
        self.steps.borrow_mut().push(Step {
            slot,
            name,
            block,
            backward,
            final_for,
        });
        let gradient = out.bytes();
        Node {
            held: out,
            slot: Some(slot),
            gradient,
        }
    }

    /// `f(x)`, of which only `x` is remembered.
    pub fn again(&self, x: &Node, f: impl Fn(&Tape<'a>, &Node) -> Node + 'a) -> Node {
        if self.mode != Mode::Recording {
            return f(self, x);
        }
        let leaves = self.leaves;
        let watching = Self::new(&self.ledger, Mode::Watching, leaves);
        watching.enter(self.block.get());
        let value = f(&watching, &Node::constant(x.held.clone())).held;
        let used = watching.used.into_inner();
        let mut inside: Vec<usize> = (0..leaves).filter(|&leaf| used[leaf]).collect();
        if inside.is_empty() && !x.wanted() {
            return Node::constant(value);
        }
        let (x, target) = (x.held.clone(), x.target());
        inside.extend(target.0.filter(|&slot| slot < leaves));
        let (ledger, block) = (self.ledger.clone(), self.block.get());
        let backward = Box::new(move |gradient: Held, sums: &mut Sums| {
            let tape = Self::recording(&ledger, leaves + 1);
            tape.enter(block);
            let x = tape.leaf(&x, target.0.map(|_| leaves), target.1);
            let y = f(&tape, &x);
            drop(x);
            let y = y.target();
            let mut inner = sums.lend(leaves, tape.next.get());
            inner.plus(y, Sum::Owned(gradient));
            tape.unwind(&mut inner, &mut None);
            if let Some(of_x) = inner.give_back(sums, leaves) {
                sums.plus(target, Sum::Shared(of_x));
            }
        });
        self.push("block again", value, &inside, backward)
    }

    /// Pushes cotangents back from these nodes, adding to the gradients of leaves.
    pub fn backward(self, seeds: &[Node], leaves: &mut Leaves) {
        let mut sums = Sums::of(&self.ledger, leaves, self.next.get());
        self.seed(seeds, &mut sums);
        self.unwind(&mut sums, &mut None);
        sums.into_leaves(leaves);
    }

    /// Pushes cotangents back from these nodes, handing out the gradient of every leaf as soon as it
    /// is final.
    pub fn consume(self, seeds: &[Node], kind: Kind, take: &mut dyn FnMut(usize, Held)) {
        let mut leaves = Leaves::new(self.leaves, kind);
        let mut sums = Sums::of(&self.ledger, &mut leaves, self.next.get());
        self.seed(seeds, &mut sums);
        self.unwind(&mut sums, &mut Some(take));
    }

    fn seed(&self, seeds: &[Node], sums: &mut Sums) {
        self.ledger.enter(Phase::Backward);
        for node in seeds {
            let cotangent = self.ledger.take(Kind::Transients, node.gradient);
            sums.plus(node.target(), Sum::Shared(cotangent));
        }
    }

    fn unwind(self, sums: &mut Sums, take: &mut Option<&mut dyn FnMut(usize, Held)>) {
        let mut steps = self.steps.into_inner();
        while let Some(step) = steps.pop() {
            self.ledger.operation(step.name, step.block);
            match sums.slots[step.slot].take() {
                Some(gradient) => (step.backward)(gradient.held(), sums),
                None => drop(step.backward),
            }
            if let Some(take) = take {
                for leaf in step.final_for {
                    if let Some(gradient) = sums.slots[leaf].take() {
                        take(leaf, gradient.held());
                    }
                }
            }
        }
    }
}

enum Sum {
    Owned(Held),
    Shared(Held),
}

impl Sum {
    fn held(self) -> Held {
        match self {
            Self::Owned(held) | Self::Shared(held) => held,
        }
    }
}

/// Gradients on their way back.
struct Sums {
    ledger: Ledger,
    slots: Vec<Option<Sum>>,
    leaves: usize,
    kind: Kind,
}

impl Sums {
    fn of(ledger: &Ledger, leaves: &mut Leaves, nodes: usize) -> Self {
        let count = leaves.held.len();
        let mut slots: Vec<_> = (leaves.held.iter_mut())
            .map(|held| held.take().map(Sum::Owned))
            .collect();
        slots.resize_with(nodes, || None);
        Self {
            ledger: ledger.clone(),
            slots,
            leaves: count,
            kind: leaves.kind,
        }
    }

    /// Memory for a gradient.
    fn fresh(&self, (slot, bytes): Target) -> Held {
        let kind = if slot.is_some_and(|slot| slot < self.leaves) {
            self.kind
        } else {
            Kind::Transients
        };
        self.ledger.take(kind, bytes)
    }

    fn take_free(&mut self, slot: usize) -> Option<Held> {
        let sum = self.slots[slot].take_if(|sum| matches!(sum, Sum::Owned(_)))?;
        Some(sum.held())
    }

    fn plus(&mut self, target: Target, other: Sum) {
        let Some(slot) = target.0 else { return };
        self.slots[slot] = Some(match (self.slots[slot].take(), other) {
            (None, other) => other,
            (Some(Sum::Owned(held)), _) | (Some(_), Sum::Owned(held)) => Sum::Owned(held),
            (Some(Sum::Shared(_a)), Sum::Shared(_b)) => Sum::Owned(self.fresh(target)),
        });
    }

    fn lend(&mut self, leaves: usize, nodes: usize) -> Self {
        let mut slots: Vec<_> = self.slots[..leaves].iter_mut().map(Option::take).collect();
        slots.resize_with(nodes, || None);
        Self {
            ledger: self.ledger.clone(),
            slots,
            leaves,
            kind: self.kind,
        }
    }

    fn give_back(mut self, home: &mut Self, leaves: usize) -> Option<Held> {
        for (to, from) in home.slots[..leaves].iter_mut().zip(&mut self.slots) {
            *to = from.take();
        }
        self.slots[leaves].take().map(Sum::held)
    }

    fn into_leaves(self, leaves: &mut Leaves) {
        for (to, from) in leaves.held.iter_mut().zip(self.slots) {
            *to = from.map(Sum::held);
        }
    }
}

/// Gradients accumulated for each leaf, in bytes.
pub struct Leaves {
    held: Vec<Option<Held>>,
    kind: Kind,
}

impl Leaves {
    /// Empty sums. Their bytes are of that kind.
    pub fn new(leaves: usize, kind: Kind) -> Self {
        let held = (0..leaves).map(|_| None).collect();
        Self { held, kind }
    }

    /// True if a gradient arrived there.
    pub fn has(&self, leaf: usize) -> bool {
        self.held[leaf].is_some()
    }

    /// Adds a gradient of that many bytes in f32, as sums over parts of a batch in bf16 are kept.
    pub fn add(&mut self, ledger: &Ledger, leaf: usize, gradient: Held, wide: u64) {
        self.held[leaf] = Some(match self.held[leaf].take() {
            None => gradient,
            Some(sum) if sum.bytes() == wide => {
                drop(ledger.take(Kind::Transients, wide.saturating_sub(gradient.bytes())));
                sum
            }
            Some(sum) => {
                let wider = ledger.take(self.kind, wide);
                drop(sum);
                drop(ledger.take(Kind::Transients, wide));
                wider
            }
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.held.iter_mut().for_each(|held| *held = None);
    }
}
