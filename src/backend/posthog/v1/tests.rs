//! What each answer means, row by row.

use std::time::Duration;

use EventOutcome::{
    Delivered, OverQuota, Rejected as Dropped, SendAgain, TooLarge, WithoutUserProperties,
};
use reqwest::StatusCode;
use uuid::Uuid;

use super::*;
use crate::{
    backend::{
        DeliveryError, EventOutcome,
        http::{Answer, AnswerBody},
        samples::{batch, event},
    },
    event::{OutgoingEvent, Properties},
};

const FIRST: &str = "00000000-0000-0000-0000-0000000000a1";
const SECOND: &str = "00000000-0000-0000-0000-0000000000a2";

fn two_events() -> Batch {
    let event =
        |id| OutgoingEvent { uuid: Uuid::from_u128(id), ..event("Opened", Properties::new()) };
    batch([event(0xa1), event(0xa2)])
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: Some(Duration::from_secs(7)),
        body: AnswerBody::Whole(body.as_bytes().to_vec()),
    }
}

fn outcomes(answer: &Answer) -> Vec<EventOutcome> {
    match verdict(answer, &two_events()) {
        Ok(()) => vec![Delivered; 2],
        Err(DeliveryError::PerEvent { outcomes, .. }) => outcomes,
        Err(error) => panic!("{error:?}"),
    }
}

fn results(first: &str, second: &str) -> Answer {
    answer(200, &format!(r#"{{"results":{{"{FIRST}":{first},"{SECOND}":{second}}}}}"#))
}

#[test]
fn each_result_has_its_outcome() {
    let ok = r#"{"result":"ok"}"#;
    for (result, outcome) in [
        (ok, Delivered),
        (r#"{"result":"ok","details":null}"#, Delivered),
        (r#"{"result":"ok","details":"something new"}"#, Delivered),
        (r#"{"result":"warning"}"#, Delivered),
        (r#"{"result":"warning","details":"person_processing_disabled"}"#, WithoutUserProperties),
        (r#"{"result":"ok","details":"person_processing_disabled"}"#, WithoutUserProperties),
        (r#"{"result":"retry"}"#, SendAgain),
        (r#"{"result":"retry","details":"not_persisted"}"#, SendAgain),
        (r#"{"result":"drop"}"#, Dropped),
        (r#"{"result":"drop","details":"event_restriction_drop"}"#, Dropped),
        (r#"{"result":"drop","details":"distinct_id_too_large"}"#, Dropped),
        (r#"{"result":"drop","details":"invalid_options"}"#, Dropped),
        (r#"{"result":"drop","details":"exceptions_over_quota"}"#, OverQuota),
        (r#"{"result":"drop","details":"survey_responses_over_quota"}"#, OverQuota),
        (r#"{"result":"drop","details":"llm_events_over_quota"}"#, OverQuota),
        (r#"{"result":"drop","details":"over_quota"}"#, OverQuota),
        (r#"{"result":"drop","details":"billing_limit_exceeded"}"#, OverQuota),
        (r#"{"result":"drop","details":"event_too_big"}"#, TooLarge),
        (r#"{"result":"drop","details":"ai_event_too_big"}"#, TooLarge),
        // Results that PostHog does not have today.
        (r#"{"result":"OK"}"#, Dropped),
        (r#"{"result":"accepted"}"#, Dropped),
        (r#"{"result":7,"details":{"a":[1]}}"#, Dropped),
        (r#"{"details":"ok"}"#, Dropped),
        ("{}", Dropped),
        ("null", Dropped),
        (r#""ok""#, Dropped),
        ("[]", Dropped),
    ] {
        assert_eq!(outcomes(&results(result, ok)), [outcome, Delivered], "{result}");
        assert_eq!(outcomes(&results(ok, result)), [Delivered, outcome], "{result}");
    }
}

#[test]
fn only_a_result_for_every_event_is_a_delivery() {
    let ok = r#"{"result":"ok"}"#;
    assert!(verdict(&results(ok, ok), &two_events()).is_ok());
    for (body, expected) in [
        (r#"{"results":{}}"#.to_owned(), [SendAgain, SendAgain]),
        (format!(r#"{{"results":{{"{SECOND}":{ok}}}}}"#), [SendAgain, Delivered]),
        // Results of events that were not sent count for nothing.
        (
            format!(r#"{{"results":{{"{FIRST}":{ok},"x":{ok},"{}":{ok}}}}}"#, Uuid::from_u128(9)),
            [Delivered, SendAgain],
        ),
        // Of two results for one event, the last one counts.
        (
            format!(
                r#"{{"results":{{"{FIRST}":{ok},"{SECOND}":{ok},"{FIRST}":{{"result":"drop"}}}}}}"#
            ),
            [Dropped, Delivered],
        ),
        // The second kind of ID is another spelling, which PostHog does not write.
        (
            format!(r#"{{"more":[],"results":{{"{}":{ok}}}}}"#, FIRST.to_uppercase()),
            [SendAgain, SendAgain],
        ),
    ] {
        assert_eq!(outcomes(&answer(200, &body)), expected, "{body}");
    }
}

#[test]
fn the_wait_that_posthog_asks_for_is_kept() {
    let again = results(r#"{"result":"retry"}"#, r#"{"result":"ok"}"#);
    let error = verdict(&again, &two_events()).unwrap_err();
    let DeliveryError::PerEvent { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

fn kind(answer: &Answer) -> &'static str {
    match verdict(answer, &two_events()) {
        Ok(()) => "ok",
        Err(DeliveryError::Misconfigured(_)) => "misconfigured",
        Err(DeliveryError::PerEvent { outcomes, .. }) => {
            assert_eq!(outcomes, [OverQuota; 2]);
            "over quota"
        }
        Err(DeliveryError::Rejected(_)) => "rejected",
        Err(DeliveryError::Throttled { .. }) => "throttled",
        Err(DeliveryError::TooLarge(_)) => "too large",
        Err(DeliveryError::Transient(_)) => "transient",
        Err(DeliveryError::Unauthorized(_)) => "unauthorized",
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn each_failure_has_its_meaning() {
    for (status, error, expected) in [
        (400, "request_parsing_error", "rejected"),
        (400, "invalid_batch", "rejected"),
        (400, "duplicate_event_uuid", "rejected"),
        (400, "invalid_event_uuid", "rejected"),
        (400, "missing_required_headers", "misconfigured"),
        (400, "invalid_header_value", "misconfigured"),
        (400, "empty_body", "misconfigured"),
        (400, "request_decoding_error", "misconfigured"),
        (401, "missing_authorization", "unauthorized"),
        (401, "invalid_api_token", "unauthorized"),
        (402, "billing_limit_exceeded", "over quota"),
        (402, "payment_required", "misconfigured"),
        (404, "not_found", "misconfigured"),
        (405, "method_not_allowed", "misconfigured"),
        (408, "request_timeout", "transient"),
        (408, "body_read_timeout", "transient"),
        (413, "payload_too_large", "too large"),
        (415, "unsupported_encoding", "misconfigured"),
        (429, "billing_limit_exceeded", "over quota"),
        (429, "rate_limited", "throttled"),
        (500, "internal_error", "transient"),
        (503, "service_unavailable", "throttled"),
        (504, "gateway_timeout", "transient"),
    ] {
        let body = format!(r#"{{"error":"{error}","error_description":"","error_uri":""}}"#);
        assert_eq!(kind(&answer(status, &body)), expected, "{status} {error}");
    }
    // A status without PostHog's body costs no event unless it blames the batch.
    for (status, expected) in [(400, "rejected"), (402, "misconfigured"), (429, "throttled")] {
        for body in ["", "<html>", r#"{"error":{}}"#, "billing_limit_exceeded"] {
            assert_eq!(kind(&answer(status, body)), expected, "{status} {body}");
        }
    }
}

#[test]
fn a_success_without_results_is_not_from_this_endpoint() {
    for body in ["", "{}", "[]", "null", r#"{"status":1}"#, r#"{"results":[]}"#, "<!DOCTYPE html>"]
    {
        for status in [200, 202, 204] {
            assert_eq!(kind(&answer(status, body)), "misconfigured", "{status} {body}");
        }
    }
    let too_long = Answer { body: AnswerBody::TooLong, ..answer(200, "") };
    assert_eq!(kind(&too_long), "misconfigured");
    let incomplete = Answer { body: AnswerBody::Incomplete, ..answer(200, "") };
    assert_eq!(kind(&incomplete), "transient");
}

#[test]
fn an_answer_for_any_number_of_events_is_read() {
    let longest = r#""00000000-0000-0000-0000-0000000000a1":{"result":"drop","details":"survey_responses_over_quota"},"#;
    for events in [1, 100, 10_000] {
        assert!(longest_answer(events) > longest.len() * events, "{events}");
    }
    assert_eq!(longest_answer(usize::MAX), usize::MAX);
}

#[test]
fn the_key_in_a_header_is_not_shown() {
    let v1 = V1::new(&ApiKey(" phc_4b1d0c ".into())).unwrap();
    let mut headers = HeaderMap::new();
    v1.add_headers(&mut headers, &two_events());
    assert_eq!(headers[header::AUTHORIZATION], "Bearer phc_4b1d0c");
    assert!(!format!("{headers:?}").contains("4b1d0c"), "{headers:?}");
}

#[test]
fn only_posthogs_own_hosts_are_known_to_answer_for_each_event() {
    for (url, is_known) in [
        ("https://eu.i.posthog.com/", true),
        ("https://us.i.posthog.com/prefix/", true),
        ("https://eu.posthog.com/", false),
        ("https://posthog.example.org/", false),
        ("https://i.posthog.com.example.org/", false),
        ("https://eui.posthog.com/", false),
        ("http://127.0.0.1:8000/", false),
    ] {
        assert_eq!(is_known_at(&url.parse().unwrap()), is_known, "{url}");
    }
}
