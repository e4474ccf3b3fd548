//! The history, the disclosure and a preview as lines of text.

use matrix_analytics::{
    DisclosedIdentifier, DisclosedRecipient, Disclosure, GuardPolicy, LocalCopy, Party, Preview,
    PreviewError, SentEvent, TextPolicy,
};
use serde_json::{Value, json};

/// A line of text, before it is wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Heading(String),
    Item(String),
    Detail(String),
}

fn heading(text: &str) -> Entry {
    Entry::Heading(text.to_owned())
}

fn detail(text: &str) -> Entry {
    Entry::Detail(text.to_owned())
}

/// Returns the events that were sent, newest first.
pub(crate) fn history(events: &[SentEvent]) -> Vec<Entry> {
    if events.is_empty() {
        return vec![detail(
            "Nothing was sent since the program began, or since the last opt-out.",
        )];
    }
    events
        .iter()
        .rev()
        .flat_map(|sent| {
            let json = json!(sent);
            let at = json["sent_at"].as_str().unwrap_or_default();
            let (date, time) =
                (at.get(..10).unwrap_or_default(), at.get(11..19).unwrap_or_default());
            let (name, recipient) = (sent.event().name(), sent.recipient());
            let outcome = sent.outcome().as_str().replace('_', " ");
            [
                Entry::Item(format!("{date} {time}  {name} to {recipient}: {outcome}")),
                Entry::Detail(json["properties"].to_string()),
            ]
        })
        .collect()
}

/// Returns what is stored and sent.
pub(crate) fn disclosure(disclosure: &Disclosure) -> Vec<Entry> {
    let mut entries = vec![heading("Identifiers")];
    entries.extend(disclosure.identifiers.iter().flat_map(identifier));
    entries.push(heading("Recipients"));
    if disclosure.recipients.is_empty() {
        entries.push(Entry::Item("none".to_owned()));
    }
    entries.extend(disclosure.recipients.iter().flat_map(recipient));
    entries.push(heading("Copies on this device"));
    entries.extend(disclosure.local_copies.iter().flat_map(local_copy));
    entries.push(heading("Kept back"));
    let kept_back = &disclosure.kept_back;
    let handling = match kept_back.guard_policy {
        GuardPolicy::Redact => "replaced by the name of its kind",
        GuardPolicy::DropProperty => "dropped with its property",
        _ => "dropped with its event",
    };
    let texts = match &kept_back.text_policy {
        TextPolicy::Scan => "sent if no personal data is found in them".to_owned(),
        TextPolicy::AllowKeys(keys) => format!("dropped, except under {}", keys.join(", ")),
        _ => "dropped".to_owned(),
    };
    let recognised = "Personal data whose form is recognised is";
    entries.push(Entry::Item(format!("{recognised} {handling}.")));
    entries.push(Entry::Detail(format!("Kinds: {}", kept_back.kinds.join(", "))));
    let others = "Properties with a text that is not a word of the program itself are";
    entries.push(Entry::Item(format!("{others} {texts}.")));
    entries
}

fn identifier(identifier: &DisclosedIdentifier) -> [Entry; 3] {
    let DisclosedIdentifier { domain, name, description, retention, party, .. } = identifier;
    [
        Entry::Item(format!("{name}, at {domain}")),
        Entry::Detail(description.clone()),
        Entry::Detail(format!("Kept: {}. Party: {}.", declared(retention.as_ref()), whose(*party))),
    ]
}

fn recipient(recipient: &DisclosedRecipient) -> [Entry; 4] {
    let DisclosedRecipient { name, domain, party, purpose, retention, receives, .. } = recipient;
    let at = domain.as_ref().map(|domain| format!(", at {domain}")).unwrap_or_default();
    [
        Entry::Item(format!("{name}{at}")),
        Entry::Detail(format!("Receives: {receives}")),
        Entry::Detail(format!("Purpose: {}.", declared(purpose.as_ref()))),
        Entry::Detail(format!("Kept: {}. Party: {}.", declared(retention.as_ref()), whose(*party))),
    ]
}

fn local_copy(copy: &LocalCopy) -> [Entry; 3] {
    let LocalCopy { place, contains, retention, .. } = copy;
    [
        Entry::Item(place.clone()),
        Entry::Detail(contains.clone()),
        Entry::Detail(format!("Kept: {retention}.")),
    ]
}

fn declared(text: Option<&String>) -> &str {
    text.map_or("not declared", String::as_str)
}

fn whose(party: Option<Party>) -> &'static str {
    match party {
        Some(Party::First) => "first",
        Some(Party::Third) => "third",
        _ => "not declared",
    }
}

/// Returns an event as each recipient would get it.
pub(crate) fn preview(previews: Result<Vec<Preview>, PreviewError>) -> Vec<Entry> {
    let previews = match previews {
        Ok(previews) if previews.is_empty() => return vec![detail("There is no recipient.")],
        Ok(previews) => previews,
        Err(error) => return vec![Entry::Detail(format!("Nothing: {error}."))],
    };
    let mut entries = Vec::new();
    for preview in previews {
        entries.push(Entry::Heading(format!("{} would get", preview.recipient)));
        let text = preview.content.as_str();
        let pretty = serde_json::from_str::<Value>(text).map(|json| format!("{json:#}"));
        entries.extend(pretty.as_deref().unwrap_or(text).lines().map(detail));
    }
    entries
}
