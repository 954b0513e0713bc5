//! A network of bytes: its graph and its heads, operation by operation, with what is alive where.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::batch::Piece;
use super::ledger::{Held, Kind, Ledger};
use super::ops;
use super::tape::{Node, Tape};
use crate::error::{Error, Result};
use crate::llm::model::config::Config;
use crate::llm::model::graph::{
    Graph, Instruction, Linear, Op, Place, Reader, Section, Weight as Index,
};
use crate::llm::model::heads::ScalarHead;
use crate::llm::model::lora::{AdapterConfig, Module, b_name};
use crate::llm::model::network::ValueRows;
use crate::llm::tensor::ops::{Form, Starts};

/// Role of a network in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Log-probabilities.
    Policy,
    /// The same, and values of a head that is read at those rows.
    PolicyWithValue(ValueRows),
    /// Rewards of sequences.
    Score,
    /// The same, and their expectations at the ends of the prompts.
    Advantage,
    /// Values of a head that is read at those rows.
    Value(ValueRows),
}

impl Role {
    fn heads(self) -> &'static [ScalarHead] {
        match self {
            Self::Policy => &[],
            Self::Score => &[ScalarHead::Reward],
            Self::Advantage => &[ScalarHead::Reward, ScalarHead::Expected],
            Self::PolicyWithValue(_) | Self::Value(_) => &[ScalarHead::Value],
        }
    }

    fn speaks(self) -> bool {
        matches!(self, Self::Policy | Self::PolicyWithValue(_))
    }
}

/// A parameter.
#[derive(Debug)]
pub struct Weight {
    held: Held,
    /// Number of its entries.
    pub count: u64,
    /// True if it is trained.
    pub trained: bool,
}

/// A network's numbers for a piece of a batch.
pub struct Forward {
    /// The nodes that cotangents are given for.
    pub seeds: Vec<Node>,
    /// Activations that a block keeps, at most.
    pub kept_per_block: u64,
}

/// A network's parameters and their layout.
pub struct Network {
    graph: Arc<Graph>,
    form: Form,
    role: Role,
    /// Weights, in the order of leaves.
    pub weights: Vec<Weight>,
    names: HashMap<String, usize>,
    /// The place in `weights` of each weight of the graph.
    places: Vec<usize>,
    /// A and B of adapted linear layers.
    adapted: HashMap<String, [usize; 2]>,
    recompute: bool,
    /// Rows of the rotary tables, once there are any.
    table: Cell<u64>,
    ledger: Ledger,
}

impl Network {
    /// A network of that role; its adapter is trained if there is one, else all of it.
    ///
    /// # Errors
    /// A target of the adapter that names no linear layer.
    pub fn new(
        ledger: &Ledger,
        kind: Kind,
        form: Form,
        config: &Config,
        role: Role,
        adapter: Option<&AdapterConfig>,
        recompute: bool,
    ) -> Result<Self> {
        let graph = config.graph.clone();
        let mut network = Self {
            graph: graph.clone(),
            form,
            role,
            weights: Vec::new(),
            names: HashMap::new(),
            places: vec![usize::MAX; graph.weights.len()],
            adapted: HashMap::new(),
            recompute,
            table: Cell::new(0),
            ledger: ledger.clone(),
        };
        let full = adapter.is_none();
        for index in graph.in_order() {
            let weight = graph.weight(index);
            if weight.place != Place::Head || role.speaks() {
                let place = network.add(kind, weight.name.clone(), &weight.shape, full);
                network.places[index.index()] = place;
            }
        }
        for name in role.heads().iter().flat_map(|head| head.names()) {
            let shape: &[usize] = if name.ends_with("bias") {
                &[1]
            } else {
                &[1, graph.sizes.width]
            };
            network.add(kind, (*name).into(), shape, true);
        }
        let Some(adapter) = adapter else {
            return Ok(network);
        };
        for module in Module::picked(config, role.speaks(), adapter, true)? {
            let (name, [input]) = module.a();
            let a = network.add(kind, name, &[adapter.rank, input], true);
            for (part, [output, _]) in module.parts {
                let b = network.add(kind, b_name(&part), &[output, adapter.rank], true);
                network.adapted.insert(part, [a, b]);
            }
        }
        Ok(network)
    }

    fn add(&mut self, kind: Kind, name: String, shape: &[usize], trained: bool) -> usize {
        let count = shape.iter().product::<usize>() as u64;
        let held = self.ledger.take(kind, count * self.form.size);
        self.names.insert(name, self.weights.len());
        self.weights.push(Weight {
            held,
            count,
            trained,
        });
        self.weights.len() - 1
    }

    /// The books that it is in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Numbers of all parameters, or of those that are trained.
    pub fn count(&self, trained: bool) -> u64 {
        let counted = self.weights.iter().filter(|w| w.trained || !trained);
        counted.map(|w| w.count).sum()
    }

    /// Numbers of the largest parameter.
    pub fn largest(&self) -> u64 {
        self.weights.iter().map(|w| w.count).max().unwrap_or(0)
    }

    /// Its numbers for a piece of a batch.
    ///
    /// # Errors
    /// Those of its operations.
    pub fn forward<'a>(&'a self, tape: &Tape<'a>, piece: &Piece) -> Result<Forward> {
        let predicted = piece.responses.iter().map(|r| r.tokens - r.prompt).sum();
        let one = piece.responses.len();
        let (seeds, kept_per_block) = match self.role {
            Role::Score | Role::Advantage | Role::Value(_) => {
                let (starts, read) = match self.role {
                    Role::Value(ValueRows::Prompt) => {
                        (Starts::of(piece.responses.iter().map(|r| r.prompt)), one)
                    }
                    Role::Value(ValueRows::Completion) => (piece.laid(|r| r.tokens - 1), predicted),
                    _ => (piece.laid(|r| r.tokens), one),
                };
                let shared = starts.branches();
                let (hidden, kept) = self.hidden(tape, starts)?;
                // Each head reads one row of a sequence.
                let read = |head: &ScalarHead| self.values(tape, *head, &hidden, read, shared);
                (self.role.heads().iter().map(read).collect(), kept)
            }
            Role::Policy | Role::PolicyWithValue(_) => {
                let starts = piece.laid(|r| r.tokens - 1);
                let shared = starts.branches();
                let (hidden, kept) = self.hidden(tape, starts)?;
                let read = match self.role {
                    Role::PolicyWithValue(ValueRows::Prompt) => Some(one),
                    Role::PolicyWithValue(ValueRows::Completion) => Some(predicted),
                    _ => None,
                };
                let values =
                    read.map(|read| self.values(tape, ScalarHead::Value, &hidden, read, shared));
                let mut seeds = vec![self.log_probs(tape, &hidden, predicted, shared)];
                seeds.extend(values);
                (seeds, kept)
            }
        };
        Ok(Forward {
            seeds,
            kept_per_block,
        })
    }

    /// Of `shared` prompts a row may be read more than once.
    fn log_probs(&self, tape: &Tape, hidden: &Node, m: usize, shared: bool) -> Node {
        let (form, sizes) = (&self.form, self.graph.sizes);
        let hidden = ops::rows(tape, form, hidden, [m, sizes.width], shared);
        let layer = self.graph.linear(self.graph.head);
        let mut head = self.weight(tape, layer.weight);
        if let Some([a, b]) = self.adapted.get(&layer.name) {
            let (a, b) = (self.node(tape, *a), self.node(tape, *b));
            let shape = [sizes.vocabulary, sizes.width];
            head = ops::adapted(tape, form, [&head, &a, &b], shape);
        }
        let bias = layer.bias.map(|bias| self.weight(tape, bias));
        ops::token_log_probs(tape, form, &hidden, &head, bias.as_ref(), m, layer.shape)
    }

    fn values(&self, tape: &Tape, head: ScalarHead, hidden: &Node, m: usize, shared: bool) -> Node {
        let nodes: Vec<Node> = (head.names().iter()).map(|n| self.named(tape, n)).collect();
        let (form, width) = (&self.form, self.graph.sizes.width);
        let hidden = ops::rows(tape, form, hidden, [m, width], shared);
        let column = ops::linear(tape, form, &hidden, &nodes[0], nodes.get(1), m, [width, 1]);
        ops::flat(tape, &column)
    }

    /// What heads read, and the activations that a block keeps: the most of all blocks.
    fn hidden<'a>(&'a self, tape: &Tape<'a>, starts: Starts) -> Result<(Node, u64)> {
        let fed = Rc::new(Fed {
            turns: self.tabulate(&starts),
            starts,
        });
        let reader = InBytes {
            tape,
            network: self,
            fed,
            marks: RefCell::default(),
        };
        let x = self.graph.body(&reader)?;
        reader.enter(None);
        let x = self.graph.tail(&reader, x)?;
        let marks = reader.marks.into_inner();
        let each = marks.windows(2).map(|w| w[1].saturating_sub(w[0]));
        Ok((x, each.max().unwrap_or(0)))
    }

    /// Cosines and sines of as many positions as are needed, or more; on a device, those of each
    /// row too.
    fn tabulate(&self, starts: &Starts) -> Vec<Option<Node>> {
        let (form, context) = (&self.form, self.graph.sizes.context);
        let height = starts.longest().next_power_of_two().min(context) as u64;
        let widths = self
            .graph
            .rotations
            .iter()
            .map(|r| 2 * r.frequencies.len() as u64);
        if height > self.table.get() {
            let each = form.wide() * widths.clone().sum::<u64>();
            let more = self
                .ledger
                .take(Kind::Workspaces, (height - self.table.get()) * each);
            // There to the end.
            std::mem::forget(more);
            self.table.set(height);
        }
        let turns = widths.map(|width| {
            let bytes = 2 * form.wide() * starts.tokens() as u64 * width;
            (!form.fused).then(|| Node::constant(self.ledger.take(Kind::Activations, bytes)))
        });
        turns.collect()
    }

    fn linear(&self, tape: &Tape, layer: Linear, x: &Node, n: usize) -> Node {
        let (form, layer) = (&self.form, self.graph.linear(layer));
        let [i, o] = layer.shape;
        let weight = self.weight(tape, layer.weight);
        let bias = layer.bias.map(|bias| self.weight(tape, bias));
        let y = ops::linear(tape, form, x, &weight, bias.as_ref(), n, [i, o]);
        let Some(&[a, b]) = self.adapted.get(&layer.name) else {
            return y;
        };
        let rank = (self.weights[b].count / o as u64) as usize;
        let inner = ops::linear(tape, form, x, &self.node(tape, a), None, n, [i, rank]);
        let outer = ops::linear(tape, form, &inner, &self.node(tape, b), None, n, [rank, o]);
        let scaled = ops::scale(tape, form, &outer, n, o);
        ops::add(tape, form, [&y, &scaled], n, o)
    }

    fn weight(&self, tape: &Tape, weight: Index) -> Node {
        self.node(tape, self.places[weight.index()])
    }

    fn named(&self, tape: &Tape, name: &str) -> Node {
        self.node(tape, self.names[name])
    }

    fn node(&self, tape: &Tape, id: usize) -> Node {
        let weight = &self.weights[id];
        if weight.trained {
            tape.leaf(id, weight.held.clone())
        } else {
            Node::constant(weight.held.clone())
        }
    }
}

/// What goes through a network, in bytes.
struct Fed {
    starts: Starts,
    /// The rotations of each row, of each of the graph's; none where kernels read the table.
    turns: Vec<Option<Node>>,
}

/// Values as nodes of bytes.
struct InBytes<'t, 'm> {
    tape: &'t Tape<'m>,
    network: &'m Network,
    fed: Rc<Fed>,
    /// Live activations at the beginning of each block.
    marks: RefCell<Vec<u64>>,
}

impl InBytes<'_, '_> {
    fn enter(&self, block: Option<usize>) {
        let ledger = self.network.ledger();
        ledger.enter_block(block);
        let live = ledger.live(Kind::Activations);
        self.marks.borrow_mut().push(live);
    }
}

impl<'m> Reader<'m> for InBytes<'_, 'm> {
    type Value = Node;

    fn apply(&self, instruction: &'m Instruction, inputs: &[&Node]) -> Result<Node> {
        let (tape, network) = (self.tape, self.network);
        let (form, starts, width) = (&network.form, &self.fed.starts, instruction.width);
        let n = starts.tokens();
        Ok(match (&instruction.op, inputs) {
            (Op::Tokens(table) | Op::Positions { table, .. }, []) => {
                let table = network.weight(tape, *table);
                ops::rows(tape, form, &table, [n, width], true)
            }
            (Op::Scale(_), [x]) => ops::scale(tape, form, x, n, width),
            (Op::Linear(layer), [x]) => network.linear(tape, *layer, x, n),
            (Op::Norm(norm), [x]) => {
                let w = network.weight(tape, norm.weight);
                // Each run of a row is a row to it.
                let n = n * (width / norm.width);
                match norm.bias {
                    None => ops::rms_norm(tape, form, x, &w, n, norm.width),
                    Some(b) => {
                        let b = network.weight(tape, b);
                        ops::layer_norm(tape, form, x, [&w, &b], n, norm.width)
                    }
                }
            }
            (Op::Rope { rotation, .. }, [x]) => {
                let turns = self.fed.turns[*rotation].as_ref();
                ops::rope(tape, form, x, turns, starts, width)
            }
            (Op::Attention { form: a, .. }, [q, k, v]) => {
                ops::attention(tape, form, [q, k, v], a, starts)
            }
            (Op::Gated(f), [gate, up]) => ops::gated(tape, form, [gate, up], *f, [n, width]),
            (Op::Activation(f), [x]) => ops::activation(tape, form, x, *f, [n, width]),
            (Op::Add, [a, b]) => ops::add(tape, form, [a, b], n, width),
            (op, inputs) => {
                return Err(Error::Backend {
                    backend: "plan",
                    message: format!("{op:?} of {} values", inputs.len()),
                });
            }
        })
    }

    fn block(&self, index: usize, block: &'m Section, x: Node) -> Result<Node> {
        self.enter(Some(index));
        if !self.network.recompute {
            return block.walk(self, Some(x));
        }
        let (network, fed) = (self.network, self.fed.clone());
        self.tape.again(&x, move |tape, x| {
            let reader = InBytes {
                tape,
                network,
                fed: fed.clone(),
                marks: RefCell::default(),
            };
            reader.enter(Some(index));
            block.walk(&reader, Some(x.clone()))
        })
    }
}
