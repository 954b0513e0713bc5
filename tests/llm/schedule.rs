//! Learning rates against transformers' own.

use pistar::llm::train::schedule::{Schedule, Shape};

/// `python tests/fixtures/schedules.py` with torch 2.15 and transformers 5.23.
const FACTORS: [(Shape, f64, [f64; 11]); 7] = [
    (
        Shape::Constant,
        0.0,
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ),
    (
        Shape::Linear,
        0.0,
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0],
    ),
    (
        Shape::Cosine,
        0.0,
        [
            1.0,
            0.9755282581475768,
            0.9045084971874737,
            0.7938926261462366,
            0.6545084971874737,
            0.5,
            0.34549150281252633,
            0.2061073738537635,
            0.09549150281252633,
            0.024471741852423234,
            0.0,
        ],
    ),
    (
        Shape::Constant,
        3.0,
        [
            0.0,
            0.3333333333333333,
            0.6666666666666666,
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
        ],
    ),
    (
        Shape::Linear,
        3.0,
        [
            0.0,
            0.3333333333333333,
            0.6666666666666666,
            1.0,
            0.8571428571428571,
            0.7142857142857143,
            0.5714285714285714,
            0.42857142857142855,
            0.2857142857142857,
            0.14285714285714285,
            0.0,
        ],
    ),
    (
        Shape::Cosine,
        3.0,
        [
            0.0,
            0.3333333333333333,
            0.6666666666666666,
            1.0,
            0.9504844339512095,
            0.8117449009293668,
            0.6112604669781572,
            0.38873953302184283,
            0.18825509907063326,
            0.04951556604879048,
            0.0,
        ],
    ),
    (
        Shape::Cosine,
        12.0,
        [
            0.0,
            0.08333333333333333,
            0.16666666666666666,
            0.25,
            0.3333333333333333,
            0.4166666666666667,
            0.5,
            0.5833333333333334,
            0.6666666666666666,
            0.75,
            0.8333333333333334,
        ],
    ),
];

#[test]
fn factors_are_those_of_transformers() {
    for (shape, warmup, factors) in FACTORS {
        let schedule = Schedule::new(shape, warmup, 10).unwrap();
        for (done, factor) in (0..).zip(factors) {
            let own = schedule.factor(done);
            assert!(
                (own - factor).abs() < 1e-15,
                "{shape:?} {warmup} {done}: {own} {factor}"
            );
        }
    }
}

#[test]
fn warm_up_is_a_count_or_a_share_rounded_up() {
    for shape in [Shape::Constant, Shape::Linear, Shape::Cosine] {
        let count = Schedule::new(shape, 3.0, 10).unwrap();
        assert_eq!(Schedule::new(shape, 0.25, 10).unwrap(), count);
        assert_eq!(Schedule::new(shape, 0.3, 10).unwrap(), count);
        assert_ne!(Schedule::new(shape, 0.31, 10).unwrap(), count);
    }
    for bad in [-1.0, 1.5, f64::NAN, f64::INFINITY] {
        let error = Schedule::new(Shape::Linear, bad, 10).unwrap_err();
        assert!(error.to_string().contains("warmup"), "{error}");
    }
}
