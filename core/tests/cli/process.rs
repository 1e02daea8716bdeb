//! The real program, run by a test: its output, its admin server, its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate_io::Now;

pub use rustix::process::Signal;

/// Bound on every wait.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The program with nothing inherited that would change what it does.
pub fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.stdin(Stdio::null());
    command
}

/// Runs to the end: exit code, stdout, stderr.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running program, killed when it is dropped.
pub struct Running {
    child: Child,
    stderr: Arc<Mutex<String>>,
    pub admin: SocketAddr,
    _folder: Folder,
}

impl Running {
    /// Starts with these arguments, two shards and an admin server, and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Running {
        let running = Running::start_unready(arguments);
        running.wait_for("it was not ready", || running.get("/ready").0 == 200);
        running
    }

    pub fn start_unready(arguments: &[&str]) -> Running {
        let folder = Folder::new();
        let path = folder.path("admin");
        let mut command = tidegate();
        command.args(arguments).args(["--concurrency", "2", "--admin-address-path"]).arg(&path);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = follow(child.stderr.take().unwrap());
        let mut running = Running {
            child,
            stderr,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            _folder: folder,
        };
        running.wait_for("it did not start", || address_in(&path).is_some());
        running.admin = address_in(&path).unwrap();
        running
    }

    /// Everything that was logged so far.
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn wait_for_log(&self, text: &str) {
        self.wait_for(text, || self.log().contains(text));
    }

    pub fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let end = Now::read().instant + WAIT_MAX;
        while !done() {
            assert!(Now::read().instant < end, "waited in vain: {what}\n{}", self.log());
            pause();
        }
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = request(self.admin, "GET", path);
        (status, body)
    }

    #[allow(dead_code)] // the tests of the command line post nothing
    pub fn post(&self, path: &str) -> (u16, String) {
        let (status, _, body) = request(self.admin, "POST", path);
        (status, body)
    }

    pub fn stat(&self, name: &str) -> u64 {
        let (_, text) = self.get(&format!("/stats?filter=^{}$", name.replace('.', "%5C.")));
        let line = text.lines().next().unwrap_or_else(|| panic!("there is no stat `{name}`"));
        line.rsplit_once(": ").unwrap().1.parse().unwrap()
    }

    /// The address of the first listener.
    pub fn listener(&self) -> SocketAddr {
        let (_, text) = self.get("/listeners");
        text.lines().next().unwrap().split_once("::").unwrap().1.parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub fn end(&mut self) -> ExitStatus {
        let end = Now::read().instant + WAIT_MAX;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Now::read().instant < end, "it did not end\n{}", self.log());
            pause();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::disallowed_methods)] // a test that looks at another process has to wait
pub fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

fn address_in(path: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(path).ok()?.parse().ok()
}

fn follow(stderr: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let Ok(line) = line else { return };
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

/// One request on a connection of its own: status, head, body.
pub fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let is_chunked =
        head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    (status.unwrap_or_else(|| panic!("no status: {reply:?}")), head.to_owned(), body)
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

/// An origin that answers every request with its name, on a thread that ends with the test's
/// process.
pub fn origin(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let length = name.len();
            let reply = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{name}"
            );
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    address
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A bootstrap with an admin server on a free port and one listener, whose routes are these.
pub fn bootstrap(port: u16, routes: &str, clusters: &str) -> String {
    format!(
        r#"admin:
  address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
node: {{ id: n1, cluster: c1 }}
static_resources:
  listeners:
  - name: web
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            name: routes
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [ {routes} ] }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters: [ {clusters} ]
"#
    )
}

/// A route that answers everything with this text.
pub fn answer(text: &str) -> String {
    format!(
        "{{ match: {{ prefix: / }}, direct_response: {{ status: 200, \
         body: {{ inline_string: \"{text}\" }} }} }}"
    )
}

/// A route of everything to a cluster.
pub fn route(cluster: &str) -> String {
    format!("{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}")
}

/// A cluster with one host.
pub fn cluster(name: &str, kind: &str, host: &str, port: u16) -> String {
    format!(
        "{{ name: {name}, type: {kind}, load_assignment: {{ cluster_name: {name}, \
         endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ \
         address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} \
         }} }} ] }} ] }} }}"
    )
}
