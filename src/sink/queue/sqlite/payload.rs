//! The content of a row: an event as bytes, in the clear or encrypted.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use matrix_sdk_store_encryption::{EncryptedValueBase64, StoreCipher};
use uuid::Uuid;

use crate::{
    event::{
        OutgoingEvent, Process, Properties, UserProperties,
        unix_time::{from_unix_nanos, unix_nanos},
    },
    history::sent_event::{Addressee, SentEvent, SentOutcome},
};

/// A serialiser that reuses its buffer.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Serialises `event`. Returns `None` if it cannot be encrypted.
    pub(super) fn write(
        &mut self,
        event: &OutgoingEvent,
        cipher: Option<&StoreCipher>,
    ) -> Option<&[u8]> {
        self.bytes.clear();
        self.push_event(event);
        self.bytes.extend(event.process.0);
        self.seal(cipher)
    }

    /// Serialises `user`. Returns `None` if it cannot be encrypted.
    pub(super) fn write_user(
        &mut self,
        user: &UserProperties,
        cipher: Option<&StoreCipher>,
    ) -> Option<&[u8]> {
        self.bytes.clear();
        self.push_user(user);
        self.seal(cipher)
    }

    /// Serialises `entry`. Returns `None` if it cannot be encrypted.
    pub(super) fn write_sent(
        &mut self,
        entry: &SentEvent,
        cipher: Option<&StoreCipher>,
    ) -> Option<&[u8]> {
        self.bytes.clear();
        self.bytes.extend(nanos(entry.sent_at).to_le_bytes());
        self.push(entry.outcome.as_str());
        self.push(&entry.to.backend);
        self.push(&entry.to.name);
        self.push_event(&entry.event);
        self.push_user(entry.event.user_properties());
        self.seal(cipher)
    }

    fn push_event(&mut self, event: &OutgoingEvent) {
        self.bytes.extend(event.uuid.as_bytes());
        self.bytes.extend(nanos(event.at).to_le_bytes());
        self.push(&event.name);
        self.push(event.properties.members());
    }

    fn push_user(&mut self, user: &UserProperties) {
        self.push(user.set.members());
        self.push(user.set_once.members());
    }

    fn seal(&mut self, cipher: Option<&StoreCipher>) -> Option<&[u8]> {
        match cipher {
            None => self.bytes.extend(checksum(&self.bytes).to_le_bytes()),
            // The cipher is authenticated, so no checksum is needed.
            Some(cipher) => {
                let plain = std::mem::take(&mut self.bytes);
                let encrypted = cipher.encrypt_value_base64_data(plain).ok()?;
                self.bytes = serde_json::to_vec(&encrypted).ok()?;
            }
        }
        Some(&self.bytes)
    }

    fn push(&mut self, text: &str) {
        // Cannot overflow: events are far smaller than 4 GiB.
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }
}

/// Reads an event of the epoch `epoch`. Returns `None` if `bytes` are damaged.
pub(super) fn read(
    bytes: &[u8],
    epoch: u64,
    cipher: Option<&StoreCipher>,
) -> Option<OutgoingEvent> {
    let plain = unseal(bytes, cipher)?;
    let rest = &mut &*plain;
    let event = pull_event(rest, epoch)?;
    let process = rest.first_chunk().map_or(event.process, |process| Process(*process));
    Some(OutgoingEvent { process, ..event })
}

/// Reads user properties. Returns `None` if `bytes` are damaged.
pub(super) fn read_user(bytes: &[u8], cipher: Option<&StoreCipher>) -> Option<UserProperties> {
    pull_user(&mut &*unseal(bytes, cipher)?)
}

/// Reads an entry of the history, of an event of the epoch `epoch`. A request that was in
/// progress counts as unconfirmed. Returns `None` if `bytes` are damaged.
pub(super) fn read_sent(
    bytes: &[u8],
    epoch: u64,
    cipher: Option<&StoreCipher>,
) -> Option<SentEvent> {
    let plain = unseal(bytes, cipher)?;
    let rest = &mut &*plain;
    let sent_at = pull_time(rest)?;
    let outcome = pull(rest)?;
    let outcome = [SentOutcome::Delivered, SentOutcome::Refused]
        .into_iter()
        .find(|known| known.as_str() == outcome)
        .unwrap_or(SentOutcome::Unconfirmed);
    let (backend, name) = (pull(rest)?.to_owned(), pull(rest)?.to_owned());
    let event = pull_event(rest, epoch)?;
    let user = Some(pull_user(rest)?).filter(|user| !user.is_empty()).map(Box::new);
    let (to, event) = (Addressee { backend, name }, OutgoingEvent { user, ..event });
    Some(SentEvent { to: Arc::new(to), event: Arc::new(event), sent_at, outcome })
}

/// Verifies and decrypts `bytes`. Returns `None` if they are damaged.
fn unseal<'a>(bytes: &'a [u8], cipher: Option<&StoreCipher>) -> Option<Cow<'a, [u8]>> {
    match cipher {
        None => {
            let (plain, sum) = bytes.split_last_chunk::<8>()?;
            (checksum(plain) == u64::from_le_bytes(*sum)).then_some(Cow::Borrowed(plain))
        }
        Some(cipher) => {
            let encrypted: EncryptedValueBase64 = serde_json::from_slice(bytes).ok()?;
            cipher.decrypt_value_base64_data(encrypted).ok().map(Cow::Owned)
        }
    }
}

/// Takes an event from `rest`, as one of a process of its own.
fn pull_event(rest: &mut &[u8], epoch: u64) -> Option<OutgoingEvent> {
    let (uuid, more) = rest.split_first_chunk::<16>()?;
    *rest = more;
    Some(OutgoingEvent {
        uuid: Uuid::from_bytes(*uuid),
        at: pull_time(rest)?,
        name: Cow::Owned(pull(rest)?.to_owned()),
        properties: Properties::from_members(pull(rest)?)?,
        user: None,
        epoch,
        process: Process::random(),
    })
}

/// Takes user properties from `rest`.
fn pull_user(rest: &mut &[u8]) -> Option<UserProperties> {
    let mut next = || Properties::from_members(pull(rest)?);
    Some(UserProperties { set: next()?, set_once: next()? })
}

/// Takes a time from `rest`.
fn pull_time(rest: &mut &[u8]) -> Option<SystemTime> {
    let (nanos, more) = rest.split_first_chunk::<8>()?;
    *rest = more;
    Some(from_unix_nanos(i64::from_le_bytes(*nanos)))
}

/// Takes a text from `rest`.
fn pull<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, more) = rest.split_first_chunk::<4>()?;
    let (text, more) = more.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = more;
    std::str::from_utf8(text).ok()
}

/// Converts `time` to nanoseconds since 1970. Times before 1677 or after 2262 are clamped.
fn nanos(time: SystemTime) -> i64 {
    unix_nanos(time).clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Returns a checksum that detects a damaged row: FNV-1a, eight bytes at a time. It does
/// not detect deliberate changes; only encryption with a passphrase does.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    let sum = words.iter().fold(sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    mix(sum, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event() -> OutgoingEvent {
        OutgoingEvent {
            uuid: Uuid::new_v4(),
            name: Cow::Borrowed("Opened \"⌘\""),
            at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_769_860_800_123_456_789),
            properties: Properties::new().with("text", "a\nb").with("n", u64::MAX),
            user: None,
            epoch: 7,
            process: Process::random(),
        }
    }

    fn ciphers() -> [Option<StoreCipher>; 2] {
        [None, Some(StoreCipher::new().unwrap())]
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        for cipher in ciphers() {
            let (event, mut writer) = (event(), Writer::default());
            let bytes = writer.write(&event, cipher.as_ref()).unwrap();
            let read = read(bytes, 7, cipher.as_ref()).unwrap();
            assert_eq!((read.uuid, read.at, read.epoch), (event.uuid, event.at, 7));
            assert_eq!(read.process, event.process);
            assert_eq!(read.name, event.name);
            assert_eq!(read.properties.to_json(), event.properties.to_json());
        }
    }

    #[test]
    fn user_properties_are_read_as_they_were_written_unless_they_are_damaged() {
        for cipher in ciphers() {
            let (set, set_once) =
                (Properties::new().with("a", "⌘"), Properties::new().with("b", 1));
            let (user, mut writer) = (UserProperties { set, set_once }, Writer::default());
            let bytes = writer.write_user(&user, cipher.as_ref()).unwrap();
            let read = read_user(bytes, cipher.as_ref()).unwrap();
            assert_eq!(read.set.to_json(), user.set.to_json());
            assert_eq!(read.set_once.to_json(), user.set_once.to_json());
            for place in 0..bytes.len() {
                assert!(read_user(&bytes[..place], cipher.as_ref()).is_none(), "{place}");
            }
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_except_that_a_request_in_progress_is_unconfirmed() {
        for cipher in ciphers() {
            for outcome in SentOutcome::ALL.iter().copied() {
                let to = Addressee { backend: "b#0".to_owned(), name: "⌘".to_owned() };
                let user = UserProperties::new().set("a", 1).set_once("b", "c");
                let event = OutgoingEvent { user: Some(Box::new(user)), ..event() };
                let sent_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(7);
                let entry = SentEvent { to: to.into(), event: event.into(), sent_at, outcome };
                let mut writer = Writer::default();
                let bytes = writer.write_sent(&entry, cipher.as_ref()).unwrap();
                let read = read_sent(bytes, 7, cipher.as_ref()).unwrap();
                let expected = match outcome {
                    SentOutcome::InFlight => SentOutcome::Unconfirmed,
                    outcome => outcome,
                };
                assert_eq!((read.sent_at, read.outcome), (sent_at, expected));
                assert_eq!(read.to, entry.to);
                let process = entry.event.process;
                assert_eq!(OutgoingEvent { process, ..(*read.event).clone() }, *entry.event);
                for place in 0..bytes.len() {
                    assert!(read_sent(&bytes[..place], 7, cipher.as_ref()).is_none(), "{place}");
                }
            }
        }
    }

    #[test]
    fn every_damaged_byte_is_detected() {
        for cipher in ciphers() {
            let mut writer = Writer::default();
            let bytes = writer.write(&event(), cipher.as_ref()).unwrap().to_vec();
            for place in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[place] ^= 0x10;
                assert!(read(&damaged, 7, cipher.as_ref()).is_none(), "{place}");
                assert!(read(&bytes[..place], 7, cipher.as_ref()).is_none(), "{place}");
            }
        }
    }

    #[test]
    fn an_encrypted_event_does_not_contain_its_name() {
        let cipher = StoreCipher::new().unwrap();
        let mut writer = Writer::default();
        let bytes = writer.write(&event(), Some(&cipher)).unwrap();
        assert!(!String::from_utf8_lossy(bytes).contains("Opened"));
    }

    #[test]
    fn a_time_out_of_range_is_clamped() {
        for before in [true, false] {
            let span = Duration::from_secs(400 * 365 * 24 * 3600);
            let far = if before {
                SystemTime::UNIX_EPOCH.checked_sub(span)
            } else {
                SystemTime::UNIX_EPOCH.checked_add(span)
            };
            // Windows has no time before 1601.
            let Some(far) = far else { continue };
            assert_eq!(from_unix_nanos(nanos(far)) < SystemTime::UNIX_EPOCH, before);
        }
    }
}
