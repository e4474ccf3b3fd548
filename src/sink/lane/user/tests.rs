use std::time::SystemTime;

use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::event::{Process, Properties};

fn set(key: &'static str, value: i64) -> UserProperties {
    UserProperties { set: Properties::new().with(key, value), ..UserProperties::default() }
}

fn update(user: UserProperties) -> UserUpdate {
    UserUpdate { user, epoch: 1 }
}

fn queued(name: &'static str) -> Queued {
    let event = OutgoingEvent {
        uuid: Uuid::new_v4(),
        name: name.into(),
        at: SystemTime::now(),
        properties: Properties::new(),
        user: None,
        epoch: 1,
        process: Process::random(),
    };
    Queued::new(Arc::new(event), Instant::now())
}

fn json(user: Option<UserProperties>) -> (String, String) {
    user.map(|user| (user.set.to_json(), user.set_once.to_json())).unwrap_or_default()
}

#[test]
fn delivered_properties_are_removed_and_those_set_during_the_request_stay() {
    let mut pending = PendingUser::default();
    pending.add(&update(set("a", 1)));
    pending.add(&update(set("b", 1)));
    let sent = pending.offer(1).unwrap();
    pending.add(&update(set("b", 2)));
    pending.add(&update(set("c", 1)));
    pending.delivered(Some(&sent));
    assert_eq!(json(pending.offer(1)).0, r#"{"b":2,"c":1}"#);
    let sent = pending.offer(1).unwrap();
    pending.delivered(Some(&sent));
    assert!(pending.offer(1).is_none());
}

#[test]
fn the_last_value_counts_except_for_set_once_where_the_first_counts() {
    let mut pending = PendingUser::default();
    for value in 1..=3 {
        let once = Properties::new().with("a", value);
        let user = UserProperties { set: once.clone(), set_once: once };
        pending.add(&update(user));
    }
    assert_eq!(json(pending.offer(1)), (r#"{"a":3}"#.to_owned(), r#"{"a":1}"#.to_owned()));
}

#[test]
fn nothing_is_offered_in_another_epoch_and_a_new_epoch_starts_empty() {
    let mut pending = PendingUser::default();
    pending.add(&update(set("a", 1)));
    assert!(pending.offer(2).is_none());
    pending.add(&UserUpdate { user: set("b", 1), epoch: 2 });
    assert!(pending.offer(1).is_none());
    assert_eq!(json(pending.offer(2)).0, r#"{"b":1}"#);
}

#[test]
fn a_refusal_skips_one_request_and_ten_in_a_row_drop_the_properties() {
    let mut pending = PendingUser::default();
    pending.add(&update(set("a", 1)));
    pending.take_changed().unwrap();
    for refusal in 1..=MOST_REFUSALS {
        assert!(pending.offer(1).is_some(), "{refusal}");
        assert_eq!(pending.refused(true), refusal == MOST_REFUSALS, "{refusal}");
        assert!(pending.offer(1).is_none(), "{refusal}");
        // A refusal without the properties shows that the events are the cause.
        assert!(!pending.refused(false), "{refusal}");
        assert!(pending.offer(1).is_none(), "{refusal}");
        pending.delivered(None);
    }
    assert!(pending.offer(1).is_none());
    assert!(pending.take_changed().unwrap().user.is_empty());
    pending.add(&update(set("a", 2)));
    assert!(pending.offer(1).is_some());
}

#[test]
fn new_properties_replace_the_waiting_ones_if_both_exceed_the_limit_of_an_event() {
    let large = |key: &'static str| UserProperties {
        set: Properties::new().with(key, "word ".repeat(4000)),
        ..UserProperties::default()
    };
    let mut pending = PendingUser::default();
    pending.add(&update(large("a")));
    pending.add(&update(set("small", 1)));
    pending.add(&update(large("b")));
    pending.add(&update(set("last", 1)));
    let set = pending.offer(1).unwrap().set.to_json();
    let found = ["a", "small", "b", "last"].map(|key| set.contains(&format!("\"{key}\":")));
    assert_eq!(found, [false, false, true, true]);
}

#[test]
fn each_change_is_returned_once_and_restored_properties_are_not_a_change() {
    let mut pending = PendingUser::default();
    assert!(pending.take_changed().is_none());
    pending.add(&update(set("a", 1)));
    let user = pending.take_changed().unwrap().user;
    assert_eq!(
        (json(Some(user.clone())).0, pending.take_changed().is_none()),
        (r#"{"a":1}"#.into(), true)
    );
    pending.refused(true);
    pending.delivered(None);
    assert!(pending.take_changed().is_none());
    pending.delivered(Some(&user));
    assert!(pending.take_changed().unwrap().user.is_empty());

    #[cfg(feature = "sqlite")]
    assert!(PendingUser::restored(update(set("a", 1))).take_changed().is_none());
}

#[test]
fn only_the_first_event_that_can_carry_them_does() {
    let batch = ["Never", "May", "May"].map(queued);
    let carries = |event: &OutgoingEvent| event.name() == "May";
    let (events, carried) = attach(&batch, Some(set("new", 1)), carries);
    let sets: Vec<_> = events.iter().map(|event| event.user_properties().set.to_json()).collect();
    assert_eq!(sets, ["{}", r#"{"new":1}"#, "{}"]);
    let carried = carried.unwrap();
    assert_eq!((json(Some(carried.properties)).0, carried.place), (r#"{"new":1}"#.to_owned(), 1));
    for (event, queued) in events.iter().zip(&batch) {
        assert_eq!(event.uuid, queued.event.uuid);
    }

    let (events, carried) = attach(&batch, Some(set("new", 1)), |_| false);
    assert!(carried.is_none() && events.iter().all(|event| event.user.is_none()));
}
