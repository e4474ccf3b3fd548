//! OpenTelemetry's batched logs, over OTLP and HTTP.

use std::time::SystemTime;

use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry_otlp::{
    Compression, LogExporter, Protocol, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    logs::{BatchConfigBuilder, BatchLogProcessor, SdkLogger, SdkLoggerProvider},
};
use uuid::Uuid;

use crate::{
    event::{NAME, RoomJoined},
    sender::{Sender, Setup},
};

const ID: &str = "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f";

struct Otel {
    provider: SdkLoggerProvider,
    logger: SdkLogger,
}

/// Starts with the attributes of a program that ours has.
pub(crate) fn start(setup: Setup<'_>, json: bool) -> impl Sender + use<> {
    let protocol = if json { Protocol::HttpJson } else { Protocol::HttpBinary };
    let mut exporter = LogExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/logs", setup.collector))
        .with_protocol(protocol);
    if setup.gzip {
        exporter = exporter.with_compression(Compression::Gzip);
    }
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(2 * setup.batch)
        .with_max_export_batch_size(setup.batch);
    let processor = BatchLogProcessor::builder(exporter.build().expect("an exporter"))
        .with_batch_config(config.build());
    let provider = SdkLoggerProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name("bench").build())
        .with_log_processor(processor.build())
        .build();
    Otel { logger: provider.logger("bench"), provider }
}

impl Sender for Otel {
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
        // As ours adds them.
        record.add_attribute("log.record.uid", Uuid::new_v4().to_string());
        record.add_attribute("enduser.pseudo.id", ID);
        self.logger.emit(record);
    }

    fn flush(&self) {
        self.provider.force_flush().expect("a flush");
    }
}
