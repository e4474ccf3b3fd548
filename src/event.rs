//! Events: a name and flat properties.

mod borrowed;
mod captured;
mod computed;
mod deserialize_error;
mod fate;
mod flat;
mod invalid;
mod members;
mod outgoing;
mod process;
mod properties;
mod unique_ids;
pub(crate) mod unix_time;
mod user;
mod value;

use serde::Serialize;

#[cfg(feature = "element-events")]
pub(crate) use self::flat::PROGRAM_TEXT;
pub(crate) use self::{
    borrowed::BorrowedProperties,
    captured::{CapturedEvent, counted_bytes},
    fate::PropertyFate,
    flat::write_flat,
    process::Process,
    unique_ids::UniqueIds,
    user::UserUpdate,
};
pub use self::{
    deserialize_error::DeserializeError, invalid::InvalidEvent, outgoing::OutgoingEvent,
    properties::Properties, user::UserProperties, value::PropertyValue,
};

/// The longest name of an event, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// The longest key of a property, in bytes.
pub const MAX_KEY_BYTES: usize = 200;
/// The largest JSON text that the properties of one event may have, in bytes.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;

/// An event whose name is in its type and whose fields are its properties.
///
/// The type must serialise as a flat struct or map: strings, integers, finite
/// floats, booleans, unit enum variants, arrays of these, and options of all of them. `None`, and
/// what JSON calls `null`, leave the property or the element out. Of two fields with one name the
/// last wins.
///
/// An array is a slice, vector, set or tuple. Its elements must not be arrays themselves, nor `u8`,
/// because an array of these is how serde passes bytes, such as a key.
///
/// ```
/// use matrix_analytics::AnalyticsEvent;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct RoomJoined {
///     trigger: Trigger,
///     is_dm: bool,
///     members: u32,
/// }
///
/// #[derive(Serialize)]
/// enum Trigger {
///     Invite,
///     Directory,
/// }
///
/// impl AnalyticsEvent for RoomJoined {
///     const NAME: &'static str = "RoomJoined";
/// }
/// ```
pub trait AnalyticsEvent: Serialize {
    /// The name of the event, from 1 to [`MAX_NAME_BYTES`] bytes.
    const NAME: &'static str;
}

/// Checks the name of an event.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidEvent> {
    if name.len() > MAX_NAME_BYTES {
        Err(InvalidEvent::NameTooLong)
    } else if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Fast path: nearly all names are printable ASCII.
        Ok(())
    } else if name.trim().is_empty() || name.chars().any(char::is_control) {
        Err(InvalidEvent::Name)
    } else {
        Ok(())
    }
}

/// Returns whether `name` is valid and printable ASCII, which the compiler finds out for the
/// name of a type.
pub(crate) const fn is_plain_name(name: &str) -> bool {
    let name = name.as_bytes();
    let mut plain = 0;
    while plain < name.len() && name[plain].is_ascii_graphic() {
        plain += 1;
    }
    plain == name.len() && 0 < plain && plain <= MAX_NAME_BYTES
}
