//! What the tests share: the command, and origins that follow a script.
//!
//! What it leaves to others: what is tested.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;

thread_local! {
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Held alone by a test that measures, and together by all others while they make load.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs a test that measures: no other test makes load meanwhile.
pub fn alone<T>(test: impl FnOnce() -> T) -> T {
    let _machine = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    IS_ALONE.set(true);
    let result = test();
    IS_ALONE.set(false);
    result
}

/// Runs `loadtest` with these arguments to its end.
pub fn loadtest(arguments: &[&str]) -> Output {
    let is_shared = !IS_ALONE.get();
    let _machine = is_shared.then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The report of a run as JSON, and its exit status.
pub fn json(arguments: &[&str]) -> (Value, i32) {
    let output = loadtest(&[&["--quiet", "--output-format", "json"], arguments].concat());
    let text = stdout(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {stderr}"));
    (value, output.status.code().unwrap())
}

/// `loadtest origin` on a port of its own, until it is dropped.
pub struct Origin {
    child: Child,
    pub url: String,
}

impl Origin {
    pub fn start(arguments: &[&str]) -> Origin {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args([&["origin", "--listen", "127.0.0.1:0"], arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Origin { child, url: format!("http://{address}/") }
    }

    pub fn url(&self, query: &str) -> String {
        format!("{}?{query}", self.url)
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An origin with a thread per connection, which answers each request after the time that the
/// script names.
pub fn scripted(delay: impl Fn() -> Duration + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let delay = Arc::new(delay);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let delay = Arc::clone(&delay);
            let stream = stream.unwrap();
            std::thread::spawn(move || serve(stream, &*delay));
        }
    });
    address
}

/// Small requests only: each comes in one piece.
fn serve(mut stream: TcpStream, delay: &(dyn Fn() -> Duration + Send + Sync)) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
        std::thread::sleep(delay());
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}
