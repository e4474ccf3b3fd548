//! A list of the data that an `Analytics` stores and sends, made from its configuration.

mod markdown;

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    backend::{Identity, Party, Recipient},
    guard::{Guard, GuardPolicy, TextPolicy},
};

/// Tests the examples in `docs/transparency.md`.
#[cfg(doctest)]
#[doc = include_str!("../docs/transparency.md")]
struct TransparencyPage;

/// The data that an [`Analytics`](crate::Analytics) stores and sends, as configured; returned by
/// [`Analytics::disclosure`](crate::Analytics::disclosure).
///
/// It holds no ID and no event. The path of a durable queue, which often contains a user's name,
/// is in [`LocalCopy::place`]; `Debug` does not show it. An app can show a disclosure in its
/// settings, and a privacy policy can quote it: [`Disclosure::to_markdown`] has the columns of a
/// cookie policy. The texts are English.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Disclosure {
    /// The identifiers, with one entry for each place that one is stored in or sent to.
    pub identifiers: Vec<DisclosedIdentifier>,
    /// The services that receive events, in the order in which they were added.
    pub recipients: Vec<DisclosedRecipient>,
    /// The data that is kept on this device.
    pub local_copies: Vec<LocalCopy>,
    /// The data that is kept back from the recipients.
    pub kept_back: KeptBack,
}

/// An identifier in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DisclosedIdentifier {
    /// The host that has the identifier.
    pub domain: String,
    /// The name of the identifier. On the homeserver: the key in the account's event.
    pub name: String,
    /// What the identifier is, and when it is created and deleted.
    pub description: String,
    /// How long it is kept, if the app declared it or this crate decides it.
    pub retention: Option<String>,
    /// Whose host it is, if the app declared it.
    pub party: Option<Party>,
}

/// A service that receives events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DisclosedRecipient {
    /// The name that the app declared, or that of the backend.
    pub name: String,
    /// The host that events are sent to, if it is known.
    pub domain: Option<String>,
    /// Whose service it is, if the app declared it.
    pub party: Option<Party>,
    /// The purpose that the app declared.
    pub purpose: Option<String>,
    /// How long the service keeps events, if the app declared it.
    pub retention: Option<String>,
    /// The identifier of the person that the service gets.
    pub identity: Identity,
    /// What the service receives in addition to the identifiers.
    pub receives: String,
    /// The host that is asked to delete what the service holds, if it is known.
    pub erasure_host: Option<String>,
}

/// Data that is kept on this device. `Debug` does not show where, because a path often contains
/// a user's name.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LocalCopy {
    /// The path of a file, or a description of another place.
    pub place: String,
    /// A description of the content.
    pub contains: String,
    /// How long it is kept.
    pub retention: String,
}

impl fmt::Debug for LocalCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCopy").field("contains", &self.contains).finish_non_exhaustive()
    }
}

/// The data that is kept back from the recipients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptBack {
    /// The kinds of personal data that the guard looks for, by their stable names, those of the
    /// app's detectors included.
    pub kinds: Vec<String>,
    /// How an event in which something of these kinds is found is handled.
    pub guard_policy: GuardPolicy,
    /// Which texts may leave at all.
    pub text_policy: TextPolicy,
}

/// The part of the configuration that is kept for a disclosure only.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) recipients: Vec<DisclosedRecipient>,
    pub(crate) queue: Option<QueueFile>,
    pub(crate) queue_age: Duration,
    /// The largest number of events in the history.
    pub(crate) history: Option<usize>,
    /// The name of the event's member for the policy that the user agreed to, if there is one.
    pub(crate) policy_member: Option<&'static str>,
}

/// The file of a durable queue.
pub(crate) struct QueueFile {
    pub(crate) path: String,
    pub(crate) is_encrypted: bool,
    pub(crate) has_history: bool,
}

impl QueueFile {
    /// Creates the description of a file at a path, whose events may be encrypted and which may
    /// have the history.
    #[cfg(feature = "sqlite")]
    pub(crate) fn new((path, is_encrypted): (String, bool), has_history: bool) -> Self {
        Self { path, is_encrypted, has_history }
    }
}

impl fmt::Debug for QueueFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueFile").finish_non_exhaustive()
    }
}

/// The event that holds consent.
#[derive(Debug)]
pub(crate) struct AccountEvent<'a> {
    /// The host of the homeserver, with its port if that is not the usual one.
    pub(crate) homeserver: String,
    pub(crate) event_type: &'a str,
}

impl Disclosure {
    pub(crate) fn new(
        configuration: &Configuration,
        event: &AccountEvent<'_>,
        guard: &Guard,
    ) -> Self {
        let recipients = configuration.recipients.clone();
        let mut identifiers = event.identifiers();
        identifiers.extend(configuration.policy_member.map(|name| event.policy(name)));
        identifiers.extend(recipients.iter().flat_map(DisclosedRecipient::identifiers));
        Self {
            identifiers,
            recipients,
            local_copies: configuration.local_copies(event.event_type),
            kept_back: KeptBack {
                kinds: guard.kinds_by_name(),
                guard_policy: guard.policy(),
                text_policy: guard.text_policy(),
            },
        }
    }

    /// Returns the disclosure as four Markdown tables. That of the identifiers has the columns
    /// of a cookie policy: domain, identifier, description, retention, first or third party.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        markdown::page(self)
    }
}

impl AccountEvent<'_> {
    fn member(&self, name: &str, description: &str, retention: &str) -> DisclosedIdentifier {
        DisclosedIdentifier {
            domain: self.homeserver.clone(),
            name: format!("{name} in {}", self.event_type),
            description: description.to_owned(),
            retention: Some(retention.to_owned()),
            party: None,
        }
    }

    /// Returns the members of the account's event that every app writes.
    fn identifiers(&self) -> Vec<DisclosedIdentifier> {
        vec![
            self.member(
                "id",
                "The analytics ID: a random number, shared by the devices of the account. \
                 Created when the user opts in, deleted when the user opts out.",
                "until the user opts out",
            ),
            self.member(
                "pseudonymousAnalyticsOptIn",
                "The decision of the user: true or false. Written when the user decides.",
                "as long as the account",
            ),
        ]
    }

    /// Returns the member that an app with a policy writes.
    fn policy(&self, name: &str) -> DisclosedIdentifier {
        self.member(
            name,
            "The versions of the policy that the user agreed to, when, and for which recipients, \
             with a digest of the analytics ID. Written when the user opts in, deleted when the \
             user opts out.",
            "until the user opts out",
        )
    }
}

impl Configuration {
    fn local_copies(&self, event_type: &str) -> Vec<LocalCopy> {
        let age = Span(self.queue_age);
        let copy = |place: &str, contains: &str, retention: String| LocalCopy {
            place: place.to_owned(),
            contains: contains.to_owned(),
            retention,
        };
        let mut copies = vec![
            copy(
                "account data in the client's store",
                "The account's event, with the analytics ID, as the last sync showed it.",
                "until a sync shows another event, or as long as the store".to_owned(),
            ),
            copy(
                &format!("matrix-analytics/{event_type} in the client's store"),
                "The decision of the user, whether analytics are switched off on this device, a \
                 removal that is not done yet, which policies the user agreed to, and salted \
                 digests by which this device recognises the current and earlier analytics IDs.",
                "as long as the store".to_owned(),
            ),
            copy(
                &format!("matrix-analytics-decisions/{event_type} in the client's store"),
                "The decisions of the user, at most 32: when and where they were made, how the \
                 app says that they were expressed, the names of the recipients, and what a \
                 withdrawal removed. There is none before the first decision.",
                "as long as the store".to_owned(),
            ),
            copy(
                "memory",
                "Events and user properties that wait to be sent, and the analytics ID.",
                format!("events: at most {age}; at most until the user opts out or the app ends"),
            ),
        ];
        let sent = self.history.map(|most| {
            format!(
                "At most the last {most} events that were sent, or tried to be, to each \
                 recipient, with their properties."
            )
        });
        if let Some(sent) = &sent {
            copies.push(copy(
                "history in memory",
                sent,
                "until the user opts out or the app ends".to_owned(),
            ));
        }
        if let Some(QueueFile { path, is_encrypted, has_history }) = &self.queue {
            let encrypted = if *is_encrypted { " Encrypted." } else { "" };
            if let (Some(sent), true) = (&sent, has_history) {
                copies.push(copy(
                    &format!("history in {path}"),
                    &format!("{sent}{encrypted}"),
                    "until the user opts out".to_owned(),
                ));
            }
            copies.push(copy(
                path,
                &format!(
                    "Events and user properties that wait to be sent, and a random number of the \
                     start of the app that captured each event.{encrypted} With encryption, \
                     erasure requests that wait. The names of the recipients, numbers of events, \
                     and a salted hash of the user. Files whose names begin with this one belong \
                     to it.",
                ),
                format!(
                    "events: at most {age}; user properties: until they are sent; both at most \
                     until the user opts out; erasure requests: until they are accepted or given \
                     up; the rest as long as the file"
                ),
            ));
        }
        copies
    }
}

impl DisclosedRecipient {
    pub(crate) fn new(recipient: &Recipient) -> Self {
        let Recipient { backend, declared, erasure, .. } = recipient;
        let identity = recipient.chosen_identity();
        Self {
            name: recipient.shown_name(),
            // The real host, if it is known: a declaration must not hide it.
            domain: backend.host().or_else(|| declared.host.clone()),
            party: declared.party,
            purpose: declared.purpose.clone(),
            retention: declared.retention.clone(),
            identity,
            erasure_host: erasure.as_ref().and_then(|erasure| erasure.host()),
            receives: match identity {
                Identity::Anonymous => {
                    "Each event with its name, its time and its properties, after the opt-in."
                }
                Identity::Account | Identity::Pseudonym => {
                    "Each event with its name, its time and its properties, and properties of \
                     the user, after the opt-in."
                }
            }
            .to_owned(),
        }
    }

    /// Returns the identifiers that this recipient receives.
    fn identifiers(&self) -> Vec<DisclosedIdentifier> {
        let identifier = |name: &str, description: &str| DisclosedIdentifier {
            domain: self.domain.clone().unwrap_or_else(|| self.name.clone()),
            name: name.to_owned(),
            description: description.to_owned(),
            retention: self.retention.clone(),
            party: self.party,
        };
        let mut identifiers = vec![
            match self.identity {
                Identity::Account => identifier(
                    "analytics ID",
                    "The random number of the account (see `id`), sent with each event after the \
                     opt-in. What a service has received stays there after an opt-out.",
                ),
                Identity::Pseudonym => identifier(
                    "pseudonym",
                    "A number that is made from the analytics ID (see `id`) for this service only, \
                     sent with each event after the opt-in. What a service has received stays \
                     there after an opt-out.",
                ),
                Identity::Anonymous => identifier(
                    "anonymous ID",
                    "A random number, sent with each event after the opt-in. There is another one \
                     after each start of the app and on each day.",
                ),
            },
            identifier("event ID", "A random UUID of each event, by which repeats are recognised."),
        ];
        if self.domain.is_some() {
            identifiers.push(DisclosedIdentifier {
                // The declared retention is that of events.
                retention: None,
                ..identifier(
                    "IP address",
                    "The address that the device, or its proxy, connects from. The host sees it.",
                )
            });
        }
        if let Some(erasure_host) = &self.erasure_host {
            identifiers.push(DisclosedIdentifier {
                domain: erasure_host.clone(),
                retention: None,
                ..identifier(
                    "erasure request",
                    "The identifier under which the service knows the user, sent after an opt-out \
                     that asks for the deletion of what the service holds. The host sees the \
                     address of the connection.",
                )
            });
        }
        identifiers
    }
}

/// Writes a duration in its largest unit, such as "7 days".
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];

        let seconds = self.0.as_secs();
        let unit = UNITS
            .into_iter()
            .find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length));
        let (length, unit) = unit.unwrap_or((1, "second"));
        let number = seconds / length;
        write!(f, "{number} {unit}{}", if number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_in_its_largest_whole_unit() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (3600, "1 hour"),
            (7 * 86_400, "7 days"),
            (86_400 + 3600, "25 hours"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
