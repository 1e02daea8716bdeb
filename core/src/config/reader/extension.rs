//! Extensions: `Any` with an `@type`, and the untyped structs that control planes wrap them in.
//!
//! What it leaves to others: what an extension means (each noun's `from_proto`).

use super::super::ast::{Entry, Mark, Node, Tree, shorten};
use super::super::support::{self, Support};
use super::{Reader, Scope, hints, old_names};
use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage, Value};

/// The wrappers that carry an extension as a struct, with its type in `type_url` and itself in
/// `value`.
const TYPED_STRUCTS: &[&str] = &["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"];

/// A list of extensions of which the first that is supported counts.
pub(super) struct FirstOf {
    supported: &'static [&'static str],
    found: bool,
}

impl FirstOf {
    /// How the next item is read: only the one that counts is looked at.
    pub(super) fn scope_of(&mut self, item: &Node) -> Scope {
        let is_first = !self.found && extension_type(item).is_none_or(|name| self.is(name));
        self.found |= is_first;
        if is_first { Scope::Used } else { Scope::Kept }
    }

    fn is(&self, name: &str) -> bool {
        self.supported.contains(&name)
    }
}

/// The message that an item with a `typed_extension_config` is.
fn extension_type(item: &Node) -> Option<&str> {
    let config = get(item, "typed_extension_config", "typedExtensionConfig")?;
    let config = get(config, "typed_config", "typedConfig")?;
    let name = type_name(config.get("@type")?)?;
    match TYPED_STRUCTS.contains(&name) {
        true => type_name(get(config, "type_url", "typeUrl")?),
        false => Some(name),
    }
}

fn get<'n>(node: &'n Node, snake: &str, camel: &str) -> Option<&'n Node> {
    node.get(snake).or_else(|| node.get(camel))
}

fn type_name(url: &Node) -> Option<&str> {
    let Tree::Scalar(url) = &url.value else { return None };
    url.text.rsplit('/').next()
}

impl Reader<'_, '_> {
    /// Reads an `Any`. `field` says which messages can be in it.
    pub(super) fn any(
        &mut self,
        field: &FieldDescriptor,
        node: &Node,
        scope: Scope,
    ) -> Option<DynamicMessage> {
        let Tree::Mapping(entries) = &node.value else {
            self.expected(node, "a mapping with an `@type`");
            return None;
        };
        let url_node = match node.get("@type") {
            Some(Node { value: Tree::Scalar(url), at }) => Some((url.text.as_str(), *at)),
            _ => None,
        };
        let Some((url, at)) = url_node else {
            let hint = self.extension_hint(field);
            let reason = "an `@type` is missing: it says which message this is";
            self.report.error(Some(node.at), &self.path, reason, hint);
            return None;
        };
        let name = url.rsplit('/').next().unwrap_or(url);
        if TYPED_STRUCTS.contains(&name) {
            return self.typed_struct(field, node, scope);
        }
        let value = self.extension(field, url, at, &[entries.as_slice()], node.at, scope)?;
        self.pack(url, value)
    }

    /// What the `type_url` of a TypedStruct names is read from its `value`, as Envoy does.
    fn typed_struct(
        &mut self,
        field: &FieldDescriptor,
        node: &Node,
        scope: Scope,
    ) -> Option<DynamicMessage> {
        let url = match node.get("type_url").or_else(|| node.get("typeUrl")) {
            Some(Node { value: Tree::Scalar(url), at }) => Some((url.text.as_str(), *at)),
            _ => None,
        };
        let Some((url, at)) = url else {
            let reason = "a TypedStruct needs a `type_url`";
            self.report.error(Some(node.at), &self.path, reason, None);
            return None;
        };
        let entries: &[Entry] = match node.get("value").map(|value| &value.value) {
            Some(Tree::Mapping(entries)) => entries,
            _ => &[],
        };
        let value = self.extension(field, url, at, &[entries], node.at, scope)?;
        self.pack(url, value)
    }

    /// Reads the `config` of v2 as the `typed_config` that it would be in v3, so that what is wrong
    /// in it is reported too. That it is there at all was reported already.
    pub(super) fn read_untyped_config(
        &mut self,
        mappings: &[&[Entry]],
        message: &mut DynamicMessage,
    ) {
        let descriptor = message.descriptor();
        for entries in mappings {
            let found = entries.iter().find_map(|entry| {
                Some((entry, hints::untyped_config(entry, &descriptor, entries)?))
            });
            let Some((entry, (field, name))) = found else { continue };
            if !supported_types(&field).contains(&name) {
                continue;
            }
            let (Some(inner), Tree::Mapping(config)) =
                (self.pool.get_message_by_name(name), &entry.value.value)
            else {
                continue;
            };
            let length = self.enter(field.name());
            let at = Some(entry.value.at);
            let value =
                self.mappings(at, &[config.as_slice()], &inner, Scope::Used).encode_to_vec();
            self.path.truncate(length);
            if let Some(any) = self.pack(name, value) {
                message.set_field(&field, Value::Message(any));
            }
        }
    }

    fn pack(&self, url: &str, value: Vec<u8>) -> Option<DynamicMessage> {
        let mut any = DynamicMessage::new(self.pool.get_message_by_name("google.protobuf.Any")?);
        any.set_field_by_name("type_url", Value::String(url.to_owned()));
        any.set_field_by_name("value", Value::Bytes(Bytes::from(value)));
        Some(any)
    }

    /// Reads the message of an extension and encodes it.
    fn extension(
        &mut self,
        field: &FieldDescriptor,
        url: &str,
        url_at: Mark,
        mappings: &[&[Entry]],
        at: Mark,
        scope: Scope,
    ) -> Option<Vec<u8>> {
        let Some((_, name)) = url.rsplit_once('/') else {
            let hint = format!("write type.googleapis.com/{}", shorten(url));
            let reason = "the type of an extension needs a slash before its name";
            self.report.error(Some(url_at), &self.path, reason, Some(hint));
            return None;
        };
        let descriptor = self.pool.get_message_by_name(name);
        if scope == Scope::Kept {
            // Not looked into when it is not known: it has nothing to do here in any case.
            return Some(match descriptor {
                Some(descriptor) if descriptor.package_name() != "google.protobuf" => {
                    self.mappings(Some(at), mappings, &descriptor, scope).encode_to_vec()
                }
                _ => Vec::new(),
            });
        }
        let supported = supported_types(field);
        match descriptor {
            Some(descriptor) if supported.contains(&name) => {
                Some(self.mappings(Some(at), mappings, &descriptor, scope).encode_to_vec())
            }
            descriptor => {
                self.unsupported_type(name, url_at, descriptor.as_ref(), supported, field);
                // The type stays, so that whoever converts it knows what was left out.
                Some(Vec::new())
            }
        }
    }

    fn unsupported_type(
        &mut self,
        name: &str,
        at: Mark,
        known: Option<&MessageDescriptor>,
        supported: &[&str],
        field: &FieldDescriptor,
    ) {
        self.report.set_unreadable(self.path.clone());
        if known.is_some() {
            let strict = support::supported_message(field.parent_message().full_name())
                .is_some_and(|entry| entry.strict);
            let reason = format!("the extension `{name}` is not supported yet");
            let hint = supported_instead(name, supported, field);
            self.unsupported_hint(at, reason, strict, Some(hint));
            return;
        }
        let reason = format!("Envoy has no message `{}`", shorten(name));
        let hint = match old_names::type_in_v3(self.pool, name) {
            Some(v3) if supported.contains(&v3.as_str()) => {
                format!("in v3 it is `type.googleapis.com/{v3}`")
            }
            Some(v3) => format!("in v3 it is `{v3}`, which is not supported here yet"),
            None => supported_instead(name, supported, field),
        };
        self.report.error(Some(at), &self.path, reason, Some(hint));
    }

    fn extension_hint(&self, field: &FieldDescriptor) -> Option<String> {
        let first = supported_types(field).first()?;
        Some(format!("for example \"@type\": type.googleapis.com/{first}"))
    }
}

/// The supported extension whose name is nearest, and where the others are.
fn supported_instead(name: &str, supported: &[&str], field: &FieldDescriptor) -> String {
    let simple = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let nearest = supported.iter().min_by_key(|one| hints::distance(&simple(one), &simple(name)));
    let message = field.parent_message();
    let list = format!("`tidegate explain support {}`", message.full_name());
    match (nearest, supported.len()) {
        (None, _) => format!("none is here: {list} says what is"),
        (Some(only), 1) => format!("only `{only}` is here"),
        (Some(nearest), _) => format!("the nearest that is: `{nearest}`; {list} lists all"),
    }
}

/// The choice that a list of extensions is, if it is one.
pub(super) fn first_of(field: &FieldDescriptor) -> Option<FirstOf> {
    match support::support(field.parent_message().full_name(), field.name()) {
        Some(Support::FirstOf(supported)) => Some(FirstOf { supported, found: false }),
        _ => None,
    }
}

/// The messages that can be in an `Any`.
pub(super) fn supported_types(field: &FieldDescriptor) -> &'static [&'static str] {
    match support::support(field.parent_message().full_name(), field.name()) {
        Some(Support::Types(types)) => types,
        _ => &[],
    }
}
