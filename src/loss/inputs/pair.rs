//! Pairs of responses, with or without proposals beside them.

use super::{Column, Group, Made, Response};
use crate::backend::Backend;
use crate::error::Result;

/// Two responses to one prompt; where there are labels, `first` is the preferred one.
#[derive(Clone)]
pub struct Pair<X> {
    /// y, or the preferred response.
    pub first: Response<X>,
    /// y′, or the rejected response.
    pub second: Response<X>,
    pub(super) columns: [Made<X>; 3],
    pub(super) proposals: Made<Group<X>>,
}

impl<X> Pair<X> {
    /// A pair and nothing beside it.
    pub fn new(first: Response<X>, second: Response<X>) -> Self {
        Self {
            first,
            second,
            columns: [Column::Label, Column::Margin, Column::Expected].map(Made::none),
            proposals: Made::none(Column::Proposals),
        }
    }

    /// The same with a column. One that pairs do not have is left out.
    #[must_use]
    pub fn with(mut self, column: Column, array: X) -> Self {
        let mut array = Some(array);
        (self.columns.iter_mut()).for_each(|made| made.take(column, &mut array));
        self
    }

    /// The same with further responses to each prompt, one group a pair: of each its trained number, ln π_φ as
    /// [`Column::LogReference`] and ln π′, of the policy that wrote it, as [`Column::LogOld`].
    #[must_use]
    pub fn beside(mut self, proposals: Group<X>) -> Self {
        self.proposals.array = Some(proposals);
        self
    }
}

impl<X: Backend> Pair<X> {
    /// `d = u(first) − u(second)`, `[B]`, in nats.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn difference(&self) -> Result<X> {
        self.first.log_ratio()?.sub(&self.second.log_ratio()?)
    }

    /// Probability that the first is the better one, `[B]`: 1 but for soft labels.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn label(&self) -> Result<&X> {
        self.columns[0].get()
    }

    /// Margin that the scores of each pair are to differ by, `[B]`: 0 but where the data give one.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn margin(&self) -> Result<&X> {
        self.columns[1].get()
    }

    /// e(x), the expected score of the prompt under π_φ, `[B]`, which is trained.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn expected(&self) -> Result<&X> {
        self.columns[2].get()
    }

    /// Proposals: `[N]` further responses in B groups of one or more.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn proposals(&self) -> Result<&Group<X>> {
        self.proposals.get()
    }
}
