//! Compares the types with the schemas in `tests/element-events.txt`.

mod found;
mod table;

use std::{borrow::Cow, collections::BTreeSet};

use self::{
    found::{Found, Kind, event, properties},
    table::Table,
};
use super::*;

/// Some values of a type, which together show all that it can serialise to.
pub(super) trait Samples: Sized {
    fn samples() -> Vec<Self>;
}

/// Returns the first sample.
pub(super) fn first<T: Samples>() -> T {
    T::samples().swap_remove(0)
}

/// Returns what `with` makes of each sample.
pub(super) fn each<T: Samples, U>(with: impl FnMut(T) -> U) -> Vec<U> {
    T::samples().into_iter().map(with).collect()
}

impl Samples for bool {
    fn samples() -> Vec<Self> {
        vec![false, true]
    }
}

impl Samples for i64 {
    fn samples() -> Vec<Self> {
        vec![-1, 7]
    }
}

impl Samples for u64 {
    fn samples() -> Vec<Self> {
        vec![0, 7]
    }
}

impl Samples for text::Text {
    fn samples() -> Vec<Self> {
        vec![Self::new("computed".to_owned()), Self::new("program")]
    }
}

impl<T: Samples> Samples for Vec<T> {
    fn samples() -> Vec<Self> {
        vec![Self::new(), T::samples()]
    }
}

const TABLE: &str = include_str!("../../tests/element-events.txt");

/// Returns what the types serialise to.
fn all() -> Vec<Found> {
    vec![
        event::<CallEnded>(),
        event::<CallError>(),
        event::<CallStarted>(),
        event::<Composer>(),
        event::<CreatedRoom>(),
        event::<CryptoSessionState>(),
        event::<Error>(),
        event::<ExpandCollapseSection>(),
        event::<Interaction>(),
        event::<JoinedRoom>(),
        event::<MobileScreen>(),
        event::<NotificationTroubleshoot>(),
        event::<PerformanceTimer>(),
        event::<PermissionChanged>(),
        event::<PinUnpinAction>(),
        event::<PollCreation>(),
        event::<PollEnd>(),
        event::<PollVote>(),
        event::<RoomFilterChanged>(),
        event::<RoomListSortingAlgorithmChanged>(),
        event::<RoomModeration>(),
        event::<SectionCreation>(),
        event::<Signup>(),
        event::<SlashCommand>(),
        event::<UnauthenticatedError>(),
        event::<UrlPreviewRendered>(),
        event::<UrlPreviewVisibilityChanged>(),
        event::<ViewRoom>(),
        event::<WebPanelResize>(),
        event::<WebScreen>(),
        event::<WebSearch>(),
        properties::<SuperProperties>("SuperProperties"),
        properties::<UserProperties>("UserProperties"),
    ]
}

/// Returns each way in which `found` differs from the `table`.
fn differences(table: &Table, found: &[Found]) -> Vec<String> {
    let expected = table.expected();
    let missing = expected.iter().filter(|expected| !found.contains(expected));
    let unexpected = found.iter().filter(|found| !expected.contains(found));
    missing
        .map(|expected| format!("no type is {expected:?}"))
        .chain(unexpected.map(|found| format!("no schema is {found:?}")))
        .collect()
}

#[test]
fn each_type_sends_what_its_schema_says() {
    let found = all();
    assert_eq!(differences(&Table::parse(TABLE), &found), [""; 0]);
    let names: BTreeSet<_> = found.iter().map(|found| &found.name).collect();
    assert_eq!(names.len(), found.len());
}

#[test]
fn each_declared_type_is_compared() {
    let sources = [
        include_str!("app.rs"),
        include_str!("calls.rs"),
        include_str!("encryption.rs"),
        include_str!("interaction.rs"),
        include_str!("messages.rs"),
        include_str!("properties.rs"),
        include_str!("rooms.rs"),
        include_str!("screens.rs"),
    ];
    let declared = |line: &&str| *line == "event! {" || *line == "properties! {";
    let declared = sources.iter().flat_map(|source| source.lines()).filter(declared).count();
    assert_eq!(declared, all().len());
}

#[test]
fn the_documentation_names_all_that_is_left_out() {
    let documentation = include_str!("../element.rs");
    let table = Table::parse(TABLE);
    let left_out = table.left_out();
    assert_eq!(left_out.len(), 7);
    for name in left_out {
        assert!(documentation.contains(&format!("`{name}`")), "{name}");
    }
}

/// Passes each of many changed tables to `check`.
fn each_change(mut check: impl FnMut(&str, &Table)) {
    let table = Table::parse(TABLE);
    for (place, schema) in table.0.iter().enumerate().filter(|(_, schema)| !schema.is_left_out) {
        let mut change = |what: &str, change: &dyn Fn(&mut table::Schema)| {
            let mut changed = Table(table.0.clone());
            change(&mut changed.0[place]);
            check(&format!("{what} of {}", schema.name), &changed);
        };
        change("the name", &|schema| schema.name.push('X'));
        change("a new property", &|schema| {
            let (name, kind) = ("new".to_owned(), Kind::Boolean);
            schema.rows.push(table::Row { name, is_required: false, kind, is_left_out: false });
        });
        for row in (0..schema.rows.len()).filter(|row| !schema.rows[*row].is_left_out) {
            change("a property less", &|schema| {
                schema.rows.remove(row);
            });
            change("another name of a property", &|schema| schema.rows[row].name.push('X'));
            change("a changed requirement", &|schema| schema.rows[row].is_required ^= true);
            for kind in [Kind::Boolean, Kind::Integer, Kind::Text] {
                if schema.rows[row].kind != kind {
                    change("another type", &|schema| schema.rows[row].kind = kind.clone());
                }
            }
            let Kind::Enum(values) = &schema.rows[row].kind else { continue };
            let with = |new: BTreeSet<String>| {
                let kind = Kind::Enum(new);
                move |schema: &mut table::Schema| schema.rows[row].kind = kind.clone()
            };
            let mut more = values.clone();
            more.insert("New".to_owned());
            change("a new value", &with(more));
            for value in values {
                let mut other = values.clone();
                other.remove(value);
                change("a value less", &with(other.clone()));
                other.insert(format!("{value}X"));
                change("another name of a value", &with(other));
            }
        }
    }
    let mut more = Table(table.0.clone());
    more.0.push(table::Schema { name: "New".to_owned(), is_left_out: false, rows: Vec::new() });
    check("a new event", &more);
    for place in (0..table.0.len()).filter(|place| !table.0[*place].is_left_out) {
        let mut less = Table(table.0.clone());
        less.0.remove(place);
        check("an event less", &less);
    }
}

#[test]
fn each_change_of_a_schema_is_found() {
    let (found, mut changes) = (all(), 0);
    each_change(|what, table| {
        changes += 1;
        assert!(!differences(table, &found).is_empty(), "{what}");
    });
    assert!(changes > 1000, "{changes}");
}

#[test]
fn a_program_text_is_no_computed_text_and_is_inspected_all_the_same() {
    let with_context = |context: Cow<'static, str>| {
        let error = Error::new(ErrorDomain::E2ee, ErrorName::UnknownError).context(context);
        crate::event::Properties::from_serialize(&error).unwrap()
    };
    let program = with_context(Cow::Borrowed("program"));
    assert!(program.without_computed(|_| false).is_none());
    assert!(program.has_text());
    let computed = with_context(Cow::Owned("computed".to_owned()));
    let kept = computed.without_computed(|_| false).unwrap();
    assert_eq!(kept.to_json(), r#"{"domain":"E2EE","name":"UnknownError"}"#);
    assert!(computed.has_text());
}

#[test]
fn no_debug_output_has_a_property() {
    let error = Error::new(ErrorDomain::E2ee, ErrorName::UnknownError).context("canary");
    assert_eq!(format!("{error:?}"), "Error { .. }");
}

#[test]
fn a_version_that_is_too_long_is_reported_and_not_sent() {
    let long = "x".repeat(crate::event::MAX_EVENT_BYTES);
    let properties =
        crate::event::Properties::from(SuperProperties::new().crypto_sdk_version(long));
    assert_eq!(properties.check(), Err(crate::event::InvalidEvent::TooLarge));
    assert!(properties.is_empty());
}
