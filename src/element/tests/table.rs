//! The table of the schemas.

use std::collections::BTreeSet;

use super::{Found, Kind};

/// The schemas, with what is left out of them.
pub(super) struct Table(pub(super) Vec<Schema>);

#[derive(Clone)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) is_left_out: bool,
    pub(super) rows: Vec<Row>,
}

/// A property.
#[derive(Clone)]
pub(super) struct Row {
    /// The name under which it is sent.
    pub(super) name: String,
    pub(super) is_required: bool,
    pub(super) kind: Kind,
    pub(super) is_left_out: bool,
}

impl Table {
    /// Reads the table, whose head says what a line means.
    pub(super) fn parse(text: &str) -> Self {
        let mut table = Self(Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (said, note) = line.split_once(" -- ").unwrap_or((line, ""));
            let words: Vec<_> = said.split_whitespace().collect();
            match (line.len() - line.trim_start().len(), &*words) {
                (0, ["event" | "properties", name]) => {
                    let is_left_out = reason(note, "left out").is_some();
                    assert!(is_left_out || note.is_empty(), "{line}");
                    let name = (*name).to_owned();
                    table.0.push(Schema { name, is_left_out, rows: Vec::new() });
                }
                (4, [name, required, kind @ ..]) => {
                    let schema = table.0.last_mut().unwrap();
                    let row = schema.row(name, required, &kind.join(" "), note);
                    schema.rows.push(row.unwrap_or_else(|| panic!("{line}")));
                }
                (8, _) => {
                    let row = table.0.last_mut().unwrap().rows.last_mut().unwrap();
                    let Kind::Enum(values) = &mut row.kind else { panic!("{line}") };
                    let new = said.trim().trim_end_matches(',').split(", ");
                    assert!(new.into_iter().all(|value| values.insert(value.to_owned())), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
        table
    }

    /// Returns what the types have to send.
    pub(super) fn expected(&self) -> Vec<Found> {
        let schemas = self.0.iter().filter(|schema| !schema.is_left_out);
        schemas
            .map(|schema| Found {
                name: schema.name.clone(),
                properties: (schema.rows.iter().filter(|row| !row.is_left_out))
                    .map(|row| (row.name.clone(), (row.is_required, row.kind.clone())))
                    .collect(),
            })
            .collect()
    }

    /// Returns the name of each schema and each property that is left out.
    pub(super) fn left_out(&self) -> Vec<&str> {
        let schemas = self.0.iter().filter(|schema| schema.is_left_out).map(|schema| &*schema.name);
        let rows = self.0.iter().flat_map(|schema| &schema.rows);
        schemas.chain(rows.filter(|row| row.is_left_out).map(|row| &*row.name)).collect()
    }
}

impl Schema {
    fn row(&self, name: &str, required: &str, kind: &str, note: &str) -> Option<Row> {
        let is_required = match required {
            "required" => true,
            "optional" => false,
            _ => return None,
        };
        let is_left_out = reason(note, "left out").is_some();
        let sent_as = reason(note, "sent as");
        let values_of = reason(note, "values of");
        let kind = match kind {
            "array of text" => {
                let same = self.rows.iter().find(|row| Some(&*row.name) == values_of)?;
                let Kind::Enum(values) = &same.kind else { return None };
                Kind::EnumArray(values.clone())
            }
            "boolean" => Kind::Boolean,
            "enum" => Kind::Enum(BTreeSet::new()),
            "integer" => Kind::Integer,
            "text" => Kind::Text,
            _ => return None,
        };
        let is_known = note.is_empty() || is_left_out || sent_as.is_some() || values_of.is_some();
        let name = sent_as.unwrap_or(name).to_owned();
        is_known.then_some(Row { name, is_required, kind, is_left_out })
    }
}

/// Returns what stands between `word` and the reason, if the note has both.
fn reason<'a>(note: &'a str, word: &str) -> Option<&'a str> {
    let (what, reason) = note.strip_prefix(word)?.split_once(": ")?;
    (!reason.trim().is_empty()).then_some(what.trim())
}

#[test]
fn a_line_without_meaning_or_reason_is_an_error() {
    for bad in [
        "event",
        "schema A",
        "event A -- left out",
        "event A -- gone: because",
        "event A\n    b optional",
        "event A\n    b maybe text",
        "event A\n    b optional number",
        "event A\n    b optional text -- left out: ",
        "event A\n    b optional array of text",
        "event A\n    b optional text\n        C",
        "event A\n    b optional enum\n        C, C",
        "event A\n  b optional text",
    ] {
        let parsed = std::panic::catch_unwind(|| Table::parse(bad));
        assert!(parsed.is_err(), "{bad}");
    }
}
