//! The guard on its own, for tests.

use std::borrow::Cow;

use crate::{
    event::Properties,
    guard::{Detector, Guard, GuardPolicy, IdentifierKind, OwnIdentifiers},
};

/// The guard on its own: shows how it treats a text or properties.
///
/// Use it to test that your app's texts pass unchanged, or that your [`Detector`] finds
/// what it should.
///
/// ```
/// use matrix_analytics::testing::GuardProbe;
///
/// let guard = GuardProbe::default();
/// assert_eq!(guard.redact("hello @alice:example.org"), "hello [user_id]");
/// assert_eq!(guard.redact("version 1.2.3"), "version 1.2.3");
/// ```
#[derive(Debug)]
pub struct GuardProbe {
    guard: Guard,
}

/// A guard that redacts, without detectors of an app and without a session, so that it
/// searches for no literal identifiers.
impl Default for GuardProbe {
    fn default() -> Self {
        Self::new(GuardPolicy::default(), Vec::new())
    }
}

impl GuardProbe {
    /// Creates a guard with `detectors` in addition to the built-in ones.
    #[must_use]
    pub fn new(policy: GuardPolicy, detectors: Vec<Box<dyn Detector>>) -> Self {
        Self { guard: Guard::new(policy, detectors) }
    }

    /// Adds the identifiers of a session, whose server and host are taken from the user
    /// ID.
    #[must_use]
    pub fn of_session(self, user_id: &str, device_id: &str, access_token: &str) -> Self {
        let (localpart, server_name) =
            user_id.strip_prefix('@').and_then(|id| id.split_once(':')).unwrap_or_default();
        let own = OwnIdentifiers {
            user_id: user_id.to_owned(),
            localpart: localpart.to_owned(),
            device_id: device_id.to_owned(),
            server_name: server_name.to_owned(),
            hosts: Vec::new(),
            tokens: vec![access_token.to_owned()],
        };
        self.guard.watch_session(move || Some(own.clone()));
        self.guard.refresh();
        self
    }

    /// Returns `text` as redacted by [`GuardPolicy::Redact`].
    ///
    /// # Panics
    ///
    /// Panics if a detector panics.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.guard.redact(None, text).unwrap_or_else(|| panic!("a detector panicked"))
    }

    /// Returns the kind of each finding in `text`, in order.
    #[must_use]
    pub fn kinds(&self, text: &str) -> Vec<IdentifierKind> {
        self.guard.kinds(text)
    }

    /// Returns the properties that may leave the device, or `None` if the event must be
    /// dropped.
    #[must_use]
    pub fn properties(&self, properties: Properties) -> Option<Properties> {
        self.guard.event(Cow::Borrowed("Probe"), properties).map(|(_, properties)| properties)
    }
}
