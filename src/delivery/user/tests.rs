use std::time::SystemTime;

use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::event::Properties;

fn set(key: &str, value: i64) -> UserProperties {
    UserProperties { set: Properties::new().with(key, value), ..UserProperties::default() }
}

fn said(user: UserProperties) -> Said {
    Said { user, epoch: 1 }
}

fn queued(name: &'static str, user: Option<UserProperties>) -> Queued {
    let event = OutgoingEvent {
        uuid: Uuid::new_v4(),
        name: name.into(),
        at: SystemTime::now(),
        properties: Properties::new(),
        user: user.map(Box::new),
        epoch: 1,
    };
    Queued::new(Arc::new(event), Instant::now())
}

fn json(user: Option<UserProperties>) -> (String, String) {
    user.map(|user| (user.set.to_json(), user.set_once.to_json())).unwrap_or_default()
}

#[test]
fn what_was_delivered_is_forgotten_and_what_was_said_meanwhile_is_not() {
    let mut pending = PendingUser::default();
    pending.say(&said(set("a", 1)), None);
    pending.say(&said(set("b", 1)), None);
    let sent = pending.offer(1).unwrap();
    pending.say(&said(set("b", 2)), None);
    pending.say(&said(set("c", 1)), None);
    pending.delivered(Some(&sent));
    assert_eq!(json(pending.offer(1)).0, r#"{"b":2,"c":1}"#);
    let sent = pending.offer(1).unwrap();
    pending.delivered(Some(&sent));
    assert!(pending.offer(1).is_none());
}

#[test]
fn the_last_value_counts_and_of_what_is_set_once_the_first() {
    let mut pending = PendingUser::default();
    for value in 1..=3 {
        let once = Properties::new().with("a", value);
        let user = UserProperties { set: once.clone(), set_once: once };
        pending.say(&said(user), None);
    }
    assert_eq!(json(pending.offer(1)), (r#"{"a":3}"#.to_owned(), r#"{"a":1}"#.to_owned()));
}

#[test]
fn nothing_is_offered_in_another_epoch_and_a_new_epoch_begins_with_nothing() {
    let mut pending = PendingUser::default();
    pending.say(&said(set("a", 1)), None);
    assert!(pending.offer(2).is_none());
    pending.say(&Said { user: set("b", 1), epoch: 2 }, None);
    assert!(pending.offer(1).is_none());
    assert_eq!(json(pending.offer(2)).0, r#"{"b":1}"#);
}

#[test]
fn a_refusal_is_followed_by_a_request_without_and_ten_in_a_row_by_none_with() {
    let mut pending = PendingUser::default();
    pending.say(&said(set("a", 1)), None);
    for refusal in 1..=MOST_REFUSALS {
        assert!(pending.offer(1).is_some(), "{refusal}");
        pending.refused(true);
        assert!(pending.offer(1).is_none(), "{refusal}");
        // Refused without, too: the events were to blame.
        pending.refused(false);
        assert!(pending.offer(1).is_none(), "{refusal}");
        pending.delivered(None);
    }
    assert!(pending.offer(1).is_none());
    pending.say(&said(set("a", 2)), None);
    assert!(pending.offer(1).is_some());
}

#[test]
fn what_a_restart_would_lose_is_known_by_its_rows() {
    let mut pending = PendingUser::default();
    assert!(pending.unwritten(1, 1).is_none());
    pending.say(&said(set("a", 1)), Some(5));
    pending.say(&said(set("b", 1)), Some(9));
    assert!(pending.unwritten(1, 5).is_none());
    assert_eq!(json(pending.unwritten(1, 6).cloned()).0, r#"{"a":1,"b":1}"#);
    pending.written(12);
    assert!(pending.unwritten(1, 12).is_none());
    // The disk failed: a part is in no row.
    pending.say(&said(set("c", 1)), None);
    assert!(pending.unwritten(1, 12).is_some());
}

#[test]
fn the_first_event_that_may_carries_them_and_no_other_does() {
    let old = Some(set("old", 1));
    let batch = [queued("Never", old.clone()), queued("May", None), queued("May", old)];
    let carries = |event: &OutgoingEvent| event.name() == "May";
    let (events, carried) = attach(&batch, Some(set("new", 1)), carries);
    let sets: Vec<_> = events.iter().map(|event| event.user_properties().set.to_json()).collect();
    assert_eq!(sets, ["{}", r#"{"new":1}"#, "{}"]);
    assert_eq!(json(carried).0, r#"{"new":1}"#);
    for (event, queued) in events.iter().zip(&batch) {
        assert_eq!(event.uuid, queued.event.uuid);
    }

    let (events, carried) = attach(&batch, Some(set("new", 1)), |_| false);
    assert!(carried.is_none() && events.iter().all(|event| event.user.is_none()));
}
