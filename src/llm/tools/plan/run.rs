//! A run in bytes: the networks, a step, the optimiser's pass, in the order of
//! [`llm::train`](crate::llm::train).

use std::collections::BTreeMap;

use super::batch::{Piece, Response};
use super::learner::Learner;
use super::ledger::{Held, Kind, Largest, Ledger, Peak, Phase};
use super::machine::Machine;
use super::network::{Forward, Network, Role};
use super::tape::Tape;
use crate::error::Result;
use crate::llm::model::config::Config;
use crate::llm::model::lora::AdapterConfig;
use crate::llm::model::network::ValueRows;
use crate::llm::sample::generate::Draw;
use crate::llm::tensor::ops::Form;
use crate::llm::train::Precision;

/// Reference model of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference {
    /// No reference.
    None,
    /// Numbers that the model as given computes before the first step.
    Numbers,
    /// Numbers that another model computes before the first step.
    NumbersOf(Box<Config>, Option<AdapterConfig>),
    /// The model as given, in memory.
    Live,
    /// The same, which computes the numbers of every phase's completions.
    OfPhases,
}

/// All that a run's memory depends on, but for its data.
#[derive(Debug, Clone)]
pub struct Run {
    /// The model.
    pub config: Config,
    /// Network that is trained.
    pub role: Role,
    /// Rows that a separate value network is read at, if one is trained too.
    pub value: Option<ValueRows>,
    /// Reference of the policy.
    pub reference: Reference,
    /// Precision of weights and activations.
    pub precision: Precision,
    /// The adapter that is trained instead of all weights.
    pub adapter: Option<AdapterConfig>,
    /// Adapters of that kind that are trained side by side.
    pub members: usize,
    /// True if the adapter is the model's own, so that its reference has a copy of it.
    pub goes_on: bool,
    /// True if blocks are run again in the backward (activation recomputation).
    pub recompute: bool,
    /// True if the optimiser uses each gradient as soon as it is final.
    pub in_backward: bool,
    /// Most tokens that are run at once.
    pub micro_batch: usize,
    /// True for a run of one step, whose moments appear at its end.
    pub one_step: bool,
    /// Completions that are written before a step, or at an evaluation.
    pub draws: Vec<Draw>,
    /// True if evaluations have a copy of the reference of their own.
    pub evaluates_kl: bool,
    /// Machine that it runs on.
    pub machine: Machine,
}

/// Memory that a run takes.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The most of each part of it.
    pub phases: BTreeMap<Phase, Peak>,
    /// The most that one operation needed while it ran.
    pub largest: Option<Largest>,
    /// Activations that the backward of a part finds.
    pub kept: u64,
    /// Those of a block.
    pub kept_per_block: u64,
    /// Numbers of all parameters of the policy.
    pub parameters: u64,
    /// Numbers of the trained parameters.
    pub trained: u64,
    /// Most tokens that were run at once, a prompt counted for each of its responses.
    pub tokens: usize,
    /// Sequences in the part with the most.
    pub sequences: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// Parts of a step; the second of several is the one that counts.
    pub several: bool,
}

impl Outcome {
    /// The most at once.
    pub fn peak(&self) -> Option<&Peak> {
        self.phases.values().max_by_key(|peak| peak.bytes)
    }

    /// The most at once in bytes.
    pub fn bytes(&self) -> u64 {
        self.peak().map_or(0, |peak| peak.bytes)
    }
}

/// A network that ran, and the nodes that cotangents are given for; none if it has to run again.
type Recorded<'n> = Option<(Tape<'n>, Forward)>;

impl Run {
    /// Memory that it takes, if a step has these parts, and `beside` of other data, which the policy's likelihood is
    /// raised of.
    ///
    /// # Errors
    /// A target of the adapter that names no linear layer.
    pub fn take(&self, parts: &[Piece], beside: &[Piece]) -> Result<Outcome> {
        let ledger = Ledger::new();
        let form = self.form();
        // candle's products on a CPU have the same buffers as our kernels'.
        let products = if self.machine.cpu {
            self.machine.threads as u64 * self.machine.second_cache
        } else {
            0
        };
        let workspaces = ledger.take(Kind::Workspaces, products);
        let policy = self.network(&ledger, Kind::Weights, self.role)?;
        let value = (self.value)
            .map(|rows| self.network(&ledger, Kind::ValueNetwork, Role::Value(rows)))
            .transpose()?;
        // A tensor as the file has it, and as it is kept.
        let largest = policy.largest() * form.size.max(4);
        if self.machine.cpu {
            drop(ledger.take(Kind::Transients, 2 * largest));
        }
        let (live, as_given) = self.reference(&ledger, &policy, parts)?;
        ledger.enter(Phase::Forward);
        // Of several members the base is there once; the policy that they make has their numbers too.
        let own = policy.count(true) * form.size;
        let copies = if self.members > 1 {
            (2 * self.members as u64 - 1) * own
        } else {
            0
        };
        let copies = ledger.take(Kind::Weights, copies);
        let member = |_| Learner::new(&ledger, self, &policy, Kind::Gradients);
        let mut of_policy: Vec<Learner> = (0..self.members).map(member).collect();
        let mut of_value =
            (value.as_ref()).map(|value| Learner::new(&ledger, self, value, Kind::ValueNetwork));
        let copied = match (self.evaluates_kl, &self.adapter) {
            (true, None) => policy.count(false) * form.size,
            (true, Some(_)) if self.goes_on => policy.count(true) * form.size,
            _ => 0,
        };
        let copied = ledger.take(Kind::Reference, copied);
        for draw in &self.draws {
            ledger.enter(Phase::Generation);
            self.draw(draw, &policy)?;
        }
        let several = parts.len() > 1 || !beside.is_empty();
        let mut kept = [0; 2];
        let most = |a: [u64; 2], b: [u64; 2]| [a[0].max(b[0]), a[1].max(b[1])];
        for part in parts {
            if let Some(network) = &live {
                ledger.enter(Phase::Reference);
                self.numbers(network, part)?;
            }
            ledger.enter(Phase::Forward);
            let mut recorded = self.record(&policy, part)?;
            let values = match &value {
                Some(value) => self.record(value, part)?,
                None => None,
            };
            if let (Some(network), Some(learner)) = (&value, &mut of_value) {
                kept = most(kept, self.push(learner, network, values, part, several)?);
            }
            for (member, learner) in of_policy.iter_mut().enumerate() {
                if member > 0 {
                    ledger.enter(Phase::Forward);
                    recorded = self.record(&policy, part)?;
                }
                let found = self.push(learner, &policy, recorded.take(), part, several)?;
                kept = most(kept, found);
            }
        }
        for part in beside {
            for learner in &mut of_policy {
                ledger.enter(Phase::Forward);
                let recorded = self.record(&policy, part)?;
                kept = most(kept, self.push(learner, &policy, recorded, part, several)?);
            }
        }
        ledger.enter(Phase::Optimiser);
        (of_policy.iter_mut()).for_each(|learner| learner.update(&ledger));
        of_value
            .iter_mut()
            .for_each(|learner| learner.update(&ledger));
        ledger.enter(Phase::Checkpoint);
        ledger.enter_block(None);
        ledger.operation("save");
        if self.machine.cpu && self.adapter.is_none() {
            drop(ledger.take(Kind::Transients, 2 * largest));
        }
        drop((live, as_given, workspaces, copies, copied));
        let tokens = |piece: &Piece| piece.cut(self.micro_batch).iter().map(Piece::tokens).max();
        let parts = || parts.iter().chain(beside);
        let responses = parts().flat_map(|part| &part.responses);
        Ok(Outcome {
            phases: ledger.peaks(),
            largest: ledger.largest(),
            kept: kept[0],
            kept_per_block: kept[1],
            parameters: policy.count(false),
            trained: policy.count(true),
            tokens: parts().filter_map(tokens).max().unwrap_or(0),
            sequences: parts().map(|p| p.responses.len()).max().unwrap_or(0),
            longest: responses.map(|r| r.tokens).max().unwrap_or(0),
            several,
        })
    }

    /// What generation holds beside the policy.
    fn draw(&self, draw: &Draw, policy: &Network) -> Result<()> {
        let ledger = policy.ledger();
        ledger.enter_block(None);
        ledger.operation("next tokens");
        let needs = draw.needs(&self.config.graph, &self.form());
        let held = [
            ledger.take(Kind::Generator, needs.weights),
            ledger.take(Kind::Cache, needs.cache),
        ];
        drop(ledger.take(Kind::Transients, needs.rows));
        // Tensors go through the network's own forward, the prompts of a chunk at once.
        if !self.form().fused {
            let prompt = Response {
                tokens: draw.prompt + 1,
                prompt: draw.prompt,
                shares: false,
            };
            let responses = vec![prompt; draw.prompts_in_a_chunk()];
            policy.forward(&Tape::idle(), &Piece { responses })?;
        }
        drop(held);
        Ok(())
    }

    /// True if a network reads prompts alone.
    pub(super) fn reads_prompts(&self) -> bool {
        self.value == Some(ValueRows::Prompt)
    }

    /// How numbers are computed.
    pub(super) fn form(&self) -> Form {
        let size = self.precision.dtype().size_in_bytes() as u64;
        Form {
            size,
            fused: self.machine.cpu && size >= 4,
            machine: self.machine,
        }
    }

    fn network(&self, ledger: &Ledger, kind: Kind, role: Role) -> Result<Network> {
        let (form, adapter) = (self.form(), self.adapter.as_ref());
        let (config, recompute) = (&self.config, self.recompute);
        Network::new(ledger, kind, form, config, role, adapter, recompute)
    }

    /// The reference's numbers before the first step; its network, if that stays, or the copy of an
    /// adapter that was given.
    fn reference(
        &self,
        ledger: &Ledger,
        policy: &Network,
        parts: &[Piece],
    ) -> Result<(Option<Network>, Option<Held>)> {
        let made = |config: &Config, adapter: Option<&AdapterConfig>| {
            let (role, kind) = (Role::Policy, Kind::Reference);
            Network::new(ledger, kind, self.form(), config, role, adapter, false)
        };
        let numbers = |network: &Network| {
            parts
                .iter()
                .try_for_each(|part| self.numbers(network, part))
        };
        ledger.enter(Phase::Reference);
        match &self.reference {
            Reference::None => {}
            Reference::Live | Reference::OfPhases if self.adapter.is_none() => {
                return Ok((Some(made(&self.config, None)?), None));
            }
            // An adapter's reference is the base that it is on, with a copy of the one that was given.
            Reference::Numbers | Reference::Live | Reference::OfPhases => {
                let moves = if self.goes_on {
                    policy.count(true) * self.form().size
                } else {
                    0
                };
                let copy = ledger.take(Kind::Reference, moves);
                numbers(policy)?;
                return Ok((None, (self.reference != Reference::Numbers).then_some(copy)));
            }
            Reference::NumbersOf(config, adapter) => numbers(&made(config, adapter.as_ref())?)?,
        }
        Ok((None, None))
    }

    /// Pushes cotangents back; says what activations a backward found, and those of a block.
    fn push<'n>(
        &self,
        learner: &mut Learner,
        network: &'n Network,
        mut recorded: Recorded<'n>,
        part: &Piece,
        several: bool,
    ) -> Result<[u64; 2]> {
        let ledger = network.ledger();
        let mut kept = [0; 2];
        for piece in part.cut(self.micro_batch) {
            ledger.enter(Phase::Forward);
            let (tape, found) = match recorded.take() {
                Some(recorded) => recorded,
                None => run(network, &piece)?,
            };
            kept[0] = kept[0].max(ledger.live(Kind::Activations));
            kept[1] = kept[1].max(found.kept_per_block);
            learner.push(ledger, tape, found.seeds, several)?;
        }
        Ok(kept)
    }

    fn numbers(&self, network: &Network, part: &Piece) -> Result<()> {
        for piece in part.cut(self.micro_batch) {
            network.forward(&Tape::idle(), &piece)?;
        }
        Ok(())
    }

    /// A network's numbers, recorded if all goes through at once.
    fn record<'n>(&self, network: &'n Network, part: &Piece) -> Result<Recorded<'n>> {
        match part.cut(self.micro_batch).as_slice() {
            [all] => Ok(Some(run(network, all)?)),
            _ => {
                self.numbers(network, part)?;
                Ok(None)
            }
        }
    }
}

fn run<'n>(network: &'n Network, piece: &Piece) -> Result<(Tape<'n>, Forward)> {
    let tape = Tape::recording(network.weights.len());
    let found = network.forward(&tape, piece)?;
    Ok((tape, found))
}
