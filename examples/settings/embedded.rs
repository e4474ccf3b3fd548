//! Two devices of one user, with a homeserver and a collector in this process.

use std::{error::Error, time::Duration};

use matrix_analytics::{
    Analytics, ELEMENT_EVENT_TYPE, Party, PostHog, Rageshake, RecentLogs, Recipient, TextPolicy,
    testing::AccountDataServer,
};
use matrix_analytics_examples::Collector;
use matrix_sdk::config::SyncSettings;

use crate::{HISTORY, device::Device, recent_logs};

pub(crate) const USER: &str = "@alice:example.org";

/// The homeserver and the collector.
#[derive(Debug)]
pub(crate) struct Embedded {
    pub(crate) homeserver: AccountDataServer,
    pub(crate) collector: Collector,
    pub(crate) logs: RecentLogs,
}

impl Embedded {
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            homeserver: AccountDataServer::start().await,
            collector: Collector::start().await?,
            logs: recent_logs(),
        })
    }

    /// Returns the collector as a server for bug reports, whose form of answer it has.
    pub(crate) fn rageshake(&self) -> Result<Rageshake, Box<dyn Error>> {
        Ok(Rageshake::new(&format!("{}/api/submit", self.collector.url()))?)
    }

    /// Logs two devices of the user in.
    pub(crate) async fn devices(&self) -> Result<Vec<Device>, Box<dyn Error>> {
        Ok(vec![self.device("Phone").await?, self.device("Laptop").await?])
    }

    async fn device(&self, name: &'static str) -> Result<Device, Box<dyn Error>> {
        let client = self.homeserver.client(&self.homeserver.add_device(USER, name)).await?;
        let posthog = PostHog::new(&self.collector.url(), "phc_settings")?;
        let recipient = Recipient::new(posthog)
            .name("Collector")
            .party(Party::First)
            .purpose("to learn which features are used")
            .retention("until this program ends");
        let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
            .backend(recipient)
            .text_policy(TextPolicy::Refuse)
            .history(HISTORY)
            .recent_logs(self.logs.clone())
            // This is short because a new ID is used only after twice this time.
            .request_timeout(Duration::from_secs(1))
            .build()
            .await?;
        Ok(Device::start(name, client, analytics, SyncSettings::new()))
    }
}
