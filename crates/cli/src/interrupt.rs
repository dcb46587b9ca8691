//! Ctrl-C: ends an answer or a load; a second one ends the program.

use crate::exit::Exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A flag that Ctrl-C sets, and who uses it clears.
///
/// # Errors
/// When the system takes no handler.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
    })?;
    Ok(flag)
}
