//! xDS over REST: one type, polled as proto3 JSON over HTTP/1.1, state of the world.
//!
//! What it leaves to others: resources stay JSON (`Body::Json`), as only the application knows
//! their fields; how a server is reached (`Connector`).

use super::{Connector, Handle, Shared, now, sleep_until};
use crate::backoff::Random;
use crate::limits::{TTL_SECONDS_MAX, shortened};
use crate::wire::Incoming;
use crate::{
    Body, Client, Disconnected, Limits, Node, RateLimit, Request, Resource, ResourceType, Scope,
    Variant,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// JSON grows more in memory than protobuf: a tenth of a kilobyte from two bytes at worst.
const JSON_BYTES_MAX: usize = 64 << 20;

/// How a type is polled.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which; VHDS cannot be.
    pub kind: ResourceType,
    /// `Host`, and what the log calls the server: the cluster's name.
    pub host: String,
    /// Makes connections, one for each poll. They must speak HTTP/1.1.
    pub connector: Connector,
    /// Who asks: `envoy.config.core.v3.Node` as proto3 JSON with the names of the .proto file.
    pub node: Value,
    /// `refresh_delay`: from one poll to the next, and up to as much again, by chance.
    pub refresh_delay: Duration,
    /// `request_timeout`, connecting included. Envoy's default: 1 s.
    pub request_timeout: Duration,
    /// `rate_limit_settings`.
    pub rate_limit: Option<RateLimit>,
    /// What the server can make grow; of JSON at most 64 MiB are taken.
    pub limits: Limits,
    /// For the delays.
    pub seed: u64,
}

/// Starts to poll on the current tokio runtime, as soon as there is interest, and again whenever
/// there are new names. While a response waits for its answer there is no poll. A NACK is the next
/// poll with the old version. `Event::Disconnected` tells of each poll that failed, 404 included,
/// and `Event::Connected` of the first one after it that did not.
#[must_use]
pub fn poll(settings: Settings) -> Handle {
    let client = Client::new(crate::Settings {
        variant: Variant::StateOfTheWorld,
        scope: Scope::Single(settings.kind),
        node: Node::default(),
        node_on_first_message_only: true,
        rate_limit: settings.rate_limit,
        limits: settings.limits,
    });
    Handle::start(client, |shared| run(shared, settings))
}

async fn run(shared: Arc<Shared>, settings: Settings) {
    let mut random = Random::new(settings.seed);
    let (mut asked, mut failing) = (Vec::new(), false);
    loop {
        let mut request = next_request(&shared).await;
        forget_version(&mut request, &mut asked);
        let answer = shared.with_timers(fetch(&settings, &request)).await;
        let retry_in = settings.refresh_delay + random.below(settings.refresh_delay);
        {
            let mut client = shared.client();
            let failed = answer.is_err();
            if std::mem::replace(&mut failing, failed) && !failed {
                client.recover();
            }
            match answer {
                Ok(Answer::Response(incoming)) => client.handle_response(incoming, now()),
                Ok(Answer::Unchanged) => {}
                Err(error) => {
                    let Settings { kind, host, .. } = &settings;
                    let text = format!("REST config of {} from {host}: {error}", kind.type_url());
                    let failure = Disconnected { text, warn: true, failed: true, retry_in };
                    client.handle_disconnected(failure);
                }
            }
            client.end_poll();
        }
        shared.tell();
        wait(&shared, retry_in).await;
    }
}

/// A new name is asked for without a version: to the server the version stands for all names, and
/// what we had of it did not hold this one.
fn forget_version(request: &mut Request, asked: &mut Vec<String>) {
    let Request::StateOfTheWorld(request) = request else { return };
    if request.resource_names.iter().any(|name| !asked.contains(name)) {
        request.version_info.clear();
    }
    asked.clone_from(&request.resource_names);
}

/// Waits until there is something to ask, and nothing to answer.
async fn next_request(shared: &Shared) -> Request {
    loop {
        {
            let mut client = shared.client();
            if !client.owes_answers() {
                client.begin_poll();
                if let Some(request) = client.poll_request(now()) {
                    return request;
                }
            }
        }
        shared.tick().await;
    }
}

/// Waits for the next poll, or for new names.
async fn wait(shared: &Shared, delay: Duration) {
    let until = now() + delay;
    loop {
        let next = {
            let client = shared.client();
            if client.has_news() && !client.owes_answers() {
                return;
            }
            client.poll_timeout()
        };
        tokio::select! {
            () = sleep_until(Some(until)) => return,
            () = sleep_until(next) => {}
            () = shared.changed.notified() => {}
        }
        shared.expire();
    }
}

enum Answer {
    Response(Incoming),
    Unchanged,
}

async fn fetch(settings: &Settings, request: &Request) -> Result<Answer, String> {
    let timeout = settings.request_timeout;
    tokio::time::timeout(timeout, exchange(settings, request))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} ms", timeout.as_millis())))
}

async fn exchange(settings: &Settings, request: &Request) -> Result<Answer, String> {
    let Settings { kind, host, .. } = settings;
    let path = kind.rest_path().ok_or("it cannot be had by REST")?;
    let text = |error: hyper::Error| error.to_string();
    let connection = settings.connector.connect(settings.request_timeout).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(connection)).await.map_err(text)?;
    let request = hyper::Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header("x-envoy-expected-rq-timeout-ms", settings.request_timeout.as_millis().to_string())
        .body(Full::new(Bytes::from(json_of(request, &settings.node).to_string())))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(text)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Answer::Unchanged),
            status => return Err(format!("status {}", status.as_u16())),
        }
        let max = settings.limits.message_bytes_max.min(JSON_BYTES_MAX);
        let body = Limited::new(response.into_body(), max).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        response_of(&body, &settings.limits).map(Answer::Response)
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // An error of it is told to the request, too.
            _ = &mut connection, if open => open = false,
        }
    }
}

/// A request as proto3 JSON with the names of the .proto file, as Envoy sends it.
fn json_of(request: &Request, node: &Value) -> Value {
    let mut json = Map::new();
    if let Request::StateOfTheWorld(request) = request {
        if !request.version_info.is_empty() {
            json.insert("version_info".to_owned(), request.version_info.clone().into());
        }
        json.insert("node".to_owned(), node.clone());
        if !request.resource_names.is_empty() {
            json.insert("resource_names".to_owned(), request.resource_names.clone().into());
        }
        json.insert("type_url".to_owned(), request.type_url.clone().into());
    }
    Value::Object(json)
}

/// A `DiscoveryResponse` of proto3 JSON: both spellings of its names are taken.
fn response_of(bytes: &[u8], limits: &Limits) -> Result<Incoming, String> {
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("the response is no JSON: {error}"))?;
    let Value::Object(mut json) = json else {
        return Err("the response is no JSON object".to_owned());
    };
    let mut text = |names: [&str; 2]| match names.iter().find_map(|name| json.remove(*name)) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(format!("{} of the response is no string", names[0])),
    };
    let version = text(["version_info", "versionInfo"])?;
    let type_url = text(["type_url", "typeUrl"])?;
    let nonce = text(["nonce", "nonce"])?;
    let identifier = ["control_plane", "controlPlane"]
        .iter()
        .find_map(|name| json.get(*name)?.get("identifier")?.as_str())
        .unwrap_or_default();
    let control_plane = shortened(identifier.to_owned(), crate::limits::IDENTIFIER_BYTES_MAX);
    let resources = match json.remove("resources") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(resources)) => resources,
        Some(_) => return Err("resources of the response is no list".to_owned()),
    };
    let (count, max) = (resources.len(), limits.resources_max);
    let refused = (count > max)
        .then(|| format!("{count} resources in one response: at most {max} are taken"));
    let resources = match refused {
        Some(_) => Vec::new(),
        None => resources.into_iter().map(resource_of).collect(),
    };
    Ok(Incoming {
        version,
        type_url,
        nonce,
        control_plane,
        resources,
        refused,
        ..Incoming::default()
    })
}

/// A resource, or one wrapped with its name and its time to live.
fn resource_of(json: Value) -> Resource {
    let wrapper = json.get("@type").and_then(Value::as_str);
    if !wrapper.is_some_and(|url| url.ends_with("/envoy.service.discovery.v3.Resource")) {
        let (name, version, body) = (None, String::new(), Body::Json(json));
        return Resource { name, version, aliases: Vec::new(), ttl: None, body };
    }
    let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let aliases = json.get("aliases").and_then(Value::as_array).into_iter().flatten();
    Resource {
        name: Some(text("name")),
        version: text("version"),
        aliases: aliases.filter_map(|alias| alias.as_str().map(str::to_owned)).collect(),
        ttl: ttl_of(&text("ttl")),
        body: json.get("resource").map_or(Body::Absent, |body| Body::Json(body.clone())),
    }
}

/// A duration as proto3 JSON has it: `1.5s`.
fn ttl_of(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let max = Duration::from_secs(TTL_SECONDS_MAX);
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).map_or(max, |ttl| ttl.min(max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn responses_are_read_in_both_spellings() {
        let limits = Limits::default();
        for name in ["version_info", "versionInfo"] {
            let resource = json!({"@type": "type.googleapis.com/x.Y", "a": 1});
            let text = json!({name: "v1", "resources": [resource]}).to_string();
            let incoming = response_of(text.as_bytes(), &limits).unwrap();
            assert_eq!(incoming.version, "v1");
            assert_eq!(incoming.resources[0].body, Body::Json(resource));
        }
        for bad in ["", "[]", "{\"version_info\": 1}", "{\"resources\": {}}"] {
            response_of(bad.as_bytes(), &limits).unwrap_err();
        }
    }

    #[test]
    fn a_wrapped_resource_has_its_name_and_life() {
        let wrapped = json!({
            "@type": "type.googleapis.com/envoy.service.discovery.v3.Resource",
            "name": "a", "version": "1", "ttl": "1.5s", "resource": {"@type": "x"},
        });
        let resource = resource_of(wrapped);
        assert_eq!(resource.name.as_deref(), Some("a"));
        assert_eq!(resource.ttl, Some(Duration::from_millis(1500)));
        assert_eq!(resource.body, Body::Json(json!({"@type": "x"})));
        assert_eq!((ttl_of("-1s"), ttl_of("1"), ttl_of("")), (None, None, None));
    }
}
