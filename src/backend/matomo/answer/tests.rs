use std::time::Duration;

use super::*;
use crate::backend::http::AnswerBody;

fn outcome(status: u16, body: AnswerBody) -> String {
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: Some(Duration::from_secs(7)),
        body,
    };
    match unconfirmed(&answer, 5) {
        Ok(events) => events.to_string(),
        Err(DeliveryError::Misconfigured(_)) => "misconfigured".to_owned(),
        Err(DeliveryError::Rejected(_)) => "rejected".to_owned(),
        Err(DeliveryError::Throttled { .. }) => "throttled".to_owned(),
        Err(DeliveryError::TooLarge(_)) => "too large".to_owned(),
        Err(DeliveryError::Transient(_)) => "transient".to_owned(),
        Err(DeliveryError::Unauthorized(_)) => "unauthorized".to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

fn whole(body: &str) -> AnswerBody {
    AnswerBody::Whole(body.as_bytes().to_vec())
}

#[test]
fn an_answer_confirms_the_events_that_it_counts() {
    for (body, expected) in [
        (r#"{"status":"success","tracked":5,"invalid":0}"#, "0"),
        (r#"{"status":"success","tracked":3,"invalid":2}"#, "2"),
        // One that was neither stored nor invalid was lost to a lock.
        (r#"{"status":"success","tracked":3,"invalid":1}"#, "2"),
        (r#"{"status":"success","tracked":0,"invalid":5,"invalid_indices":[0,1,2,3,4]}"#, "5"),
        (r#"{"status":"success","tracked":0,"invalid":0}"#, "5"),
        (r#"{"status":"success","tracked":9,"invalid":0}"#, "0"),
        (r#"{"status":"error","tracked":5,"invalid":0}"#, "misconfigured"),
        (r#"{"status":"success","tracked":-1}"#, "misconfigured"),
        (r#"{"status":"success"}"#, "misconfigured"),
        ("GIF89a\u{1}", "misconfigured"),
        ("<!DOCTYPE html>", "misconfigured"),
        ("", "misconfigured"),
        ("[]", "misconfigured"),
        ("null", "misconfigured"),
    ] {
        assert_eq!(outcome(200, whole(body)), expected, "{body}");
    }
    assert_eq!(outcome(200, AnswerBody::Incomplete), "transient");
    assert_eq!(outcome(200, AnswerBody::TooLong), "misconfigured");
}

#[test]
fn a_500_blames_the_batch_and_any_other_status_means_what_it_always_means() {
    let success = r#"{"status":"success","tracked":5,"invalid":0}"#;
    for (status, expected) in [
        (201, "misconfigured"),
        (204, "misconfigured"),
        (302, "misconfigured"),
        (400, "rejected"),
        (401, "unauthorized"),
        (403, "unauthorized"),
        (404, "misconfigured"),
        (413, "too large"),
        (429, "throttled"),
        (500, "rejected"),
        (502, "transient"),
        (503, "throttled"),
        (504, "transient"),
    ] {
        assert_eq!(outcome(status, whole(success)), expected, "{status}");
        assert_eq!(outcome(status, AnswerBody::Incomplete), expected, "{status}");
    }
}
