//! Medians, and numbers as a table shows them.

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the text of a result, or of its absence.
pub(crate) fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        10_000.0.. => format!("{:.0},{:03.0}", (value / 1000.0).trunc(), (value % 1000.0).abs()),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}
