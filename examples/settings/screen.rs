//! The terminal, which is restored in every case.

use std::{
    io::{self, Stdout, stdout},
    mem::ManuallyDrop,
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

/// Whether the terminal has to be restored.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, in raw mode and on its alternate screen until this is dropped.
pub(crate) struct Screen {
    /// Not dropped, because that panics if the terminal is closed.
    pub(crate) terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(crate) fn enter() -> io::Result<Self> {
        // Fails if there is no terminal, before anything is written.
        enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // On the alternate screen the message would be lost.
            restore();
            earlier(panic);
        }));
        let entered = execute!(stdout(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        if entered.is_err() {
            restore();
        }
        Ok(Self { terminal: ManuallyDrop::new(entered?) })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once.
fn restore() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // There is nothing to restore if the terminal is closed.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs a terminal: scripts/settings-screen runs it in one"]
    #[should_panic(expected = "a bug in the page")]
    fn a_panic_restores_the_terminal_before_its_message_is_printed() {
        let _screen = Screen::enter().unwrap();
        panic!("a bug in the page");
    }
}
