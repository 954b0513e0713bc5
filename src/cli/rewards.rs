//! Flags of rewards, for the commands that take some.

use crate::Result;
use crate::llm::sample::reward::{Resources, Specification, seconds_of};

use super::compute::Compute;

/// Flags for rewards, and for the models among them.
#[derive(clap::Args)]
pub struct Flags {
    /// Reward: KIND:TEXT or FILE.toml, several are added up (see below)
    #[arg(
        long,
        value_name = "REWARD",
        required = true,
        allow_hyphen_values = true
    )]
    pub reward: Vec<String>,
    /// Seconds that a reward command may take for its first answer, and for each that follows
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub reward_timeout: f64,
    #[command(flatten)]
    pub compute: Compute,
    /// Most tokens that a model is run on at once, but for a longer row alone
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    pub batch_tokens: usize,
}

/// The kinds, for help texts.
pub const KINDS: &str = "\
Rewards: KIND:TEXT, with fields before the colon where wanted
(KIND,FIELD=VALUE:TEXT), or a TOML file:
  exact,marker=####:COLUMN    1 if what follows the last #### is the answer
                              in that column
  regex,count=true:PATTERN    matches of a regular expression (without
                              count: 1 or 0)
  length,target=50:UNIT       characters, words, or tokens (with
                              tokenizer=DIR); penalty, cap
  words,measure=share:A,B,C   words of a set: any, count, share, all
  lexicon,measure=mean:FILE   scores of words, lines word<TAB>score: sum,
                              mean, listed
  model:DIR                   a reward model of `pistar train reward-model`,
                              or the run of one
  command:LINE                any program: JSON lines in, one score a line out
Every kind has weight=NUMBER and name=TEXT too. docs/rewards.md says more.";

impl Flags {
    /// The rewards that they name, not yet loaded; none, where a command takes none.
    pub fn specification(&self) -> Result<Specification> {
        if self.reward.is_empty() {
            Ok(Specification(Vec::new()))
        } else {
            Specification::parse(&self.reward)
        }
    }

    /// Device, precision and limits of the rewards.
    pub fn resources(&self) -> Result<Resources> {
        Ok(Resources {
            device: self.compute.device()?,
            dtype: self.compute.dtype(),
            batch_tokens: self.batch_tokens,
            timeout: seconds_of(self.reward_timeout).map_err(|e| e.in_file("--reward-timeout"))?,
        })
    }
}
