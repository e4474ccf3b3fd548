//! Flat properties, kept as JSON text.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap as _};

use super::{
    BorrowedProperties, DeserializeError, InvalidEvent, MAX_EVENT_BYTES, PropertyValue,
    computed::Computed,
    fate::{Inspected, PropertyFate},
    flat,
    members::{self, Key, Member},
};

/// Flat properties: keys with a string, an integer, a finite float, a boolean, or an array of
/// these.
///
/// A key that is given twice has the last value. An invalid key or value is remembered and
/// reported by [`Properties::check`]. An event with such properties is not sent, and is counted
/// as [`DropReason::Invalid`](crate::DropReason::Invalid) or
/// [`DropReason::TooLarge`](crate::DropReason::TooLarge).
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
    computed: Computed,
}

/// Properties are equal if they have the same values under the same keys, in any order.
impl PartialEq for Properties {
    fn eq(&self, other: &Self) -> bool {
        let (own, other_members) = (self.distinct(), other.distinct());
        let sorted = |members| {
            let mut texts: Vec<_> =
                members::split(members)?.into_iter().map(|member| member.text).collect();
            texts.sort_unstable();
            Some(texts)
        };
        self.problem == other.problem && sorted(&*own) == sorted(&*other_members)
    }
}

/// Prints the size only: keys and values may be personal.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties").field("bytes", &self.members.len()).finish_non_exhaustive()
    }
}

impl Properties {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::none()
    }

    pub(super) const fn none() -> Self {
        Self {
            members: String::new(),
            problem: None,
            may_repeat: false,
            has_text: false,
            computed: Computed::NONE,
        }
    }

    /// Creates the properties that `event` serialises to.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`] if `event` is not flat, has an empty or over-long key,
    /// a float that is not finite, or is larger than [`MAX_EVENT_BYTES`].
    pub fn from_serialize<T: Serialize + ?Sized>(event: &T) -> Result<Self, InvalidEvent> {
        flat::write_flat(event, |properties| {
            Self::check_borrowed(properties).map(|()| properties.into())
        })
    }

    /// Creates the properties that `event` serialises to. What is wrong with it is reported by
    /// [`Properties::check`].
    #[cfg(feature = "element-events")]
    pub(crate) fn from_serialize_or_problem<T: Serialize>(event: &T) -> Self {
        Self::from_serialize(event)
            .unwrap_or_else(|problem| Self { problem: Some(problem), ..Self::none() })
    }

    /// Finds what would keep `borrowed` from being captured.
    pub(crate) fn check_borrowed(borrowed: BorrowedProperties<'_>) -> Result<(), InvalidEvent> {
        // Only a text that repeats keys can be larger than the properties.
        if borrowed.members.len() + 2 > MAX_EVENT_BYTES {
            Self::from(borrowed).check()
        } else {
            Ok(())
        }
    }

    /// Returns these properties without a copy of their text, once they were checked.
    pub(crate) fn borrowed(&self) -> BorrowedProperties<'_> {
        BorrowedProperties {
            members: &self.members,
            may_repeat: self.may_repeat,
            has_text: self.has_text,
            computed: self.computed,
        }
    }

    /// Adds `key` with `value`, or replaces its value, and returns the properties.
    ///
    /// A `&'static str` counts as a part of the program. A text that was computed has to be
    /// owned, so pass `text.to_owned()`:
    ///
    /// ```
    /// # use matrix_analytics::Properties;
    /// fn loaded(plugin: &str) -> Properties {
    ///     Properties::new().with("plugin", plugin.to_owned())
    /// }
    /// # assert!(!loaded("spelling").is_empty());
    /// ```
    #[must_use]
    pub fn with(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<PropertyValue>,
    ) -> Self {
        self.insert(key, value);
        self
    }

    /// Adds `key` with `value`, or replaces its value. See [`Properties::with`].
    pub fn insert(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<PropertyValue>) {
        if self.problem.is_some() {
            return;
        }
        self.may_repeat |= !self.members.is_empty();
        self.has_text = true;
        if self.members.capacity() == 0 {
            // Room for the usual event, so that one allocation serves.
            self.members.reserve(128);
        }
        let (key, value) = (key.into(), value.into());
        let is_computed = matches!(key, Cow::Owned(_)) || value.is_computed();
        match flat::push_member(&mut self.members, &key, &value) {
            Ok(()) => self.computed.push(is_computed),
            Err(problem) => self.insert_again(&key, &value, is_computed, problem),
        }
    }

    /// Makes room for `value` if there was too little: what it replaces, and what was
    /// replaced before, needs none.
    #[cold]
    fn insert_again(
        &mut self,
        key: &str,
        value: &PropertyValue,
        is_computed: bool,
        problem: InvalidEvent,
    ) {
        if problem != InvalidEvent::TooLarge {
            self.problem = Some(problem);
            return;
        }
        self.forget_replaced(key);
        if self.problem.is_none() {
            self.problem = flat::push_member(&mut self.members, key, value).err();
            self.computed.push(is_computed);
        }
    }

    /// Removes each member that a later one replaces, and that of `key`.
    fn forget_replaced(&mut self, key: &str) {
        let mut distinct = std::mem::take(self).with_last_of_each_key();
        let spelled = serde_json::to_string(key).unwrap_or_default();
        if let Some(members) = members::split(&distinct.members) {
            let kept = (0..members.len()).filter(|place| members[*place].key != spelled);
            distinct = distinct.with_members_at(&members, kept);
        }
        *self = Self { may_repeat: true, ..distinct };
    }

    /// Returns whether there are no properties.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the size of the properties as JSON, in bytes.
    #[must_use]
    pub fn json_bytes(&self) -> usize {
        self.distinct().len() + 2
    }

    /// Returns the number of bytes that the properties occupy, which counts a value that
    /// was replaced as long as it is still held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.members.len()
    }

    /// Returns the members without those that a later one replaces.
    fn distinct(&self) -> Cow<'_, str> {
        if self.may_repeat {
            Cow::Owned(self.clone().with_last_of_each_key().members)
        } else {
            Cow::Borrowed(&self.members)
        }
    }

    /// Finds what would keep these properties from being captured.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`]: the first problem.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        match self.problem {
            Some(problem) => Err(problem),
            // Repeated keys are rare, and are looked for only where they matter.
            None if self.members.len() + 2 > MAX_EVENT_BYTES
                && self.json_bytes() > MAX_EVENT_BYTES =>
            {
                Err(InvalidEvent::TooLarge)
            }
            None => Ok(()),
        }
    }

    /// Returns these properties as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{{{}}}", self.distinct())
    }

    /// Reads these properties as a `T`, such as a map from strings to values.
    ///
    /// # Errors
    ///
    /// [`DeserializeError`] if they are not a `T`.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, DeserializeError> {
        serde_json::from_str(&self.to_json())
            .map_err(|error| DeserializeError::Mismatch { at: error.column() })
    }

    /// Reads properties from JSON members that were written to a file. Returns nothing if they
    /// are malformed.
    #[cfg(feature = "sqlite")]
    pub(crate) fn from_members(members: &str) -> Option<Self> {
        let json = format!("{{{members}}}");
        members::parse(&json).ok()?;
        // The origin of a text that another process wrote is not known.
        let has_text = !members.is_empty();
        let computed = if has_text { Computed::UNKNOWN } else { Computed::NONE };
        Some(Self { members: members.to_owned(), has_text, computed, ..Self::default() })
    }

    /// Returns these properties as JSON members, with no braces around them.
    pub(crate) fn members(&self) -> &str {
        &self.members
    }

    /// Passes the key and the value of each member to `take`, as JSON spells them. Returns `None`
    /// if `take` does, or if the members have another form than this type writes, which only a
    /// file of another program can have.
    #[cfg(feature = "otlp")]
    pub(crate) fn each_spelled<'a>(
        &'a self,
        mut take: impl FnMut(&'a str, &'a str) -> Option<()>,
    ) -> Option<()> {
        let mut rest = &*self.members;
        while !rest.is_empty() {
            let (Member { key, text }, after) = members::split_first(rest)?;
            take(key, &text[key.len() + 1..])?;
            rest = after;
        }
        Some(())
    }

    /// Returns these properties without those whose key `unwanted` picks.
    #[cfg(feature = "posthog")]
    pub(crate) fn without(&self, unwanted: impl Fn(&str) -> bool) -> Self {
        let json = self.to_json();
        let mut members = String::with_capacity(self.members.len());
        // This type always writes an object. If it did not, nothing may leave.
        for (Key(key), value) in members::parse(&json).unwrap_or_default() {
            if !unwanted(&key) {
                flat::push_raw(&mut members, &key, value.get());
            }
        }
        Self { members, ..self.of_mixed_members() }
    }

    /// Returns these properties on top of `base`, each key once.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let mut members = String::with_capacity(base.members.len() + 1 + self.members.len());
        members.push_str(&base.members);
        if !members.is_empty() && !self.members.is_empty() {
            members.push(',');
        }
        members.push_str(&self.members);
        let problem = base.problem.or(self.problem);
        let has_text = base.has_text || self.has_text;
        let computed = self.computed.mixed_with(base.computed);
        Self { members, problem, may_repeat: true, has_text, computed }.without_repeats()
    }

    /// Returns these properties without those that `other` has with the same value.
    pub(crate) fn without_same(&self, other: &Self) -> Self {
        let (Some(own), Some(other)) =
            (members::split(&self.members), members::split(&other.members))
        else {
            return self.clone();
        };
        let same = |member: &&Member<'_>| other.iter().any(|other| other.text == member.text);
        let kept: Vec<_> = own.iter().filter(|m| !same(m)).map(|member| member.text).collect();
        Self { members: kept.join(","), ..self.of_mixed_members() }
    }

    /// Returns whether there is a text, or a key, that is known at run time only.
    pub(crate) fn has_text(&self) -> bool {
        self.has_text
    }

    /// Returns these properties after `decide` has seen each key and its texts; `None` if all are
    /// kept.
    pub(crate) fn filtered(
        &self,
        mut decide: impl FnMut(&str, &[String]) -> PropertyFate,
    ) -> Option<Self> {
        let json = self.to_json();
        let mut members = String::with_capacity(self.members.len());
        let mut all_kept = true;
        // This type always writes an object. If it did not, nothing may leave.
        let Ok(parsed) = members::parse(&json) else { return Some(Self::default()) };
        for (Key(key), value) in parsed {
            // Only a file that another program wrote has values that cannot be inspected.
            let inspected = Inspected::new(value);
            let fate = inspected.as_ref().map(|value| decide(&key, value.texts()));
            all_kept &= matches!(fate, Some(PropertyFate::Kept));
            match fate {
                Some(PropertyFate::Kept) => flat::push_raw(&mut members, &key, value.get()),
                None | Some(PropertyFate::Dropped) => {}
                Some(PropertyFate::Replaced { key: new_key, texts }) => {
                    let new_value = inspected.and_then(|value| value.with(&texts));
                    let value = new_value.as_deref().unwrap_or(value.get());
                    flat::push_raw(&mut members, new_key.as_deref().unwrap_or(&key), value);
                }
            }
        }
        // Two keys may have become the same.
        (!all_kept).then(|| {
            Self { members, may_repeat: true, ..self.of_mixed_members() }.without_repeats()
        })
    }

    /// Returns these properties with the last value of each key, and no more memory than they
    /// need.
    pub(crate) fn without_repeats(mut self) -> Self {
        if self.may_repeat {
            self = self.with_last_of_each_key();
        }
        // Not `shrink_to_fit`: the memory that it frees is too small for another event.
        if self.members.capacity() > self.members.len() {
            self.members = self.members.as_str().to_owned();
        }
        self
    }

    fn with_last_of_each_key(self) -> Self {
        let Some(members) = members::split(&self.members) else {
            // This type always writes members that can be split. If not, nothing may leave.
            return Self { problem: Some(InvalidEvent::NotFlat), ..Self::default() };
        };
        let repeats = has_repeats(&members);
        if !repeats {
            return Self { may_repeat: false, ..self };
        }
        let mut seen = HashSet::with_capacity(members.len());
        let places = (0..members.len()).rev();
        let mut kept: Vec<_> = places.filter(|place| seen.insert(members[*place].key)).collect();
        kept.reverse();
        Self { may_repeat: false, ..self.with_members_at(&members, kept) }
    }

    /// Returns these properties with only those of its `members` that are at `places`.
    fn with_members_at(
        &self,
        members: &[Member<'_>],
        places: impl IntoIterator<Item = usize>,
    ) -> Self {
        let places: Vec<_> = places.into_iter().collect();
        let texts: Vec<_> = places.iter().map(|place| members[*place].text).collect();
        let (members, computed) = (texts.join(","), self.computed.of(places));
        Self { members, computed, ..*self }
    }

    /// Returns empty properties with the marks that these have in any selection.
    fn of_mixed_members(&self) -> Self {
        let computed = self.computed.mixed_with(Computed::NONE);
        Self { members: String::new(), computed, ..*self }
    }

    /// Returns these properties without those with a key or a text that the program computed,
    /// unless `allows` accepts the key; `None` if all are kept.
    pub(crate) fn without_computed(&self, allows: impl Fn(&str) -> bool) -> Option<Self> {
        if !self.computed.any() {
            return None;
        }
        // This type always writes members that can be split. If not, nothing may leave.
        let Some(members) = members::split(&self.members) else { return Some(Self::default()) };
        let is_allowed = |spelled: &str| {
            serde_json::from_str::<Key<'_>>(spelled).is_ok_and(|Key(key)| allows(&key))
        };
        let kept: Vec<_> = (0..members.len())
            .filter(|place| !self.computed.contains(*place) || is_allowed(members[*place].key))
            .collect();
        (kept.len() < members.len()).then(|| self.with_members_at(&members, kept))
    }

    /// Returns the number of members, which counts a value that was replaced as long as it is
    /// still held.
    pub(crate) fn held_members(&self) -> usize {
        members::split(&self.members).map_or(0, |members| members.len())
    }
}

impl From<BorrowedProperties<'_>> for Properties {
    fn from(borrowed: BorrowedProperties<'_>) -> Self {
        let BorrowedProperties { members, may_repeat, has_text, computed } = borrowed;
        Self { members: members.to_owned(), problem: None, may_repeat, has_text, computed }
    }
}

impl<K: Into<Cow<'static, str>>, V: Into<PropertyValue>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let mut properties = Self::new();
        for (key, value) in members {
            properties.insert(key, value);
        }
        properties
    }
}

/// ```
/// use matrix_analytics::Properties;
///
/// let properties = Properties::from([("app", "desktop"), ("channel", "beta")]);
/// assert_eq!(properties.to_json(), r#"{"app":"desktop","channel":"beta"}"#);
/// ```
impl<K: Into<Cow<'static, str>>, V: Into<PropertyValue>, const N: usize> From<[(K, V); N]>
    for Properties
{
    fn from(members: [(K, V); N]) -> Self {
        Self::from_iter(members)
    }
}

/// Returns whether two of `members` have the same key.
fn has_repeats(members: &[Member<'_>]) -> bool {
    /// Up to this number, comparing all pairs takes less time than an allocation.
    const FEW: usize = 16;

    if members.len() <= FEW {
        let earlier = |at: usize| members[..at].iter().map(|member| member.key);
        return (1..members.len()).any(|at| earlier(at).any(|key| key == members[at].key));
    }
    let mut keys: Vec<_> = members.iter().map(|member| member.key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = self.to_json();
        // The parser's message could quote a value.
        let members = members::parse(&json)
            .map_err(|_| serde::ser::Error::custom("the properties are not a JSON object"))?;
        let mut map = serializer.serialize_map(Some(members.len()))?;
        for (Key(key), value) in members {
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}
