//! Element's events as they leave.

mod instances;

use std::{env, fs, path::Path};

use matrix_analytics::{
    AnalyticsEvent, Backend as _, JsonLines, OutgoingEvent, PostHog, Properties, TextPolicy,
    UserProperties, element,
    testing::{self, RecordingBackend},
};
use serde_json::{Value, json};

use crate::support::{AnalyticsExt as _, World, eventually};

/// The variable of the environment that makes the test write the file.
const BLESS: &str = "ELEMENT_EVENTS_BLESS";
const FILE: &str = "tests/element-events-sent.txt";
const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";

/// Returns `event` on its way to a backend.
fn outgoing<E: AnalyticsEvent>(event: &E) -> OutgoingEvent {
    testing::event(E::NAME, Properties::from_serialize(event).unwrap())
}

/// Returns what the backends send of `event`.
async fn sent(event: OutgoingEvent) -> String {
    let uuid = event.uuid().to_string();
    let batch = testing::batch(ID, [event]);
    let posthog = PostHog::new("https://posthog.example", "phc_key").unwrap();
    let (lines, mut written) = tokio::io::duplex(64 * 1024);
    let jsonl = JsonLines::new(lines);
    jsonl.send(&batch).await.unwrap();
    drop(jsonl);
    let mut line = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut written, &mut line).await.unwrap();
    let version = format!(r#""$lib_version":"{}""#, env!("CARGO_PKG_VERSION"));
    let body = posthog.render(&batch).unwrap().replace(&version, r#""$lib_version":"0.0.0""#);
    let text = format!("PostHog: {body}\nJsonLines: {line}\n");
    text.replace(&uuid, "00000000-0000-4000-8000-000000000000")
}

/// Passes each instance of the catalogue to `with`.
macro_rules! each_event {
    ($with:ident) => {
        $with!(
            call_ended,
            call_error,
            call_started,
            composer,
            created_room,
            crypto_session_state,
            error,
            expand_collapse_section,
            interaction,
            joined_room,
            mobile_screen,
            notification_troubleshoot,
            performance_timer,
            permission_changed,
            pin_unpin_action,
            poll_creation,
            poll_end,
            poll_vote,
            room_filter_changed,
            room_list_sorting_algorithm_changed,
            room_moderation,
            section_creation,
            signup,
            slash_command,
            unauthenticated_error,
            url_preview_rendered,
            url_preview_visibility_changed,
            view_room,
            web_panel_resize,
            web_screen,
            web_search,
        )
    };
}

/// The output of PostHog and of JSON Lines for one instance of each type. After a change of the
/// types, this writes it: `ELEMENT_EVENTS_BLESS=1 cargo test --all-features --test it element`
#[tokio::test]
async fn each_event_leaves_as_in_the_snapshot() {
    let mut actual = String::new();
    macro_rules! push {
        ($($event:ident,)*) => {
            $(actual.push_str(&sent(outgoing(&instances::$event())).await);)*
        };
    }
    each_event!(push);
    let shared = testing::event("PollVote", instances::super_properties().into());
    let user = UserProperties::from(instances::user_properties());
    actual += "With super properties and user properties:\n";
    let set_once = user.initial_values().clone();
    let all = testing::with_user_properties(shared, user.values().clone(), set_once);
    actual.push_str(&sent(all).await);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    #[expect(clippy::disallowed_methods, reason = "an author sets the variable for one run")]
    if env::var_os(BLESS).is_some() {
        fs::write(&path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    for (actual, expected) in actual.lines().zip(expected.lines()) {
        assert_eq!(actual, expected, "with {BLESS}=1 it is stored");
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "with {BLESS}=1 it is stored");
}

#[tokio::test]
async fn under_a_closed_vocabulary_all_leaves_but_texts_that_were_computed() {
    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(recorder.clone()).text_policy(TextPolicy::Refuse);
    let builder = builder
        .super_properties(instances::super_properties())
        .user_properties(instances::user_properties());
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let mut expected = Vec::new();
    macro_rules! capture {
        ($($event:ident,)*) => {
            $({
                let event = instances::$event();
                analytics.capture(&event);
                expected.push(json!(event));
            })*
        };
    }
    each_event!(capture);
    let computed = || "computed".to_owned();
    let error = element::Error::new(element::ErrorDomain::Voip, element::ErrorName::VoipIceFailed);
    analytics.capture(&error.context(computed()));
    expected.push(json!({"domain": "VOIP", "name": "VoipIceFailed"}));
    let timer = element::PerformanceTimer::new(element::TimerName::InitialSyncRequest, 5);
    analytics.capture(&timer.context(computed()));
    expected.push(json!({"name": "InitialSyncRequest", "timeMs": 5}));
    let code = element::UnauthenticatedErrorCode::Forbidden;
    analytics.capture(&element::UnauthenticatedError::new(true, false, code, computed()));
    expected
        .push(json!({"refreshTokenAuth": true, "softLogout": false, "errorCode": "M_FORBIDDEN"}));
    assert!(eventually(analytics.flush_all()).await.is_complete());

    let events = recorder.events();
    assert_eq!(events.len(), expected.len());
    for (event, mut expected) in events.iter().zip(expected) {
        let shared = json!(instances::super_properties()).as_object().unwrap().clone();
        expected.as_object_mut().unwrap().extend(shared);
        assert_eq!(Value::Object(event.properties.clone()), expected, "{}", event.name);
    }
    assert_eq!(json!(events[0].set), json!(instances::user_properties()));
    assert_eq!(analytics.stats().refused_texts, 3);
    assert!(analytics.stats().guarded.is_empty());
}

#[tokio::test]
async fn the_guard_inspects_texts_of_the_program_as_well() {
    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(recorder.clone()).text_policy(TextPolicy::Refuse);
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let error = element::Error::new(element::ErrorDomain::E2ee, element::ErrorName::UnknownError);
    analytics.capture(&error.context("of @bob:example.net"));
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(recorder.events()[0].properties["context"], "of [user_id]");
}
