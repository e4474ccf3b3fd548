//! One device of a real account.

use std::{error::Error, path::Path, time::Duration};

use matrix_analytics::{Analytics, JsonLines, Party, RecentLogs, Recipient, TextPolicy};
use matrix_analytics_examples::only_event;
use matrix_sdk::Client;
use tokio::fs::OpenOptions;

use crate::{HISTORY, arguments::Arguments, device::Device};

/// Creates the device of `client`.
pub(crate) async fn device(
    arguments: &Arguments,
    client: Client,
    logs: RecentLogs,
) -> Result<Device, Box<dyn Error>> {
    let mut builder = Analytics::builder(client.clone(), &arguments.event_type)
        .text_policy(TextPolicy::Refuse)
        .history(HISTORY)
        .recent_logs(logs)
        .request_timeout(Duration::from_secs(arguments.request_timeout));
    if let Some(path) = &arguments.events {
        builder = builder.backend(file(path).await?);
    }
    let analytics = builder.build().await?;
    Ok(Device::start("This device", client, analytics, only_event(&arguments.event_type)))
}

/// Returns a file of the user as the recipient.
async fn file(path: &Path) -> Result<Recipient, Box<dyn Error>> {
    let file = OpenOptions::new().create(true).append(true).open(path).await;
    let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    Ok(Recipient::new(JsonLines::new(file))
        .name(path.display().to_string())
        .party(Party::First)
        .purpose("to see what would be sent")
        .retention("until you delete the file"))
}
