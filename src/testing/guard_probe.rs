//! The guard by itself, for tests.

use std::borrow::Cow;

use crate::{
    event::Properties,
    guard::{Detector, Guard, GuardPolicy, IdentifierKind, OwnIdentifiers},
};

/// The guard by itself: shows what it makes of a text or of properties.
///
/// For an app that wants to see that its own texts pass, or that its own
/// [`Detector`] finds what it should.
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

/// A guard that redacts, with no detector beside its own, and of no session: there
/// is nothing that it searches for literally.
impl Default for GuardProbe {
    fn default() -> Self {
        Self::new(GuardPolicy::default(), Vec::new())
    }
}

impl GuardProbe {
    /// A guard with the detectors of an app beside its own.
    #[must_use]
    pub fn new(policy: GuardPolicy, detectors: Vec<Box<dyn Detector>>) -> Self {
        Self { guard: Guard::new(policy, detectors) }
    }

    /// This guard as that of a session, on the server and with the host that the user
    /// ID names.
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

    /// `text` as it may leave by [`GuardPolicy::Redact`].
    ///
    /// # Panics
    ///
    /// If a detector does.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.guard.redact(text).unwrap_or_else(|| panic!("a detector panicked"))
    }

    /// What is found in `text`, in order.
    #[must_use]
    pub fn kinds(&self, text: &str) -> Vec<IdentifierKind> {
        self.guard.kinds(text)
    }

    /// The properties of an event as they may leave; `None` if it must not.
    #[must_use]
    pub fn properties(&self, properties: Properties) -> Option<Properties> {
        self.guard.event(Cow::Borrowed("Probe"), properties).map(|(_, properties)| properties)
    }
}
