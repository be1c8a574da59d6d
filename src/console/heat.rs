//! Colours for figures: a step from a scale of eleven, which the style sheet turns into a colour. The figure stands in the cell too.

/// The class of a value on a scale that is `most` wide to both sides of zero.
pub(super) fn around_zero(value: f64, most: f64) -> &'static str {
    const STEPS: [&str; 11] = [
        "heat n5", "heat n4", "heat n3", "heat n2", "heat n1", "heat z", "heat p1", "heat p2", "heat p3",
        "heat p4", "heat p5",
    ];
    if !value.is_finite() || most <= 0.0 {
        return "";
    }
    let step = (value / most * 5.0).clamp(-5.0, 5.0);
    // What is not nothing is not shown as nothing.
    let step = if step > 0.0 { step.ceil() } else { step.floor() };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 10")]
    STEPS.get((step + 5.0) as usize).copied().unwrap_or_default()
}

/// The class of a value between the least and the highest.
pub(super) fn between(value: f64, least: f64, highest: f64) -> &'static str {
    let middle = f64::midpoint(least, highest);
    around_zero(value - middle, (highest - least) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_step() {
        for (value, class) in [
            (0.0, "heat z"),
            (1e-9, "heat p1"),
            (-1e-9, "heat n1"),
            (10.0, "heat p5"),
            (-99.0, "heat n5"),
            (4.0, "heat p2"),
        ] {
            assert_eq!(around_zero(value, 10.0), class, "{value}");
        }
        assert_eq!(around_zero(f64::NAN, 1.0), "");
        assert_eq!(around_zero(0.0, 0.0), "");
        assert_eq!((between(1.0, 1.0, 3.0), between(3.0, 1.0, 3.0)), ("heat n5", "heat p5"));
    }
}
