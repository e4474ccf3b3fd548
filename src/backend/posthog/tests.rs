use std::{fmt::Write as _, future::poll_fn};

use http_body::Body as _;

use super::*;

fn outcome(result: &Result<(), DeliveryError>) -> String {
    let mut name = match result {
        Ok(()) => "ok".to_owned(),
        Err(DeliveryError::Misconfigured(_)) => "misconfigured".to_owned(),
        Err(DeliveryError::Rejected(_)) => "rejected".to_owned(),
        Err(DeliveryError::Throttled { .. }) => "throttled".to_owned(),
        Err(DeliveryError::TooLarge(_)) => "too large".to_owned(),
        Err(DeliveryError::Transient(_)) => "transient".to_owned(),
        Err(DeliveryError::Unauthorized(_)) => "unauthorized".to_owned(),
    };
    if let Err(DeliveryError::Throttled { retry_after: Some(wait), .. }) = result {
        write!(name, " {}", wait.as_secs()).unwrap();
    }
    name
}

#[test]
fn every_status_has_a_verdict() {
    let asked = Some(Duration::from_secs(7));
    for (status, without_retry_after, with_retry_after) in [
        (200, "ok", "ok"),
        (204, "ok", "ok"),
        (299, "ok", "ok"),
        (300, "misconfigured", "misconfigured"),
        (301, "misconfigured", "misconfigured"),
        (304, "misconfigured", "misconfigured"),
        (307, "misconfigured", "misconfigured"),
        (400, "rejected", "rejected"),
        (401, "unauthorized", "unauthorized"),
        (402, "misconfigured", "misconfigured"),
        (403, "unauthorized", "unauthorized"),
        (404, "misconfigured", "misconfigured"),
        (405, "misconfigured", "misconfigured"),
        (408, "transient", "transient"),
        (410, "misconfigured", "misconfigured"),
        (413, "too large", "too large"),
        (418, "misconfigured", "misconfigured"),
        (422, "rejected", "rejected"),
        (425, "transient", "transient"),
        (429, "throttled", "throttled 7"),
        (500, "transient", "transient"),
        (502, "transient", "transient"),
        (503, "transient", "throttled 7"),
        (504, "transient", "transient"),
        (599, "transient", "transient"),
        (600, "misconfigured", "misconfigured"),
        (999, "misconfigured", "misconfigured"),
    ] {
        let code = StatusCode::from_u16(status).unwrap();
        assert_eq!(outcome(&verdict(code, None)), without_retry_after, "{status}");
        assert_eq!(outcome(&verdict(code, asked)), with_retry_after, "{status} and Retry-After");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    let seconds = |value| parse_retry_after(value, now).map(|wait| wait.as_secs());
    for (value, wait) in [
        ("0", Some(0)),
        ("120", Some(120)),
        (" 5 ", Some(5)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
        ("Sun Nov  6 08:50:37 1994", Some(60)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("99999999999999999999999", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ] {
        assert_eq!(seconds(value), wait, "{value:?}");
    }
}

#[test]
fn batch_is_appended_to_the_endpoint() {
    for (endpoint, url) in [
        ("https://eu.i.posthog.com", "https://eu.i.posthog.com/batch/"),
        ("https://eu.i.posthog.com/", "https://eu.i.posthog.com/batch/"),
        ("http://localhost:8000", "http://localhost:8000/batch/"),
        ("https://example.org/posthog", "https://example.org/posthog/batch/"),
        ("https://example.org/a/b/", "https://example.org/a/b/batch/"),
        ("HTTPS://EXAMPLE.ORG", "https://example.org/batch/"),
        ("https://[::1]:8443/ph", "https://[::1]:8443/ph/batch/"),
    ] {
        assert_eq!(batch_url(endpoint).unwrap().as_str(), url, "{endpoint}");
    }
}

#[test]
fn the_cheap_test_finds_every_reserved_key() {
    for key in RESERVED_KEYS {
        assert!(may_have_reserved_key(&format!(r#""{key}":1"#)), "{key} alone");
        assert!(may_have_reserved_key(&format!(r#""a":"b","{key}":"c""#)), "{key} later");
        let escaped = format!(r#""\u{:04x}{}":1"#, u32::from(key.as_bytes()[0]), &key[1..]);
        assert!(may_have_reserved_key(&escaped), "{escaped}");
    }
    assert!(RESERVED_KEYS.is_sorted());
}

#[test]
fn the_cheap_test_spares_other_keys() {
    for members in [
        "",
        r#""trigger":"Invite","is_dm":true,"members":3"#,
        r#""$screen_name":"Home","$process_person_profile":false"#,
        r#""tokens":1,"my_token":2,"aliases":3,"$settings":4,"$ips":5"#,
        r#""text":"distinct_id and $set""#,
    ] {
        assert!(!may_have_reserved_key(members), "{members}");
    }
}

async fn next_piece(body: &mut CuttableBody) -> Option<Result<Bytes, GivenUp>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn a_body_leaves_in_pieces() {
    let wanted = Arc::new(());
    let whole = Bytes::from(vec![7; 2 * PIECE + 1]);
    let mut body = CuttableBody { rest: whole.clone(), wanted: Arc::downgrade(&wanted) };
    assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
    let mut sent = Vec::new();
    while let Some(piece) = next_piece(&mut body).await {
        let piece = piece.unwrap();
        assert!(piece.len() <= PIECE);
        sent.extend_from_slice(&piece);
    }
    assert_eq!(sent, whole);
}

#[tokio::test]
async fn a_body_that_is_not_wanted_any_more_gives_nothing() {
    let wanted = Arc::new(());
    let mut body =
        CuttableBody { rest: Bytes::from(vec![7; 2 * PIECE]), wanted: Arc::downgrade(&wanted) };
    assert!(next_piece(&mut body).await.unwrap().is_ok());
    drop(wanted);
    assert!(next_piece(&mut body).await.unwrap().is_err());
}
