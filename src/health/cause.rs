//! Why a message could not be decrypted.

use matrix_sdk::{
    deserialized_responses::{UnableToDecryptReason, VerificationLevel, WithheldCode},
    ruma::{events::AnySyncTimelineEvent, serde::Raw},
};
use serde::Deserialize;

use crate::element::ErrorName;

/// The causes that matrix-sdk knows (`UtdCause` in matrix-sdk-crypto 0.18,
/// `types/events/utd_cause.rs`), except for the two of messages that are older than the device.
/// The opt-in on a device is younger than the device, so those messages are never reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Unknown,
    SentBeforeWeJoined,
    VerificationViolation,
    UnsignedDevice,
    UnknownDevice,
    WithheldForUnverifiedOrInsecureDevice,
    WithheldBySender,
}

impl Cause {
    /// Returns the cause for a message that is younger than the device.
    pub(crate) fn of(reason: &UnableToDecryptReason, event: &Raw<AnySyncTimelineEvent>) -> Self {
        match reason {
            UnableToDecryptReason::MissingMegolmSession {
                withheld_code: None | Some(WithheldCode::HistoryNotShared),
            }
            | UnableToDecryptReason::UnknownMegolmMessageIndex => {
                if was_no_member(event) {
                    Self::SentBeforeWeJoined
                } else {
                    Self::Unknown
                }
            }
            UnableToDecryptReason::MissingMegolmSession {
                withheld_code: Some(WithheldCode::Unverified),
            } => Self::WithheldForUnverifiedOrInsecureDevice,
            UnableToDecryptReason::MissingMegolmSession { withheld_code: Some(_) } => {
                Self::WithheldBySender
            }
            UnableToDecryptReason::SenderIdentityNotTrusted(level) => match level {
                VerificationLevel::VerificationViolation => Self::VerificationViolation,
                VerificationLevel::UnsignedDevice => Self::UnsignedDevice,
                VerificationLevel::None(_) => Self::UnknownDevice,
                VerificationLevel::UnverifiedIdentity | VerificationLevel::MismatchedSender => {
                    Self::Unknown
                }
            },
            _ => Self::Unknown,
        }
    }

    /// Returns the name in Element's catalogue, as Element X maps it (iOS
    /// `ChatsTabFlowCoordinator.swift`, Android `UtdTracker.kt`).
    pub(crate) fn name(self) -> ErrorName {
        match self {
            Self::Unknown | Self::WithheldBySender => ErrorName::OlmKeysNotSentError,
            Self::SentBeforeWeJoined => ErrorName::ExpectedDueToMembership,
            Self::VerificationViolation => ErrorName::ExpectedVerificationViolation,
            Self::UnsignedDevice | Self::UnknownDevice => ErrorName::ExpectedSentByInsecureDevice,
            Self::WithheldForUnverifiedOrInsecureDevice => {
                ErrorName::RoomKeysWithheldForUnverifiedDevice
            }
        }
    }
}

/// Returns whether the homeserver says that the user was not in the room when the message was
/// sent (MSC4115).
fn was_no_member(event: &Raw<AnySyncTimelineEvent>) -> bool {
    #[derive(Deserialize)]
    struct Unsigned {
        #[serde(alias = "io.element.msc4115.membership")]
        membership: Membership,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Membership {
        Leave,
        Invite,
        Join,
    }

    let unsigned = event.get_field::<Unsigned>("unsigned").ok().flatten();
    unsigned.is_some_and(|unsigned| matches!(unsigned.membership, Membership::Leave))
}

#[cfg(test)]
mod tests {
    use matrix_sdk::{
        deserialized_responses::{DeviceLinkProblem, UnableToDecryptInfo},
        ruma::{MilliSecondsSinceUnixEpoch, UInt},
    };
    use matrix_sdk_base::crypto::types::events::{CryptoContextInfo, UtdCause};
    use serde_json::{Value, json};

    use super::*;

    /// All reasons, with all codes and levels.
    fn reasons() -> Vec<UnableToDecryptReason> {
        let withheld = [
            "m.blacklisted",
            "m.unverified",
            "m.unauthorised",
            "m.unavailable",
            "m.no_olm",
            "m.history_not_shared",
            "org.example.other",
        ];
        let withheld = withheld.map(|code| Some(serde_json::from_value(json!(code)).unwrap()));
        let levels = [
            VerificationLevel::UnverifiedIdentity,
            VerificationLevel::VerificationViolation,
            VerificationLevel::UnsignedDevice,
            VerificationLevel::None(DeviceLinkProblem::MissingDevice),
            VerificationLevel::None(DeviceLinkProblem::InsecureSource),
            VerificationLevel::MismatchedSender,
        ];
        let missing = withheld
            .into_iter()
            .chain([None])
            .map(|withheld_code| UnableToDecryptReason::MissingMegolmSession { withheld_code });
        let untrusted = levels.into_iter().map(UnableToDecryptReason::SenderIdentityNotTrusted);
        let others = [
            UnableToDecryptReason::Unknown,
            UnableToDecryptReason::MalformedEncryptedEvent,
            UnableToDecryptReason::UnknownMegolmMessageIndex,
            UnableToDecryptReason::MegolmDecryptionFailure,
            UnableToDecryptReason::PayloadDeserializationFailure,
            UnableToDecryptReason::MismatchedIdentityKeys,
        ];
        missing.chain(untrusted).chain(others).collect()
    }

    fn event(unsigned: &Value) -> Raw<AnySyncTimelineEvent> {
        let event = json!({
            "type": "m.room.encrypted",
            "event_id": "$event",
            "sender": "@bob:example.org",
            "origin_server_ts": 2000,
            "content": {
                "algorithm": "m.megolm.v1.aes-sha2",
                "ciphertext": "AwgAEpABtYhVdGZjFLlBRNJ1DpHG",
                "session_id": "session",
            },
            "unsigned": unsigned,
        });
        Raw::new(&event).unwrap().cast_unchecked()
    }

    /// The cause of matrix-sdk, for a device that is older than the event.
    fn cause_of_sdk(reason: UnableToDecryptReason, event: &Raw<AnySyncTimelineEvent>) -> UtdCause {
        let context = CryptoContextInfo {
            device_creation_ts: MilliSecondsSinceUnixEpoch(UInt::from(1000_u32)),
            this_device_is_verified: false,
            backup_exists_on_server: false,
            is_backup_configured: false,
        };
        UtdCause::determine(event, context, &UnableToDecryptInfo { session_id: None, reason })
    }

    fn of_sdk(cause: UtdCause) -> Cause {
        match cause {
            UtdCause::Unknown => Cause::Unknown,
            UtdCause::SentBeforeWeJoined => Cause::SentBeforeWeJoined,
            UtdCause::VerificationViolation => Cause::VerificationViolation,
            UtdCause::UnsignedDevice => Cause::UnsignedDevice,
            UtdCause::UnknownDevice => Cause::UnknownDevice,
            UtdCause::WithheldForUnverifiedOrInsecureDevice => {
                Cause::WithheldForUnverifiedOrInsecureDevice
            }
            UtdCause::WithheldBySender => Cause::WithheldBySender,
            UtdCause::HistoricalMessageAndBackupIsDisabled
            | UtdCause::HistoricalMessageAndDeviceIsUnverified => {
                panic!("the message is younger than the device")
            }
        }
    }

    #[test]
    fn each_reason_has_the_cause_that_matrix_sdk_determines() {
        let mut causes = Vec::new();
        for unsigned in [
            json!({}),
            json!({"membership": "join"}),
            json!({"membership": "invite"}),
            json!({"membership": "leave"}),
            json!({"io.element.msc4115.membership": "leave"}),
            json!({"membership": "ban"}),
            json!({"membership": 7}),
            Value::Null,
        ] {
            let event = event(&unsigned);
            for reason in reasons() {
                let cause = Cause::of(&reason, &event);
                assert_eq!(cause, of_sdk(cause_of_sdk(reason.clone(), &event)), "{reason:?}");
                if !causes.contains(&cause) {
                    causes.push(cause);
                }
            }
        }
        assert_eq!(causes.len(), 7, "a cause does not occur");
    }
}
