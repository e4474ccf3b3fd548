//! A program that runs, and what it says.

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

/// An example that was built; it ends with this.
pub(super) struct Program {
    process: Child,
    said: Lines,
    reading: [JoinHandle<()>; 2],
}

type Lines = Arc<Mutex<Vec<String>>>;

/// How a program ended, and all that it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) said: String,
}

impl Program {
    pub(super) fn start(example: &str, arguments: &[&str]) -> Result<Self> {
        let deps = std::env::current_exe()?;
        let target = deps.parent().and_then(|deps| deps.parent()).ok_or("no target directory")?;
        let path = target.join("examples").join(example);
        ensure(format!("{} is built", path.display()), path.exists())?;
        let mut process = Command::new(path)
            .args(arguments)
            // Of whoever runs the suite: it would close every gate.
            .env_remove("DO_NOT_TRACK")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = Lines::default();
        let stdout = process.stdout.take().ok_or("it has a standard output")?;
        let stderr = process.stderr.take().ok_or("it has a standard error")?;
        let reading = [read(stdout, said.clone()), read(stderr, said.clone())];
        Ok(Self { process, said, reading })
    }

    /// Waits for a line, looking from number `from` on; returns it, and its number.
    pub(super) async fn says(
        &self,
        what: &str,
        from: usize,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<(usize, String)> {
        let look = async || {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            let mut lines = said.iter().enumerate().skip(from);
            Ok(lines.find(|(_, line)| is_it(line)).map(|(at, line)| (at, line.clone())))
        };
        let found = eventually(what, look).await;
        found.map_err(|error| format!("{error}; it said {:?}", self.said).into())
    }

    /// As Ctrl-C does.
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
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        Ok(Ended { code: status.code(), said })
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
