//! Any bytes are what a server, an application and a network do to a client of xDS, step by step:
//! without a panic, with at most one answer to each response, and with an end to what it says.
//!
//! What it leaves to others: which answers are right (xds-client's properties).
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};
use tidegate_xds::{
    Accepted, Client, Disconnected, Event, Interest, Limits, Nack, Node, RateLimit, Request,
    ResourceType, Response, Scope, Settings, Variant,
};

/// Small, so that they are met.
const LIMITS: Limits = Limits {
    message_bytes_max: 4096,
    resources_max: 20,
    name_bytes_max: 64,
    names_max: 30,
    unanswered_max: 4,
};

/// What is left of the bytes.
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// Names, one letter each.
    fn names(&mut self) -> Vec<String> {
        let letter =
            |byte: &u8| if byte.is_multiple_of(9) { '*' } else { char::from(b'a' + byte % 9) };
        self.bytes().iter().map(|byte| letter(byte).to_string()).collect()
    }

    fn kind(&mut self) -> ResourceType {
        ResourceType::ALL[usize::from(self.byte().unwrap_or(0)) % ResourceType::ALL.len()]
    }
}

fn client(first: u8) -> Client {
    let variant = if first & 1 == 0 { Variant::Delta } else { Variant::StateOfTheWorld };
    let scope = match first & 2 {
        0 => Scope::Aggregated,
        _ => Scope::Single(ResourceType::ClusterLoadAssignment),
    };
    let limit = RateLimit { max_tokens: 3, fill_rate: 2.0 };
    Client::new(Settings {
        variant,
        scope,
        node: Node::default(),
        node_on_first_message_only: first & 4 == 0,
        rate_limit: (first & 8 != 0).then_some(limit),
        limits: LIMITS,
    })
}

/// Bytes of a message: as they are, or behind a type that is known, so that they are worth a look.
fn message(steps: &mut Steps<'_>) -> Vec<u8> {
    let kind = steps.kind();
    let mut message = Vec::new();
    let url = kind.type_url();
    let length = u8::try_from(url.len()).unwrap_or(0);
    message.extend([0x22, length]);
    message.extend(url.as_bytes());
    message.extend([0x2a, 2, b'n', steps.byte().unwrap_or(0) & 0x7f]);
    message.extend(steps.bytes());
    message
}

fuzz_target!(|bytes: &[u8]| {
    let mut steps = Steps(bytes);
    let mut client = client(steps.byte().unwrap_or(0));
    #[allow(clippy::disallowed_methods, reason = "where the clock begins does not matter")]
    let mut now = Instant::now();
    let mut waiting: Vec<Response> = Vec::new();
    while let Some(step) = steps.byte() {
        let timeout = Some(Duration::from_secs(u64::from(step / 16)));
        match step % 8 {
            0 => {
                let (kind, names) = (steps.kind(), steps.names());
                client.set_interest(kind, Interest::Names(names.into_iter().collect()), timeout);
            }
            1 => client.change_interest(steps.kind(), steps.names(), steps.names(), timeout),
            2 => client.handle_connected(),
            3 => client.handle_disconnected(Disconnected {
                text: String::new(),
                warn: false,
                failed: false,
                retry_in: Duration::ZERO,
            }),
            4 | 5 => {
                let message = message(&mut steps);
                let _ = client.handle_message(&message, now);
            }
            6 if !waiting.is_empty() => {
                let response = waiting.swap_remove(usize::from(step / 8) % waiting.len());
                let names = response.resources.into_iter().filter_map(|r| r.name).collect();
                let answer = match step & 128 {
                    0 => Ok(Accepted { names }),
                    _ => Err(Nack { message: "no".to_owned(), applied: names }),
                };
                assert!(client.answer(response.id, answer.clone()));
                assert!(!client.answer(response.id, answer));
            }
            _ => now += Duration::from_secs(u64::from(step / 8)),
        }
        client.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            if let Event::Response(response) = event {
                waiting.push(response);
            }
        }
        assert!(waiting.len() <= LIMITS.unanswered_max, "more wait than may");
        let mut said = 0;
        while let Some(request) = client.poll_request(now) {
            said += 1;
            assert!(said < 40, "it never ends: {request:?}");
            let size = match &request {
                Request::Delta(request) => request.initial_resource_versions.len(),
                Request::StateOfTheWorld(request) => request.resource_names.len(),
            };
            assert!(size <= LIMITS.names_max + 10, "{size} names");
        }
        assert!(client.poll_timeout().is_none_or(|at| at > now), "it would turn in circles");
    }
});
