//! Keys and signals.

use std::io;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Something that happened outside the program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    Key(KeyEvent),
    Resized,
    /// The terminal is closed, or a signal asks the program to end.
    Ended,
}

/// Starts to read keys and signals.
pub(crate) fn inputs() -> io::Result<UnboundedReceiver<Input>> {
    let (sender, receiver) = unbounded_channel();
    watch_signals(&sender)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "crossterm never returns from a closed terminal, so a task would block the end"
    )]
    std::thread::spawn(move || read_keys(&sender));
    Ok(receiver)
}

fn read_keys(sender: &UnboundedSender<Input>) {
    loop {
        let input = match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => Input::Key(key),
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            Err(_) => Input::Ended,
        };
        if sender.send(input).is_err() || matches!(input, Input::Ended) {
            return;
        }
    }
}

#[cfg(unix)]
fn watch_signals(sender: &UnboundedSender<Input>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            signals.recv().await;
            let _ = sender.send(Input::Ended);
        });
    }
    Ok(())
}

#[cfg(windows)]
fn watch_signals(sender: &UnboundedSender<Input>) -> io::Result<()> {
    let (mut closed, sender) = (tokio::signal::windows::ctrl_close()?, sender.clone());
    tokio::spawn(async move {
        closed.recv().await;
        let _ = sender.send(Input::Ended);
    });
    Ok(())
}
