//! What `trine top` draws.

use super::View;
use crate::units;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};

/// Draws the figures of the last minute, and their courses.
pub fn draw(frame: &mut Frame, url: &str, view: &View) {
    let [title, figures, minute, hour, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(8),
        Constraint::Min(4),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let state = match &view.problem {
        None => Span::raw(""),
        Some(problem) => Span::raw(format!("  {problem}")).red(),
    };
    frame.render_widget(Line::from(vec![Span::raw("trine top ").bold(), Span::raw(url.to_owned()), state]), title);
    self::figures(frame, figures, view);
    course(frame, minute, "tokens/s, the last minute", &view.seconds);
    course(frame, hour, "tokens/s, the last hour, by minutes", &view.minutes);
    frame.render_widget(Line::from("q quits").dim(), help);
}

fn figures(frame: &mut Frame, area: Rect, view: &View) {
    let figure = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}{unit}"))
    };
    let percent = |share: Option<f64>| figure(share.map(|share| 100.0 * share), 0, " %");
    let ms = |seconds: Option<f64>| figure(seconds.map(|seconds| 1e3 * seconds), 0, " ms");
    let f = &view.figures;
    let columns = [
        [
            ("running", figure(f.running, 0, "")),
            ("waiting", figure(f.waiting, 0, "")),
            ("tokens/s out", figure(f.generated, 1, "")),
            ("tokens/s in", figure(f.read, 1, "")),
            ("requests/min", figure(f.requests.map(|rate| 60.0 * rate), 0, "")),
            ("errors", percent(f.errors)),
        ],
        [
            ("first token p50", ms(f.first_token[0])),
            ("first token p95", ms(f.first_token[1])),
            ("token p50", ms(f.inter_token[0])),
            ("token p99", ms(f.inter_token[1])),
            ("queue p95", ms(f.queue)),
            ("embed running", figure(f.embeddings_running, 0, "")),
        ],
        [
            ("KV cache", percent(f.kv_usage)),
            ("prefix hits", percent(f.prefix_hits)),
            ("memory", f.memory.map_or_else(|| "-".to_owned(), |bytes| units::bytes(bytes as u64))),
            ("CPU", percent(f.cpu)),
            ("open files", figure(f.open_files, 0, "")),
            ("embed waiting", figure(f.embeddings_waiting, 0, "")),
        ],
    ];
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Ratio(1, 3); 3]).areas(area);
    for (rows, area) in columns.into_iter().zip(areas) {
        let row = |(name, value): (&str, String)| {
            Line::from(vec![Span::raw(format!("{name:16}")).dim(), Span::raw(value).bold()])
        };
        frame.render_widget(
            Paragraph::new(rows.into_iter().map(row).collect::<Vec<_>>()).block(Block::bordered()),
            area,
        );
    }
}

fn course(frame: &mut Frame, area: Rect, title: &str, values: &[f64]) {
    // A bar for each value, the newest on the right.
    let width = area.width.saturating_sub(2) as usize;
    let shown = &values[values.len().saturating_sub(width)..];
    let most = shown.iter().copied().fold(0.0, f64::max);
    let bars: Vec<u64> = shown.iter().map(|value| (10.0 * value).round() as u64).collect();
    let block = Block::bordered().title(format!("{title}, at most {most:.1}"));
    frame.render_widget(Sparkline::default().block(block).data(&bars).style(Style::new().cyan()), area);
}
