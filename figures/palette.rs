//! Colours and markers, told apart by colour-blind eyes and in grey.

use plotters::prelude::RGBColor;

use super::legend::{Look, Marker};

/// Okabe and Ito's colours, the dark ones first.
pub const PALETTE: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 148, 148),
];
const MARKERS: [Marker; 5] = [
    Marker::Disk,
    Marker::Square,
    Marker::Up,
    Marker::Diamond,
    Marker::Down,
];

/// The look of the `index`-th series of a figure; the first forty differ.
pub fn look(index: usize, name: impl Into<String>) -> Look {
    Look {
        name: name.into(),
        color: PALETTE[index % PALETTE.len()],
        thick: 2.0,
        marker: MARKERS[index % MARKERS.len()],
    }
}

/// Cividis from its light end: the darker the more, evenly so in grey and to colour-blind eyes.
const RAMP: [(u8, u8, u8); 10] = [
    (254, 232, 56),
    (225, 204, 85),
    (195, 179, 105),
    (165, 156, 116),
    (138, 134, 120),
    (112, 113, 115),
    (87, 93, 109),
    (59, 73, 108),
    (18, 53, 112),
    (0, 34, 78),
];

/// The colour at `part` of the way from least to most, 0 to 1.
pub fn ramp(part: f64) -> RGBColor {
    let last = RAMP.len() - 1;
    let along = part.clamp(0.0, 1.0) * last as f64;
    let from = (along as usize).min(last - 1);
    let mix = |a: u8, b: u8| {
        let t = along - from as f64;
        (f64::from(a) + t * (f64::from(b) - f64::from(a))).round() as u8
    };
    let (a, b) = (RAMP[from], RAMP[from + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_darkens_all_along() {
        let grey = |RGBColor(r, g, b): RGBColor| {
            0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
        };
        let greys: Vec<f64> = (0..=100)
            .map(|i| grey(ramp(f64::from(i) / 100.0)))
            .collect();
        assert!(greys.windows(2).all(|pair| pair[1] < pair[0] + 0.5));
        assert!(greys[0] - greys[100] > 150.0);
        assert_eq!(ramp(-1.0), ramp(0.0));
    }
}
