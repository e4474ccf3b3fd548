//! Encryption and the session.

use super::macros::{event, vocabulary};

event! {
    /// An error, such as a message that cannot be decrypted.
    Error = "Error" {
        required {
            /// the part of the client in which it occurred.
            domain: ErrorDomain = "domain",
            /// which error it was.
            name: ErrorName = "name",
        }
        optional {
            /// details that help to debug the client, in words of its own. Make them words of the
            /// program: a text that was computed can name a person.
            context: Text = "context",
            /// how long it took until the message could be decrypted after all, in milliseconds;
            /// -1 if it never could.
            time_to_decrypt_millis: i64 = "timeToDecryptMillis",
            /// the implementation of the encryption.
            crypto_sdk: CryptoSdk = "cryptoSDK",
            /// how much older the device is than the message, as the time of the message minus
            /// the time when the device was created, in milliseconds; below zero for a message
            /// from before. It tells the recipient when the user logged in, by which two IDs of the
            /// user can be joined: `Analytics::watch_health` sends only its sign.
            event_local_age_millis: i64 = "eventLocalAgeMillis",
            /// whether the device trusted the user's own identity when it tried to decrypt.
            user_trusts_own_identity: bool = "userTrustsOwnIdentity",
            /// whether the sender is on another server than the user.
            is_federated: bool = "isFederated",
            /// whether the user saw the error.
            was_visible_to_user: bool = "wasVisibleToUser",
        }
    }
}

vocabulary! {
    /// The part of the client in which an error occurred.
    ErrorDomain {
        E2ee = "E2EE",
        ToDevice = "TO_DEVICE",
        Voip = "VOIP",
    }
}

vocabulary! {
    /// An error by its name.
    ErrorName {
        ExpectedDueToMembership,
        ExpectedSentByInsecureDevice,
        ExpectedVerificationViolation,
        HistoricalMessage,
        OlmIndexError,
        OlmKeysNotSentError,
        OlmUnspecifiedError,
        RoomKeysWithheldForUnverifiedDevice,
        ToDeviceFailedToDecrypt,
        UnknownError,
        VoipIceFailed,
        VoipIceTimeout,
        VoipInviteTimeout,
        VoipUserHangup,
        VoipUserMediaFailed,
    }
}

vocabulary! {
    /// The implementation of end-to-end encryption. That of matrix-sdk is [`CryptoSdk::Rust`].
    CryptoSdk {
        Legacy,
        Rust,
    }
}

event! {
    /// The session as far as encryption is concerned, sent when it changes.
    CryptoSessionState = "CryptoSessionState" {
        required {
            /// whether the session is verified.
            verification_state: VerificationState = "verificationState",
            /// whether the account can be recovered.
            recovery_state: RecoveryState = "recoveryState",
        }
    }
}

vocabulary! {
    /// Whether the session is verified.
    VerificationState {
        NotVerified,
        Verified,
    }
}

vocabulary! {
    /// Whether the secrets of the account can be recovered on another device, and whether this
    /// device has all of them.
    RecoveryState {
        Disabled,
        Enabled,
        Incomplete,
    }
}

event! {
    /// A session that ended although the user did not log out.
    UnauthenticatedError = "UnauthenticatedError" {
        required {
            /// whether the session had a refresh token.
            refresh_token_auth: bool = "refreshTokenAuth",
            /// whether the server said that the device may log in again and keep its data.
            soft_logout: bool = "softLogout",
            /// the server's error code.
            error_code: UnauthenticatedErrorCode = "errorCode",
            /// the reason, in fixed words of the program. Never pass the server's own text.
            error_reason: Text = "errorReason",
        }
    }
}

vocabulary! {
    /// The error code of a server that does not accept a session any more.
    UnauthenticatedErrorCode {
        Forbidden = "M_FORBIDDEN",
        Unknown = "M_UNKNOWN",
        UnknownToken = "M_UNKNOWN_TOKEN",
    }
}
