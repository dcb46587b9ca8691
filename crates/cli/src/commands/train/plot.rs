//! `loss.svg`: the losses and learning rates of a run.

use super::curve::{LossCurve, Point};
use crate::output::OutputFile;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// Maximum points of a line.
const MAX_POINTS: usize = 2000;
const SIZE: (u32, u32) = (960, 600);
/// Height of the losses; the rest is the learning rate's.
const LOSSES: u32 = 430;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws losses and learning rate over steps, if there are any.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, model: &Path, title: &str, curve: &LossCurve) -> Result<()> {
    if curve.points.is_empty() {
        return Ok(());
    }
    let mut svg = String::new();
    draw(&mut svg, title, curve).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    OutputFile::new(path, model)?.write(|out| out.write_all(svg.as_bytes()))
}

fn draw(svg: &mut String, title: &str, curve: &LossCurve) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(LOSSES);
    let points = &curve.points;
    let thinned = || points.iter().step_by(points.len().div_ceil(MAX_POINTS));
    let steps = points[0].step as f64..(points[points.len() - 1].step as f64).max(points[0].step as f64 + 1.0);
    let losses = points.iter().map(|point| point.loss).chain(curve.validations.iter().map(|&(_, loss)| loss));

    let mut chart = chart(&upper, title, steps.clone(), range(losses))?;
    // Ticks are at round numbers, which need no further decimals.
    let tick = |value: &f64| format!("{}", (value * 1e6).round() / 1e6);
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_label_formatter(&tick).y_label_formatter(&tick);
    mesh.y_desc("loss, nats per token").draw()?;
    let line = |of: fn(&Point) -> f64| thinned().map(move |point| (point.step as f64, of(point)));
    chart
        .draw_series(LineSeries::new(line(|point| point.loss), BLUE.mix(0.25)))?
        .label("training")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE.mix(0.25)));
    chart
        .draw_series(LineSeries::new(line(|point| point.smooth), BLUE.stroke_width(2)))?
        .label("training, smoothed")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE.stroke_width(2)));
    let dots = curve.validations.iter().map(|&(step, loss)| Circle::new((step as f64, loss), 4, RED.filled()));
    chart.draw_series(dots)?.label("validation").legend(|(x, y)| Circle::new((x + 8, y), 4, RED.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;

    let mut chart = self::chart(&lower, "", steps, range(points.iter().map(|point| point.learning_rate)))?;
    let rate = |rate: &f64| format!("{rate:.1e}");
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).y_labels(3).x_label_formatter(&tick).y_label_formatter(&rate);
    mesh.x_desc("step").y_desc("learning rate").draw()?;
    chart.draw_series(LineSeries::new(line(|point| point.learning_rate), &GREEN))?;
    root.present()?;
    Ok(())
}

fn chart<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    x: Range<f64>,
    y: Range<f64>,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>>
where
    'b: 'a,
{
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).x_label_area_size(36).y_label_area_size(64);
    if !title.is_empty() {
        builder.caption(title, ("sans-serif", 18));
    }
    Ok(builder.build_cartesian_2d(x, y)?)
}

/// The range of all values, with a margin.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let margin = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-12);
    low - margin..high + margin
}
