//! Messages: the composer, polls, pins, slash commands, previews of URLs.

use super::macros::{event, vocabulary};

event! {
    /// A message that the user sent from the composer.
    Composer = "Composer" {
        required {
            /// whether it changes an earlier message.
            is_editing: bool = "isEditing",
            /// whether it replies to another message.
            is_reply: bool = "isReply",
            /// whether it belongs to a thread.
            in_thread: bool = "inThread",
            /// what kind of message it is.
            message_type: MessageType = "messageType",
        }
        optional {
            /// whether it is the first of a thread.
            starts_thread: bool = "startsThread",
        }
    }
}

vocabulary! {
    /// The kind of a message.
    MessageType {
        LocationPin,
        LocationUser,
        Poll,
        Text,
        VoiceMessage,
    }
}

event! {
    /// A poll that the user created or changed.
    PollCreation = "PollCreation" {
        required {
            /// which of the two.
            action: PollAction = "action",
            /// whether the result stays hidden until the end.
            is_undisclosed: bool = "isUndisclosed",
            /// the number of answers to choose from.
            number_of_answers: u64 = "numberOfAnswers",
        }
    }
}

vocabulary! {
    /// An action on a poll.
    PollAction {
        Create,
        Edit,
    }
}

event! {
    /// A vote in a poll.
    PollVote = "PollVote" {}
}

event! {
    /// A poll that the user ended.
    PollEnd = "PollEnd" {}
}

event! {
    /// A message that the user pinned or unpinned.
    PinUnpinAction = "PinUnpinAction" {
        required {
            /// which of the two.
            kind: PinKind = "kind",
            /// where the user did it.
            from: PinOrigin = "from",
        }
    }
}

vocabulary! {
    /// An action on a pinned message.
    PinKind {
        Pin,
        Unpin,
    }
}

vocabulary! {
    /// Where a message was pinned or unpinned.
    PinOrigin {
        MessagePinningList,
        Timeline,
        UnpinAll,
    }
}

event! {
    /// A slash command in the composer.
    SlashCommand = "SlashCommand" {
        required {
            /// the command.
            command: SlashCommandName = "command",
        }
    }
}

vocabulary! {
    /// A slash command.
    SlashCommandName {
        Invite,
        Part,
    }
}

event! {
    /// Previews of the URLs in a message that came into view. Send it once for each message.
    UrlPreviewRendered = "UrlPreviewRendered" {
        required {
            /// the kind of preview.
            preview_kind: UrlPreviewKind = "previewKind",
            /// whether the room is encrypted.
            encrypted_room: bool = "encryptedRoom",
            /// the number of URLs with a preview.
            preview_count: u64 = "previewCount",
            /// whether at least one preview has a picture.
            has_thumbnail: bool = "hasThumbnail",
        }
    }
}

event! {
    /// Previews of the URLs in a message that the user hid or showed again.
    UrlPreviewVisibilityChanged = "UrlPreviewVisibilityChanged" {
        required {
            /// whether they are visible now.
            visible: bool = "visible",
            /// the kind of preview.
            preview_kind: UrlPreviewKind = "previewKind",
            /// the number of URLs with a preview.
            preview_count: u64 = "previewCount",
            /// whether at least one preview has a picture.
            has_thumbnail: bool = "hasThumbnail",
        }
    }
}

vocabulary! {
    /// The kind of a preview.
    UrlPreviewKind {
        LegacyCard,
    }
}
