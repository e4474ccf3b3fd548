//! OpenTelemetry's batched logs, over OTLP and HTTP.

use std::time::SystemTime;

use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry_otlp::{
    Compression, LogExporter, Protocol, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};

use crate::{
    event::{NAME, RoomJoined},
    peer::{Peer, Setup},
};

struct Otel {
    provider: SdkLoggerProvider,
    logger: SdkLogger,
}

pub(crate) fn start(setup: Setup<'_>) -> impl Peer + use<> {
    let endpoint = format!("{}/v1/logs", setup.collector);
    let mut exporter = LogExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary);
    if setup.compressed == Some(true) {
        exporter = exporter.with_compression(Compression::Gzip);
    }
    let exporter = exporter.build().expect("an exporter");
    let provider = SdkLoggerProvider::builder().with_batch_exporter(exporter).build();
    Otel { logger: provider.logger("bench"), provider }
}

impl Peer for Otel {
    fn capture(&self, n: u32) {
        let event = RoomJoined::new(n);
        let mut record = self.logger.create_log_record();
        record.set_event_name(NAME);
        record.set_timestamp(SystemTime::now());
        record.set_severity_number(Severity::Info);
        record.add_attribute("trigger", event.trigger);
        record.add_attribute("room_type", event.room_type);
        record.add_attribute("members", i64::from(event.members));
        record.add_attribute("is_dm", event.is_dm);
        record.add_attribute("seconds", event.seconds);
        self.logger.emit(record);
    }

    fn flush(&self) {
        self.provider.force_flush().expect("a flush");
    }
}
