//! Shows what would leave, and keeps nothing.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use uuid::Uuid;

use super::Analytics;
use crate::{
    event::{AnalyticsEvent, InvalidEvent, OutgoingEvent, Process, Properties, check_name},
    sink::stats::DropReason,
};

/// An event as one recipient would get it; returned by [`Analytics::preview`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// The name of the recipient: the declared one, or that of the backend.
    pub recipient: String,
    /// The text that would be sent, before compression, or the event as JSON if the backend
    /// does not implement [`Backend::render`](crate::Backend::render). In place of the
    /// identifier of the person and of an API key, it has a placeholder.
    pub content: PreviewContent,
}

/// The text that a recipient would get. `Debug` shows its size only.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct PreviewContent(String);

impl PreviewContent {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PreviewContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreviewContent").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

/// The reason why an event would not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event would be dropped: {0}")]
pub struct PreviewError(DropReason);

impl PreviewError {
    /// Returns the reason for which the event would be counted as dropped.
    #[must_use]
    pub fn reason(self) -> DropReason {
        self.0
    }
}

impl From<InvalidEvent> for PreviewError {
    fn from(error: InvalidEvent) -> Self {
        Self(error.into())
    }
}

impl Analytics {
    /// Returns what each recipient would get if `event` were captured now and the gate were open.
    ///
    /// Nothing is captured, counted or kept, whatever the state of consent. User properties are
    /// not shown: they leave with whichever event is sent next. The detectors of the app and
    /// [`Backend::render`](crate::Backend::render) run in this call, so they must not make it.
    ///
    /// # Errors
    ///
    /// [`PreviewError`] if the event would be dropped.
    pub fn preview<E: AnalyticsEvent>(&self, event: &E) -> Result<Vec<Preview>, PreviewError> {
        self.preview_named(E::NAME, Properties::from_serialize(event)?)
    }

    /// Returns what each recipient would get of an event whose name and properties are known at
    /// run time only; otherwise like [`Analytics::preview`].
    ///
    /// # Errors
    ///
    /// [`PreviewError`] if the event would be dropped.
    pub fn preview_named(
        &self,
        name: impl Into<Cow<'static, str>>,
        properties: Properties,
    ) -> Result<Vec<Preview>, PreviewError> {
        let name = name.into();
        check_name(&name)?;
        properties.check()?;
        let sink = &self.sink;
        let (name, properties) = sink.preview(name, properties).map_err(PreviewError)?;
        let (uuid, at) = (Uuid::new_v4(), SystemTime::now());
        let (user, epoch, process) = (None, 0, Process::random());
        let event = OutgoingEvent { uuid, name, at, properties, user, epoch, process };
        let recipients = self.inner().configuration.recipients.iter();
        let contents = sink.render(&Arc::new(event));
        Ok(recipients
            .zip(contents)
            .map(|(recipient, content)| Preview {
                recipient: recipient.name.clone(),
                content: PreviewContent(content),
            })
            .collect())
    }
}
