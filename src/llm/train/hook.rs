//! What changes a step's gradient by the parameters alone, such as a penalty.

use std::path::Path;

use super::learner::Learner;
use super::trainer::Stepped;
use crate::error::Result;

/// Something that changes a step's gradient by the parameters alone, and may learn from the steps.
pub trait Hook {
    /// Changes the gradient that a step is to take, and gives what it measured.
    ///
    /// # Errors
    /// A failing device.
    fn bend(&mut self, policy: &mut Learner) -> Result<Vec<(String, f64)>>;

    /// Hears of a step that was made.
    ///
    /// # Errors
    /// Those of what it does then.
    fn stepped(&mut self, _stepped: &Stepped, _policy: &Learner) -> Result<()> {
        Ok(())
    }

    /// Writes its state to the folder of a checkpoint or of the run's model, which nobody sees yet, if it has one.
    ///
    /// # Errors
    /// If it cannot be written.
    fn save(&self, _dir: &Path, _policy: &Learner) -> Result<()> {
        Ok(())
    }

    /// Takes its state up from a checkpoint.
    ///
    /// # Errors
    /// A file that is missing or broken.
    fn restore(&mut self, _dir: &Path, _policy: &Learner) -> Result<()> {
        Ok(())
    }
}
