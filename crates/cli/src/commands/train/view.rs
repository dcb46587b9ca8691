//! Shows a run: a live picture on a terminal, lines elsewhere.

use super::chart;
use super::curve::LossCurve;
use crate::table::visible;
use crate::{progress, units};
use console::{Term, style, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use trine_tensor::memory;
use trine_train::{StepMetrics, Validation};

/// Minimum time between two pictures, and between two lines.
const PICTURES: Duration = Duration::from_millis(100);
const LINES: Duration = Duration::from_secs(5);
/// Steps over which the speed is averaged.
const STEPS: usize = 20;
/// Columns and rows of the loss chart.
const CURVE: (usize, usize) = (60, 5);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ViewStyle {
    Picture,
    Lines,
    Nothing,
}

pub struct RunView {
    style: ViewStyle,
    bar: ProgressBar,
    /// Peak float32 operations per second, if it was measured.
    peak: Option<f64>,
    start: Instant,
    /// Steps since the start.
    done: u64,
    shown: Option<Instant>,
    /// The last `STEPS` steps.
    recent: VecDeque<StepMetrics>,
    validation: Option<Validation>,
    /// The last sample and its step.
    sample: Option<(u64, String)>,
}

impl RunView {
    /// The view of a run that starts now.
    pub fn new(style: ViewStyle, peak: Option<f64>) -> RunView {
        let bar = match style {
            ViewStyle::Picture => ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()),
            _ => ProgressBar::hidden(),
        };
        RunView {
            style,
            bar,
            peak,
            start: Instant::now(),
            done: 0,
            shown: None,
            recent: VecDeque::new(),
            validation: None,
            sample: None,
        }
    }

    pub fn step(&mut self, step: &StepMetrics, curve: &LossCurve) {
        self.done += 1;
        if self.recent.len() == STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(step.clone());
        let wait = if self.style == ViewStyle::Picture { PICTURES } else { LINES };
        if step.step == step.steps || self.shown.is_none_or(|shown| shown.elapsed() >= wait) {
            self.show(step, curve);
        }
    }

    fn show(&mut self, step: &StepMetrics, curve: &LossCurve) {
        self.shown = Some(Instant::now());
        match self.style {
            ViewStyle::Nothing => {}
            ViewStyle::Picture => self.draw(step, curve),
            ViewStyle::Lines => note!(
                "step {} of {}: smoothed loss {}, {} tokens seen, rate {:.2e}, norm {:.3}, {}, memory {}, {}, {} left",
                step.step,
                step.steps,
                loss(step, curve),
                units::count(step.total_tokens),
                step.learning_rate,
                step.grad_norm,
                self.speed(),
                memory(),
                units::duration(self.seconds()),
                self.left(step)
            ),
        }
    }

    fn draw(&self, step: &StepMetrics, curve: &LossCurve) {
        // On a narrow terminal the first line would wrap, which leaves parts of it behind.
        let columns = usize::from(Term::stderr().size().1).saturating_sub(32).clamp(1, 40);
        let template = format!("{{bar:{columns}.cyan/dim}} step {{human_pos}} of {{human_len}}{{msg}}");
        self.bar.set_style(progress::style(&template));
        self.bar.set_length(step.steps);
        self.bar.set_position(step.step);
        self.bar.set_message(self.picture(step, curve));
    }

    pub fn validation(&mut self, validation: &Validation) {
        if self.style == ViewStyle::Lines {
            note!("validation at step {}: {}", validation.step, describe(validation));
        }
        self.validation = Some(validation.clone());
    }

    pub fn checkpoint(&mut self, step: u64, best: bool) {
        if self.style == ViewStyle::Lines {
            note!("checkpoint at step {step}{}", if best { ", the best so far" } else { "" });
        }
    }

    pub fn sample(&mut self, step: u64, prompt: &str, text: &str) {
        let text = visible(&format!("{prompt}{text}"));
        if self.style == ViewStyle::Lines {
            note!("sample at step {step}: {text}");
        }
        self.sample = Some((step, text));
    }

    /// Shows a warning in all styles.
    pub fn warning(&self, text: &str) {
        self.bar.suspend(|| note!("warning: {}", visible(text)));
    }

    /// Draws a last picture.
    pub fn finish(&self, curve: &LossCurve) {
        if let Some(step) = self.recent.back().filter(|_| self.style == ViewStyle::Picture) {
            self.draw(step, curve);
        }
        self.bar.abandon();
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub fn last_validation(&self) -> Option<&Validation> {
        self.validation.as_ref()
    }

    /// The text after and below the bar.
    fn picture(&self, step: &StepMetrics, curve: &LossCurve) -> String {
        let width = usize::from(Term::stderr().size().1).max(20) - 1;
        let mut lines = vec![String::new()];
        let mut line = |what: &str, text: &str| {
            let text = format!("{} {text}", style(format!("{what:>10}")).for_stderr().dim());
            lines.push(truncate_str(&text, width, "…").into_owned());
        };
        line("time", &format!("{}, {} left", units::duration(self.seconds()), self.left(step)));
        let losses: Vec<f64> = curve.points.iter().map(|point| point.loss).collect();
        for (i, bars) in chart::lines(&losses, CURVE.0.min(width.saturating_sub(20)), CURVE.1).iter().enumerate() {
            line(if i == 0 { "loss" } else { "" }, bars);
        }
        line("", &format!("{} nats per token, smoothed", loss(step, curve)));
        if let Some(validation) = &self.validation {
            line("validation", &format!("{} (step {})", describe(validation), validation.step));
        }
        line("rate", &format!("{:.2e}, gradient norm {:.3}", step.learning_rate, step.grad_norm));
        line("speed", &format!("{}, {} tokens seen", self.speed(), units::count(step.total_tokens)));
        line("memory", &memory());
        if let Some((step, text)) = &self.sample {
            let text: Vec<char> = format!("{text} (step {step})").chars().collect();
            for (i, part) in text.chunks(width.saturating_sub(12).max(1)).take(4).enumerate() {
                line(if i == 0 { "sample" } else { "" }, &part.iter().collect::<String>());
            }
        }
        lines.join("\n")
    }

    fn speed(&self) -> String {
        let sum = |of: fn(&StepMetrics) -> f64| self.recent.iter().map(of).sum::<f64>();
        let seconds = sum(|step| step.seconds);
        if seconds <= 0.0 {
            return "speed unknown".to_owned();
        }
        let tokens = units::count((sum(|step| step.tokens as f64) / seconds).round() as u64);
        let share = |peak| match sum(|step| step.flops) / seconds / peak {
            share if share > 1.0 => ", more than the f32 peak as measured".to_owned(),
            share => format!(", {:.1} % of the f32 peak", share * 100.0),
        };
        format!("{tokens} tokens/s{}", self.peak.map(share).unwrap_or_default())
    }

    /// The expected time of the remaining steps, validations included.
    fn left(&self, step: &StepMetrics) -> String {
        units::duration(self.seconds() / self.done as f64 * step.steps.saturating_sub(step.step) as f64)
    }
}

/// The smoothed loss, and details of the step.
fn loss(step: &StepMetrics, curve: &LossCurve) -> String {
    let smooth = curve.points.last().map_or(step.loss, |point| point.smooth);
    let distillation = step.distillation.map(|loss| format!(", distillation {loss:.4}")).unwrap_or_default();
    let skipped = if step.skipped { ", skipped" } else { "" };
    format!("{smooth:.4}{distillation}{skipped}")
}

pub fn describe(validation: &Validation) -> String {
    let Validation { loss, perplexity, bits_per_byte, .. } = validation;
    let bits = bits_per_byte.map(|bits| format!(", {bits:.4} bits per byte")).unwrap_or_default();
    format!("loss {loss:.4}, perplexity {perplexity:.2}{bits}")
}

fn memory() -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), units::bytes);
    format!("{}, at most {}", bytes(memory::resident()), bytes(memory::peak_resident()))
}
