//! A disclosure as Markdown.

use super::{DisclosedIdentifier, DisclosedRecipient, Disclosure, KeptBack, LocalCopy};
use crate::{
    backend::Party,
    guard::{GuardPolicy, TextPolicy},
};

const UNDECLARED: &str = "not declared";

pub(super) fn page(disclosure: &Disclosure) -> String {
    let Disclosure { identifiers, recipients, local_copies, kept_back } = disclosure;
    [
        table(
            "Identifiers",
            ["Domain", "Identifier", "Description", "Retention", "First or third party"],
            identifiers.iter().map(identifier),
        ),
        table(
            "Recipients",
            ["Recipient", "Domain", "Receives", "Purpose", "Retention", "First or third party"],
            recipients.iter().map(recipient),
        ),
        table(
            "Copies on this device",
            ["Place", "Contains", "Retention"],
            local_copies.iter().map(local_copy),
        ),
        table("Kept back", ["What", "How"], kept_back_rows(kept_back)),
    ]
    .join("\n")
}

fn table<const N: usize>(
    title: &str,
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut text = format!("## {title}\n\n{}|{}\n", row(columns), "---|".repeat(N));
    for cells in rows {
        text.push_str(&row(cells.each_ref().map(|cell| &**cell)));
    }
    text
}

/// Returns a row, in which no cell can end itself or the row, or be anything but text.
fn row<const N: usize>(cells: [&str; N]) -> String {
    let escaped = |cell: &str| {
        let mut text = String::with_capacity(cell.len());
        for c in cell.chars() {
            match c {
                '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '&' => {
                    text.extend(['\\', c]);
                }
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        text
    };
    let cells = cells.map(escaped);
    format!("| {} |\n", cells.join(" | "))
}

fn identifier(identifier: &DisclosedIdentifier) -> [String; 5] {
    let DisclosedIdentifier { domain, name, description, retention, party: whose } = identifier;
    [domain.clone(), name.clone(), description.clone(), declared(retention.as_ref()), party(*whose)]
}

fn recipient(recipient: &DisclosedRecipient) -> [String; 6] {
    let DisclosedRecipient { name, domain, party: whose, purpose, retention, receives, .. } =
        recipient;
    [
        name.clone(),
        declared(domain.as_ref()),
        receives.clone(),
        declared(purpose.as_ref()),
        declared(retention.as_ref()),
        party(*whose),
    ]
}

fn local_copy(copy: &LocalCopy) -> [String; 3] {
    let LocalCopy { place, contains, retention } = copy;
    [place.clone(), contains.clone(), retention.clone()]
}

fn kept_back_rows(kept_back: &KeptBack) -> [[String; 2]; 2] {
    let KeptBack { kinds, guard_policy, text_policy } = kept_back;
    let how = match guard_policy {
        GuardPolicy::Redact => "replaced by the name of the kind",
        GuardPolicy::DropProperty => "the property is dropped",
        GuardPolicy::DropEvent => "the event is dropped",
    };
    let texts = match text_policy {
        TextPolicy::Scan => "those that contain no such data leave".to_owned(),
        TextPolicy::AllowKeys(keys) => format!("dropped, except under {}", keys.join(", ")),
        TextPolicy::Refuse => "dropped".to_owned(),
    };
    [
        [
            format!(
                "Personal data in names, keys and texts, where its form is recognised: {}",
                kinds.join(", ")
            ),
            how.to_owned(),
        ],
        ["Properties with a text that is not a word of the program itself".to_owned(), texts],
    ]
}

fn declared(text: Option<&String>) -> String {
    text.map_or(UNDECLARED, |text| text).to_owned()
}

fn party(party: Option<Party>) -> String {
    match party {
        Some(Party::First) => "first",
        Some(Party::Third) => "third",
        None => UNDECLARED,
    }
    .to_owned()
}
