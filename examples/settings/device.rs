//! A device of the user, which runs an app with a Matrix client and analytics.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use matrix_analytics::{Analytics, AnalyticsEvent, Consent, ConsentState, OptOutReceipt, Stats};
use matrix_analytics_examples::{chain, describe_step, is_session_lost};
use matrix_sdk::{Client, config::SyncSettings};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{
    model::{Counters, DeviceModel},
    text::{self, Entry},
    update::Action,
};

/// The longest wait for the delivery of waiting events.
const FLUSH: Duration = Duration::from_secs(5);
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// An event of the app. Its fields are enums, numbers and booleans, so it cannot contain text
/// that a user typed.
#[derive(Serialize)]
struct RoomJoined {
    trigger: Trigger,
    is_dm: bool,
}

#[derive(Serialize)]
enum Trigger {
    Invite,
}

impl AnalyticsEvent for RoomJoined {
    const NAME: &'static str = "RoomJoined";
}

const EVENT: RoomJoined = RoomJoined { trigger: Trigger::Invite, is_dm: false };

/// A device of the user.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) analytics: Analytics,
    sync: JoinHandle<()>,
    /// It is made from the configuration, so it does not change.
    disclosure: Vec<Entry>,
}

impl Device {
    /// Starts the sync of `client`.
    pub(crate) fn start(
        name: &'static str,
        client: Client,
        analytics: Analytics,
        settings: SyncSettings,
    ) -> Self {
        let disclosure = text::disclosure(&analytics.disclosure());
        Self { name, analytics, sync: tokio::spawn(sync(client, settings)), disclosure }
    }

    /// Returns everything that the page shows of this device.
    pub(crate) fn model(&self) -> DeviceModel {
        let state = self.analytics.state();
        DeviceModel {
            name: self.name,
            switch: state.switch(),
            note: state.note(),
            gate: state.gate,
            has_id: self.analytics.analytics_id().is_some(),
            counters: counters(&self.analytics.stats()),
            history: text::history(&self.analytics.history()),
            disclosure: self.disclosure.clone(),
            preview: Vec::new(),
        }
    }

    /// Returns the next event as each recipient would get it.
    pub(crate) fn preview(&self) -> Vec<Entry> {
        text::preview(self.analytics.preview(&EVENT))
    }

    /// Returns a stream with an item for each change of the state or of the history.
    pub(crate) fn changes(&self) -> impl Stream<Item = ()> + Send + Unpin + use<> {
        let states = self.analytics.state_stream().map(drop);
        stream::select(states, self.analytics.history_stream().map(drop))
    }

    /// Delivers the waiting events and ends the session. Returns what the user has to know.
    pub(crate) async fn end(self) -> String {
        let Self { name, analytics, sync, .. } = self;
        analytics.flush(LAST_FLUSH).await;
        let receipt = analytics.end_session().await;
        sync.abort();
        let Counters { captured, delivered, dropped, .. } =
            counters(&analytics.stats()).unwrap_or_default();
        let mut text =
            format!("{name}: {captured} captured, {delivered} delivered, {dropped} dropped");
        if !receipt.account.is_done() {
            text.push_str("; the opt-out could not be written to the account");
        }
        text
    }
}

/// Syncs until the session is lost, which `Analytics` notices by itself.
async fn sync(client: Client, settings: SyncSettings) {
    while let Err(error) = client.sync(settings.clone()).await {
        if is_session_lost(&error) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Returns the counters of all recipients together.
fn counters(stats: &Stats) -> Option<Counters> {
    let mut total = Counters::default();
    let mut reasons = std::collections::BTreeMap::<_, u64>::new();
    for backend in &stats.backends {
        total.captured += backend.captured;
        total.waiting += backend.queued + backend.in_flight;
        total.delivered += backend.delivered;
        total.dropped += backend.dropped_total();
        for (reason, number) in &backend.dropped {
            *reasons.entry(*reason).or_default() += number;
        }
    }
    let reasons = reasons.iter().map(|(reason, number)| {
        let reason = reason.as_str().replace('_', " ");
        format!("{reason}: {number}")
    });
    total.reasons = reasons.collect::<Vec<_>>().join(", ");
    (!stats.backends.is_empty()).then_some(total)
}

/// Carries out `action`, and returns its result for the user.
pub(crate) async fn act(analytics: Analytics, action: Action) -> String {
    match action {
        Action::OptIn => match analytics.opt_in().await {
            Ok(ConsentState { decision: Consent::Granted, .. }) => "Opted in.".to_owned(),
            Ok(_) => "The opt-in was overtaken by an opt-out.".to_owned(),
            Err(error) => format!("The opt-in could not be confirmed: {}.", chain(&error)),
        },
        Action::OptOut => opted_out(&analytics.opt_out().await),
        Action::Veto => match analytics.deny_on_this_device().await {
            Ok(()) => "Analytics are off on this device.".to_owned(),
            Err(error) => format!("Vetoed until the program ends: {}.", chain(&error)),
        },
        Action::LiftVeto => match analytics.allow_on_this_device().await {
            Ok(()) => "The veto is lifted.".to_owned(),
            Err(error) => format!("Lifted until the program ends: {}.", chain(&error)),
        },
        Action::Capture => capture(&analytics),
        Action::Flush => {
            let report = analytics.flush(FLUSH).await;
            let sent: u64 = report.backends.iter().map(|backend| backend.delivered).sum();
            let left: u64 = report.backends.iter().map(|backend| backend.undelivered).sum();
            format!("Delivered now: {sent}. Still waiting: {left}.")
        }
        Action::Recheck => match analytics.recheck().await {
            Ok(ConsentState { confirmed: true, .. }) => "The homeserver has answered.".to_owned(),
            Ok(_) => "The homeserver was not asked.".to_owned(),
            Err(error) => format!("The homeserver has not answered: {}.", chain(&error)),
        },
        // These need more than the device.
        Action::Preview
        | Action::Report
        | Action::RemovePart(_)
        | Action::IncludeUserId
        | Action::Submit => String::new(),
    }
}

fn capture(analytics: &Analytics) -> String {
    let before = counters(&analytics.stats()).unwrap_or_default();
    analytics.capture(&EVENT);
    let after = counters(&analytics.stats()).unwrap_or_default();
    if after.captured == before.captured {
        return "The event was not captured.".to_owned();
    }
    "An event was captured. It leaves with the next batch.".to_owned()
}

fn opted_out(receipt: &OptOutReceipt) -> String {
    if receipt.is_complete() {
        return "Opted out. The account holds no ID any more.".to_owned();
    }
    format!(
        "Opted out. Requests closed: {}. Saved here: {}. Removed from the account: {}.",
        describe_step(&receipt.requests),
        describe_step(&receipt.record),
        describe_step(&receipt.account)
    )
}
