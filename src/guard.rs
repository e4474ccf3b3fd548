//! The guard (promise P8): checks every name, key and text of an event before the event
//! enters a queue, and removes personal data.
//!
//! It runs in the background task, after the intake. `docs/privacy.md` documents its
//! findings, its methods and its limits.

mod assignment;
mod boundary;
mod context;
mod cost;
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
mod recovery;
mod redact;
mod registrable;
mod runs;
mod scanner;
mod session;
#[cfg(test)]
mod tests;
mod text_policy;
mod token;
mod uri;
mod userinfo;
mod version;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tracing::warn;

/// Tests the example in `docs/privacy.md`.
#[cfg(doctest)]
#[doc = include_str!("../docs/privacy.md")]
struct PrivacyPage;

pub(crate) use self::session::OwnIdentifiers;
use self::{
    context::Context,
    redact::{Redacted, redact},
    scanner::Scanner,
};
pub use self::{detector::Detector, kind::IdentifierKind, text_policy::TextPolicy};
use crate::{
    event::{
        MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES, Properties, PropertyFate, UserProperties,
    },
    locks::{Mutex, MutexGuard, PoisonError},
};

/// How an event that contains personal data is handled.
///
/// Under every policy, each finding is counted in
/// [`Stats::guarded`](crate::Stats::guarded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GuardPolicy {
    /// Drops the event and counts it as
    /// [`DropReason::Guarded`](crate::DropReason::Guarded). Of the user properties, which
    /// travel with the next event of any kind, only the affected property is dropped.
    DropEvent,
    /// Drops the property whose key or text contains the finding, with all texts of an array. A
    /// finding in the event's name, which every event needs, is redacted.
    DropProperty,
    /// Replaces the finding with a placeholder such as `[user_id]`. An array keeps its other
    /// elements. If the placeholders would make the text or its event larger than
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES), the whole text becomes `[redacted]`.
    /// If even that does not fit, the property is dropped.
    #[default]
    Redact,
}

/// Checks the events of one session.
pub(crate) struct Guard {
    policy: GuardPolicy,
    text_policy: TextPolicy,
    detectors: Arc<[Box<dyn Detector>]>,
    /// Returns the current identifiers of the session, if it still exists.
    session: OnceLock<SessionSource>,
    state: Mutex<SearchState>,
    found: Mutex<BTreeMap<IdentifierKind, u64>>,
    refused_texts: AtomicU64,
}

/// The most warnings, because names can be generated at run time.
const MOST_WARNINGS: usize = 256;

type SessionSource = Box<dyn Fn() -> Option<OwnIdentifiers> + Send + Sync>;

struct SearchState {
    own: OwnIdentifiers,
    /// Created for the first event, so that an idle account does not pay for it.
    scanner: Option<Scanner>,
    /// Hashes of event name and key, one for each warning already logged.
    warned: HashSet<u64>,
}

impl SearchState {
    fn scanner(&mut self, detectors: &Arc<[Box<dyn Detector>]>) -> &mut Scanner {
        self.scanner.get_or_insert_with(|| Scanner::new(&self.own, detectors.clone()))
    }
}

/// An app-supplied detector panicked, so its input was never fully checked.
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
            text_policy: TextPolicy::default(),
            detectors,
            session: OnceLock::new(),
            state: Mutex::new(SearchState { own, scanner: None, warned: HashSet::new() }),
            found: Mutex::default(),
            refused_texts: AtomicU64::default(),
        }
    }

    /// Returns a guard with the same settings and identifiers, whose findings are not counted.
    pub(crate) fn uncounted(&self) -> Self {
        let now = self.session.get().and_then(|session| session());
        let known = self.state().own.clone();
        let own = now.map_or(known.clone(), |now| now.with_tokens_of(&known));
        // A full list: nothing is logged about an event that is not captured.
        let warned = (0..MOST_WARNINGS as u64).collect();
        Self {
            policy: self.policy,
            text_policy: self.text_policy,
            detectors: self.detectors.clone(),
            session: OnceLock::new(),
            state: Mutex::new(SearchState { own, scanner: None, warned }),
            found: Mutex::default(),
            refused_texts: AtomicU64::default(),
        }
    }

    pub(crate) fn with_text_policy(self, text_policy: TextPolicy) -> Self {
        Self { text_policy, ..self }
    }

    pub(crate) fn policy(&self) -> GuardPolicy {
        self.policy
    }

    /// Returns the name of each kind that is searched for.
    pub(crate) fn kinds_by_name(&self) -> Vec<String> {
        let built_in = IdentifierKind::BUILT_IN.iter().map(|kind| kind.as_str());
        built_in.chain(self.detectors.iter().map(|d| d.name())).map(str::to_owned).collect()
    }

    pub(crate) fn text_policy(&self) -> TextPolicy {
        self.text_policy
    }

    /// Returns whether the text policy refuses an event whose name is computed.
    pub(crate) fn refuses_computed_name(&self) -> bool {
        let refuses = self.text_policy.refuses_computed_names();
        self.refused_texts.fetch_add(u64::from(refuses), Ordering::Relaxed);
        refuses
    }

    /// Returns the properties that the text policy does not refuse. Properties of several
    /// sources pass it one by one, because the origin of a text is known only until they are
    /// merged.
    pub(crate) fn without_refused(&self, properties: Properties) -> Properties {
        let (properties, refused) = self.text_policy.apply(properties);
        self.refused_texts.fetch_add(refused as u64, Ordering::Relaxed);
        properties
    }

    /// Returns the user properties that the text policy does not refuse.
    pub(crate) fn without_refused_user(&self, user: UserProperties) -> UserProperties {
        UserProperties {
            set: self.without_refused(user.set),
            set_once: self.without_refused(user.set_once),
        }
    }

    /// Returns the number of texts that the text policy refused.
    pub(crate) fn refused_texts(&self) -> u64 {
        self.refused_texts.load(Ordering::Relaxed)
    }

    /// Registers `session` as the source of the identifiers that are searched for
    /// literally.
    pub(crate) fn watch_session(
        &self,
        session: impl Fn() -> Option<OwnIdentifiers> + Send + Sync + 'static,
    ) {
        // A guard serves one session, so a second source is ignored.
        let _ = self.session.set(Box::new(session));
    }

    /// Reads the session's identifiers again, because tokens can be replaced at any time.
    pub(crate) fn refresh(&self) {
        if let Some(own) = self.session.get().and_then(|session| session()) {
            self.know(own);
        }
    }

    /// Searches for `own` literally from now on.
    pub(crate) fn know(&self, own: OwnIdentifiers) {
        let mut state = self.state();
        let own = own.with_tokens_of(&state.own);
        if own != state.own {
            state.scanner = None;
            state.own = own;
        }
    }

    /// Returns the name and properties that may leave the device, or `None` if the event
    /// must be dropped.
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

    /// Returns the user properties that may leave the device.
    pub(crate) fn user(&self, event: &str, user: UserProperties) -> UserProperties {
        let mut search = self.search();
        // Skip properties that were not fully checked or that redaction made too large.
        let mut pass = |properties| {
            let properties = search.properties(event, properties);
            properties.filter(|properties| properties.check().is_ok()).unwrap_or_default()
        };
        UserProperties { set: pass(user.set), set_once: pass(user.set_once) }
    }

    /// Returns whether `text` contains personal data. Logs nothing about the findings.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        !matches!(self.search().text(text, Context::Anywhere), Ok(None))
    }

    /// Returns `text` with every finding redacted, or `None` if a detector panicked. `key` is
    /// the name that the text has, if any.
    #[cfg(any(feature = "rageshake", feature = "testing"))]
    pub(crate) fn redact<'t>(&self, key: Option<&str>, text: &'t str) -> Option<Cow<'t, str>> {
        let context = key.map_or(Context::Anywhere, |key| Context::under(key, key));
        let redacted = self.search().text(text, context).ok()?;
        Some(redacted.map_or(Cow::Borrowed(text), |redacted| Cow::Owned(redacted.text)))
    }

    /// Returns `text` with every finding redacted, or `[redacted]` if a detector panicked.
    #[cfg(feature = "rageshake")]
    pub(crate) fn redacted<'t>(&self, key: Option<&str>, text: &'t str) -> Cow<'t, str> {
        self.redact(key, text).unwrap_or(Cow::Borrowed(kind::REDACTED))
    }

    /// Returns the kind of each finding in `text`, in order.
    #[cfg(feature = "testing")]
    pub(crate) fn kinds(&self, text: &str) -> Vec<IdentifierKind> {
        let mut state = self.state();
        let found = state.scanner(&self.detectors).scan(text, Context::Anywhere);
        found.into_iter().map(|finding| finding.kind).collect()
    }

    /// Returns the number of findings of each kind.
    pub(crate) fn found(&self) -> BTreeMap<IdentifierKind, u64> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn search(&self) -> Search<'_> {
        Search { guard: self, state: self.state(), found: Vec::new(), room: 0 }
    }

    fn state(&self) -> MutexGuard<'_, SearchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The search of one event, or of one set of user properties.
struct Search<'a> {
    guard: &'a Guard,
    state: MutexGuard<'a, SearchState>,
    found: Vec<IdentifierKind>,
    /// How many bytes the properties may still grow by.
    room: usize,
}

impl Search<'_> {
    fn name(&mut self, name: Cow<'static, str>) -> Option<Cow<'static, str>> {
        let redacted = self.text(&name, Context::Anywhere).ok()?;
        let Some(redacted) = redacted else { return Some(name) };
        let name = bounded(redacted, MAX_NAME_BYTES);
        self.warn(&name, None);
        Some(Cow::Owned(name))
    }

    fn scanner(&mut self) -> &mut Scanner {
        let Self { guard, state, .. } = self;
        state.scanner(&guard.detectors)
    }

    /// Returns `None` if a detector panicked.
    fn properties(&mut self, event: &str, properties: Properties) -> Option<Properties> {
        let is_clean = !properties.has_text()
            || (self.guard.detectors.is_empty() && self.scanner().is_clean(properties.members()));
        if is_clean {
            return Some(properties);
        }
        self.room = MAX_EVENT_BYTES.saturating_sub(properties.json_bytes());
        let mut panicked = false;
        let filtered = properties.filtered(|key, texts| match self.property(event, key, texts) {
            Ok(fate) => fate,
            Err(DetectorPanicked) => {
                panicked = true;
                PropertyFate::Dropped
            }
        });
        (!panicked).then(|| filtered.unwrap_or(properties))
    }

    fn property(
        &mut self,
        event: &str,
        key: &str,
        texts: &[String],
    ) -> Result<PropertyFate, DetectorPanicked> {
        let new_key = self.text(key, Context::Anywhere)?;
        let new_key = new_key.map(|key| bounded(key, MAX_KEY_BYTES));
        let leaves_as = new_key.as_deref().unwrap_or(key);
        let context = Context::under(key, leaves_as);
        let mut new_texts = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            let redacted = self.text(text, context)?;
            new_texts.extend(redacted.map(|redacted| (place, redacted.text)));
        }
        if new_key.is_none() && new_texts.is_empty() {
            return Ok(PropertyFate::Kept);
        }
        self.warn(event, Some(leaves_as));
        Ok(match self.guard.policy {
            GuardPolicy::Redact => self.with_room((key, new_key), (texts, new_texts)),
            GuardPolicy::DropEvent | GuardPolicy::DropProperty => PropertyFate::Dropped,
        })
    }

    /// Returns the replaced property if it fits: with its redacted texts, or else with
    /// `[redacted]` in place of each of them.
    ///
    /// Lengths are compared unescaped. A placeholder needs no JSON escapes, so the JSON
    /// text grows by no more than this.
    fn with_room(
        &mut self,
        (key, new_key): (&str, Option<String>),
        (texts, new_texts): (&[String], Vec<(usize, String)>),
    ) -> PropertyFate {
        let bytes =
            |texts: &[(usize, String)]| texts.iter().map(|(_, text)| text.len()).sum::<usize>();
        let old = key.len() + new_texts.iter().map(|(place, _)| texts[*place].len()).sum::<usize>();
        let rest = new_key.as_deref().unwrap_or(key).len();
        let whole =
            new_texts.iter().map(|(place, _)| (*place, kind::REDACTED.to_owned())).collect();
        for texts in [new_texts, whole] {
            let new = rest + bytes(&texts);
            if new <= old + self.room {
                self.room = old + self.room - new;
                return PropertyFate::Replaced { key: new_key, texts };
            }
        }
        PropertyFate::Dropped
    }

    fn text(&mut self, text: &str, context: Context) -> Result<Option<Redacted>, DetectorPanicked> {
        let scanner = self.scanner();
        // Unwind safe: the scanner keeps only a buffer, which each search resets.
        let redacted = catch_unwind(AssertUnwindSafe(|| redact(scanner, text, context)));
        let redacted = redacted.map_err(|_panic| {
            warn!("a detector panicked; its input is dropped");
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

    /// Warns the developer about a finding, once per event name and key. Both are logged
    /// in their redacted form.
    fn warn(&mut self, event: &str, key: Option<&str>) {
        use std::hash::BuildHasher as _;

        if !cfg!(debug_assertions) || self.state.warned.len() >= MOST_WARNINGS {
            return;
        }
        let warned = &mut self.state.warned;
        let warning = warned.hasher().hash_one((event, key));
        if warned.insert(warning) {
            match key {
                Some(key) => warn!(event, key, "personal data was kept back"),
                None => warn!(event, "personal data was kept back from the event's name"),
            }
        }
    }
}

/// Returns the redacted text, or `[redacted]` if the text is longer than `max_bytes`: a
/// placeholder can be longer than the finding it replaces.
fn bounded(redacted: Redacted, max_bytes: usize) -> String {
    if redacted.text.len() <= max_bytes { redacted.text } else { kind::REDACTED.to_owned() }
}
