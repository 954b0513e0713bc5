//! COPR (Continual Optimal Policy Regularisation): fitting the *sampling distribution* of an
//! optimal policy over a set Y of ranked responses, and what that does to the responses off Y.
//!
//! With `P_θ = π_θ/π_θ(Y)` and `P* ∝ π_{t−1} e^{Adv/β}` on Y, the fit (eq. 7) is `KL(P_θ‖P*)`, to
//! which the paper adds the likelihood of the best response. Here π_{t−1} is the reference.

mod advantage;
mod bound;
mod exact;
mod fit;
mod limit;
mod mixture;
mod motion;
mod multiplier;
mod sampling;

pub use advantage::{linear_advantage, linear_advantages, ranking_gradient};
pub(super) use exact::EXACT;
pub use exact::Form;

pub use bound::{curve, lower_bound, slope};
pub use fit::{fixed_point, likelihood, with_likelihood};
pub use limit::{LISTS_CAP, limit};
pub use mixture::compromise;
pub use motion::{Moment, Motion, motion};
pub use multiplier::{Multipliers, blow_up_time};
pub use sampling::{Divergence, Target, restrict, sampling_distribution};
