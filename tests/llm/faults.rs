//! Deliberate faults of the pipeline, each caught by the fixed point that is reached instead.
//!
//! Each fault is put between the stages: into what a network is fed and gives back, or into the
//! batch. Where a pipeline would have it on both sides, the reference's numbers have it too, so
//! that log-ratios begin at zero and the first loss looks right. `distance` is the total variation
//! of the exact policy, found by the walk, from the exact fixed point.

mod batch;
mod by_hand;
mod pipeline;
mod sequences;
mod unseen;

use pistar::loss::Objective;

use pipeline::{Pipeline, Seen, seen_as};

fn caught(fault: &str, pipeline: &Pipeline) {
    let distance = pipeline.distance();
    println!("{:9} {distance:.1e}  {fault}", pipeline.objective.name());
    assert!(distance > 1e-3, "not caught: {fault}: {distance:e}");
}

fn invisible(fault: &str, pipeline: &Pipeline) {
    let distance = pipeline.distance();
    println!("{:9} {distance:.1e}  {fault}", pipeline.objective.name());
    assert!(distance < 1e-3, "visible: {fault}: {distance:e}");
}

#[test]
fn without_a_fault_it_is_reached() {
    for objective in [
        Objective::COPG,
        Objective::DPO,
        Objective::IPO,
        Objective::PG_ZERO,
    ] {
        let right = seen_as(Seen::right);
        let plain = Pipeline::of(objective).distance();
        let spelled = Pipeline {
            forward: &right,
            ..Pipeline::of(objective)
        };
        let spelled = spelled.distance();
        println!("{:9} {plain:.1e} {spelled:.1e}", objective.name());
        assert!(plain < 1e-5 && spelled < 1e-5, "{plain:e} {spelled:e}");
    }
}
