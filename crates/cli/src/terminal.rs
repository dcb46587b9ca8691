//! What the terminal does with keys that nobody reads yet.

#[cfg(unix)]
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
#[cfg(unix)]
use std::io::stdin;

/// The settings of the terminal of standard input, if it is one.
#[derive(Clone)]
pub struct Settings {
    #[cfg(unix)]
    termios: Option<Termios>,
}

impl Settings {
    pub fn now() -> Settings {
        Settings {
            #[cfg(unix)]
            termios: tcgetattr(stdin()).ok(),
        }
    }

    /// Makes them the terminal's.
    pub fn restore(&self) {
        #[cfg(unix)]
        if let Some(termios) = &self.termios {
            // A terminal that is gone has no settings.
            let _ = tcsetattr(stdin(), OptionalActions::Drain, termios);
        }
    }
}

/// While it lives, keys are not shown when they are typed, and wait until somebody reads them. Ctrl-C interrupts as always.
pub struct Quiet(Settings);

impl Quiet {
    pub fn new() -> Quiet {
        let before = Settings::now();
        #[cfg(unix)]
        if let Some(mut termios) = before.termios.clone().filter(|_| edits_lines()) {
            termios.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            termios.special_codes[SpecialCodeIndex::VMIN] = 1;
            termios.special_codes[SpecialCodeIndex::VTIME] = 0;
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &termios);
        }
        Quiet(before)
    }
}

/// Whether the line editor shows what is typed. On these terminals, it reads whole lines, which the system shows.
#[cfg(unix)]
fn edits_lines() -> bool {
    let name = std::env::var("TERM").unwrap_or_default();
    !["dumb", "cons25", "emacs"].iter().any(|plain| name.eq_ignore_ascii_case(plain))
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.restore();
    }
}
