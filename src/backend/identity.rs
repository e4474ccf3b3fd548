//! The identifier of the person that a recipient gets.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    analytics_id::AnalyticsId,
    event::{
        OutgoingEvent, Process,
        unix_time::{from_unix_nanos, unix_nanos},
    },
};

/// The identifier of the person that a recipient gets with each event; set with
/// [`Recipient::identity`](crate::Recipient::identity).
///
/// Two recipients that know the same identifier can join what they have of a person. With
/// [`Account`](Self::Account) they know the same one. With the others they do not, and neither do
/// they get the same unique ID of an event, or a time more exact than a second.
///
/// A change of the identity or of the label affects new events only: events that wait in a durable
/// queue under the former one are not sent. A service still has the earlier events under the
/// former identifier, which a receipt then no longer names.
///
/// **A recipient that knows the account's ID can compute every pseudonym** whose label it knows
/// or guesses. So a service that must not be able to join its data with that of another one
/// needs a pseudonym, and so does the other one. Even then, two services that get the same events
/// can guess from what happened when that two of their persons are one: give a service only the
/// events that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Identity {
    /// The analytics ID of the account, which all of the user's clients share.
    ///
    /// The default for PostHog, because a person there is one user of all clients, for
    /// [`JsonLines`](crate::JsonLines), and for a backend of the app's own.
    Account,
    /// A pseudonym of the account for this recipient only, as 32 hexadecimal digits: the first
    /// 128 bits of HMAC-SHA-256, with the label of the recipient as its key and the analytics ID
    /// as its message.
    ///
    /// It is the same on all devices, and for as long as the account keeps its ID. The default for
    /// OTLP and Matomo.
    Pseudonym,
    /// Nothing that stays the same: a random identifier for each process and day (UTC), as 32
    /// hexadecimal digits.
    ///
    /// Such a recipient gets no user properties. Each of its requests holds the events of one
    /// identifier, and [`Backend::close`](crate::Backend::close) ends the connection before the
    /// next one. The recipient still sees the address that the device connects from, and that a
    /// request with another identifier follows from the same address.
    Anonymous,
}

impl Identity {
    /// Returns `account`, `pseudonym` or `anonymous`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Pseudonym => "pseudonym",
            Self::Anonymous => "anonymous",
        }
    }

    /// Returns a text that stands in place of the identifier in a preview.
    pub(crate) const fn placeholder(self) -> &'static str {
        match self {
            Self::Account => "[analytics ID]",
            Self::Pseudonym => "[pseudonym]",
            Self::Anonymous => "[anonymous ID]",
        }
    }
}

/// How a recipient knows a person.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KnownAs {
    pub(crate) identity: Identity,
    /// Tells the recipients apart that do not get the account's ID.
    pub(crate) label: String,
}

/// Prints no label, which may hold a key.
impl fmt::Debug for KnownAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownAs").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl KnownAs {
    /// Returns a text that differs if the identifiers of two recipients do, for the name of the
    /// recipient in a durable queue; `None` for the account's ID.
    pub(crate) fn tag(&self) -> Option<String> {
        let hash = || keyed_hash(self.label.as_bytes(), &[b"tag"]);
        (self.identity != Identity::Account)
            .then(|| format!("{}/{}", self.identity.as_str(), hash()))
    }

    /// Returns the identifier under which `event` is sent.
    pub(crate) fn distinct_id(&self, account: &AnalyticsId, event: &OutgoingEvent) -> String {
        let label = self.label.as_bytes();
        match self.identity {
            Identity::Account | Identity::Pseudonym => self.lasting_id(account).unwrap_or_default(),
            // With the account's ID, so that an opt-in after an opt-out begins a new one.
            Identity::Anonymous => {
                let day = day(event.at).to_be_bytes();
                keyed_hash(&event.process.0, &[&day, account.reveal().as_bytes(), b"\0", label])
            }
        }
    }

    /// Returns the identifier under which the recipient knows the account for as long as the
    /// account keeps its ID, if there is one.
    pub(crate) fn lasting_id(&self, account: &AnalyticsId) -> Option<String> {
        match self.identity {
            Identity::Account => Some(account.reveal().to_owned()),
            Identity::Pseudonym => {
                Some(keyed_hash(self.label.as_bytes(), &[account.reveal().as_bytes()]))
            }
            Identity::Anonymous => None,
        }
    }

    /// Returns `event` as the recipient gets it: with a unique ID and a time by which its copies at
    /// two recipients cannot be found, unless both get the account's ID.
    pub(crate) fn veil(&self, event: &Arc<OutgoingEvent>) -> Arc<OutgoingEvent> {
        let (label, uuid) = (self.label.as_bytes(), event.uuid.as_bytes());
        let hash = match self.identity {
            Identity::Account => return event.clone(),
            Identity::Pseudonym => hmac_sha256(label, &[uuid]),
            // A recipient of the account's ID knows the unique ID, and could know the label.
            Identity::Anonymous => hmac_sha256(&event.process.0, &[uuid, label]),
        };
        let mut random = [0; 16];
        random.copy_from_slice(&hash[..16]);
        let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
        Arc::new(OutgoingEvent { uuid, at: whole_seconds(event.at), ..(**event).clone() })
    }

    /// Returns the session that `event` belongs to, if the recipient must not be able to join
    /// it with another one.
    pub(crate) fn session(&self, event: &OutgoingEvent) -> Option<Session> {
        (self.identity == Identity::Anonymous)
            .then(|| Session { process: event.process, day: day(event.at) })
    }
}

/// The events of one process and one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    process: Process,
    day: u64,
}

/// Returns the last whole second before `time`, which may be before 1970.
fn whole_seconds(time: SystemTime) -> SystemTime {
    const SECOND: i128 = 1_000_000_000;

    let nanos = unix_nanos(time);
    from_unix_nanos(
        (nanos - nanos.rem_euclid(SECOND)).clamp(i64::MIN.into(), i64::MAX.into()) as i64
    )
}

/// Returns the number of the day of `time` since 1970, in UTC.
fn day(time: SystemTime) -> u64 {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs()
}

/// Returns the first 128 bits of HMAC-SHA-256 in lower-case hex.
pub(super) fn keyed_hash(key: &[u8], message: &[&[u8]]) -> String {
    const BYTES: usize = 16;

    hmac_sha256(key, message).iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the HMAC of RFC 2104.
///
/// Not from the crate `hmac`: no version of it that works with our `sha2` is in the tree of every
/// matrix-sdk.
fn hmac_sha256(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    const BLOCK: usize = 64;

    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x36));
    message.iter().for_each(|part| inner.update(part));
    let outer = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Properties;

    const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
    const LABEL: &str = "collector.example.org";
    const OTHER_LABEL: &str = "matomo.example.org";

    fn event(process: Process, day: u64) -> OutgoingEvent {
        OutgoingEvent {
            uuid: uuid::Uuid::nil(),
            name: "Name".into(),
            at: UNIX_EPOCH + Duration::from_secs(day * 86_400 + 80_000),
            properties: Properties::new(),
            user: None,
            epoch: 0,
            process,
        }
    }

    fn known_as(identity: Identity, label: &str) -> KnownAs {
        KnownAs { identity, label: label.to_owned() }
    }

    fn identifier(identity: Identity, label: &str, id: &str, day: u64) -> String {
        let account = AnalyticsId::from_foreign(id).unwrap();
        known_as(identity, label).distinct_id(&account, &event(Process([7; 16]), day))
    }

    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let hex = |hash: [u8; 32]| hash.map(|byte| format!("{byte:02x}")).concat();
        for (key, message, expected) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(hmac_sha256(key, &[message])), expected);
            let (first, second) = message.split_at(3);
            assert_eq!(hex(hmac_sha256(key, &[first, second])), expected);
        }
        // Computed by Python's `hmac`, with a key of exactly one block.
        assert_eq!(
            hex(hmac_sha256(&[0x61; 64], &[])),
            "b389ef8fc24e40e35b42b70221b466916836a241257699d090bc736b8ad21b98"
        );
    }

    #[test]
    fn a_pseudonym_is_the_hmac_that_any_other_program_computes() {
        for (label, id, pseudonym) in [
            // Computed by Python's `hmac`.
            (LABEL, ID, "b5580014037f1b4091fd769b7ef2ced3"),
            (OTHER_LABEL, ID, "500d0e7dea87cd4bf7ad283d09c16448"),
            (LABEL, "another", "cde3b2b557723cf9deb136d37c0ff4ca"),
        ] {
            for day in [0, 20_485] {
                assert_eq!(identifier(Identity::Pseudonym, label, id, day), pseudonym);
            }
        }
    }

    #[test]
    fn an_anonymous_identifier_is_of_one_process_day_recipient_and_opt_in() {
        let of = |label, id, day| identifier(Identity::Anonymous, label, id, day);
        let first = of(LABEL, ID, 20_485);
        assert_eq!(first, of(LABEL, ID, 20_485));
        for other in
            [of(LABEL, ID, 20_486), of(OTHER_LABEL, ID, 20_485), of(LABEL, "another", 20_485)]
        {
            assert_ne!(first, other);
        }
        let account = AnalyticsId::from_foreign(ID).unwrap();
        let of_process = || {
            known_as(Identity::Anonymous, LABEL).distinct_id(&account, &event(Process::random(), 3))
        };
        assert_ne!(of_process(), of_process());
    }

    #[test]
    fn an_anonymous_recipient_knows_no_account_and_sessions_of_one_process_and_day() {
        let account = AnalyticsId::from_foreign(ID).unwrap();
        for identity in [Identity::Account, Identity::Pseudonym] {
            let known_as = known_as(identity, LABEL);
            let event = event(Process::random(), 3);
            assert_eq!(known_as.lasting_id(&account), Some(known_as.distinct_id(&account, &event)));
            assert_eq!(known_as.session(&event), None);
        }
        let anonymous = known_as(Identity::Anonymous, LABEL);
        assert_eq!(anonymous.lasting_id(&account), None);
        let session = |process, day| anonymous.session(&event(Process([process; 16]), day));
        assert!(session(1, 3).is_some());
        assert_eq!(session(1, 3), session(1, 3));
        assert_ne!(session(1, 3), session(1, 4));
        assert_ne!(session(1, 3), session(2, 3));
    }

    #[test]
    fn only_a_recipient_of_the_accounts_id_gets_the_unique_id_and_the_exact_time() {
        let event = event(Process([7; 16]), 3);
        let at = event.at + Duration::from_nanos(999_999_999);
        let event = Arc::new(OutgoingEvent { uuid: uuid::Uuid::new_v4(), at, ..event });
        assert_eq!(known_as(Identity::Account, LABEL).veil(&event), event);
        let mut ids = vec![event.uuid];
        for identity in [Identity::Pseudonym, Identity::Anonymous] {
            for label in [LABEL, OTHER_LABEL] {
                let veiled = known_as(identity, label).veil(&event);
                assert_eq!(veiled.at, at - Duration::from_nanos(999_999_999));
                assert_eq!(veiled.uuid.get_version_num(), 4);
                assert_eq!(known_as(identity, label).veil(&event), veiled, "on every attempt");
                assert_eq!((&veiled.name, veiled.epoch), (&event.name, event.epoch));
                ids.push(veiled.uuid);
            }
        }
        let of_other_process = OutgoingEvent { process: Process([8; 16]), ..(*event).clone() };
        ids.push(known_as(Identity::Anonymous, LABEL).veil(&Arc::new(of_other_process)).uuid);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn a_time_is_cut_to_the_second_before_it() {
        let cut = |nanos: i64| unix_nanos(whole_seconds(from_unix_nanos(nanos)));
        assert_eq!(cut(1_999_999_999), 1_000_000_000);
        assert_eq!(cut(1_000_000_000), 1_000_000_000);
        assert_eq!(cut(0), 0);
        assert_eq!(cut(-1), -1_000_000_000);
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc_and_time_before_1970_is_the_first_day() {
        let at = |seconds| day(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!([at(0), at(86_399), at(86_400), at(172_799)], [0, 0, 1, 1]);
        assert_eq!(day(UNIX_EPOCH - Duration::from_secs(86_401)), 0);
    }

    #[test]
    fn only_the_account_identity_contains_the_id() {
        assert_eq!(identifier(Identity::Account, LABEL, ID, 3), ID);
        for identity in [Identity::Pseudonym, Identity::Anonymous] {
            let identifier = identifier(identity, LABEL, ID, 3);
            assert_eq!(identifier.len(), 32);
            assert!(identifier.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
            assert!(!ID.contains(&identifier[..8]));
        }
    }
}
