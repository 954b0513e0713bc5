//! A loss of your own, and everything pistar can say of it.
//!
//! ```sh
//! cargo run --release --example own_loss
//! ```

use pistar::Result;
use pistar::backend::Backend;
use pistar::loss::{InputKind, Inputs, Parameters, margin};
use pistar::verify::report::{Loss, pair, report};

/// `max(0, 1 − βd)²`: SLiC's hinge, squared, so that its minimum is a point and not a face.
struct SquaredHinge;

impl Loss for SquaredHinge {
    fn name(&self) -> &str {
        "squared-hinge"
    }

    fn inputs(&self) -> InputKind {
        InputKind::LabelledPairs
    }

    fn loss<X: Backend>(&self, inputs: &Inputs<X>, p: Parameters) -> Result<X> {
        let (preferred, rejected) = pair(inputs)?;
        let d = margin(preferred, rejected)?;
        d.affine(-p.beta, 1.0)?.relu()?.square()
    }
}

fn main() -> Result<()> {
    let report = report(&SquaredHinge)?;
    print!("{report}");
    assert_eq!(report.faults(), 0);
    Ok(())
}
