//! Tensors that operations on a device make of a pack's shape once and use in every layer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{DType, DeviceLocation, Result as Candle, Tensor, TensorId};

use super::attention::composed::Plan;
use super::rope::turns::Turns;
use super::{Attention, Rope, Starts};

/// What has been made so far.
#[derive(Default)]
pub(super) struct Pack {
    turns: RefCell<Vec<(TurnsKey, Rc<Turns>)>>,
    plans: RefCell<Vec<(PlanKey, Rc<Plan>)>>,
}

/// The table, whether neighbours are pairs, and the width of a head.
type TurnsKey = (TensorId, bool, usize, DType, DeviceLocation);

type PlanKey = (
    [usize; 2],
    Option<usize>,
    Option<Arc<[f64]>>,
    usize,
    DType,
    DeviceLocation,
);

impl Pack {
    /// The rotations for `x`, of heads of that width, by that table.
    pub(super) fn turns(
        &self,
        starts: &Starts,
        table: &Rope,
        head_dim: usize,
        x: &Tensor,
    ) -> Candle<Rc<Turns>> {
        let place = x.device().location();
        let key = (
            table.cos.id(),
            table.interleaved,
            head_dim,
            x.dtype(),
            place,
        );
        made(&self.turns, key, || Turns::new(starts, table, head_dim, x))
    }

    /// How that attention is done on tensors like `x`, on at most so many scores at once.
    pub(super) fn plan(
        &self,
        starts: &Starts,
        form: &Attention,
        most: usize,
        x: &Tensor,
    ) -> Candle<Rc<Plan>> {
        let heads = [form.heads, form.kv_heads];
        let (slopes, place) = (form.slopes.clone(), x.device().location());
        let key = (heads, form.window, slopes, most, x.dtype(), place);
        made(&self.plans, key, || Plan::new(starts, form, most, x))
    }
}

fn made<K: PartialEq, T>(
    list: &RefCell<Vec<(K, Rc<T>)>>,
    key: K,
    make: impl FnOnce() -> Candle<T>,
) -> Candle<Rc<T>> {
    if let Some((_, found)) = list.borrow().iter().find(|(k, _)| *k == key) {
        return Ok(found.clone());
    }
    let new = Rc::new(make()?);
    list.borrow_mut().push((key, new.clone()));
    Ok(new)
}
