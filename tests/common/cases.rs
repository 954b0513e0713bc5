//! How many cases a property is tried on, and where failures are kept.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// `cases` cases, unless PROPTEST_CASES says otherwise; failures are kept in `regressions`, a path
/// from the root of the crate.
pub fn settings(regressions: &'static str, cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(regressions)));
    config
}
