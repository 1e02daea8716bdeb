//! Responses from bytes: counted before they are decoded, then brought into one form for both
//! variants.
//!
//! What it leaves to others: whether a response makes sense (`client`).

use crate::limits::{FIELDS_BY_RESOURCE, IDENTIFIER_BYTES_MAX, TTL_SECONDS_MAX, shortened};
use crate::message::{Body, Resource, ResourceError};
use crate::{Limits, Variant};
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::time::Duration;

/// A response, whichever variant it came by.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) version: String,
    pub(crate) type_url: String,
    pub(crate) nonce: String,
    pub(crate) control_plane: String,
    pub(crate) resources: Vec<Resource>,
    pub(crate) removed: Vec<String>,
    pub(crate) errors: Vec<ResourceError>,
    /// Why it was not decoded further than its type and nonce.
    pub(crate) refused: Option<String>,
}

/// The message of a stream. An error is for a stream on which nothing more can be read.
pub(crate) fn decode(variant: Variant, bytes: &[u8], limits: &Limits) -> Result<Incoming, String> {
    let unreadable = |error: String| format!("a response cannot be decoded: {error}");
    let mut counted = Counted::default();
    counted.count(variant, bytes).map_err(unreadable)?;
    let (length, max) = (counted.nonce.len(), limits.name_bytes_max);
    if length > max {
        // It could not be answered without it.
        return Err(format!("a nonce of {length} bytes: at most {max} are taken"));
    }
    if let Some(text) = counted.excess(limits) {
        let Counted { type_url, nonce, .. } = counted;
        return Ok(Incoming { type_url, nonce, refused: Some(text), ..Incoming::default() });
    }
    let mut incoming = match variant {
        Variant::StateOfTheWorld => state_of_the_world(bytes, limits),
        Variant::Delta => delta(bytes),
    }
    .map_err(|error| unreadable(error.to_string()))?;
    incoming.control_plane = shortened(incoming.control_plane, IDENTIFIER_BYTES_MAX);
    Ok(incoming)
}

/// What a message would grow to, from a walk over its fields.
#[derive(Debug, Default)]
struct Counted {
    resources: usize,
    fields: usize,
    type_url: String,
    nonce: String,
}

/// Messages in messages that are walked through; deeper ones are few, or not decoded here.
const DEPTH_MAX: usize = 6;

impl Counted {
    fn count(&mut self, variant: Variant, bytes: &[u8]) -> Result<(), String> {
        const RESOURCES: u32 = 2;
        const TYPE_URL: u32 = 4;
        const NONCE: u32 = 5;
        const REMOVED: [u32; 2] = [6, 8];
        let is_delta = variant == Variant::Delta;
        fields(bytes, &mut |tag, value| {
            self.fields += 1;
            match tag {
                TYPE_URL => self.type_url = String::from_utf8_lossy(value).into_owned(),
                NONCE => self.nonce = String::from_utf8_lossy(value).into_owned(),
                RESOURCES => {
                    self.resources += 1;
                    if is_delta {
                        self.count_resource(value);
                    }
                }
                tag if is_delta && REMOVED.contains(&tag) => self.resources += 1,
                _ => self.count_inside(value, DEPTH_MAX),
            }
        })
    }

    /// A resource: its texts and its body are no messages yet.
    fn count_resource(&mut self, bytes: &[u8]) {
        const LEAVES: [u32; 4] = [1, 2, 3, 4];
        let _ = fields(bytes, &mut |tag, value| {
            self.fields += 1;
            if !LEAVES.contains(&tag) {
                self.count_inside(value, DEPTH_MAX);
            }
        });
    }

    /// Fields of a message within, and of those within it. What is no message is left alone.
    fn count_inside(&mut self, bytes: &[u8], depth: usize) {
        let _ = fields(bytes, &mut |_, value| {
            self.fields += 1;
            if depth > 0 {
                self.count_inside(value, depth - 1);
            }
        });
    }

    fn excess(&self, limits: &Limits) -> Option<String> {
        let max = limits.resources_max;
        if self.resources > max {
            let count = self.resources;
            return Some(format!("{count} resources in one response: at most {max} are taken"));
        }
        let (count, max) = (self.fields, max.saturating_mul(FIELDS_BY_RESOURCE));
        (count > max).then(|| format!("{count} fields in one response: at most {max} are taken"))
    }
}

/// Walks over the fields that have a length.
fn fields(mut bytes: &[u8], visit: &mut dyn FnMut(u32, &[u8])) -> Result<(), String> {
    let text = |error: prost::DecodeError| error.to_string();
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes).map_err(text)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).map_err(text)?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes).map_err(text)?);
        let split = length.ok().and_then(|length| bytes.split_at_checked(length));
        let Some((value, rest)) = split else { return Err("it ends within a field".to_owned()) };
        visit(tag, value);
        bytes = rest;
    }
    Ok(())
}

/// A nested resource that cannot be decoded refuses its response, not the stream.
fn state_of_the_world(bytes: &[u8], limits: &Limits) -> Result<Incoming, prost::DecodeError> {
    let response = discovery::DiscoveryResponse::decode(bytes)?;
    let mut incoming = Incoming {
        version: response.version_info,
        type_url: response.type_url,
        nonce: response.nonce,
        control_plane: response.control_plane.unwrap_or_default().identifier,
        errors: response.resource_errors.into_iter().map(resource_error).collect(),
        ..Incoming::default()
    };
    let mut counted = Counted::default();
    for any in response.resources {
        if !any.type_url.ends_with("/envoy.service.discovery.v3.Resource") {
            let (name, version, body) = (None, String::new(), body_of(any));
            incoming.resources.push(Resource { name, version, aliases: vec![], ttl: None, body });
            continue;
        }
        counted.count_resource(&any.value);
        if let Some(text) = counted.excess(limits) {
            incoming.refused = Some(text);
            break;
        }
        let wrapped = discovery::Resource::decode(any.value.as_slice());
        match wrapped {
            Ok(wrapped) => incoming.resources.push(resource(wrapped)),
            Err(error) => {
                let at = incoming.resources.len();
                incoming.refused = Some(format!("resource {at} cannot be decoded: {error}"));
                break;
            }
        }
    }
    Ok(incoming)
}

fn delta(bytes: &[u8]) -> Result<Incoming, prost::DecodeError> {
    let response = discovery::DeltaDiscoveryResponse::decode(bytes)?;
    let mut removed = response.removed_resources;
    removed.extend(response.removed_resource_names.into_iter().map(|name| name.name));
    Ok(Incoming {
        version: response.system_version_info,
        type_url: response.type_url,
        nonce: response.nonce,
        control_plane: response.control_plane.unwrap_or_default().identifier,
        resources: response.resources.into_iter().map(resource).collect(),
        removed,
        errors: response.resource_errors.into_iter().map(resource_error).collect(),
        refused: None,
    })
}

fn resource(resource: discovery::Resource) -> Resource {
    let named = resource.resource_name.unwrap_or_default().name;
    Resource {
        name: Some(if resource.name.is_empty() { named } else { resource.name }),
        version: resource.version,
        aliases: resource.aliases,
        ttl: resource.ttl.and_then(ttl_of),
        body: resource.resource.map_or(Body::Absent, body_of),
    }
}

fn body_of(any: Any) -> Body {
    Body::Any { type_url: any.type_url, value: any.value }
}

/// A time to live that is negative is none.
fn ttl_of(ttl: ProtoDuration) -> Option<Duration> {
    let seconds = u64::try_from(ttl.seconds).ok()?.min(TTL_SECONDS_MAX);
    let nanos = u32::try_from(ttl.nanos).ok()?.min(999_999_999);
    Some(Duration::new(seconds, nanos))
}

fn resource_error(error: discovery::ResourceError) -> ResourceError {
    let detail = error.error_detail.unwrap_or_default();
    let name = error.resource_name.unwrap_or_default().name;
    ResourceError { name, code: detail.code, message: detail.message }
}
