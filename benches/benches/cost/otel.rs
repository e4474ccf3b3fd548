//! The cost of OpenTelemetry's batched logs, over OTLP and HTTP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry_otlp::{LogExporter, Protocol, WithExportConfig as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::{BatchConfigBuilder, BatchLogProcessor, LogBatch, SdkLogger, SdkLoggerProvider},
};

use crate::{
    BURST, Settings,
    boxed::{self, AppEvent, Telemetry},
    event::{NAME, RoomJoined},
    measure,
    process::report,
};

struct App {
    provider: SdkLoggerProvider,
    logger: SdkLogger,
    exported: Arc<AtomicU64>,
}

/// Counts the accepted records.
#[derive(Debug)]
struct Counting {
    exporter: LogExporter,
    exported: Arc<AtomicU64>,
}

impl opentelemetry_sdk::logs::LogExporter for Counting {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let events = batch.iter().count() as u64;
        let result = self.exporter.export(batch).await;
        if result.is_ok() {
            self.exported.fetch_add(events, Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }
}

impl App {
    fn new(url: &str, config: BatchConfigBuilder) -> Self {
        let exporter = LogExporter::builder()
            .with_http()
            .with_endpoint(format!("{url}/v1/logs"))
            .with_protocol(Protocol::HttpBinary);
        let exported = Arc::default();
        let exporter = Counting {
            exporter: exporter.build().expect("an exporter"),
            exported: Arc::clone(&exported),
        };
        let processor = BatchLogProcessor::builder(exporter).with_batch_config(config.build());
        let provider = SdkLoggerProvider::builder().with_log_processor(processor.build()).build();
        Self { logger: provider.logger("bench"), provider, exported }
    }

    fn roomy(url: &str) -> Self {
        let config = BatchConfigBuilder::default().with_max_queue_size(2 * BURST as usize);
        Self::new(url, config)
    }

    fn capture(&self, n: u32) {
        capture(&self.logger, n);
    }

    fn flush(&self) {
        self.provider.force_flush().expect("a flush");
    }
}

fn capture(logger: &SdkLogger, n: u32) {
    emit(logger, || RoomJoined::new(n));
}

fn emit(logger: &SdkLogger, event: impl FnOnce() -> RoomJoined) {
    if !logger.event_enabled(Severity::Info, "bench", Some(NAME)) {
        return;
    }
    let event = event();
    let mut record = logger.create_log_record();
    record.set_event_name(NAME);
    record.set_timestamp(SystemTime::now());
    record.set_severity_number(Severity::Info);
    record.add_attribute("trigger", event.trigger);
    record.add_attribute("room_type", event.room_type);
    record.add_attribute("members", i64::from(event.members));
    record.add_attribute("is_dm", event.is_dm);
    record.add_attribute("seconds", event.seconds);
    logger.emit(record);
}

impl Telemetry for SdkLogger {
    fn capture(&self, event: &AppEvent) {
        emit(self, || event.into());
    }
}

impl Telemetry for App {
    fn capture(&self, event: &AppEvent) {
        emit(&self.logger, || event.into());
    }

    fn settle(&self) {
        self.flush();
    }
}

/// Creates a logger without a processor, which is how an app switches logs off.
fn switched_off() -> SdkLogger {
    SdkLoggerProvider::builder().build().logger("bench")
}

pub(crate) fn boxed_denied(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(switched_off()));
}

pub(crate) fn boxed_typed(settings: &Settings) {
    boxed::back_to_back(settings.peer_rounds, Box::new(App::roomy(&settings.collector)));
}

pub(crate) fn boxed_sparse(settings: &Settings) {
    boxed::sparse(settings.samples, Box::new(App::roomy(&settings.collector)));
}

pub(crate) fn denied(settings: &Settings) {
    let logger = switched_off();
    measure::back_to_back(settings.rounds, |n| capture(&logger, n), || {});
}

pub(crate) fn typed(settings: &Settings) {
    let app = App::roomy(&settings.collector);
    measure::back_to_back(settings.peer_rounds, |n| app.capture(n), || app.flush());
}

pub(crate) fn two_threads(settings: &Settings) {
    let app = App::roomy(&settings.collector);
    measure::two_threads(settings.peer_rounds, |n| app.capture(n), || app.flush());
}

pub(crate) fn sparse(settings: &Settings, pause: fn()) {
    let app = App::roomy(&settings.collector);
    app.capture(0);
    measure::now_and_then(settings.samples, |n| app.capture(n), pause);
}

pub(crate) fn queued(settings: &Settings) {
    let app = App::roomy(&settings.black_hole);
    measure::queued(settings.queued, |n| app.capture(n));
    std::process::exit(0)
}

pub(crate) fn to_collector(settings: &Settings) {
    let app = App::roomy(&settings.collector);
    app.capture(0);
    app.flush();
    measure::end_to_end(BURST, || {
        for n in 0..BURST {
            app.capture(n);
        }
        app.flush();
    });
}

pub(crate) fn burst(settings: &Settings) {
    let app = App::new(&settings.collector, BatchConfigBuilder::default());
    for n in 0..BURST {
        app.capture(n);
    }
    app.flush();
    let exported = app.exported.load(Relaxed) as f64;
    report("lost_percent", 100.0 * (f64::from(BURST) - exported) / f64::from(BURST));
}

pub(crate) fn shutdown(settings: &Settings, events: u32) {
    let app = App::new(&settings.black_hole, BatchConfigBuilder::default());
    for n in 0..events {
        app.capture(n);
    }
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    // Only the time matters here, not the result.
    let _ = app.provider.shutdown();
    report("seconds", began.elapsed().as_secs_f64());
    std::process::exit(0)
}
