//! Inputs of a run besides weights: enough to tell whether it is the same run.

use std::path::PathBuf;

use super::enums::ReferenceSource;
use super::settings::Settings;
use super::sources::Sources;
use crate::error::Result;
use crate::llm::model::identity::Identity;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::sample::generate::Prompt;
use crate::llm::sample::reward::Specification;
use crate::llm::text::objective::TextObjective;
use crate::loss::Objective;
use crate::observer::Observer;

/// What is right where an input is not the one that the run began with.
const REMEDY: &str = "put the old one back, or start a new run in another --out";

/// Prompts that the policy completes, and the reward of what it writes.
pub(super) struct Prompted {
    pub prompts: Vec<Prompt>,
    pub reward: Option<Specification>,
}

/// The inputs of a run.
pub(super) struct Inputs {
    /// Folder of the model.
    pub given: ModelFolder,
    pub objective: TextObjective,
    pub sources: Sources,
    /// Prompts that the policy completes at evaluations, and what scores them.
    pub evaluation: Prompted,
    /// Those that it learns from.
    pub rollouts: Prompted,
    /// Hashes of all of them, and of the weights.
    pub identity: Identity,
    /// EOS and padding of the tokenizer.
    pub specials: [Option<u32>; 2],
    /// Identity of the reference whose numbers are used.
    pub reference: Option<String>,
}

impl Inputs {
    /// Opens data and prompts, and hashes all that is read; no weights are loaded. Tells what no hash
    /// covers.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    pub fn read(settings: &Settings, observer: &dyn Observer) -> Result<Self> {
        let objective = settings.objective()?;
        let given = ModelFolder::find(settings.model_folder()?)?;
        let tokenizer = given.tokenizer()?;
        let sizes = given.config()?.sizes();
        tokenizer.fits(sizes.vocabulary)?;
        let specials = [tokenizer.eos(), tokenizer.pad()];
        let mut identity = Identity::default();
        identity.network("model", &given)?;
        identity.texts("model", &given)?;
        let mut prompted = |[file_name, reward_name]: [&'static str; 2],
                            file: &Option<PathBuf>,
                            reward: &[String]|
         -> Result<Prompted> {
            let mut prompts = Vec::new();
            if let Some(file) = file {
                let reading = settings.reading();
                let (read, hash) =
                    Prompt::read(file, &reading, &tokenizer, sizes.context, observer)?;
                prompts = read;
                identity.hash(file_name, hash);
            }
            let reward = match reward {
                [] => None,
                flags => Some(Specification::parse(flags)?),
            };
            if let Some(reward) = &reward {
                let depends = &settings.depends;
                for uncovered in reward.identify(&mut identity, reward_name, depends)? {
                    observer.tell(&uncovered);
                }
            }
            Ok(Prompted { prompts, reward })
        };
        let evaluation = prompted(
            ["eval_prompts", "eval_reward"],
            &settings.eval_prompts,
            &settings.eval_reward,
        )?;
        let rollouts = prompted(["prompts", "reward"], &settings.prompts, &settings.reward)?;
        // A loss of one's own is known by what it does.
        if Objective::own().all(|own| own != objective.registered()) {
            let found = objective.loss().fingerprint()?;
            let found: Vec<String> = found.iter().map(|x| format!("{x:.9e}")).collect();
            identity.value("loss", &found)?;
        }
        if let Some(template) = settings.chat_template.as_deref().filter(|t| t.is_file()) {
            identity.file("chat_template", template)?;
        }
        let context = sizes.context;
        let sources = Sources::open(settings, &objective, tokenizer, context, observer)?;
        for (name, hash) in sources.hashes() {
            identity.hash(name, hash);
        }
        let reference = match &settings.reference {
            _ if !objective.reference() => None,
            ReferenceSource::Model(dir) => {
                let reference = ModelFolder::find(dir)?;
                identity.network("reference", &reference)?;
                Some(numbers(settings, &reference)?)
            }
            _ => Some(numbers(settings, &given)?),
        };
        Ok(Self {
            given,
            objective,
            sources,
            evaluation,
            rollouts,
            identity,
            specials,
            reference,
        })
    }

    /// Refuses inputs that are not those that the run began with.
    ///
    /// # Errors
    /// What differs, by name.
    pub fn same(&self, begun: &Identity) -> Result<()> {
        self.identity.same(begun, REMEDY)
    }
}

/// Names the numbers of a network: those of its files, in the run's precision.
fn numbers(settings: &Settings, model: &ModelFolder) -> Result<String> {
    let mut of = Identity::default();
    of.network("", model)?;
    of.value("dtype", &settings.dtype)?;
    Ok(of.digest())
}
