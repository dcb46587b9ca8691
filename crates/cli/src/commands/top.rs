use crate::exit::{Exit, UsageError};
use crate::secret;
use crate::top::{Watch, draw};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Watch a server: requests, speed, cache, memory
///
/// Draws the last minute and the last hour on a terminal, and ends with q. --json prints a line each time instead.
///
/// What is unusual is a warning: when the 95th percentile of the time to the first token, or the 99th of the time between tokens, was
/// far above the minutes before for three minutes.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine top\n  \
    trine top http://10.0.0.7:8080 --key \"$KEY\"")]
pub struct Top {
    /// Address of the server
    #[arg(default_value = "http://127.0.0.1:8080", value_parser = secret::server_address)]
    url: String,
    /// Key of the server, if it asks for one
    #[arg(long, value_name = "KEY", env = "TRINE_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = value_parser!(u32).range(1..=60))]
    interval: u32,
    /// Send warnings to this address as JSON, too
    #[arg(long, value_name = "URL", value_parser = secret::http_address)]
    webhook: Option<String>,
    /// Print a line of JSON each time
    #[arg(long)]
    json: bool,
    /// Look so many times, and end
    #[arg(long, value_name = "N", hide_short_help = true)]
    count: Option<u64>,
}

impl Top {
    pub fn run(self) -> Result<Exit> {
        let mut watch = Watch::new(&self.url, self.key.clone());
        if self.json {
            return self.print(&mut watch);
        }
        if !std::io::stdout().is_terminal() {
            let message = "expected a terminal to draw on, found another output".to_owned();
            return Err(UsageError { message, hint: "--json prints a line each time" }.into());
        }
        let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on: --json prints lines")?;
        let url = secret::public(&self.url);
        let ended = (|| -> Result<Exit> {
            for _ in 0..self.count.unwrap_or(u64::MAX) {
                let next = Instant::now() + Duration::from_secs(self.interval.into());
                self.alert(&mut watch);
                terminal.draw(|frame| draw(frame, &url, watch.view()))?;
                while event::poll(next.saturating_duration_since(Instant::now()))? {
                    match event::read()? {
                        Event::Key(key) if key.code == KeyCode::Char('q') || key.code == KeyCode::Esc => {
                            return Ok(Exit::Done);
                        }
                        Event::Key(key) if key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL => {
                            return Ok(Exit::Done);
                        }
                        _ => _ = terminal.draw(|frame| draw(frame, &url, watch.view()))?,
                    }
                }
            }
            Ok(Exit::Done)
        })();
        ratatui::restore();
        ended
    }

    fn print(&self, watch: &mut Watch) -> Result<Exit> {
        for i in 0..self.count.unwrap_or(u64::MAX) {
            if i > 0 {
                std::thread::sleep(Duration::from_secs(self.interval.into()));
            }
            self.alert(watch);
            let view = watch.view();
            let mut line = json!(view.figures);
            line["problem"] = json!(view.problem);
            writeln!(std::io::stdout(), "{line}")?;
        }
        let failed = watch.view().problem.is_some();
        Ok(if failed { Exit::Work } else { Exit::Done })
    }

    /// Looks at the server, and tells what is unusual.
    fn alert(&self, watch: &mut Watch) {
        for (name, alert) in watch.ask() {
            let message =
                format!("{name} is {:.0} ms for three minutes, usually {:.0} ms", 1e3 * alert.now, 1e3 * alert.usual);
            tracing::warn!("{message}");
            if let Some(webhook) = &self.webhook {
                let body = json!({"server": secret::public(&self.url), "figure": name, "now": alert.now, "usual": alert.usual, "text": message});
                if let Err(error) = ureq::post(webhook).content_type("application/json").send(body.to_string()) {
                    // The error of an address that is none would repeat it.
                    let error = error.to_string().replace(webhook.as_str(), "the address");
                    tracing::error!(error, webhook = secret::public(webhook), "the alert is lost");
                }
            }
        }
    }
}
