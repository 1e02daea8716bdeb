//! A small run of what we rely on, on this kernel, before it is relied on.
//!
//! It uses the backend itself over Unix sockets with abstract names, so that it needs neither a
//! network nor a file system.
//!
//! What it leaves to others: what to do when it fails.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use super::Uring;
use crate::{Completion, Io, IoOptions, Now, Outcome, Socket, Token};

/// How long one step may take: far longer than it does, even on a machine that is overloaded.
const STEP: Duration = Duration::from_secs(2);

/// Why the test did not pass.
pub(super) enum Failure {
    /// Something that should always work was refused.
    System(io::Error),
    /// io_uring did not do what it should.
    Behaviour(&'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::System(error)
    }
}

/// Runs the test.
pub(super) fn run() -> Result<(), Failure> {
    let options = IoOptions {
        buffer_bytes: 4096,
        buffers_max: 16,
        buffer_ring_entries: 8,
        submission_entries: 32,
        completion_entries: 128,
        gather: Duration::ZERO,
    };
    let mut bench = Bench { uring: Uring::new(&options)?, seen: Vec::new() };
    let (listener, address) = listener()?;
    let listener = bench.uring.listen(listener.into(), Token(0))?;
    bench.uring.accept(listener);
    let mut client = UnixStream::connect_addr(&address)?;
    client.set_read_timeout(Some(STEP))?;
    let server = bench.accepted("multishot accept reported no connection")?;
    let second = UnixStream::connect_addr(&address)?;
    let other = bench.accepted("multishot accept reported one connection only")?;
    bench.receives(&mut client, server)?;
    bench.pauses(&mut client, server)?;
    bench.sends(&mut client, server)?;
    drop(client);
    bench
        .until("the end of a stream was not reported", |outcome| matches!(outcome, Outcome::Eof))?;
    // One socket is closed with a receive in flight, one after its end.
    bench.uring.recv(other);
    bench.turn(Duration::ZERO)?;
    for socket in [server, other, listener] {
        bench.uring.close(socket);
    }
    bench.settled()?;
    drop(second);
    Ok(())
}

fn listener() -> io::Result<(UnixListener, SocketAddr)> {
    let name = format!("tidegate-self-test-{}-{}", std::process::id(), Now::read().instant.0);
    let address = SocketAddr::from_abstract_name(name)?;
    Ok((UnixListener::bind_addr(&address)?, address))
}

struct Bench {
    uring: Uring,
    seen: Vec<Completion>,
}

impl Bench {
    fn turn(&mut self, wait: Duration) -> io::Result<Now> {
        self.uring.turn(Some(wait), &mut self.seen)
    }

    /// Takes turns until something that `wanted` likes was seen, and takes it out.
    fn until(
        &mut self,
        complaint: &'static str,
        wanted: impl Fn(&Outcome) -> bool,
    ) -> Result<Outcome, Failure> {
        let deadline = Now::read().instant + STEP;
        loop {
            if let Some(at) = self.seen.iter().position(|seen| wanted(&seen.outcome)) {
                return Ok(self.seen.remove(at).outcome);
            }
            if self.turn(Duration::from_millis(20))?.instant >= deadline {
                return Err(Failure::Behaviour(complaint));
            }
        }
    }

    fn accepted(&mut self, complaint: &'static str) -> Result<Socket, Failure> {
        match self.until(complaint, |outcome| matches!(outcome, Outcome::Accepted(_)))? {
            Outcome::Accepted(socket) => Ok(socket),
            _ => Err(Failure::Behaviour(complaint)),
        }
    }

    fn expect_bytes(&mut self, bytes: &[u8], complaint: &'static str) -> Result<(), Failure> {
        match self.until(complaint, |outcome| matches!(outcome, Outcome::Received(_)))? {
            Outcome::Received(buffer) if *buffer == *bytes => Ok(()),
            _ => Err(Failure::Behaviour("received bytes are not those that were sent")),
        }
    }

    /// Several messages by one multishot receive.
    fn receives(&mut self, client: &mut UnixStream, server: Socket) -> Result<(), Failure> {
        self.uring.recv(server);
        for message in [b"one", b"two", b"six"] {
            client.write_all(message)?;
            self.expect_bytes(message, "multishot receive reported no bytes")?;
        }
        if self.uring.stats().rearms > 0 {
            return Err(Failure::Behaviour("multishot operations end after one completion"));
        }
        Ok(())
    }

    /// A cancelled receive stays silent, and what came meanwhile is there when it starts again.
    fn pauses(&mut self, client: &mut UnixStream, server: Socket) -> Result<(), Failure> {
        self.uring.pause(server);
        for _ in 0..3 {
            self.turn(Duration::ZERO)?;
        }
        client.write_all(b"late")?;
        self.turn(Duration::from_millis(2))?;
        if !self.seen.is_empty() {
            return Err(Failure::Behaviour("a cancelled receive still received"));
        }
        self.uring.recv(server);
        self.expect_bytes(b"late", "a receive started again reported no bytes")
    }

    fn sends(&mut self, client: &mut UnixStream, server: Socket) -> Result<(), Failure> {
        let mut output = self.uring.output();
        output.tail().extend_from_slice(b"answer");
        self.uring.send(server, output);
        let sent =
            self.until("a send did not complete", |outcome| matches!(outcome, Outcome::Sent(_)))?;
        let mut answer = [0; 6];
        client.read_exact(&mut answer)?;
        match sent {
            Outcome::Sent(Ok(())) if answer == *b"answer" => Ok(()),
            _ => Err(Failure::Behaviour("a send failed")),
        }
    }

    /// Everything closed and every buffer back.
    fn settled(&mut self) -> Result<(), Failure> {
        self.seen.clear();
        let deadline = Now::read().instant + STEP;
        while self.uring.stats().sockets > 0 {
            if self.turn(Duration::from_millis(20))?.instant >= deadline {
                return Err(Failure::Behaviour("operations could not be cancelled"));
            }
        }
        match self.uring.stats().buffers_in_use {
            0 => Ok(()),
            _ => Err(Failure::Behaviour("buffers did not come back")),
        }
    }
}
