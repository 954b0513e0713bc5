//! The one list of objectives: it drives the command line, the solvers, the certificates, the
//! tests and the docs.

use std::sync::{PoisonError, RwLock};

use super::{Bound, Column, Given, Inputs, Loss, Number, Numbers, Runs, Spec};
use crate::error::{Error, Result};
use crate::text::{exact, suggestion};

/// A loss whose type and backend are erased.
pub trait Registered: Sync {
    /// Its entry.
    fn spec(&self) -> Spec;

    /// Its numbers.
    fn numbers(&self) -> &'static [Number];

    /// The loss with its numbers.
    ///
    /// # Errors
    /// A number that must be given and is not, or is out of its range.
    fn bind(&'static self, given: &Given) -> Result<Bound>;
}

impl<L: Loss> Registered for L {
    fn spec(&self) -> Spec {
        Loss::spec(self)
    }

    fn numbers(&self) -> &'static [Number] {
        L::Numbers::ALL
    }

    fn bind(&'static self, given: &Given) -> Result<Bound> {
        Ok(Bound::new(self, L::Numbers::read(given)?))
    }
}

/// An objective: a loss by its name. Two of one name are equal.
#[derive(Clone, Copy)]
pub struct Objective(&'static dyn Registered);

/// Losses of one name each, as constants of [`Objective`] and in the order of tables.
macro_rules! registry {
    ($(#[$of:meta])* $all:ident { $($(#[$doc:meta])* $constant:ident: $loss:expr,)* }) => {
        impl Objective {
            $($(#[$doc])* pub const $constant: Self = Self(&$loss);)*

            $(#[$of])*
            pub const $all: [Self; [$(stringify!($constant)),*].len()] = [$(Self::$constant),*];
        }
    };
}

registry! { /** Every objective of this library that has a form on bandits, in the order of tables. */ ALL {
    /// [`copg::Copg`](super::copg::Copg)
    COPG: super::copg::Copg,
    /// [`copg::Completed`](super::copg::Completed)
    COPG_COMPLETED: super::copg::Completed,
    /// [`copg::Squared`](super::copg::Squared)
    COPG_SQUARED: super::copg::Squared,
    /// [`rloo::Rloo`](super::rloo::Rloo)
    RLOO: super::rloo::Rloo,
    /// [`dpo::Dpo`](super::dpo::Dpo)
    DPO: super::dpo::Dpo,
    /// [`reward_model::RewardModel`](super::reward_model::RewardModel)
    REWARD_MODEL: super::reward_model::RewardModel,
    /// [`ipo::Ipo`](super::ipo::Ipo)
    IPO: super::ipo::Ipo,
    /// [`ipo::IpoCopg`](super::ipo::IpoCopg)
    IPO_COPG: super::ipo::IpoCopg,
    /// [`ipo::IpoGpo`](super::ipo::IpoGpo)
    IPO_GPO: super::ipo::IpoGpo,
    /// [`slic::Slic`](super::slic::Slic)
    SLIC: super::slic::Slic,
    /// [`squared_hinge::SquaredHinge`](super::squared_hinge::SquaredHinge)
    SQUARED_HINGE: super::squared_hinge::SquaredHinge,
    /// [`policy_gradient::PolicyGradient`](super::policy_gradient::PolicyGradient) with b = 0
    PG_ZERO: super::policy_gradient::PolicyGradient::ZERO,
    /// [`policy_gradient::PolicyGradient`](super::policy_gradient::PolicyGradient) with b = E_π\[R\]
    PG_VALUE: super::policy_gradient::PolicyGradient::VALUE,
    /// [`policy_gradient::PolicyGradient`](super::policy_gradient::PolicyGradient) with b = E_π\[R_β\]
    PG_SOFT_VALUE: super::policy_gradient::PolicyGradient::SOFT_VALUE,
    /// [`policy_gradient::GivenBaseline`](super::policy_gradient::GivenBaseline)
    PG: super::policy_gradient::GivenBaseline,
    /// [`ppo::PpoClip`](super::ppo::PpoClip)
    PPO_CLIP: super::ppo::PpoClip,
    /// [`dro::Regression`](super::dro::Regression) with V trained
    DRO_V: super::dro::Regression::TRAINED,
    /// [`dro::Eliminated`](super::dro::Eliminated)
    DRO_V_ELIMINATED: super::dro::Eliminated,
    /// [`dro::Regression`](super::dro::Regression) with V given and detached
    DRO_FIXED: super::dro::Regression::FIXED,
    /// [`dro::Regression`](super::dro::Regression) with one V for all prompts
    DRO_CONSTANT: super::dro::Regression::CONSTANT,
    /// [`dro::Algorithm1`](super::dro::Algorithm1) as printed, c = 1
    DRO_ALGORITHM_1: super::dro::Algorithm1::PRINTED,
    /// [`dro::Algorithm1`](super::dro::Algorithm1) with c = β
    DRO_ALGORITHM_1_CORRECTED: super::dro::Algorithm1::CORRECTED,
    /// [`kto::Kto`](super::kto::Kto) with one threshold for all prompts
    KTO: super::kto::Kto::POOLED,
    /// [`kto::Kto`](super::kto::Kto) with a threshold per prompt
    KTO_PER_PROMPT: super::kto::Kto::PER_PROMPT,
    /// [`kto::Kto`](super::kto::Kto) with z₀ = 0
    KTO_NO_KL: super::kto::Kto::NO_KL,
    /// [`copr::Copr`](super::copr::Copr)
    COPR: super::copr::Copr,
    /// [`copr::Forward`](super::copr::Forward), summed
    COPR_FORWARD: super::copr::Forward::SUM,
    /// [`copr::Forward`](super::copr::Forward), the mean
    COPR_FORWARD_MEAN: super::copr::Forward::MEAN,
    /// [`copr::CoprSft`](super::copr::CoprSft)
    COPR_SFT: super::copr::CoprSft,
    /// [`copr::Sft`](super::copr::Sft)
    SFT: super::copr::Sft,
    /// [`rrhf::Rrhf`](super::rrhf::Rrhf)
    RRHF: super::rrhf::Rrhf,
    /// [`pro::Pro`](super::pro::Pro)
    PRO: super::pro::Pro,
    /// [`advantage::AdvantageModel`](super::advantage::AdvantageModel)
    ADVANTAGE_MODEL: super::advantage::AdvantageModel::SELF_PAIRS,
    /// [`advantage::AdvantageModel`](super::advantage::AdvantageModel) without pairs of a response with itself
    ADVANTAGE_MODEL_DISTINCT: super::advantage::AdvantageModel::DISTINCT,
    /// [`advantage::AdvantageModel`](super::advantage::AdvantageModel) of scores with mean zero under a given policy
    ADVANTAGE_MODEL_CENTRED: super::advantage::AdvantageModel::CENTRED,
} }

registry! { /** Those that have none. */ ON_TEXT {
    /// [`ppo_tokens::PpoTokens`](super::ppo_tokens::PpoTokens)
    PPO: super::ppo_tokens::PpoTokens,
    /// [`ppo_tokens::PpoPlain`](super::ppo_tokens::PpoPlain)
    GRPO: super::ppo_tokens::PpoPlain,
    /// [`advantage::Sampled`](super::advantage::Sampled)
    ADVANTAGE_MODEL_SAMPLED: super::advantage::Sampled,
} }

/// Losses that a program brought, after those of this library.
static BROUGHT: RwLock<Vec<Objective>> = RwLock::new(Vec::new());

/// Gives a loss of one's own to everything that knows objectives by name: the command line, settings, sweeps.
///
/// # Errors
/// A name that is taken, or that no file or command line could hold; a number whose range has nothing in it, or
/// not its default.
pub fn register(loss: impl Into<Objective>) -> Result<()> {
    let objective = loss.into();
    let Spec { name, aliases, .. } = objective.spec();
    let mut brought = BROUGHT.write().unwrap_or_else(PoisonError::into_inner);
    for name in std::iter::once(&name).chain(aliases) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
            let problem = "it is no name for a command line";
            let remedy = "use lower-case letters, digits and -, a letter first";
            return Err(Error::invalid(
                format!("objective `{name}`"),
                problem,
                remedy,
            ));
        }
        let others = Objective::own().chain(brought.iter().copied());
        if let Some(other) = others.clone().find(|o| o.is_called(name)) {
            return Err(Error::invalid(
                format!("objective `{name}`"),
                format!("{} has that name", other.name()),
                "give the loss another name",
            ));
        }
    }
    for number in objective.numbers() {
        let Number { default, range, .. } = number;
        let place = || format!("objective `{name}`: number `{}`", number.name);
        if range.is_empty() {
            let problem = format!("its range, {range}, has nothing in it");
            return Err(Error::invalid(place(), problem, "give it another range"));
        }
        if let Some(default) = default.filter(|&number| !range.holds(number)) {
            let problem = format!("its default is {}", exact(default));
            return Err(Error::invalid(place(), problem, format!("give {range}")));
        }
    }
    brought.push(objective);
    Ok(())
}

/// A number by its name, and all that have one of that name.
pub struct NumberOf {
    /// The number in the first of them.
    pub number: &'static Number,
    /// The objectives, in the order of tables.
    pub objectives: Vec<Objective>,
}

impl NumberOf {
    /// Every name of a number once.
    pub fn all(objectives: &[Objective]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for &objective in objectives {
            for number in objective.numbers() {
                match all.iter_mut().find(|of| of.number.name == number.name) {
                    Some(of) => of.objectives.push(objective),
                    None => all.push(Self {
                        number,
                        objectives: vec![objective],
                    }),
                }
            }
        }
        all
    }

    /// What it is, and whose where few have it.
    pub fn help(&self) -> String {
        let help = self.number.help;
        if self.objectives.len() > FEW {
            return help.into();
        }
        let names: Vec<_> = self.objectives.iter().map(|o| o.name()).collect();
        format!("{help} ({})", names.join(", "))
    }

    /// Its default in words, where all have the same one.
    pub fn default(&self) -> String {
        let name = self.number.name;
        let own = |o: &Objective| o.numbers().iter().find(|n| n.name == name)?.default;
        let mut all = self.objectives.iter().map(own);
        if all.any(|default| default != self.number.default) {
            return "its objective's".into();
        }
        match self.number.default {
            Some(default) => exact(default),
            None => "must be given".into(),
        }
    }
}

/// Most objectives that are named where a number is told.
const FEW: usize = 4;

impl Objective {
    /// The objective of a loss: a registered one, or one's own.
    pub const fn of(loss: &'static dyn Registered) -> Self {
        Self(loss)
    }

    /// Every objective that has a name: those of this library, and what a program [brought](register).
    pub fn known() -> Vec<Self> {
        let brought = BROUGHT.read().unwrap_or_else(PoisonError::into_inner);
        Self::own().chain(brought.iter().copied()).collect()
    }

    /// Those of this library.
    pub(crate) fn own() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().chain(Self::ON_TEXT)
    }

    /// Those that have a form on bandits.
    pub fn on_bandits() -> Vec<Self> {
        let mut all = Self::known();
        all.retain(|objective| objective.spec().text_only.is_none());
        all
    }

    /// Its entry.
    pub fn spec(self) -> Spec {
        self.0.spec()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Its numbers.
    pub fn numbers(self) -> &'static [Number] {
        self.0.numbers()
    }

    /// The objective of that name, in any case and with `_` for `-`.
    ///
    /// # Errors
    /// An unknown name: the message lists the known ones.
    pub fn from_name(name: &str) -> Result<Self> {
        let known = Self::known();
        (known.iter().copied().find(|o| o.is_called(name))).ok_or_else(|| {
            Error::invalid(
                "objective",
                format!("`{name}` is not registered"),
                suggestion(name, known.iter().map(|o| o.name())),
            )
        })
    }

    fn is_called(self, name: &str) -> bool {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let spec = self.spec();
        spec.name == name || spec.aliases.contains(&name.as_str())
    }

    /// The objective that it is on text: itself, or [`Spec::on_text`].
    #[must_use]
    pub fn on_text(self) -> Self {
        let other = self.spec().on_text.map(Self::from_name);
        other.and_then(Result::ok).unwrap_or(self)
    }

    /// True if it reads a column of its inputs.
    pub fn reads(self, column: Column) -> bool {
        let bound = self.bind(&self.with_examples(Given::new()));
        (bound.and_then(|bound| bound.columns())).is_ok_and(|columns| columns.has(column))
    }

    /// What was given, and an example of each number that must be given and is not.
    #[must_use]
    pub fn with_examples(self, given: Given) -> Given {
        let missing = |n: &&Number| n.default.is_none() && given.get(n.name).is_none();
        let missing = self.numbers().iter().filter(missing);
        let examples = missing.fold(Given::new(), |all, n| all.with(n.name, n.range.example()));
        given.over(&examples)
    }

    /// Refuses a number that the loss does not have, unless it is what it would be anyway in those that do.
    ///
    /// # Errors
    /// The number, and the objectives that have one of its name.
    pub fn refuse_others(self, given: &Given) -> Result<()> {
        for (name, value) in given.iter() {
            if self.numbers().iter().any(|n| n.name == name) {
                continue;
            }
            let all = Self::known();
            let of = all.iter().filter_map(|o| {
                let number = o.numbers().iter().find(|n| n.name == name)?;
                Some((o.name(), number))
            });
            let of: Vec<_> = of.collect();
            if of.iter().any(|(_, number)| number.default == Some(value)) {
                continue;
            }
            let remedy = if of.is_empty() {
                "leave it out: no objective has a number of that name".to_string()
            } else {
                let of: Vec<_> = of.iter().map(|(name, _)| *name).collect();
                format!("leave it out; it is for {}", of.join(", "))
            };
            let problem = format!("`{}` has no use for it", self.name());
            return Err(Error::invalid(name, problem, remedy));
        }
        Ok(())
    }

    /// The loss with its numbers.
    ///
    /// # Errors
    /// A number that must be given and is not, or is out of its range.
    pub fn bind(self, given: &Given) -> Result<Bound> {
        self.0.bind(given)
    }

    /// The per-example loss, `[B]`.
    ///
    /// # Errors
    /// As [`bind`](Self::bind) and [`Bound::loss`].
    pub fn loss<X: Runs>(self, inputs: &Inputs<X>, given: impl Into<Given>) -> Result<X> {
        self.bind(&given.into())?.loss(inputs)
    }
}

impl<L: Registered + 'static> From<&'static L> for Objective {
    fn from(loss: &'static L) -> Self {
        Self(loss)
    }
}

impl PartialEq for Objective {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Objective {}

impl std::hash::Hash for Objective {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialOrd for Objective {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Objective {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

impl std::fmt::Debug for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
