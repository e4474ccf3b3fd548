//! A script of keys on the embedded servers, and the screens that it shows.

use matrix_analytics::{ClosedReason, ELEMENT_EVENT_TYPE, GateState, testing::Fault};
use ratatui::crossterm::event::KeyCode;
use tokio::sync::mpsc::unbounded_channel;

use super::{Stage, char, key};
use crate::{
    embedded::{Embedded, USER},
    input::Input,
    update::Command,
};

const UNDECIDED: GateState = GateState::Closed(ClosedReason::Undecided);
const DENIED: GateState = GateState::Closed(ClosedReason::Denied);

#[tokio::test]
async fn a_script_of_keys_shows_the_stored_screens() {
    let embedded = Embedded::start().await.unwrap();
    let mut stage = Stage::start(&embedded).await;
    stage.reach_gate(UNDECIDED).await;
    stage.check("01-undecided");

    stage.press(char(' ')).await;
    stage.reach_gate(GateState::Open).await;
    stage.check("02-open");
    stage.press(char('c')).await;
    stage.press(char('c')).await;
    stage.check("03-captured");
    assert_eq!(embedded.collector.requests().len(), 0);
    stage.press(char('f')).await;
    stage.check("04-sent");
    assert_eq!(embedded.collector.requests().len(), 1);

    for (opened, screens) in [
        ('h', &["05-history"][..]),
        ('p', &["06-preview-1", "06-preview-2"]),
        ('d', &["07-disclosure-1", "07-disclosure-2", "07-disclosure-3"]),
    ] {
        stage.press(char(opened)).await;
        for screen in screens {
            stage.check(screen);
            stage.press(key(KeyCode::PageDown)).await;
        }
        stage.press(key(KeyCode::Esc)).await;
    }

    stage.press(key(KeyCode::Tab)).await;
    stage.press(char('v')).await;
    stage.check("08-vetoed");
    stage.press(char('v')).await;
    stage.reach_gate(GateState::Open).await;
    stage.press(char('c')).await;
    stage.press(char(' ')).await;
    stage.reach_gate(DENIED).await;
    stage.check("09-opted-out");
    stage.press(char('c')).await;
    stage.check("10-not-captured");

    // A bug report has nothing to do with the switch, which is off.
    stage.press(char('b')).await;
    stage.check("11-report");
    stage.press(char('u')).await;
    stage.check("12-report-with-user-id");
    stage.press(char('6')).await;
    stage.press(char('3')).await;
    stage.check("13-report-without-parts");
    assert_eq!(embedded.collector.requests().len(), 1);
    stage.press(char('s')).await;
    assert_eq!(stage.app.model.message, "Submitted. Thank you.");
    let (request, body) = embedded.collector.requests().pop().unwrap();
    assert_eq!(request, "POST /api/submit");
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains("settings-example") && !body.contains(USER), "{body}");
    assert!(!body.contains("A problem with the settings page"), "{body}");
    stage.press(key(KeyCode::Esc)).await;

    assert_eq!(stage.press(char('q')).await, Some(Command::Quit));
    let ended = stage.app.end().await;
    assert_eq!(ended[0], "Phone: 2 captured, 2 delivered, 0 dropped");
    assert_eq!(ended[1], "Laptop: 1 captured, 0 delivered, 1 dropped");
    assert_eq!(embedded.collector.requests().len(), 2);
}

#[tokio::test]
async fn a_failed_opt_in_says_that_it_could_not_be_confirmed() {
    let embedded = Embedded::start().await.unwrap();
    let mut stage = Stage::start(&embedded).await;
    stage.reach_gate(UNDECIDED).await;
    embedded.homeserver.fail_all(Fault::ServerError(500));
    stage.press(char(' ')).await;
    let message = &stage.app.model.message;
    assert!(message.starts_with("Phone: The opt-in could not be confirmed: "), "{message}");
}

#[tokio::test]
async fn quitting_delivers_the_events_that_wait() {
    let embedded = Embedded::start().await.unwrap();
    let mut stage = Stage::start(&embedded).await;
    stage.reach_gate(UNDECIDED).await;
    stage.press(char(' ')).await;
    stage.reach_gate(GateState::Open).await;
    let (sender, mut inputs) = unbounded_channel();
    for key in [char('c'), char('q')] {
        sender.send(Input::Key(key)).unwrap();
    }
    stage.app.run(&mut stage.terminal, &mut inputs).await;
    assert_eq!(stage.app.end().await[0], "Phone: 1 captured, 1 delivered, 0 dropped");
    assert_eq!(embedded.collector.requests().len(), 1);
}

#[tokio::test]
async fn a_signal_and_the_end_of_the_keys_end_the_page() {
    let embedded = Embedded::start().await.unwrap();
    let mut stage = Stage::start(&embedded).await;
    let (sender, mut inputs) = unbounded_channel();
    sender.send(Input::Ended).unwrap();
    stage.app.run(&mut stage.terminal, &mut inputs).await;
    drop(sender);
    stage.app.run(&mut stage.terminal, &mut inputs).await;
}

#[tokio::test]
async fn an_opt_out_is_not_lost_if_the_user_quits_at_once() {
    let embedded = Embedded::start().await.unwrap();
    let mut stage = Stage::start(&embedded).await;
    stage.reach_gate(UNDECIDED).await;
    stage.press(char(' ')).await;
    stage.reach_gate(GateState::Open).await;
    let (sender, mut inputs) = unbounded_channel();
    for key in [char(' '), char('q')] {
        sender.send(Input::Key(key)).unwrap();
    }
    stage.app.run(&mut stage.terminal, &mut inputs).await;
    stage.app.end().await;
    let content = embedded.homeserver.content(USER, ELEMENT_EVENT_TYPE);
    assert_eq!(content.as_deref(), Some(r#"{"pseudonymousAnalyticsOptIn":false}"#));
}
