//! The policy that an opt-in agrees to.

pub(crate) mod agreements;
pub(crate) mod member;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The longest version, in bytes of JSON in ASCII.
const MAX_VERSION_BYTES: usize = 64;
/// The longest label of a recipient, in bytes of JSON in ASCII.
const MAX_LABEL_BYTES: usize = 300;
/// The most recipients of one policy.
const MAX_RECIPIENTS: usize = 16;
/// The lowest value of [`Policy::renew_after`].
const SHORTEST_RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// The beginning of 2026, in milliseconds since 1970. No release of this crate is older, so a clock
/// that shows an earlier time is wrong, as it is at the boot of a device whose clock has no battery.
pub(crate) const EARLIEST_TIME: u64 = 1_767_225_600_000;

/// The privacy policy that an opt-in agrees to, given to
/// [`AnalyticsBuilder::policy`](crate::AnalyticsBuilder::policy).
///
/// An opt-in writes into the account's event which version the user agreed to, and when. The
/// gate opens only if the account has an entry for this version: see
/// [`ClosedReason::PolicyNotAgreed`](crate::ClosedReason::PolicyNotAgreed).
///
/// ```
/// use std::time::Duration;
///
/// use matrix_analytics::Policy;
///
/// let policy = Policy::new("3.0.0")
///     .recipients(["eu.i.posthog.com"])
///     .renew_after(Duration::from_secs(365 * 24 * 3600));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
#[must_use = "a policy does nothing until it is given to a builder"]
pub struct Policy {
    version: String,
    recipients: BTreeSet<String>,
    renew_after: Option<Duration>,
}

/// The reason why a [`Policy`] was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// The version, or the label of a recipient, has a control character.
    #[error("the version or the label of a recipient has a control character")]
    ControlCharacter,
    /// The version, or the label of a recipient, is empty or blank.
    #[error("the version or the label of a recipient is empty")]
    Empty,
    /// The label of a recipient is longer than 300 bytes in JSON, in which a character that is
    /// not ASCII has six or twelve, and a quote two.
    #[error("the label of a recipient has {length} bytes in JSON, of at most {MAX_LABEL_BYTES}")]
    LongLabel {
        /// The length of the label, in bytes of JSON in ASCII.
        length: usize,
    },
    /// The version is longer than 64 bytes, counted in the same way.
    #[error("the version has {length} bytes in JSON, of at most {MAX_VERSION_BYTES}")]
    LongVersion {
        /// The length of the version, in bytes of JSON in ASCII.
        length: usize,
    },
    /// There are more than 16 recipients.
    #[error("there are {count} recipients, of at most {MAX_RECIPIENTS}")]
    ManyRecipients {
        /// The number of different recipients.
        count: usize,
    },
}

impl Policy {
    /// Creates a policy of this version, which is compared as a whole: `3.0` is not `3.0.0`. At
    /// most 64 characters, if they are ASCII.
    pub fn new(version: impl Into<String>) -> Self {
        Self { version: version.into(), recipients: BTreeSet::new(), renew_after: None }
    }

    /// Makes the recipients a part of what the user agrees to. The user is asked again when
    /// there is another one, and not when one is left out.
    ///
    /// Each is named by its [`label`](crate::Recipient::label), by its
    /// [host](crate::Backend::host) if it has none, or by its name if it has neither; at most 16.
    /// The names are stored in the account's event. A
    /// builder with a recipient that is not named here is refused. Replaces the recipients of
    /// an earlier call.
    pub fn recipients(mut self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.recipients = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Asks again when the user last agreed this long ago; at least a day, never if not set.
    ///
    /// The time is that of the device on which the user agreed. One that lies as far in the
    /// future is old as well. Nothing becomes old while the clock of this device shows a time
    /// before 2026.
    pub fn renew_after(mut self, age: Duration) -> Self {
        self.renew_after = Some(age.max(SHORTEST_RENEWAL));
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidPolicy> {
        check_version(&self.version)?;
        if self.recipients.len() > MAX_RECIPIENTS {
            return Err(InvalidPolicy::ManyRecipients { count: self.recipients.len() });
        }
        self.recipients.iter().try_for_each(|label| check_label(label))
    }

    /// Returns whether a recipient with this label may get events.
    pub(crate) fn allows(&self, recipient: &str) -> bool {
        self.recipients.is_empty() || self.recipients.contains(recipient)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Returns for how long an agreement given at `at` still holds at `today`, both in
    /// milliseconds since 1970; [`Duration::MAX`] if it does not become old, and `None` if it
    /// is old.
    pub(crate) fn holds_for(&self, at: u64, today: u64) -> Option<Duration> {
        let Some(renew_after) = self.renew_after else { return Some(Duration::MAX) };
        if today < EARLIEST_TIME {
            return Some(renew_after);
        }
        let age = Duration::from_millis(today.abs_diff(at));
        let left = renew_after.checked_sub(age).filter(|left| !left.is_zero())?;
        // A time in the future is one of a wrong clock.
        Some(if at > today { renew_after } else { left })
    }

    /// Returns the time of an agreement that was given at `before` and is given again at `at`:
    /// the later of the two, because this device may have the slower clock. A `before` that is
    /// old because it lies in the future does not count, unless the clock of this device is
    /// known to be wrong.
    pub(crate) fn later(&self, before: u64, at: u64) -> u64 {
        let ahead = Duration::from_millis(before.saturating_sub(at));
        let is_old = self.renew_after.is_some_and(|renew_after| ahead >= renew_after);
        if is_old && at > EARLIEST_TIME {
            return at;
        }
        before.max(at)
    }

    /// Returns whether an agreement given at `today` would add nothing to one given at `at`.
    pub(crate) fn is_recent(&self, at: u64, today: u64) -> bool {
        let age = Duration::from_millis(today.abs_diff(at));
        self.renew_after.is_none() || age < SHORTEST_RENEWAL
    }
}

fn check_version(version: &str) -> Result<(), InvalidPolicy> {
    check_text(version)?;
    let length = length_in_json(version);
    if length > MAX_VERSION_BYTES {
        return Err(InvalidPolicy::LongVersion { length });
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), InvalidPolicy> {
    check_text(label)?;
    let length = length_in_json(label);
    if length > MAX_LABEL_BYTES {
        return Err(InvalidPolicy::LongLabel { length });
    }
    Ok(())
}

/// Returns the length of `text` in JSON that has only ASCII characters, as a homeserver may
/// return it, without the quotes around it.
fn length_in_json(text: &str) -> usize {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => 2,
        ' '..='~' => 1,
        _ => 6 * c.len_utf16(),
    });
    escaped.sum()
}

fn check_text(text: &str) -> Result<(), InvalidPolicy> {
    if text.trim().is_empty() {
        return Err(InvalidPolicy::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidPolicy::ControlCharacter);
    }
    Ok(())
}

/// An agreement to a policy, given by a call of `opt_in()`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Agreement {
    pub(crate) policy: Arc<Policy>,
    /// In milliseconds since 1970.
    pub(crate) at: u64,
}

#[cfg(test)]
mod tests;
