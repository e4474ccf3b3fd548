//! The examples, run from a terminal against a real homeserver.

mod bot;
mod consent;
mod encrypted_bot;
mod errors;
mod program;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    homeserver::{Homeserver, Msc3391},
    waiting::Result,
};

/// The result of one story about an example.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) result: Result<String>,
    pub(crate) took: Duration,
}

/// Runs all stories in parallel.
pub(crate) async fn run() -> Result<Vec<Story>> {
    let homeserver = Arc::new(Homeserver::start("products", Msc3391::Off).await?);
    let (bot, encrypted, steps, watch, errors) = tokio::join!(
        timed("bot: its operator decides", bot::operator_decides(&homeserver)),
        timed("bot: an encrypted room", encrypted_bot::reports_its_health(&homeserver)),
        timed("consent: one step after another", consent::steps(&homeserver)),
        timed("consent watch: another device's change", consent::watch(&homeserver)),
        timed("consent and bot: what goes wrong", errors::read_well(&homeserver)),
    );
    Ok(vec![bot, encrypted, steps, watch, errors])
}

async fn timed(name: &'static str, story: impl Future<Output = Result<String>>) -> Story {
    let began = Instant::now();
    let result = story.await;
    Story { name, result, took: began.elapsed() }
}

/// Renders the stories as Markdown, with their output.
pub(crate) fn render(stories: &[Story]) -> String {
    let mut text = "| example | |\n|---|---|\n".to_owned();
    let mut below = String::new();
    for story in stories {
        let seconds = story.took.as_secs_f64();
        let outcome = match &story.result {
            Ok(note) => {
                below.push_str(&format!("\n{}:\n{note}\n", story.name));
                format!("{seconds:.1} s")
            }
            Err(error) => format!("**FAILED**: {error}"),
        };
        text.push_str(&format!("| {} | {outcome} |\n", story.name));
    }
    text.push_str(&below);
    text
}
