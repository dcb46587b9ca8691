//! A bar chart in characters.

/// Bars of 0 to 8 eighths of a character.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Lines of a chart of positive values on a logarithmic scale, from the top; the ends of the scale are at the right.
pub fn lines(values: &[f64], columns: usize, rows: usize) -> Vec<String> {
    let columns = columns.min(values.len());
    let mean = |column: usize| {
        let part = &values[column * values.len() / columns..(column + 1) * values.len() / columns];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..columns).map(mean).collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(low, high), &mean| (low.min(mean), high.max(mean)));
    let scale = |mean: f64| mean.max(f64::MIN_POSITIVE).ln();
    let span = scale(high) - scale(low);
    // The lowest bar is one eighth high.
    let height = |mean: f64| {
        let share = if span > 0.0 { (scale(mean) - scale(low)) / span } else { 0.0 };
        1 + (share * (rows * 8 - 1) as f64).round() as usize
    };
    let row = |row: usize| {
        let below = (rows - 1 - row) * 8;
        let bars: String = means.iter().map(|&mean| EIGHTHS[height(mean).saturating_sub(below).min(8)]).collect();
        match row {
            _ if columns == 0 => String::new(),
            0 => format!("{bars} {high:.3}"),
            _ if row == rows - 1 => format!("{bars} {low:.3}"),
            _ => bars,
        }
    };
    (0..rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_curve_falls_from_the_top_left_to_the_bottom_right() {
        assert_eq!(super::lines(&[8.0, 8.0, 4.0, 4.0, 2.0, 2.0], 3, 2), ["█▁  8.000", "██▁ 2.000"]);
        assert_eq!(super::lines(&[1.0], 10, 2), ["  1.000", "▁ 1.000"]);
        assert_eq!(super::lines(&[], 10, 2), ["", ""]);
    }
}
