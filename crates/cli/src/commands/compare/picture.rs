//! The picture of `trine compare`: divergence over size and speed, as SVG or PNG.

use super::Row;
use crate::units;
use anyhow::{Result, anyhow};
use font8x8::legacy::BASIC_LEGACY;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::convert::Infallible;

const SIZE: (u32, u32) = (1200, 560);

/// The bytes of a picture.
///
/// # Errors
/// When it cannot be drawn.
pub fn draw(rows: &[Row], png: bool) -> Result<Vec<u8>> {
    let failed = |error: Box<dyn std::error::Error>| anyhow!("the picture: {error}");
    if png {
        let mut pixels = Pixels::new(SIZE);
        chart(rows, &(&mut pixels).into_drawing_area()).map_err(failed)?;
        return pixels.encode();
    }
    let mut svg = String::new();
    chart(rows, &SVGBackend::with_string(&mut svg, SIZE).into_drawing_area()).map_err(failed)?;
    Ok(svg.into_bytes())
}

/// A file in the picture: bits per weight or tokens per second, divergence, and its name.
type Point = (f64, f64, String);

fn chart<'a, B>(rows: &[Row], area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn std::error::Error>>
where
    B: DrawingBackend + 'a,
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    // The reference has no divergence, which a logarithm cannot show.
    let others = || rows.iter().filter(|row| row.divergence.mean_kl > 0.0);
    if others().next().is_none() {
        return Err("no file differs from the reference".into());
    }
    let reference = rows.first().map(name).unwrap_or_default();
    let area = area.titled(&format!("Divergence from {reference}"), ("sans-serif", 20))?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let point = |x: f64, row: &Row| (x, row.divergence.mean_kl, name(row));
    scatter(&left, "bits per weight", others().map(|row| point(row.bits_per_weight, row)).collect())?;
    let fast = others().filter_map(|row| Some(point(row.tokens_per_second?, row))).collect();
    scatter(&right, "tokens per second", fast)?;
    area.present()?;
    Ok(())
}

fn scatter<'a, B>(
    area: &DrawingArea<B, Shift>,
    across: &str,
    mut points: Vec<Point>,
) -> Result<(), Box<dyn std::error::Error>>
where
    B: DrawingBackend + 'a,
    B::ErrorType: 'static,
{
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    let (low, high) =
        points.iter().fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)));
    let margin = ((last.0 - first.0) * 0.12).max(first.0.abs() * 0.05).max(1e-6);
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).x_label_area_size(44).y_label_area_size(76);
    let across_range = first.0 - margin..last.0 + 2.0 * margin;
    let ticks = log_ticks(low / 1.5, high * 1.5);
    let up_range = (ticks[0]..ticks[ticks.len() - 1]).log_scale();
    let mut chart = builder.build_cartesian_2d(across_range, up_range.with_key_points(ticks))?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_labels(6).x_desc(across).y_desc("mean KL, nats per token");
    mesh.x_label_formatter(&label).y_label_formatter(&label).draw()?;
    chart.draw_series(points.iter().map(|(x, y, _)| Circle::new((*x, *y), 5, BLUE.filled())))?;
    // Neighbours have their names above and below, so that they do not meet.
    let labels = points.iter().enumerate().map(|(i, (x, y, name))| {
        let down = if i % 2 == 0 { -18 } else { 8 };
        EmptyElement::at((*x, *y)) + Text::new(name.clone(), (-4, down), ("sans-serif", 15))
    });
    chart.draw_series(labels)?;
    Ok(())
}

/// The number m * 10^k, as its digits are read.
fn round(m: u32, k: i32) -> f64 {
    format!("{m}e{k}").parse().expect("it is a number")
}

/// 1, 2 and 5 times powers of ten, over more than three decades these alone, from the last below two numbers to the first above.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let factors: &[u32] = if last - first > 3 { &[1] } else { &[1, 2, 5] };
    let all: Vec<f64> = (first..=last).flat_map(|k| factors.iter().map(move |&m| round(m, k))).collect();
    let from = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= high).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

/// A tick as a text, without what is left of sums of steps.
fn label(x: &f64) -> String {
    let x = format!("{x:.4e}").parse().unwrap_or(*x);
    match x.abs() {
        size if size > 0.0 && size < 0.001 => format!("{x:e}"),
        size if size >= 1000.0 => units::count(size.round() as u64),
        _ => format!("{x}"),
    }
}

/// The name of the file, without its ending.
fn name(row: &Row) -> String {
    row.file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Pixels, and letters of 8 by 8 of them: no machine needs a font.
struct Pixels {
    size: (u32, u32),
    rgb: Vec<u8>,
}

impl Pixels {
    fn new(size: (u32, u32)) -> Pixels {
        Pixels { size, rgb: vec![255; 3 * (size.0 * size.1) as usize] }
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, self.size.0, self.size.1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.rgb)?;
        Ok(out)
    }
}

/// Letters are doubled where text is large.
fn scale<S: BackendTextStyle>(style: &S) -> i32 {
    if style.size() > 18.0 { 2 } else { 1 }
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for &mut Pixels {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let (width, height) = (self.size.0 as i32, self.size.1 as i32);
        if (0..width).contains(&x) && (0..height).contains(&y) {
            let at = 3 * (y * width + x) as usize;
            let (r, g, b) = color.rgb;
            for (old, new) in self.rgb[at..at + 3].iter_mut().zip([r, g, b]) {
                *old = (f64::from(*old) * (1.0 - color.alpha) + f64::from(new) * color.alpha).round() as u8;
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let scale = scale(style) as u32;
        Ok((8 * scale * text.chars().count() as u32, 8 * scale))
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        use plotters_backend::text_anchor::{HPos, VPos};
        let (scale, color, anchor) = (scale(style), style.color(), style.anchor());
        let (width, height) = (8 * scale * text.chars().count() as i32, 8 * scale);
        let left = match anchor.h_pos {
            HPos::Left => 0,
            HPos::Center => -width / 2,
            HPos::Right => -width,
        };
        let top = match anchor.v_pos {
            VPos::Top => 0,
            VPos::Center => -height / 2,
            VPos::Bottom => -height,
        };
        let transform = style.transform();
        for (i, c) in text.chars().enumerate() {
            let glyph = BASIC_LEGACY.get(c as usize).copied().unwrap_or(BASIC_LEGACY[usize::from(b'?')]);
            for (row, bits) in (0..).zip(glyph) {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    for (dx, dy) in (0..scale).flat_map(|dx| (0..scale).map(move |dy| (dx, dy))) {
                        let at = (left + scale * (8 * i as i32 + column) + dx, top + scale * row + dy);
                        let (dx, dy) = transform.transform(at.0, at.1);
                        self.draw_pixel((x + dx, y + dy), color)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_and_at_least_two() {
        assert_eq!(log_ticks(0.0009, 0.0021), [5e-4, 1e-3, 2e-3, 5e-3]);
        assert_eq!(log_ticks(1e-6, 0.9), [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]);
        assert_eq!([0.0, 2e-4, 0.1 + 0.2, 4.5, 12_000.0].map(|x| label(&x)), ["0", "2e-4", "0.3", "4.5", "12,000"]);
        for x in [1e-9, 3e-5, 0.7, 42.0] {
            assert!(log_ticks(x / 1.5, x * 1.5).len() >= 2, "{x}");
        }
    }
}
