//! The identifier of the person that a recipient gets.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};

use crate::analytics_id::AnalyticsId;

/// The identifier of the person that a recipient gets.
///
/// Two recipients can join what they have of a person if both know the same identifier. With
/// [`Account`](Self::Account) they can, with the other two they cannot. A recipient that knows
/// the account's ID, however, can compute every pseudonym whose label it knows or guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The analytics ID of the account, which all of the user's clients share.
    Account,
    /// A pseudonym of the account for this recipient only: the first 128 bits, in hex, of
    /// HMAC-SHA-256 with the label of the recipient as its key and the analytics ID as its
    /// message. It is the same on all devices and for as long as the account keeps its ID.
    Pseudonym,
    /// Nothing that stays the same: where the protocol needs an identifier, a random one for each
    /// process, recipient and day (UTC).
    Anonymous,
}

impl Identity {
    /// Returns the identifier that the recipient with `label` gets for an event that happened at
    /// `time` in the process with `secret`.
    pub(crate) fn identifier(
        self,
        label: &str,
        account: &AnalyticsId,
        secret: &ProcessSecret,
        time: SystemTime,
    ) -> String {
        match self {
            Self::Account => account.reveal().to_owned(),
            Self::Pseudonym => keyed_hash(label.as_bytes(), &[account.reveal().as_bytes()]),
            Self::Anonymous => keyed_hash(&secret.0, &[&day(time).to_be_bytes(), label.as_bytes()]),
        }
    }
}

/// A random secret of one process, from which its anonymous identifiers are made.
///
/// A durable queue keeps it with the events of the process, so that an event that is sent by
/// another process keeps its identifier.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProcessSecret([u8; Self::BYTES]);

impl ProcessSecret {
    const BYTES: usize = 32;

    /// Creates a secret from the randomness of the operating system.
    ///
    /// # Errors
    ///
    /// Fails if the operating system has none: another secret could be guessed.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut secret = [0; Self::BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(secret))
    }
}

impl fmt::Debug for ProcessSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessSecret(..)")
    }
}

/// Returns the number of the day of `time` since 1970, in UTC.
fn day(time: SystemTime) -> u64 {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs()
}

/// Returns the first 128 bits of HMAC-SHA-256 in lower-case hex.
fn keyed_hash(key: &[u8], message: &[&[u8]]) -> String {
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

    const ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
    const LABEL: &str = "collector.example.org";
    const OTHER_LABEL: &str = "matomo.example.org";

    fn identifier(identity: Identity, label: &str, id: &str, day: u64) -> String {
        let account = AnalyticsId::from_foreign(id).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 80_000);
        identity.identifier(label, &account, &ProcessSecret([7; 32]), time)
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
    fn an_anonymous_identifier_lasts_a_day_and_is_of_one_process_and_recipient() {
        for (label, day, identifier_of_the_day) in [
            (LABEL, 20_485, "75d4fa97897d0963f600632e163bd5e0"),
            (LABEL, 20_486, "95151e4285c4ebc5b158c40655d05964"),
            (OTHER_LABEL, 20_485, "ea61f80635467c7198a871af6a5f64fd"),
        ] {
            for id in [ID, "another"] {
                let found = identifier(Identity::Anonymous, label, id, day);
                assert_eq!(found, identifier_of_the_day);
            }
        }
        let account = AnalyticsId::from_foreign(ID).unwrap();
        let of_process = || {
            let secret = ProcessSecret::random().unwrap();
            Identity::Anonymous.identifier(LABEL, &account, &secret, UNIX_EPOCH)
        };
        assert_ne!(of_process(), of_process());
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

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", ProcessSecret([7; 32])), "ProcessSecret(..)");
    }
}
