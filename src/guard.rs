//! The guard of promise P8: looks at every name, key and text of an event before it
//! enters a queue, and takes out what is personal.
//!
//! It runs in the background task, behind the intake. `docs/privacy.md` says what it
//! finds, how, and what it cannot find.

mod assignment;
mod boundary;
mod decode;
mod detector;
mod dotted;
mod email;
mod groups;
mod host;
mod ip;
mod jwt;
mod key;
mod kind;
mod markers;
mod matrix;
mod named;
mod own;
mod place;
mod recovery;
mod redact;
mod registrable;
mod runs;
mod scanner;
#[cfg(test)]
mod tests;
mod token;
mod uri;
mod userinfo;
mod version;
mod work;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use tracing::warn;

/// Tests the example of the page.
#[cfg(doctest)]
#[doc = include_str!("../docs/privacy.md")]
struct PrivacyPage;

pub(crate) use self::own::OwnIdentifiers;
pub use self::{detector::Detector, kind::IdentifierKind};
use self::{
    place::Place,
    redact::{Redacted, redact},
    scanner::Scanner,
};
use crate::{
    event::{
        MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES, Properties, PropertyFate, UserProperties,
    },
    locks::{Mutex, MutexGuard, PoisonError},
};

/// What becomes of an event in which something personal was found.
///
/// Whatever the policy, each finding is counted in
/// [`Stats::guarded`](crate::Stats::guarded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardPolicy {
    /// The event is dropped, and counted as
    /// [`DropReason::Guarded`](crate::DropReason::Guarded). Of what is said about
    /// the user, which goes with whatever event comes next, the property is.
    DropEvent,
    /// The property whose key or text it is is dropped. An event cannot do without
    /// its name: that is redacted.
    DropProperty,
    /// A placeholder such as `[user_id]` takes its place. A text that would outgrow
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) with them, or make its event do so,
    /// becomes `[redacted]` as a whole; where even that has no room, the property is
    /// dropped.
    #[default]
    Redact,
}

/// Looks at events, for one session.
pub(crate) struct Guard {
    policy: GuardPolicy,
    detectors: Arc<[Box<dyn Detector>]>,
    /// Says what the session is known by now, if it still exists.
    session: OnceLock<SessionSource>,
    searching: Mutex<Searching>,
    found: Mutex<BTreeMap<IdentifierKind, u64>>,
}

type SessionSource = Box<dyn Fn() -> Option<OwnIdentifiers> + Send + Sync>;

struct Searching {
    own: OwnIdentifiers,
    /// Made for the first event: an idle account does without.
    scanner: Option<Scanner>,
    /// What the developer was told of: hashes of an event's name and a key.
    warned: HashSet<u64>,
}

impl Searching {
    fn scanner(&mut self, detectors: &Arc<[Box<dyn Detector>]>) -> &mut Scanner {
        self.scanner.get_or_insert_with(|| Scanner::new(&self.own, detectors.clone()))
    }
}

/// A detector of the app panicked: what it was given may be anything.
struct DetectorPanicked;

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(GuardPolicy::default(), Vec::new())
    }
}

impl Guard {
    pub(crate) fn new(policy: GuardPolicy, detectors: Vec<Box<dyn Detector>>) -> Self {
        let detectors: Arc<[_]> = detectors.into();
        let own = OwnIdentifiers::default();
        Self {
            policy,
            detectors,
            session: OnceLock::new(),
            searching: Mutex::new(Searching { own, scanner: None, warned: HashSet::new() }),
            found: Mutex::default(),
        }
    }

    /// From here on, `session` is asked what to search for literally.
    pub(crate) fn watch_session(
        &self,
        session: impl Fn() -> Option<OwnIdentifiers> + Send + Sync + 'static,
    ) {
        // There is one session: a second one is not listened to.
        let _ = self.session.set(Box::new(session));
    }

    /// Takes over what the session is known by now: tokens are replaced at any time.
    pub(crate) fn refresh(&self) {
        if let Some(own) = self.session.get().and_then(|session| session()) {
            self.know(own);
        }
    }

    /// Searches for `own` literally from here on.
    pub(crate) fn know(&self, own: OwnIdentifiers) {
        let mut searching = self.searching();
        let own = own.with_tokens_of(&searching.own);
        if own != searching.own {
            searching.scanner = None;
            searching.own = own;
        }
    }

    /// The name and the properties of an event as they may leave; `None` if the event
    /// must not.
    pub(crate) fn event(
        &self,
        name: Cow<'static, str>,
        properties: Properties,
    ) -> Option<(Cow<'static, str>, Properties)> {
        let mut search = self.search();
        let name = search.name(name)?;
        let properties = search.properties(&name, properties)?;
        (self.policy != GuardPolicy::DropEvent || search.found.is_empty())
            .then_some((name, properties))
    }

    /// What is said about the user as it may leave.
    pub(crate) fn user(&self, event: &str, user: UserProperties) -> UserProperties {
        let mut search = self.search();
        // What was not seen to its end is not said, nor what has grown past the limit.
        let mut pass = |properties| {
            let properties = search.properties(event, properties);
            properties.filter(|properties| properties.check().is_ok()).unwrap_or_default()
        };
        UserProperties { set: pass(user.set), set_once: pass(user.set_once) }
    }

    /// Returns whether there is something personal in `text`. Logs nothing of what it finds.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        !matches!(self.search().text(text, Place::Anywhere), Ok(None))
    }

    /// Returns `text` as it may leave; `None` if a detector panicked.
    #[cfg(feature = "testing")]
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        let redacted = self.search().text(text, Place::Anywhere).ok()?;
        Some(redacted.map_or(Cow::Borrowed(text), |redacted| Cow::Owned(redacted.text)))
    }

    /// Returns what is found in `text`, in order.
    #[cfg(feature = "testing")]
    pub(crate) fn kinds(&self, text: &str) -> Vec<IdentifierKind> {
        let mut searching = self.searching();
        let found = searching.scanner(&self.detectors).scan(text, Place::Anywhere);
        found.into_iter().map(|finding| finding.kind).collect()
    }

    /// How many findings of each kind there were.
    pub(crate) fn found(&self) -> BTreeMap<IdentifierKind, u64> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn search(&self) -> Search<'_> {
        Search { guard: self, searching: self.searching(), found: Vec::new(), room: 0 }
    }

    fn searching(&self) -> MutexGuard<'_, Searching> {
        self.searching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The search of one event, or of what is said about the user.
struct Search<'a> {
    guard: &'a Guard,
    searching: MutexGuard<'a, Searching>,
    found: Vec<IdentifierKind>,
    /// How many bytes the properties that are searched may still grow by.
    room: usize,
}

impl Search<'_> {
    fn name(&mut self, name: Cow<'static, str>) -> Option<Cow<'static, str>> {
        let redacted = self.text(&name, Place::Anywhere).ok()?;
        let Some(redacted) = redacted else { return Some(name) };
        let name = bounded(redacted, MAX_NAME_BYTES);
        self.warn(&name, None);
        Some(Cow::Owned(name))
    }

    fn scanner(&mut self) -> &mut Scanner {
        let Self { guard, searching, .. } = self;
        searching.scanner(&guard.detectors)
    }

    /// `None` if a detector gave up.
    fn properties(&mut self, event: &str, properties: Properties) -> Option<Properties> {
        let is_clean = !properties.has_text()
            || (self.guard.detectors.is_empty() && self.scanner().is_clean(properties.members()));
        if is_clean {
            return Some(properties);
        }
        self.room = MAX_EVENT_BYTES.saturating_sub(properties.json_bytes());
        let mut unseen = false;
        let filtered = properties.filtered(|key, text| match self.property(event, key, text) {
            Ok(fate) => fate,
            Err(DetectorPanicked) => {
                unseen = true;
                PropertyFate::Dropped
            }
        });
        (!unseen).then(|| filtered.unwrap_or(properties))
    }

    fn property(
        &mut self,
        event: &str,
        key: &str,
        text: Option<&str>,
    ) -> Result<PropertyFate, DetectorPanicked> {
        let new_key = self.text(key, Place::Anywhere)?;
        let new_key = new_key.map(|key| bounded(key, MAX_KEY_BYTES));
        let leaves_as = new_key.as_deref().unwrap_or(key);
        let place = Place::under(key, leaves_as);
        let new_text = match text {
            Some(text) => self.text(text, place)?,
            None => None,
        };
        if new_key.is_none() && new_text.is_none() {
            return Ok(PropertyFate::Kept);
        }
        self.warn(event, Some(leaves_as));
        Ok(match self.guard.policy {
            GuardPolicy::Redact => {
                let new_text = new_text.map(|redacted| redacted.text);
                self.with_room((key, new_key), (text, new_text))
            }
            GuardPolicy::DropEvent | GuardPolicy::DropProperty => PropertyFate::Dropped,
        })
    }

    /// Returns the property with its new key and text if there is room for them, with
    /// none of its text if that is shorter, else nothing. As JSON a placeholder is as
    /// long as here, and what it replaces is as long or longer.
    fn with_room(
        &mut self,
        (key, new_key): (&str, Option<String>),
        (text, new_text): (Option<&str>, Option<String>),
    ) -> PropertyFate {
        let old = key.len() + text.map_or(0, str::len);
        let rest = new_key.as_deref().unwrap_or(key).len();
        let whole = new_text.is_some().then(|| kind::WHOLE.to_owned());
        for text in [new_text, whole] {
            let new = rest + text.as_deref().map_or(old - key.len(), str::len);
            if new <= old + self.room {
                self.room = old + self.room - new;
                return PropertyFate::Replaced { key: new_key, text };
            }
        }
        PropertyFate::Dropped
    }

    fn text(&mut self, text: &str, place: Place) -> Result<Option<Redacted>, DetectorPanicked> {
        let scanner = self.scanner();
        // It holds nothing but a buffer that each search begins anew.
        let redacted = catch_unwind(AssertUnwindSafe(|| redact(scanner, text, place)));
        let redacted = redacted.map_err(|_panic| {
            warn!("a detector panicked; what it was given is dropped");
            DetectorPanicked
        })?;
        if let Some(redacted) = &redacted {
            let mut found = self.guard.found.lock().unwrap_or_else(PoisonError::into_inner);
            for kind in &redacted.kinds {
                *found.entry(*kind).or_default() += 1;
            }
            self.found.extend(&redacted.kinds);
        }
        Ok(redacted)
    }

    /// Tells the developer, once for each place, where something personal was. Both
    /// names are as they leave.
    fn warn(&mut self, event: &str, key: Option<&str>) {
        use std::hash::BuildHasher as _;

        /// Names are made up at run time, too: there is an end to telling.
        const MOST_WARNINGS: usize = 256;

        if !cfg!(debug_assertions) || self.searching.warned.len() >= MOST_WARNINGS {
            return;
        }
        let warned = &mut self.searching.warned;
        let place = warned.hasher().hash_one((event, key));
        if warned.insert(place) {
            match key {
                Some(key) => warn!(event, key, "something personal was kept back"),
                None => warn!(event, "something personal was kept back from the event's name"),
            }
        }
    }
}

/// `redacted`, or nothing of it if it is longer than it may be: a placeholder can be
/// longer than what it stands for.
fn bounded(redacted: Redacted, max_bytes: usize) -> String {
    if redacted.text.len() <= max_bytes { redacted.text } else { kind::WHOLE.to_owned() }
}
