//! The order of rows: every one once an epoch, the same for the same seed.

use std::collections::BTreeSet;

use pistar::llm::text::data::{Epoch, Ordering};
use proptest::prelude::*;

use crate::cases::settings;
use crate::data::says;

fn orderings() -> impl Strategy<Value = (Ordering, Vec<u32>)> {
    let lengths = prop::collection::vec(1u32..50, 1..200);
    let bucket = prop::option::of(1usize..9);
    (1usize..20, any::<u64>(), any::<bool>(), bucket, lengths).prop_map(
        |(batch, seed, drop_last, bucket, lengths)| {
            let ordering = Ordering {
                batch: batch.min(lengths.len()),
                seed,
                drop_last,
                bucket,
            };
            (ordering, lengths)
        },
    )
}

proptest! {
    #![proptest_config(settings("tests/regressions/llm_order.txt", 256))]

    #[test]
    fn an_epoch_visits_every_row_once((ordering, lengths) in orderings(), epoch in 0u64..5) {
        let n = lengths.len();
        let batches = ordering.batches(epoch, n, Some(&lengths)).unwrap();
        prop_assert_eq!(batches.len(), ordering.count(n));
        let rows: Vec<u32> = batches.iter().flatten().copied().collect();
        let distinct: BTreeSet<u32> = rows.iter().copied().collect();
        prop_assert_eq!(rows.len(), distinct.len());
        let all = if ordering.drop_last { n - n % ordering.batch } else { n };
        prop_assert_eq!(rows.len(), all);
        prop_assert!(rows.iter().all(|&r| (r as usize) < n));
        for (index, batch) in batches.iter().enumerate() {
            prop_assert_eq!(batch, batches.get(index));
            let short = index == batches.len() - 1 && n % ordering.batch > 0 && !ordering.drop_last;
            prop_assert_eq!(batch.len(), if short { n % ordering.batch } else { ordering.batch });
        }
        prop_assert!(batches.get(batches.len()).is_empty());
        let again = ordering.batches(epoch, n, Some(&lengths)).unwrap();
        prop_assert_eq!(&batches, &again);
    }

    #[test]
    fn buckets_hold_similar_lengths((ordering, lengths) in orderings()) {
        let n = lengths.len();
        let whole = n / ordering.batch;
        let window = ordering.bucket.unwrap_or(1);
        let plain = Ordering { bucket: None, ..ordering.clone() }.batches(1, n, None).unwrap();
        let bucketed = Ordering { bucket: Some(window), ..ordering }.batches(1, n, Some(&lengths)).unwrap();
        let of = |rows: &[u32]| -> Vec<u32> { rows.iter().map(|&r| lengths[r as usize]).collect() };
        let mut start = 0;
        while start < whole {
            let end = (start + window).min(whole);
            let rows = |of: &Epoch| -> BTreeSet<u32> {
                (start..end).flat_map(|i| of.get(i).to_vec()).collect()
            };
            // The rows of a window are those it has without buckets,
            prop_assert_eq!(rows(&plain), rows(&bucketed));
            // and the ranges of its batches do not overlap.
            let mut ranges: Vec<(u32, u32)> = (start..end)
                .map(|i| of(bucketed.get(i)))
                .map(|l| (*l.iter().min().unwrap(), *l.iter().max().unwrap()))
                .collect();
            ranges.sort_unstable();
            prop_assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0));
            start = end;
        }
        // What fills no batch is the same rows, last.
        prop_assert_eq!(plain.get(whole), bucketed.get(whole));
    }
}

#[test]
fn orders_depend_on_seed_and_epoch_alone() {
    let order = |seed, epoch, batch| {
        let ordering = Ordering {
            batch,
            seed,
            drop_last: false,
            bucket: None,
        };
        let batches = ordering.batches(epoch, 100, None).unwrap();
        batches.iter().flatten().copied().collect::<Vec<u32>>()
    };
    let one = order(1, 0, 10);
    assert_eq!(one, order(1, 0, 7));
    assert_ne!(one, order(1, 1, 10));
    assert_ne!(one, order(2, 0, 10));
    assert_ne!(one, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_dropped_remainder_is_another_each_epoch() {
    let ordering = Ordering {
        batch: 30,
        seed: 3,
        drop_last: true,
        bucket: Some(2),
    };
    let lengths: Vec<u32> = (0..100).collect();
    let mut dropped = BTreeSet::new();
    for epoch in 0..20 {
        let batches = ordering.batches(epoch, 100, Some(&lengths)).unwrap();
        let seen: BTreeSet<u32> = batches.iter().flatten().copied().collect();
        dropped.extend((0..100).filter(|row| !seen.contains(row)));
    }
    // 200 draws of 100 rows leave out 13 on average.
    assert!(
        dropped.len() > 70,
        "{} rows were ever dropped",
        dropped.len()
    );
}

#[test]
fn orders_that_make_no_sense() {
    let ordering = |batch, drop_last, bucket| Ordering {
        batch,
        seed: 0,
        drop_last,
        bucket,
    };
    says(
        ordering(0, false, None).check(5),
        &["batch: it is 0", "1 or more"],
    );
    says(
        ordering(6, true, None).check(5),
        &["batch: it is 6", "at most 5", "drop_last"],
    );
    says(ordering(2, false, Some(0)).check(5), &["bucket: it is 0"]);
    says(
        ordering(2, false, Some(1)).batches(0, 5, None),
        &["bucket", "lengths"],
    );
    ordering(6, false, None).check(5).unwrap();
    says(
        ordering(0, false, None).batches(0, 5, None),
        &["batch: it is 0"],
    );
}
