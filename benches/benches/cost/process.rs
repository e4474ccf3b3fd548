//! A process that runs one case: how it is run, how it reports, and what it takes.

use std::{
    error::Error,
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Runs this program with `arguments` in a process of its own, and returns the results
/// that it reports, by name.
pub(crate) fn run(arguments: &[&str]) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    /// The limit after which a process whose shutdown does not end is killed.
    const PATIENCE: Duration = Duration::from_secs(600);

    let mut process = Command::new(std::env::current_exe()?)
        .args(arguments)
        // Ignore the proxy and the `DO_NOT_TRACK` setting of this machine.
        .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
        .env_remove("DO_NOT_TRACK")
        .stdout(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            process.kill()?;
            break process.wait()?;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let output = std::io::read_to_string(process.stdout.take().ok_or("no output")?)?;
    if !status.success() {
        return Err(format!("{}: {status}", arguments.join(" ")).into());
    }
    let lines = output.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, value)| Ok((name.to_owned(), value.parse()?))).collect()
}

/// Prints a result under its name.
pub(crate) fn report(name: &str, value: f64) {
    println!("{name} {value}");
}

/// Returns the processor time of all threads of this process.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Returns the resident memory of this process, in bytes.
pub(crate) fn resident_bytes() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.expect("the second number") * 4096.0
}

/// Returns how often the threads of this process, except the first, have resumed after a
/// wait.
pub(crate) fn wake_ups() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    let others = threads.filter(|thread| *thread.file_name() != *std::process::id().to_string());
    let switches = others.filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    switches.sum()
}
