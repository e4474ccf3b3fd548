use std::time::Duration;

use reqwest::StatusCode;

use super::*;
use crate::backend::http::AnswerBody;

fn outcome(status: u16, retry_after: Option<Duration>, body: AnswerBody) -> String {
    let status = StatusCode::from_u16(status).unwrap();
    match verdict(&Answer { status, retry_after, body }) {
        Ok(()) => "ok".to_owned(),
        Err(DeliveryError::Partial(PartialDelivery {
            rejected, expired: 0, too_large: 0, ..
        })) => {
            format!("{rejected} rejected")
        }
        Err(DeliveryError::Refused { status, .. }) => format!("refused {status}"),
        Err(DeliveryError::Throttled { retry_after: None, .. }) => "throttled".to_owned(),
        Err(DeliveryError::Throttled { retry_after: Some(wait), .. }) => {
            format!("throttled {}", wait.as_secs())
        }
        Err(DeliveryError::TooLarge(_)) => "too large".to_owned(),
        Err(DeliveryError::Transient(_)) => "transient".to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

fn whole(body: &[u8]) -> AnswerBody {
    AnswerBody::Whole(body.to_vec())
}

#[test]
fn only_the_four_statuses_of_the_specification_are_retried() {
    let asked = Some(Duration::from_secs(7));
    for status in 300..=999 {
        let refused = format!("refused {status}");
        let (without, with) = match status {
            413 => ("too large", "too large"),
            429 => ("throttled", "throttled 7"),
            502..=504 => ("transient", "throttled 7"),
            _ => (&*refused, &*refused),
        };
        // The body of a failure has no meaning.
        for body in [&b""[..], b"{}", b"<html>"] {
            assert_eq!(outcome(status, None, whole(body)), without);
            assert_eq!(outcome(status, asked, whole(body)), with);
        }
        assert_eq!(outcome(status, None, AnswerBody::Incomplete), without);
        assert_eq!(outcome(status, asked, AnswerBody::TooLong), with);
    }
}

#[test]
fn a_success_is_never_retried_once_it_has_arrived() {
    for (body, expected) in [
        (&b""[..], "ok"),
        (b" \r\n", "refused 200"),
        (b"{}", "ok"),
        (b" {} \r\n", "ok"),
        (br#"{"partialSuccess":null}"#, "ok"),
        (br#"{"partialSuccess":{}}"#, "ok"),
        (br#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"a warning"}}"#, "ok"),
        (br#"{"partialSuccess":{"rejectedLogRecords":"3"}}"#, "3 rejected"),
        (br#"{"partialSuccess":{"rejectedLogRecords":3}}"#, "3 rejected"),
        (br#"{"partialSuccess":{"rejectedLogRecords":null}}"#, "ok"),
        (br#"{"partialSuccess":{"rejectedLogRecords":-3}}"#, "ok"),
        (br#"{"unknown":[1,{"a":null}],"partialSuccess":{"new":1}}"#, "ok"),
        (br#"{"partialSuccess":{"rejectedLogRecords":"many"}}"#, "refused 200"),
        (br#"{"partialSuccess":7}"#, "refused 200"),
        (br#"{"partialSuccess":{"#, "refused 200"),
        (b"[]", "refused 200"),
        (b"<!DOCTYPE html><html></html>", "refused 200"),
        (b"OK", "refused 200"),
        // Computed by Python's `opentelemetry-proto`.
        (b"\x0a\x02\x08\x03", "3 rejected"),
        (b"\x0a\x0b\x12\x09a warning", "ok"),
        (b"\x0a\x0d\x08\x02\x12\x09a warning", "2 rejected"),
        (b"\x0a\x0b\x08\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ok"),
        (b"\x0a\x00", "ok"),
        (b"\x0a\x05\x08", "refused 200"),
    ] {
        let shown = String::from_utf8_lossy(body);
        assert_eq!(outcome(200, None, whole(body)), expected, "{shown}");
    }
    assert_eq!(outcome(202, None, whole(b"{}")), "ok");
    assert_eq!(outcome(204, None, whole(b"")), "ok");
    assert_eq!(outcome(200, None, AnswerBody::TooLong), "refused 200");
    assert_eq!(outcome(200, None, AnswerBody::Incomplete), "transient");
}

#[test]
fn a_deeply_nested_answer_is_read_without_recursion() {
    let depth = 30_000;
    for (open, close, in_place_of_a_message) in [("[", "]", "refused 200"), (r#"{"a":"#, "}", "ok")]
    {
        let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        for (body, expected) in [
            (format!(r#"{{"unknown":{nested}}}"#), "ok"),
            (format!(r#"{{"partialSuccess":{nested}}}"#), in_place_of_a_message),
            (format!(r#"{{"partialSuccess":{{"rejectedLogRecords":{nested}}}}}"#), "refused 200"),
        ] {
            assert_eq!(outcome(200, None, whole(body.as_bytes())), expected);
        }
    }
    // Groups of protobuf, one in another.
    assert_eq!(outcome(200, None, whole(&vec![0x4b; depth])), "refused 200");
}

#[test]
fn an_error_names_the_status_and_quotes_nothing() {
    let body = whole(b"secret");
    let error = verdict(&Answer { status: StatusCode::NOT_FOUND, retry_after: None, body });
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "the backend refuses the batch for good, with status 404");
    assert!(!format!("{error:?}").contains("secret"));
}
