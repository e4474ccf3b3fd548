//! A running program, and its output.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::waiting::{Result, ensure, eventually, within};

/// A running example. Killed on drop.
pub(super) struct Program {
    process: Child,
    output: Lines,
    reading: [JoinHandle<()>; 2],
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A program's exit status and output.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) output: String,
}

impl Program {
    pub(super) fn start(example: &str, arguments: &[&str]) -> Result<Self> {
        let deps = std::env::current_exe()?;
        let target = deps.parent().and_then(|deps| deps.parent()).ok_or("no target directory")?;
        let path = target.join("examples").join(example);
        ensure(format!("{} is built", path.display()), path.exists())?;
        let mut process = Command::new(path)
            .args(arguments)
            // The variable may be set in the environment of the suite, and would close every gate.
            .env_remove("DO_NOT_TRACK")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = Lines::default();
        let stdout = process.stdout.take().ok_or("it has a standard output")?;
        let stderr = process.stderr.take().ok_or("it has a standard error")?;
        let reading = [read(stdout, output.clone()), read(stderr, output.clone())];
        Ok(Self { process, output, reading })
    }

    /// Waits for a matching line, starting at line `from`. Returns the line and its number.
    pub(super) async fn says(
        &self,
        what: &str,
        from: usize,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<(usize, String)> {
        let look = async || {
            let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            let mut lines = output.iter().enumerate().skip(from);
            Ok(lines.find(|(_, line)| is_it(line)).map(|(at, line)| (at, line.clone())))
        };
        let found = eventually(what, look).await;
        found.map_err(|error| format!("{error}; its output: {:?}", self.output).into())
    }

    /// Interrupts the program, as Ctrl-C does.
    pub(super) async fn interrupt(&self) -> Result {
        let pid = self.process.id().ok_or("it runs")?.to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().await?;
        ensure("it can be interrupted", killed.success())
    }

    pub(super) async fn end(mut self) -> Result<Ended> {
        let status = within("its end", self.process.wait()).await??;
        for reading in &mut self.reading {
            within("its last words", reading).await??;
        }
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        Ok(Ended { code: status.code(), output })
    }
}

fn read(from: impl AsyncRead + Send + Unpin + 'static, to: Lines) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
