//! Calls.

use super::macros::event;

event! {
    /// A call that began.
    CallStarted = "CallStarted" {
        required {
            /// whether the user placed it.
            placed: bool = "placed",
            /// whether it has video.
            is_video: bool = "isVideo",
            /// the number of people in the call.
            num_participants: u64 = "numParticipants",
        }
    }
}

event! {
    /// A call that is over.
    CallEnded = "CallEnded" {
        required {
            /// whether the user placed it.
            placed: bool = "placed",
            /// whether it had video.
            is_video: bool = "isVideo",
            /// how long it lasted, in milliseconds.
            duration_ms: u64 = "durationMs",
            /// the number of people in the call.
            num_participants: u64 = "numParticipants",
        }
    }
}

event! {
    /// An error in a call.
    CallError = "CallError" {
        required {
            /// whether the user placed it.
            placed: bool = "placed",
            /// whether it has video.
            is_video: bool = "isVideo",
            /// the number of people in the call.
            num_participants: u64 = "numParticipants",
        }
    }
}
