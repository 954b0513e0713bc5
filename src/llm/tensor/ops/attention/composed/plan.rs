//! Plan of attention over a pack: the groups of sequences that are computed together.

use std::cell::OnceCell;

use candle_core::{DType, Device, Result as Candle, Tensor};

use super::fall::Fall;
use super::forward::joined;
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::attention::Attention;
use crate::llm::tensor::ops::attention::groups::{Whole, alike, queries};
use crate::llm::tensor::ops::composed::NONE;
use crate::llm::tensor::ops::rows::composed::Spread;

/// Masks that are kept together, in numbers; larger ones are made again each time.
const MASKS: usize = 1 << 25;

/// A pack's groups, and the way back.
pub(in crate::llm::tensor::ops) struct Plan {
    pub groups: Vec<Group>,
    /// Where each token's and key head's row is among all groups' rows.
    places: Tensor,
    /// Where sequences share a prefix, its keys are in each: all places, and the token's and key head's row of each.
    repeated: Option<[Vec<u32>; 2]>,
    sums: OnceCell<Sums>,
    window: Option<usize>,
    dtype: DType,
    device: Device,
}

/// Sums over the places of each row.
struct Sums {
    places: Tensor,
    spread: Spread,
}

/// Sequences of like length.
pub(in crate::llm::tensor::ops) struct Group {
    /// Sequences and key heads.
    pub batch: usize,
    /// Tokens of the longest.
    pub length: usize,
    /// Query heads a key head.
    pub share: usize,
    /// Entries of the batch that go through at once.
    pub slice: usize,
    pub blocks: Vec<Block>,
    /// The row of each of the batch's tokens, `[batch · length]`.
    rows: Tensor,
    /// The same of those whose queries are asked here.
    asked: Tensor,
    /// How scores fall with distance, if they do.
    pub fall: Option<Fall>,
}

/// Queries `from..to` of each sequence, which see keys `first..to`.
pub(in crate::llm::tensor::ops) struct Block {
    pub from: usize,
    pub to: usize,
    pub first: usize,
    /// What is added to scores, `[1, queries · share · keys]`: 0, or −∞ where a key is not seen.
    /// `None` if it is made each time.
    mask: Option<Tensor>,
}

impl Plan {
    pub fn new(starts: &Starts, form: &Attention, most: usize, x: &Tensor) -> Candle<Self> {
        let Attention {
            heads,
            kv_heads,
            window,
            ..
        } = *form;
        let share = heads / kv_heads;
        let (dtype, device) = (x.dtype(), x.device().clone());
        let mut places = vec![0; x.dim(0)? * kv_heads];
        let mut plan = Self {
            groups: Vec::new(),
            places: Tensor::zeros(0, DType::U32, &device)?,
            repeated: None,
            sums: OnceCell::new(),
            window,
            dtype,
            device,
        };
        let (mut before, mut masks) = (0, 0);
        // Of tokens whose queries are asked elsewhere.
        let (mut more_places, mut more_rows) = (Vec::new(), Vec::new());
        for sequences in alike(starts) {
            let length = sequences[0].span.length();
            let batch = sequences.len() * kv_heads;
            let mut rows = vec![NONE; batch * length];
            let mut asked = rows.clone();
            for (i, Whole { span, from }) in sequences.into_iter().enumerate() {
                for head in 0..kv_heads {
                    for (position, token) in span.rows().enumerate() {
                        let row = token * kv_heads + head;
                        let place = (i * kv_heads + head) * length + position;
                        rows[place] = row as u32;
                        let in_all = (before + place) as u32;
                        if position >= from {
                            asked[place] = row as u32;
                            places[row] = in_all;
                        } else {
                            more_places.push(in_all);
                            more_rows.push(row as u32);
                        }
                    }
                }
            }
            before += rows.len();
            let [rows, asked] =
                [rows, asked].map(|of| Tensor::from_vec(of, batch * length, &plan.device));
            let queries = queries(length, share, most);
            let mut group = Group {
                batch,
                length,
                share,
                slice: (most / (queries * share * length)).clamp(1, batch),
                blocks: Block::all(length, queries, window),
                rows: rows?,
                asked: asked?,
                fall: (form.slopes.as_deref())
                    .map(|slopes| Fall::new(slopes, share, length, dtype, &plan.device))
                    .transpose()?,
            };
            for block in &mut group.blocks {
                masks += block.queries() * share * block.keys();
                if masks <= MASKS {
                    block.mask = plan.make_mask(block, share)?;
                }
            }
            plan.groups.push(group);
        }
        plan.places = Tensor::from_slice(&places, places.len(), &plan.device)?;
        if !more_rows.is_empty() {
            let rows = (0..places.len() as u32).chain(more_rows).collect();
            places.extend(more_places);
            plan.repeated = Some([places, rows]);
        }
        Ok(plan)
    }

    /// `[N, width]` of all groups' rows, of queries.
    pub fn back(&self, rows: Vec<Tensor>, width: usize) -> Candle<Tensor> {
        let found = joined(rows, 0)?.index_select(&self.places, 0)?;
        found.reshape(((), width))
    }

    /// Makes what the backward needs, if it is not there yet: there it might wait for the device.
    pub fn prepare(&self) -> Candle<()> {
        let (Some([places, rows]), None) = (&self.repeated, self.sums.get()) else {
            return Ok(());
        };
        let sums = Sums {
            places: Tensor::from_slice(places, places.len(), &self.device)?,
            spread: Spread::new(rows, self.places.elem_count(), &self.device)?,
        };
        self.sums.get_or_init(|| sums);
        Ok(())
    }

    /// [`back`](Self::back) of keys, once [prepared](Self::prepare): the sum over the sequences that a row is in.
    pub fn summed(&self, rows: Vec<Tensor>, width: usize) -> Candle<Tensor> {
        match self.sums.get() {
            None => self.back(rows, width),
            Some(Sums { places, spread }) => {
                let all = joined(rows, 0)?.index_select(places, 0)?;
                spread.apply(&all)?.reshape(((), width))
            }
        }
    }

    /// Scores `[Z, queries · share, keys]` with −∞ where a key is not seen.
    pub fn masked(&self, scores: Tensor, block: &Block, share: usize) -> Candle<Tensor> {
        let mask = match &block.mask {
            Some(mask) => Some(mask.clone()),
            None => self.make_mask(block, share)?,
        };
        match mask {
            None => Ok(scores),
            // With two axes candle's broadcast has the least to divide.
            Some(mask) => {
                let shape = scores.dims3()?;
                let flat = scores.reshape((shape.0, shape.1 * shape.2))?;
                flat.broadcast_add(&mask)?.reshape(shape)
            }
        }
    }

    /// `None` if every key is seen.
    fn make_mask(&self, block: &Block, share: usize) -> Candle<Option<Tensor>> {
        let (queries, keys) = (block.queries(), block.keys());
        if queries == 1 {
            return Ok(None);
        }
        let shape = (queries, keys);
        let range = |range: std::ops::Range<usize>| {
            Tensor::arange(range.start as u32, range.end as u32, &self.device)
        };
        let query = range(block.from..block.to)?.reshape((queries, 1))?;
        let key = range(block.first..block.to)?.reshape((1, keys))?;
        let mut hidden = key.broadcast_gt(&query)?;
        if let Some(window) = self.window {
            let last = range(block.first + window..block.to + window)?.reshape((1, keys))?;
            hidden = (hidden + last.broadcast_le(&query)?)?;
        }
        let number = |x: f32| Tensor::full(x, (1, 1), &self.device)?.to_dtype(self.dtype);
        let (lowest, zero) = (number(f32::NEG_INFINITY)?, number(0.0)?);
        let mask = hidden.where_cond(&lowest.broadcast_as(shape)?, &zero.broadcast_as(shape)?)?;
        let mask = mask.unsqueeze(1)?.broadcast_as((queries, share, keys))?;
        Ok(Some(
            mask.contiguous()?.reshape((1, queries * share * keys))?,
        ))
    }
}

impl Group {
    /// Queries of the batch, `[batch, length · share, d]`, from `[N, heads · d]`; those that are asked elsewhere too.
    pub fn queries(&self, x: &Tensor, d: usize) -> Candle<Tensor> {
        self.of_queries(x, &self.rows, d)
    }

    /// The same with zeros for those that are asked elsewhere.
    pub fn asked(&self, x: &Tensor, d: usize) -> Candle<Tensor> {
        self.of_queries(x, &self.asked, d)
    }

    fn of_queries(&self, x: &Tensor, rows: &Tensor, d: usize) -> Candle<Tensor> {
        let found = x.reshape(((), self.share * d))?.index_select(rows, 0)?;
        found.reshape((self.batch, self.length * self.share, d))
    }

    /// Keys of the batch, `[batch, length, d]`, from `[N, kv_heads · d]`.
    pub fn keys(&self, x: &Tensor, d: usize) -> Candle<Tensor> {
        let found = x.reshape(((), d))?.index_select(&self.rows, 0)?;
        found.reshape((self.batch, self.length, d))
    }

    /// `[batch · length, …]`, as [`Plan::back`] takes them.
    pub fn to_rows(&self, x: &Tensor) -> Candle<Tensor> {
        x.reshape((self.batch * self.length, ()))
    }

    /// The batch in slices: where each begins, and its size.
    pub fn slices(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (batch, slice) = (self.batch, self.slice);
        (0..batch)
            .step_by(slice)
            .map(move |from| (from, slice.min(batch - from)))
    }
}

impl Block {
    fn all(length: usize, queries: usize, window: Option<usize>) -> Vec<Self> {
        (0..length)
            .step_by(queries)
            .map(|from| Self {
                from,
                to: length.min(from + queries),
                first: window.map_or(0, |window| (from + 1).saturating_sub(window)),
                mask: None,
            })
            .collect()
    }

    pub fn queries(&self) -> usize {
        self.to - self.from
    }

    pub fn keys(&self) -> usize {
        self.to - self.first
    }
}
