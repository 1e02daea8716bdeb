//! The proxy's own answers as `local_reply_config` wants them.
//!
//! What it leaves to others: what was configured (`snapshot::LocalReplies`), sending
//! (`local_reply`).

use super::header_mutation::MutationScratch;
use crate::access_log::Record;
use crate::shard::{Shard, StreamKey};
use crate::snapshot::{Body, LocalReplies};
use tidegate_http::ResponseHead;
use tidegate_io::Io;

/// The media type of the proxy's own words.
pub(super) const TEXT: &str = "text/plain";

/// The part of an answer that is not in its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'c> {
    pub body: &'c [u8],
    /// The body's media type.
    pub content_type: Option<&'c str>,
}

impl<'c> Content<'c> {
    /// Text, or nothing.
    pub fn text(body: &'c [u8]) -> Content<'c> {
        Content { body, content_type: (!body.is_empty()).then_some(TEXT) }
    }
}

impl<I: Io> Shard<I> {
    /// Maps the answer in `stream.response`; the new body is in `text`, its media type is answered.
    pub(super) fn map_reply<'r>(
        &mut self,
        key: StreamKey,
        replies: &'r LocalReplies,
        content: Content<'r>,
        text: &mut Vec<u8>,
    ) -> Option<&'r str> {
        let downstream = self.streams.get(key)?.downstream;
        let ends = self.ends(downstream);
        let stream = self.streams.get_mut(key)?;
        let mut response = std::mem::take(&mut stream.response);
        let known = stream.record(self.now.instant - stream.started, ends);
        let scratch = &mut self.mutation_scratch;
        let content_type = map(replies, &known, content, &mut response, scratch, text);
        stream.response = response;
        content_type
    }

    /// A direct response's body in its format. As in Envoy it has no status yet.
    pub(super) fn format_body(&mut self, key: StreamKey, format: &Body, body: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let Some(downstream) = self.streams.get(key).map(|stream| stream.downstream) else {
            return text;
        };
        let ends = self.ends(downstream);
        if let Some(stream) = self.streams.get(key) {
            let known = stream.record(self.now.instant - stream.started, ends);
            format.format.write_body(&mut text, &of_reply(&known, &stream.response, body));
        }
        text
    }
}

/// Maps an answer: fields are added, status and body replaced, the body written anew into `text`.
/// `known` is what is known besides; the media type is answered.
pub(super) fn map<'r>(
    replies: &'r LocalReplies,
    known: &Record<'_>,
    content: Content<'r>,
    response: &mut ResponseHead,
    scratch: &mut MutationScratch,
    text: &mut Vec<u8>,
) -> Option<&'r str> {
    let mapper = replies.mapper(&of_reply(known, response, content.body));
    if let Some(mutations) = mapper.and_then(|mapper| mapper.headers_to_add.as_ref()) {
        scratch.plan_for_response(mutations, &of_reply(known, response, content.body));
        scratch.carry_out(mutations, &mut response.headers);
    }
    response.status = mapper.and_then(|mapper| mapper.status).unwrap_or(response.status);
    let body = mapper.and_then(|mapper| mapper.body.as_deref()).unwrap_or(content.body);
    let format = replies.body(mapper);
    match format {
        Some(format) => format.format.write_body(text, &of_reply(known, response, body)),
        None => text.extend_from_slice(body),
    }
    match content.content_type {
        _ if text.is_empty() => None,
        Some(content_type) if text == content.body => Some(content_type),
        _ => Some(format.map_or(TEXT, |format| &format.content_type)),
    }
}

fn of_reply<'a>(known: &Record<'a>, response: &'a ResponseHead, body: &'a [u8]) -> Record<'a> {
    Record {
        response: Some(response),
        status: response.status,
        local_reply_body: Some(body),
        ..*known
    }
}
