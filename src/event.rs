//! What an app captures: a name and flat properties.

mod flat;
mod members;
mod rfc3339;
mod scratch;
mod unique_ids;

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc, time::SystemTime};

use serde::{Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap as _};
use uuid::Uuid;

pub(crate) use self::unique_ids::UniqueIds;

/// The longest name of an event, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// The longest key of a property, in bytes.
pub const MAX_KEY_BYTES: usize = 200;
/// The largest JSON text that the properties of one event may have, in bytes.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;

/// A typed event: its name is in the type, its fields are its properties.
///
/// The type must serialise as a flat struct or map: strings, integers, finite
/// floats, booleans, unit enum variants, and options of these (`None` leaves
/// the property out).
///
/// ```
/// use matrix_analytics::Event;
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
/// impl Event for RoomJoined {
///     const NAME: &'static str = "JoinedRoom";
/// }
/// ```
pub trait Event: Serialize {
    /// The name of the event, from 1 to [`MAX_NAME_BYTES`] bytes.
    const NAME: &'static str;
}

/// One property's value.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// A floating-point number; it must be finite.
    Float(f64),
    /// A signed integer.
    Integer(i64),
    /// Text.
    Text(Cow<'a, str>),
    /// An integer that may be larger than [`i64::MAX`].
    Unsigned(u64),
}

/// Prints the kind of the value only: the value may be personal.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "Bool(..)",
            Self::Float(_) => "Float(..)",
            Self::Integer(_) => "Integer(..)",
            Self::Text(_) => "Text(..)",
            Self::Unsigned(_) => "Unsigned(..)",
        })
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
        }
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Value<'_> {
            fn from(value: $source) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool,
    f32 => Float, f64 => Float,
    i8 => Integer, i16 => Integer, i32 => Integer, i64 => Integer,
    u8 => Integer, u16 => Integer, u32 => Integer, u64 => Unsigned,
    String => Text,
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl<'a> From<Cow<'a, str>> for Value<'a> {
    fn from(value: Cow<'a, str>) -> Self {
        Self::Text(value)
    }
}

/// Flat properties: keys with a string, an integer, a finite float or a boolean.
///
/// A key that is given twice has the last value. What is wrong with a key or a
/// value is remembered and found by [`Properties::check`]; capturing such
/// properties is counted as [`DropReason::Invalid`](crate::DropReason::Invalid)
/// or [`DropReason::TooLarge`](crate::DropReason::TooLarge) and sends nothing.
///
/// ```
/// use matrix_analytics::Properties;
///
/// let properties = Properties::new().with("trigger", "MessageSent").with("count", 3);
/// assert!(properties.check().is_ok());
/// ```
#[derive(Clone, Default)]
pub struct Properties {
    /// JSON members with commas between them and no braces, so that two sets
    /// are joined without being parsed.
    members: String,
    problem: Option<InvalidEvent>,
    /// Whether a key may stand twice in `members`.
    may_repeat: bool,
    /// Whether there is a text or a key that the type of an event does not fix.
    has_text: bool,
}

/// Prints the size only: keys and values may be personal.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties").field("bytes", &self.members.len()).finish_non_exhaustive()
    }
}

impl Properties {
    /// No properties.
    #[must_use]
    pub fn new() -> Self {
        Self::none()
    }

    const fn none() -> Self {
        Self { members: String::new(), problem: None, may_repeat: false, has_text: false }
    }

    /// The properties that `event` serialises to.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`] if `event` is not flat, has an empty or over-long key,
    /// a float that is not finite, or is larger than [`MAX_EVENT_BYTES`].
    pub fn from_serialize<T: Serialize + ?Sized>(event: &T) -> Result<Self, InvalidEvent> {
        flat::members(event).and_then(|flat| {
            let properties = Self {
                members: flat.members,
                problem: None,
                may_repeat: flat.may_repeat,
                has_text: flat.has_text,
            };
            properties.check().map(|()| properties)
        })
    }

    /// These properties and `key` with `value`.
    #[must_use]
    pub fn with<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.insert(key, value);
        self
    }

    /// Adds `key` with `value`, or replaces its value.
    pub fn insert<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        if self.problem.is_some() {
            return;
        }
        self.may_repeat |= !self.members.is_empty();
        self.has_text = true;
        if self.members.capacity() == 0 {
            // Room for the usual event, so that one allocation serves.
            self.members.reserve(128);
        }
        if let Err(problem) = flat::push_member(&mut self.members, key, &value.into()) {
            self.problem = Some(problem);
        }
    }

    /// Whether there is no property.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The size of the properties as JSON, in bytes.
    #[must_use]
    pub fn json_bytes(&self) -> usize {
        self.members.len() + 2
    }

    /// Finds what would keep these properties from being captured.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`]: the first thing that was wrong.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        match self.problem {
            Some(problem) => Err(problem),
            None if self.json_bytes() > MAX_EVENT_BYTES => Err(InvalidEvent::TooLarge),
            None => Ok(()),
        }
    }

    /// These properties as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{{{}}}", self.members)
    }

    /// Reads these properties as a `T`, such as a map from strings to values.
    ///
    /// # Errors
    ///
    /// An error of serde_json if they are not a `T`.
    pub fn deserialize<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.to_json())
    }

    /// Properties from JSON members that were written down, unless these are none.
    #[cfg(feature = "sqlite")]
    pub(crate) fn from_members(members: &str) -> Option<Self> {
        let json = format!("{{{members}}}");
        members::parse(&json).ok()?;
        // Nothing is known of what another process wrote.
        let has_text = !members.is_empty();
        Some(Self { members: members.to_owned(), has_text, ..Self::default() })
    }

    /// These properties as JSON members, with no braces around them.
    pub(crate) fn members(&self) -> &str {
        &self.members
    }

    /// These properties but for those whose key `unwanted` picks.
    #[cfg(feature = "posthog")]
    pub(crate) fn without(&self, unwanted: impl Fn(&str) -> bool) -> Self {
        let json = self.to_json();
        let mut members = String::with_capacity(self.members.len());
        // What this type wrote is always an object; were it not, nothing may
        // leave under its name.
        for (key, value) in members::parse(&json).unwrap_or_default() {
            if !unwanted(&key) {
                flat::push_raw(&mut members, &key, value.get());
            }
        }
        Self { members, ..self.clone() }
    }

    /// These properties on top of `base`, each key once.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let mut members = String::with_capacity(base.members.len() + 1 + self.members.len());
        members.push_str(&base.members);
        if !members.is_empty() && !self.members.is_empty() {
            members.push(',');
        }
        members.push_str(&self.members);
        let problem = base.problem.or(self.problem);
        let has_text = base.has_text || self.has_text;
        Self { members, problem, may_repeat: true, has_text }.without_repeats()
    }

    /// Whether there is a text, or a key, that only the run of the program knows.
    pub(crate) fn has_text(&self) -> bool {
        self.has_text
    }

    /// These properties after `decide` has seen each key and, if there is one, its
    /// text; `None` if all are kept.
    pub(crate) fn filtered(
        &self,
        mut decide: impl FnMut(&str, Option<&str>) -> Fate,
    ) -> Option<Self> {
        let json = self.to_json();
        let mut members = String::with_capacity(self.members.len());
        let mut all_kept = true;
        // What this type wrote is always an object; were it not, nothing may
        // leave under its name.
        let Ok(parsed) = members::parse(&json) else { return Some(Self::default()) };
        for (key, value) in parsed {
            let text: Option<String> = serde_json::from_str(value.get()).ok();
            let fate = decide(&key, text.as_deref());
            all_kept &= matches!(fate, Fate::Kept);
            match fate {
                Fate::Kept => flat::push_raw(&mut members, &key, value.get()),
                Fate::Dropped => {}
                Fate::Replaced { key: new_key, text } => {
                    let text = text.map(|text| serde_json::to_string(&text).unwrap_or_default());
                    let value = text.as_deref().unwrap_or(value.get());
                    flat::push_raw(&mut members, new_key.as_deref().unwrap_or(&key), value);
                }
            }
        }
        // Two keys may have become the same.
        (!all_kept).then(|| Self { members, may_repeat: true, ..self.clone() }.without_repeats())
    }

    /// These properties with the last value of each key, and no more memory than
    /// they need.
    pub(crate) fn without_repeats(mut self) -> Self {
        if self.may_repeat {
            self = self.with_last_of_each_key();
        }
        // Not `shrink_to_fit`: what that leaves behind is too small for another.
        if self.members.capacity() > self.members.len() {
            self.members = self.members.as_str().to_owned();
        }
        self
    }

    fn with_last_of_each_key(self) -> Self {
        let Some(members) = members::split(&self.members) else {
            // What this type wrote can be split; were it not so, nothing may leave
            // under its name.
            return Self { problem: Some(InvalidEvent::NotFlat), ..Self::default() };
        };
        let mut keys: Vec<_> = members.iter().map(|member| member.key).collect();
        keys.sort_unstable();
        let repeats = keys.windows(2).any(|pair| pair[0] == pair[1]);
        let kept = repeats.then(|| {
            let mut seen = HashSet::with_capacity(members.len());
            let mut kept: Vec<_> =
                members.iter().rev().filter(|member| seen.insert(member.key)).collect();
            kept.reverse();
            kept.iter().map(|member| member.text).collect::<Vec<_>>().join(",")
        });
        match kept {
            Some(members) => Self { members, may_repeat: false, ..self },
            None => Self { may_repeat: false, ..self },
        }
    }
}

/// What becomes of one property.
#[derive(Debug)]
pub(crate) enum Fate {
    Dropped,
    Kept,
    /// With another key, another text or both.
    Replaced {
        key: Option<String>,
        text: Option<String>,
    },
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = self.to_json();
        let members = members::parse(&json).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(Some(members.len()))?;
        for (key, value) in members {
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}

/// What is wrong with an event that cannot be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// A property's key is empty or has a control character.
    #[error("a property's key is empty or has a control character")]
    Key,
    /// A property's key is longer than [`MAX_KEY_BYTES`].
    #[error("a property's key is longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
    /// The name is empty, only white space, or has a control character.
    #[error("the name is empty, only white space, or has a control character")]
    Name,
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("the name is longer than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    /// A property is an object, a list, bytes, `null`, or an integer of more
    /// than 64 bits; or the event is not a struct or map.
    #[error("an event must be flat: a struct or map of text, 64-bit numbers and booleans")]
    NotFlat,
    /// A float is infinite or not a number, which JSON cannot say.
    #[error("a float is infinite or not a number")]
    NotFinite,
    /// The properties are larger than [`MAX_EVENT_BYTES`].
    #[error("the properties are larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
    /// The type's own `Serialize` gave up.
    #[error("the event's own serialisation failed")]
    Serialize,
}

/// Checks the name of an event.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidEvent> {
    if name.len() > MAX_NAME_BYTES {
        Err(InvalidEvent::NameTooLong)
    } else if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Nearly all names, and for less than what follows.
        Ok(())
    } else if name.trim().is_empty() || name.chars().any(char::is_control) {
        Err(InvalidEvent::Name)
    } else {
        Ok(())
    }
}

/// What `capture` puts into the intake.
pub(crate) struct CapturedEvent {
    pub(crate) name: Cow<'static, str>,
    pub(crate) properties: Properties,
    /// The super properties at the time of capture.
    pub(crate) super_properties: Option<Arc<Properties>>,
    pub(crate) at: SystemTime,
    pub(crate) epoch: u64,
}

impl CapturedEvent {
    /// What the event takes in memory, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.properties.json_bytes()
    }
}

/// An event on its way to a backend: name, time, unique ID and properties.
///
/// The analytics ID is not part of it: the [`Batch`](crate::Batch) has it, for
/// an event is stamped when it leaves.
#[derive(Clone)]
pub struct OutgoingEvent {
    pub(crate) uuid: Uuid,
    pub(crate) name: Cow<'static, str>,
    pub(crate) at: SystemTime,
    pub(crate) properties: Properties,
    /// Few events have any.
    pub(crate) user: Option<Box<UserProperties>>,
    pub(crate) epoch: u64,
}

/// Prints the unique ID only: names and properties may be personal.
impl fmt::Debug for OutgoingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingEvent").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl OutgoingEvent {
    /// The unique ID of this event, the same on every try.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the event was captured, by this device's clock.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.at
    }

    /// [`OutgoingEvent::time`] in the form of RFC 3339, in UTC.
    #[must_use]
    pub fn rfc3339_time(&self) -> String {
        rfc3339::format(self.at)
    }

    /// The event's properties, with the super properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// What this event says about the person, rather than about itself.
    #[must_use]
    pub fn user_properties(&self) -> &UserProperties {
        const NONE: &UserProperties = &UserProperties::none();

        self.user.as_deref().unwrap_or(NONE)
    }

    /// What the event takes in a batch, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        const ENVELOPE: usize = 160;
        self.name.len()
            + self.properties.json_bytes()
            + self.user_properties().set.json_bytes()
            + self.user_properties().set_once.json_bytes()
            + ENVELOPE
    }

    #[cfg(feature = "testing")]
    pub(crate) fn for_testing(name: &str, properties: Properties, at: SystemTime) -> Self {
        Self {
            uuid: Uuid::new_v4(),
            name: Cow::Owned(name.to_owned()),
            at,
            properties: properties.without_repeats(),
            user: None,
            epoch: 0,
        }
    }
}

/// Properties of the person behind the analytics ID, as a backend stores them.
#[derive(Clone, Debug, Default)]
pub struct UserProperties {
    pub(crate) set: Properties,
    pub(crate) set_once: Properties,
}

impl UserProperties {
    const fn none() -> Self {
        Self { set: Properties::none(), set_once: Properties::none() }
    }

    /// Properties that replace what the backend has.
    #[must_use]
    pub fn set(&self) -> &Properties {
        &self.set
    }

    /// Properties that the backend takes only if it has none of that name.
    #[must_use]
    pub fn set_once(&self) -> &Properties {
        &self.set_once
    }

    /// Whether there is nothing to say about the person.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.set_once.is_empty()
    }
}
