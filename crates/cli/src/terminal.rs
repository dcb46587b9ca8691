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
        if let Some(mut termios) = before.termios.clone() {
            termios.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            termios.special_codes[SpecialCodeIndex::VMIN] = 1;
            termios.special_codes[SpecialCodeIndex::VTIME] = 0;
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &termios);
        }
        Quiet(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.restore();
    }
}
