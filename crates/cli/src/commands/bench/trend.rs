//! The picture of `trine bench history`.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde_json::Value;

const SIZE: (u32, u32) = (960, 540);

/// The records of a test of a model: their names, and for each its number among all, the speed as a part of the first, and the interval of that.
pub struct Series {
    name: String,
    points: Vec<(usize, [f64; 3])>,
}

/// What changes of each test, from results of `trine bench history`.
pub fn series(results: &[Value]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    let mut firsts = Vec::new();
    for (n, result) in results.iter().enumerate() {
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        let model = text("model");
        let model = model.rsplit('/').next().unwrap_or_default();
        let name = format!("{model} {} {} {}", text("format"), text("isa"), text("test"));
        let speeds = ["tokens_per_second", "low", "high"].map(|key| result[key].as_f64().unwrap_or_default());
        let i = all.iter().position(|series| series.name == name).unwrap_or_else(|| {
            all.push(Series { name, points: Vec::new() });
            firsts.push(speeds[0]);
            all.len() - 1
        });
        all[i].points.push((n, speeds.map(|speed| speed / firsts[i])));
    }
    all
}

/// An SVG of these.
///
/// # Errors
/// When there is nothing to draw.
pub fn draw(all: &[Series]) -> Result<String> {
    let mut svg = String::new();
    chart(all, &mut svg).map_err(|error| anyhow!("the picture: {error}"))?;
    Ok(svg)
}

fn chart(all: &[Series], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || all.iter().flat_map(|series| &series.points);
    let Some(last) = points().map(|(n, _)| *n).max() else { return Err("no record".into()) };
    let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), (_, [_, a, b])| (low.min(*a), high.max(*b)));
    let margin = ((high - low) * 0.1).max(0.02);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder.margin(12).x_label_area_size(40).y_label_area_size(64);
    builder.caption("Speed of each test, as a part of its first record", ("sans-serif", 18));
    let across = -0.5..last as f64 + 0.5;
    let mut chart = builder.build_cartesian_2d(across, low - margin..high + margin)?;
    let tick = |value: &f64| format!("{:.0} %", 100.0 * value);
    let whole = |value: &f64| if value.fract() == 0.0 { format!("{}", value + 1.0) } else { String::new() };
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_desc("record").y_desc("tokens per second");
    mesh.y_label_formatter(&tick).x_label_formatter(&whole).draw()?;
    for (i, Series { name, points }) in all.iter().enumerate() {
        let color = Palette99::pick(i).to_rgba();
        chart.draw_series(LineSeries::new(points.iter().map(|(n, [speed, ..])| (*n as f64, *speed)), &color))?;
        let bar = |(n, [speed, low, high]): &(usize, [f64; 3])| {
            ErrorBar::new_vertical(*n as f64, *low, *speed, *high, color.filled(), 6)
        };
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2));
        chart.draw_series(points.iter().map(bar))?.label(name.clone()).legend(legend);
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
    labels.draw()?;
    root.present()?;
    Ok(())
}
