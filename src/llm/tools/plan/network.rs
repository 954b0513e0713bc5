//! A network of bytes: the walk of [`model::decoder`](crate::llm::model::decoder) and of its heads, operation by
//! operation, with what is alive where.

use std::cell::Cell;
use std::collections::HashMap;

use super::batch::Piece;
use super::composed;
use super::ledger::{Held, Kind, Ledger};
use super::ops::{self, Form};
use super::tape::{Node, Tape};
use crate::error::Result;
use crate::llm::model::architecture::{Architecture, Norm, Positions};
use crate::llm::model::config::Config;
use crate::llm::model::heads::ScalarHead;
use crate::llm::model::lora::{AdapterConfig, Module, b_name};
use crate::llm::model::weights::layout;

/// Role of a network in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Log-probabilities.
    Policy,
    /// The same, and values of prompts.
    PolicyWithValue,
    /// Rewards of sequences.
    Score,
    /// Values of prompts.
    Value,
}

impl Role {
    fn head(self) -> Option<ScalarHead> {
        match self {
            Self::Policy => None,
            Self::Score => Some(ScalarHead::Reward),
            Self::PolicyWithValue | Self::Value => Some(ScalarHead::Value),
        }
    }

    fn speaks(self) -> bool {
        matches!(self, Self::Policy | Self::PolicyWithValue)
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

/// A network's parameters and their layout.
pub struct Network {
    a: Architecture,
    form: Form,
    role: Role,
    /// Weights, in the order of leaves.
    pub weights: Vec<Weight>,
    names: HashMap<String, usize>,
    /// A and B of adapted linear layers.
    adapted: HashMap<String, [usize; 2]>,
    recompute: bool,
    /// Rows of the rotary table, once there is one.
    table: Cell<u64>,
    ledger: Ledger,
}

/// Rows that go through a decoder at once.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Tokens.
    pub n: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// Sequences.
    pub sequences: usize,
    /// Tokens where sequences of like length are made equally long.
    pub padded: usize,
    /// Number of sequences in the group of like length whose attention takes most, and the tokens of the longest of
    /// them.
    pub alike: [usize; 2],
}

impl Rows {
    /// Of sequences of those lengths.
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
        let mut groups: Vec<[usize; 2]> = Vec::new();
        for &length in &lengths {
            // As `ops::composed` groups them.
            match groups.last_mut() {
                Some([count, longest]) if 4 * length >= 3 * *longest || *longest <= 64 => {
                    *count += 1;
                }
                _ => groups.push([1, length]),
            }
        }
        let padded = groups.iter().map(|[count, longest]| count * longest);
        let padded = padded.sum();
        let scores = |[count, length]: [usize; 2]| count * length * composed::queries(length);
        let alike = groups.into_iter().max_by_key(|&group| scores(group));
        Self {
            n: lengths.iter().sum(),
            longest: lengths.first().copied().unwrap_or(0),
            sequences: lengths.len(),
            padded,
            alike: alike.unwrap_or_default(),
        }
    }
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
        let a = &config.architecture;
        let mut network = Self {
            a: a.clone(),
            form,
            role,
            weights: Vec::new(),
            names: HashMap::new(),
            adapted: HashMap::new(),
            recompute,
            table: Cell::new(0),
            ledger: ledger.clone(),
        };
        let full = adapter.is_none();
        for entry in layout(config.family, a, role.speaks()) {
            for (name, shape) in entry.parts {
                network.add(kind, name, &shape, full);
            }
        }
        for name in role.head().iter().flat_map(|head| head.names()) {
            let shape: &[usize] = if name.ends_with("bias") {
                &[1]
            } else {
                &[1, a.width]
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

    /// The nodes that cotangents are given for.
    pub fn forward<'a>(&'a self, tape: &Tape<'a>, piece: &Piece) -> Vec<Node> {
        let all = |fed: fn(&super::batch::Response) -> usize| {
            Rows::of(piece.responses.iter().map(fed).collect())
        };
        let sequences = piece.responses.len();
        match self.role {
            Role::Score | Role::Value => {
                let rows = match self.role {
                    Role::Score => all(|r| r.tokens),
                    _ => all(|r| r.prompt),
                };
                let hidden = self.hidden(tape, rows);
                vec![self.values(tape, &hidden, sequences)]
            }
            Role::Policy | Role::PolicyWithValue => {
                let hidden = self.hidden(tape, all(|r| r.tokens - 1));
                let predicted = piece.responses.iter().map(|r| r.tokens - r.prompt).sum();
                let values = (self.role == Role::PolicyWithValue)
                    .then(|| self.values(tape, &hidden, sequences));
                let mut seeds = vec![self.log_probs(tape, &hidden, predicted)];
                seeds.extend(values);
                seeds
            }
        }
    }

    fn log_probs(&self, tape: &Tape, hidden: &Node, m: usize) -> Node {
        let (form, width) = (&self.form, self.a.width);
        let hidden = ops::rows(tape, form, hidden, [m, width], false);
        let name = if self.a.tied {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        let mut head = self.node(tape, self.names[name]);
        let shape = [self.a.vocabulary, width];
        if let Some([a, b]) = self.adapted.get("lm_head") {
            let (a, b) = (self.node(tape, *a), self.node(tape, *b));
            head = ops::adapted(tape, form, [&head, &a, &b], shape);
        }
        ops::token_log_probs(
            tape,
            form,
            &hidden,
            &head,
            None,
            m,
            [width, self.a.vocabulary],
        )
    }

    fn values(&self, tape: &Tape, hidden: &Node, m: usize) -> Node {
        let names = self.role.head().map_or(&[][..], ScalarHead::names);
        let nodes: Vec<Node> = names.iter().map(|n| self.named(tape, n)).collect();
        let (form, width) = (&self.form, self.a.width);
        let hidden = ops::rows(tape, form, hidden, [m, width], false);
        let column = ops::linear(tape, form, &hidden, &nodes[0], nodes.get(1), m, [width, 1]);
        ops::flat(tape, &column)
    }

    fn hidden<'a>(&'a self, tape: &Tape<'a>, rows: Rows) -> Node {
        let (form, a) = (&self.form, &self.a);
        let (n, width) = (rows.n, a.width);
        let table = self.named(tape, "model.embed_tokens.weight");
        let mut x = ops::rows(tape, form, &table, [n, width], true);
        if a.embedding_scale != 1.0 {
            x = ops::scale(tape, form, &x, n, width);
        }
        if a.positions == Positions::Learned {
            let table = self.named(tape, "model.embed_positions.weight");
            let p = ops::rows(tape, form, &table, [n, width], true);
            x = ops::add(tape, form, [&x, &p], n, width);
        }
        let turns = match a.positions {
            Positions::Learned => None,
            Positions::Rotary { .. } => self.tabulate(rows),
        };
        for layer in 0..a.layers {
            tape.enter(Some(layer));
            let turns = turns.clone();
            let run =
                move |tape: &Tape<'a>, x: &Node| self.block(tape, layer, x, turns.as_ref(), rows);
            x = if self.recompute {
                tape.again(&x, run)
            } else {
                run(tape, &x)
            };
        }
        tape.enter(None);
        self.norm(tape, "model.norm", &x, n)
    }

    /// Cosines and sines of as many positions as are needed, or more; on a device, those of each
    /// row too.
    fn tabulate(&self, rows: Rows) -> Option<Node> {
        let form = &self.form;
        let height = rows.longest.next_power_of_two().min(self.a.context) as u64;
        if height > self.table.get() {
            let each = form.wide() * self.a.head_dim as u64;
            let more = self
                .ledger
                .take(Kind::Workspaces, (height - self.table.get()) * each);
            // There to the end.
            std::mem::forget(more);
            self.table.set(height);
        }
        if form.fused {
            return None;
        }
        let bytes = 2 * form.wide() * (rows.n * self.a.head_dim) as u64;
        Some(Node::constant(self.ledger.take(Kind::Activations, bytes)))
    }

    fn block(&self, tape: &Tape, layer: usize, x: &Node, turns: Option<&Node>, rows: Rows) -> Node {
        let (form, n, width) = (&self.form, rows.n, self.a.width);
        let attended = self.attend(tape, layer, x, turns, rows);
        let x = ops::add(tape, form, [x, &attended], n, width);
        let mixed = self.mix(tape, layer, &x, n);
        ops::add(tape, form, [&x, &mixed], n, width)
    }

    fn attend(
        &self,
        tape: &Tape,
        layer: usize,
        x: &Node,
        turns: Option<&Node>,
        rows: Rows,
    ) -> Node {
        let (form, a, n) = (&self.form, &self.a, rows.n);
        let (q_width, kv_width) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let at = |part: &str| format!("model.layers.{layer}.{part}");
        let x = self.norm(tape, &at("input_layernorm"), x, n);
        let mut q = self.linear(tape, &at("self_attn.q_proj"), &x, n, [a.width, q_width]);
        let mut k = self.linear(tape, &at("self_attn.k_proj"), &x, n, [a.width, kv_width]);
        let v = self.linear(tape, &at("self_attn.v_proj"), &x, n, [a.width, kv_width]);
        if a.positions != Positions::Learned {
            q = ops::rope(tape, form, &q, turns, n, q_width);
            k = ops::rope(tape, form, &k, turns, n, kv_width);
        }
        let heads = [a.heads, a.kv_heads, a.head_dim];
        let mixed = ops::attention(tape, form, [&q, &k, &v], heads, false, &rows);
        self.linear(tape, &at("self_attn.o_proj"), &mixed, n, [q_width, a.width])
    }

    fn mix(&self, tape: &Tape, layer: usize, x: &Node, n: usize) -> Node {
        let (form, a) = (&self.form, &self.a);
        let at = |part: &str| format!("model.layers.{layer}.{part}");
        let x = self.norm(tape, &at("post_attention_layernorm"), x, n);
        let shape = [a.width, a.intermediate];
        let up = self.linear(tape, &at("mlp.up_proj"), &x, n, shape);
        let inner = if a.gated {
            let gate = self.linear(tape, &at("mlp.gate_proj"), &x, n, shape);
            ops::gated(tape, form, [&gate, &up], a.activation, [n, a.intermediate])
        } else {
            ops::activation(tape, form, &up, a.activation, [n, a.intermediate])
        };
        self.linear(
            tape,
            &at("mlp.down_proj"),
            &inner,
            n,
            [a.intermediate, a.width],
        )
    }

    fn linear(&self, tape: &Tape, name: &str, x: &Node, n: usize, [i, o]: [usize; 2]) -> Node {
        let form = &self.form;
        let weight = self.named(tape, &format!("{name}.weight"));
        let bias = (self.names.get(&format!("{name}.bias"))).map(|&id| self.node(tape, id));
        let y = ops::linear(tape, form, x, &weight, bias.as_ref(), n, [i, o]);
        let Some(&[a, b]) = self.adapted.get(name) else {
            return y;
        };
        let rank = (self.weights[b].count / o as u64) as usize;
        let inner = ops::linear(tape, form, x, &self.node(tape, a), None, n, [i, rank]);
        let outer = ops::linear(tape, form, &inner, &self.node(tape, b), None, n, [rank, o]);
        let scaled = ops::scale(tape, form, &outer, n, o);
        ops::add(tape, form, [&y, &scaled], n, o)
    }

    fn norm(&self, tape: &Tape, name: &str, x: &Node, n: usize) -> Node {
        let (form, width) = (&self.form, self.a.width);
        let w = self.named(tape, &format!("{name}.weight"));
        match self.a.norm {
            Norm::Rms { .. } => ops::rms_norm(tape, form, x, &w, n, width),
            Norm::Layer => {
                let b = self.named(tape, &format!("{name}.bias"));
                ops::layer_norm(tape, form, x, [&w, &b], n, width)
            }
        }
    }

    fn named(&self, tape: &Tape, name: &str) -> Node {
        self.node(tape, self.names[name])
    }

    fn node(&self, tape: &Tape, id: usize) -> Node {
        let weight = &self.weights[id];
        let leaf = weight.trained.then_some(id);
        tape.leaf(&weight.held, leaf, weight.held.bytes())
    }
}
