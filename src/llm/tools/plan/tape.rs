//! Operations in bytes on a tape: what one makes, what its backward keeps, and what either needs while it runs.
//! Who lets go of what and when is the tape's matter, which is the one of training.

use super::ledger::{Held, Kind, Ledger};
use crate::error::Result;
use crate::llm::tensor::ops::{How, Needs};
use crate::llm::tensor::tape::{self, Carried, Gradients};

/// A tape of bytes.
pub type Tape<'a> = tape::Tape<'a, Held>;

/// A tensor's bytes on it.
pub type Node = tape::Node<Held>;

/// Gradients accumulated for each leaf, in bytes.
pub type Leaves = tape::LeafGradients<Held>;

/// Memory that a gradient takes.
#[derive(Debug, Clone)]
pub struct Wanted {
    ledger: Ledger,
    kind: Kind,
    bytes: u64,
}

impl Wanted {
    /// That memory.
    fn fresh(&self) -> Held {
        self.ledger.take(self.kind, self.bytes)
    }
}

impl Carried for Held {
    type Form = Wanted;

    fn form(&self) -> Wanted {
        Wanted {
            ledger: self.ledger().clone(),
            kind: match self.kind() {
                Kind::Weights | Kind::Gradients => Kind::Gradients,
                Kind::ValueNetwork => Kind::ValueNetwork,
                _ => Kind::Transients,
            },
            bytes: self.bytes(),
        }
    }

    fn fits(&self, _: &Wanted) -> Result<()> {
        Ok(())
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn accumulate(&self, _: &Self) -> Result<()> {
        Ok(())
    }

    fn plus(&self, _: &Self, form: &Wanted) -> Result<Self> {
        Ok(form.fresh())
    }

    fn copied(&self) -> Result<Self> {
        Ok(self.ledger().take(self.kind(), self.bytes()))
    }
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

impl<'a> Tape<'a> {
    /// Runs an operation, which has inputs.
    pub fn run(&self, op: Op) -> Node {
        let ledger = op.inputs[0].0.value().ledger().clone();
        ledger.operation(op.name);
        ledger.transient(op.name, op.needs.forward);
        let out = ledger.take(Kind::Activations, op.out);
        let statistics = ledger.take(Kind::Activations, op.statistics);
        drop(ledger.take(Kind::Transients, op.needs.forward));
        let inputs: Vec<&Node> = op.inputs.iter().map(|(node, _)| *node).collect();
        self.record(out.clone(), &inputs, || {
            let kept: Vec<Held> = (op.keeps.iter().map(|node| node.value().clone()))
                .chain(op.keeps_output.then_some(out))
                .chain([statistics])
                .collect();
            let gradients: Vec<_> = (op.inputs.iter())
                .filter_map(|(node, how)| Some((node.target(), (*how)?)))
                .filter(|(target, _)| target.wanted())
                .collect();
            let (name, needs, together) = (op.name, op.needs, op.together);
            let block = ledger.block();
            Box::new(move |gradient: Held, sums: &mut Gradients<Held>| {
                ledger.enter_block(block);
                ledger.operation(name);
                ledger.transient(name, needs.before.max(needs.backward));
                drop(ledger.take(Kind::Transients, needs.before));
                let needed = ledger.take(Kind::Transients, needs.backward);
                let mut waiting = Vec::new();
                for (target, how) in gradients {
                    match how {
                        How::Shared => sums.add_shared(&target, &gradient)?,
                        How::Fresh if together => waiting.push((target.form().fresh(), target)),
                        How::Fresh => sums.add(&target, target.form().fresh())?,
                        How::InPlace => {
                            let so_far = sums.take(&target);
                            let sum = so_far.unwrap_or_else(|| target.form().fresh());
                            if together {
                                waiting.push((sum, target));
                            } else {
                                sums.add(&target, sum)?;
                            }
                        }
                    }
                }
                for (gradient, target) in waiting {
                    sums.add(&target, gradient)?;
                }
                drop((needed, kept));
                Ok(())
            })
        })
    }
}
