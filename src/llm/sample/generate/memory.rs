//! Memory of generation, foreseen: what it holds beside the model's own weights.

use super::cache::TILE;
use super::engine::CHUNK;
use super::tensors;
use crate::llm::model::graph::Graph;
use crate::llm::tensor::ops::Form;
use crate::llm::tensor::ops::panels::Panels;

/// Sequences that are generated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// How many there are at once.
    pub sequences: usize,
    /// How many of them continue the same prompt, one after the other.
    pub samples: usize,
    /// Tokens of the longest prompt.
    pub prompt: usize,
    /// Most tokens of a prompt and its completion.
    pub longest: usize,
}

/// Bytes that generation holds at most, if no completion ends before it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Weights that are laid out anew.
    pub weights: u64,
    /// Keys and values.
    pub cache: u64,
    /// Rows on their way through the model, and logits.
    pub rows: u64,
}

impl Draw {
    /// Prompts that are continued at once.
    pub fn prompts(&self) -> usize {
        self.sequences.div_ceil(self.samples.max(1))
    }

    /// Prompts whose tokens tensors hold at once.
    pub fn prompts_in_a_chunk(&self) -> usize {
        (tensors::CHUNK / self.prompt.max(1)).clamp(1, self.prompts().max(1))
    }

    /// What it needs of a model in that form.
    pub fn needs(&self, graph: &Graph, form: &Form) -> Needs {
        if form.fused {
            self.of_panels(graph, form)
        } else {
            self.of_tensors(graph, form)
        }
    }

    /// On the CPU: every weight as panels, keys and values in tiles, of which those of a prompt are shared.
    fn of_panels(&self, graph: &Graph, form: &Form) -> Needs {
        let sizes = graph.sizes;
        let linears = || graph.linears.iter().map(|linear| linear.shape);
        let weights: u64 = linears()
            .map(|[i, o]| form.of(i, Panels::<f32>::padded(o)))
            .sum();
        let turns = graph.rotations.iter().map(|r| 2 * r.frequencies.len());
        let turns: u64 = turns.map(|width| form.of(self.longest, width)).sum();
        let tile = form.of(2 * graph.attentions * TILE, sizes.kv_heads * sizes.head_dim);
        let prompts = self.prompts();
        let shared = if self.samples > 1 {
            self.prompt / TILE
        } else {
            0
        };
        let own = self.longest.div_ceil(TILE) - shared;
        let tiles = product([prompts, shared]).saturating_add(product([self.sequences, own]));
        // A prompt's rows go through in chunks; then there is a row a sequence.
        let rows = prompts.saturating_mul(self.prompt).min(CHUNK);
        let rows = rows.max(self.sequences);
        let body = || linears().take(graph.linears.len().saturating_sub(1));
        let inner = body().map(|[i, _]| i).max().unwrap_or(0);
        let wide = body().map(|[_, o]| o).max().unwrap_or(0);
        let gated = graph.plain.as_ref().is_some_and(|a| a.gated);
        let wide = if gated { 2 * wide } else { wide };
        let between = product([rows, 3 * sizes.width + wide + inner]);
        let logits = product([2, self.sequences + prompts, sizes.vocabulary]);
        Needs {
            weights: weights.saturating_add(turns),
            cache: tiles.saturating_mul(tile),
            rows: (form.size).saturating_mul(between.saturating_add(logits)),
        }
    }

    /// By tensors: the head in the precision of the logits, and keys and values for every place.
    fn of_tensors(&self, graph: &Graph, form: &Form) -> Needs {
        let sizes = graph.sizes;
        // A prompt whose samples wait has a place too.
        let places = self.sequences + usize::from(self.samples > 1);
        let tokens = product([places, self.longest]);
        let width = sizes.kv_heads * sizes.head_dim;
        let heads = (graph.plain.as_ref()).map_or(sizes.width / sizes.head_dim.max(1), |a| a.heads);
        let scores = tokens.saturating_mul(heads as u64);
        let keys = tokens.saturating_mul(width as u64);
        let logits = product([2, self.sequences, sizes.vocabulary]);
        // Scores, those with the mask, and weights.
        let statistics = scores.saturating_mul(3).saturating_add(logits);
        Needs {
            weights: form.widened() * (sizes.vocabulary * sizes.width) as u64,
            cache: tokens.saturating_mul(form.of(2 * graph.attentions, width)),
            rows: (form.wide().saturating_mul(statistics))
                .saturating_add(form.product([0, keys, scores])),
        }
    }
}

/// A product, or the most that can be told.
fn product<const N: usize>(factors: [usize; N]) -> u64 {
    let all = factors.into_iter().map(|factor| factor as u64);
    all.fold(1, u64::saturating_mul)
}
