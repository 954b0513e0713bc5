//! The sizes of the benchmark.

use super::super::Finding;
use crate::error::Result;

/// Train, validation and test examples of IMDB in Table 1, and their rounding.
const TABLE_1: [f64; 3] = [24_900.0, 200.0, 1_000.0];
const ROUNDING: f64 = 50.0;

/// The same in appendix B.
const APPENDIX_B: [f64; 3] = [25_000.0, 5_000.0, 5_000.0];

/// Validation and test examples that section 4.1 draws for each task.
const DRAWN: [f64; 2] = [200.0, 1_000.0];

pub(super) fn sizes() -> Result<Finding> {
    let drawn = TABLE_1[1..] == DRAWN;
    let within = (0..3).all(|i| TABLE_1[i] - ROUNDING <= APPENDIX_B[i]);
    let same = (0..3).all(|i| (TABLE_1[i] - APPENDIX_B[i]).abs() <= ROUNDING);
    let over = TABLE_1[0] - ROUNDING + DRAWN[0] - APPENDIX_B[0];
    let evidence = format!(
        "Table 1 has {} / {} / {}, of which section 4.1 draws the last two; appendix B has {} / {} / {}. The 25,000 \
         lack {over} or more for 24.9k with 200 beside them",
        TABLE_1[0], TABLE_1[1], TABLE_1[2], APPENDIX_B[0], APPENDIX_B[1], APPENDIX_B[2]
    );
    Ok(
        Finding::holds_if(drawn && within, !same && over > 0.0, evidence)
            .against("validation examples", APPENDIX_B[1], TABLE_1[1])
            .against("test examples", APPENDIX_B[2], TABLE_1[2]),
    )
}
