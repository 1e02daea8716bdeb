//! The rules that Envoy's .proto files state for their fields (`validate.rules`): required, ranges,
//! lengths.
//!
//! What it leaves to others: what no .proto file states (each noun's `from_proto`).

mod found;

pub(super) use found::Found;

use super::super::ast::{Mark, shorten};
use super::Reader;
use super::scalar::what;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    OneofDescriptor, ReflectMessage, Value,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Reads the rules of messages.
pub(super) struct RuleTable {
    of_field: Option<ExtensionDescriptor>,
    of_oneof: Option<ExtensionDescriptor>,
}

thread_local! {
    /// The rules of the messages that were met so far: a server can send thousands of each, and to
    /// read their rules takes longer than to check them.
    static RULES: RefCell<HashMap<String, Rc<MessageRules>>> = RefCell::default();
}

#[derive(Default)]
pub(super) struct MessageRules {
    pub fields: Vec<(FieldDescriptor, FieldRules)>,
    pub oneofs: Vec<OneofDescriptor>,
}

#[derive(Default)]
pub(super) struct FieldRules {
    required: bool,
    ignore_empty: bool,
    check: Check,
}

/// What a value must be.
#[derive(Default)]
enum Check {
    #[default]
    Anything,
    Number(Range<f64>),
    /// In nanoseconds.
    Duration(Range<i128>),
    Text(Text),
    Bytes(Range<u64>),
    Enum {
        within: Vec<i32>,
        without: Vec<i32>,
    },
    /// The items of a list or the pairs of a map.
    Items {
        count: Range<u64>,
        unique: bool,
        each: Option<Box<FieldRules>>,
    },
}

/// Bounds, each of which may be absent.
#[derive(Clone, Copy)]
struct Range<T> {
    above: Option<T>,
    at_least: Option<T>,
    below: Option<T>,
    at_most: Option<T>,
}

#[derive(Default)]
struct Text {
    length: Option<Range<u64>>,
    bytes: Option<Range<u64>>,
    within: Vec<String>,
    pattern: Option<regex::Regex>,
    header: Header,
}

#[derive(Default, PartialEq, Eq)]
enum Header {
    #[default]
    No,
    Name,
    Value,
}

impl RuleTable {
    pub(super) fn new(pool: &DescriptorPool) -> RuleTable {
        RuleTable {
            of_field: pool.get_extension_by_name("validate.rules"),
            of_oneof: pool.get_extension_by_name("validate.required"),
        }
    }

    fn of(&self, descriptor: &MessageDescriptor) -> Rc<MessageRules> {
        let known = RULES.with_borrow(|rules| rules.get(descriptor.full_name()).cloned());
        known.unwrap_or_else(|| {
            let rules = Rc::new(self.read(descriptor));
            let name = descriptor.full_name().to_owned();
            RULES.with_borrow_mut(|all| all.insert(name, Rc::clone(&rules)));
            rules
        })
    }

    pub(super) fn read(&self, descriptor: &MessageDescriptor) -> MessageRules {
        let mut rules = MessageRules::default();
        for field in descriptor.fields() {
            let options = field.options();
            let Some(extension) = &self.of_field else { continue };
            if !options.has_extension(extension) {
                continue;
            }
            if let Some(message) = options.get_extension(extension).as_message() {
                rules.fields.push((field, FieldRules::read(message)));
            }
        }
        for oneof in descriptor.oneofs() {
            let Some(extension) = &self.of_oneof else { continue };
            if oneof.options().get_extension(extension).as_bool() == Some(true) {
                rules.oneofs.push(oneof);
            }
        }
        rules
    }
}

/// A field of a rule, if the rule has it.
fn part(rules: &DynamicMessage, name: &str) -> Option<Value> {
    if !rules.has_field_by_name(name) {
        return None;
    }
    rules.get_field_by_name(name).map(std::borrow::Cow::into_owned)
}

fn flag(rules: &DynamicMessage, name: &str) -> bool {
    part(rules, name).and_then(|value| value.as_bool()) == Some(true)
}

fn number(value: &Value) -> Option<f64> {
    Some(match value {
        Value::I32(value) => f64::from(*value),
        Value::U32(value) => f64::from(*value),
        Value::F32(value) => f64::from(*value),
        Value::I64(value) => *value as f64,
        Value::U64(value) => *value as f64,
        Value::F64(value) => *value,
        _ => return None,
    })
}

fn nanoseconds(value: &Value) -> Option<i128> {
    let duration = value.as_message()?;
    let seconds = duration.get_field_by_name("seconds")?.as_i64()?;
    let nanos = duration.get_field_by_name("nanos")?.as_i32()?;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

fn range<T>(rules: &DynamicMessage, read: impl Fn(&Value) -> Option<T>) -> Range<T> {
    let bound = |name: &str| part(rules, name).as_ref().and_then(&read);
    Range { above: bound("gt"), at_least: bound("gte"), below: bound("lt"), at_most: bound("lte") }
}

fn count(rules: &DynamicMessage, least: &str, most: &str) -> Range<u64> {
    let bound = |name: &str| part(rules, name).and_then(|value| value.as_u64());
    Range { above: None, at_least: bound(least), below: None, at_most: bound(most) }
}

fn list<T>(rules: &DynamicMessage, name: &str, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let value = part(rules, name);
    let items = value.as_ref().and_then(Value::as_list).unwrap_or_default();
    items.iter().filter_map(read).collect()
}

impl FieldRules {
    fn read(rules: &DynamicMessage) -> FieldRules {
        let mut found = FieldRules::default();
        if let Some(message) = part(rules, "message") {
            found.required = message.as_message().is_some_and(|rules| flag(rules, "required"));
        }
        let kinds = rules.descriptor().oneofs().find(|oneof| oneof.name() == "type");
        let Some(kind) =
            kinds.and_then(|oneof| oneof.fields().find(|field| rules.has_field(field)))
        else {
            return found;
        };
        let value = rules.get_field(&kind);
        let Some(rules) = value.as_message() else { return found };
        // Some kinds of rule have no `required` or `ignore_empty`; then these are false.
        found.required |= flag(rules, "required");
        found.ignore_empty = flag(rules, "ignore_empty");
        found.check = Check::read(kind.name(), rules);
        found
    }
}

impl Check {
    fn read(kind: &str, rules: &DynamicMessage) -> Check {
        match kind {
            "duration" => Check::Duration(range(rules, nanoseconds)),
            "string" => Check::Text(Text::read(rules)),
            "bytes" => Check::Bytes(count(rules, "min_len", "max_len")),
            "enum" => Check::Enum {
                within: list(rules, "in", Value::as_i32),
                without: list(rules, "not_in", Value::as_i32),
            },
            "repeated" => Check::Items {
                count: count(rules, "min_items", "max_items"),
                unique: flag(rules, "unique"),
                each: part(rules, "items")
                    .as_ref()
                    .and_then(Value::as_message)
                    .map(|items| Box::new(FieldRules::read(items))),
            },
            "map" => Check::Items {
                count: count(rules, "min_pairs", "max_pairs"),
                unique: false,
                each: None,
            },
            "bool" | "any" | "timestamp" => Check::Anything,
            _ => Check::Number(range(rules, number)),
        }
    }

    /// What is wrong with a value, after "must".
    fn fault(&self, value: &Value) -> Option<String> {
        match self {
            Check::Anything => None,
            Check::Number(range) => {
                range.fault(number(&unwrapped(value))?, |bound| bound.to_string())
            }
            Check::Duration(range) => {
                range.fault(nanoseconds(value)?, |bound| format!("{}s", bound as f64 / 1e9))
            }
            Check::Text(text) => text.fault(unwrapped(value).as_str()?),
            Check::Bytes(range) => {
                let length = unwrapped(value).as_bytes()?.len() as u64;
                range.fault(length, |bound| format!("{bound} bytes long"))
            }
            Check::Enum { within, without } => {
                let number = value.as_enum_number()?;
                let wrong =
                    without.contains(&number) || (!within.is_empty() && !within.contains(&number));
                wrong.then(|| "have another value".to_owned())
            }
            Check::Items { count, unique, .. } => items_fault(value, *count, *unique),
        }
    }
}

fn items_fault(value: &Value, count: Range<u64>, unique: bool) -> Option<String> {
    let items = value.as_list().unwrap_or_default();
    let length = value.as_map().map_or(items.len(), HashMap::len) as u64;
    if count.at_least == Some(1) && length == 0 {
        return Some("have at least one entry".to_owned());
    }
    let of_count = count.fault(length, |bound| format!("{bound} entries long"));
    let same =
        unique && items.iter().enumerate().any(|(index, item)| items[..index].contains(item));
    of_count.or_else(|| same.then(|| "not have the same entry twice".to_owned()))
}

/// What is in a wrapper such as `UInt32Value`, or the value itself.
fn unwrapped(value: &Value) -> Value {
    value
        .as_message()
        .and_then(|message| message.get_field_by_name("value"))
        .map_or_else(|| value.clone(), std::borrow::Cow::into_owned)
}

impl<T: PartialOrd + Copy> Range<T> {
    fn allows(self, value: T) -> bool {
        self.fault(value, |_| String::new()).is_none()
    }

    fn fault(&self, value: T, show: impl Fn(T) -> String) -> Option<String> {
        if let Some(bound) = self.above.filter(|bound| value <= *bound) {
            return Some(format!("be more than {}", show(bound)));
        }
        if let Some(bound) = self.at_least.filter(|bound| value < *bound) {
            return Some(format!("be at least {}", show(bound)));
        }
        if let Some(bound) = self.below.filter(|bound| value >= *bound) {
            return Some(format!("be less than {}", show(bound)));
        }
        let bound = self.at_most.filter(|bound| value > *bound)?;
        Some(format!("be at most {}", show(bound)))
    }
}

impl Text {
    fn read(rules: &DynamicMessage) -> Text {
        let length = count(rules, "min_len", "max_len");
        let bytes = count(rules, "min_bytes", "max_bytes");
        let known = part(rules, "well_known_regex").and_then(|value| value.as_enum_number());
        let pattern = part(rules, "pattern");
        Text {
            length: Some(length),
            bytes: Some(bytes),
            within: list(rules, "in", |value| value.as_str().map(str::to_owned)),
            pattern: pattern
                .as_ref()
                .and_then(Value::as_str)
                .and_then(|pattern| regex::Regex::new(pattern).ok()),
            header: match known {
                Some(1) => Header::Name,
                Some(2) => Header::Value,
                _ => Header::No,
            },
        }
    }

    fn fault(&self, text: &str) -> Option<String> {
        let least = |range: &Option<Range<u64>>| {
            range.and_then(|range| range.at_least).filter(|least| *least > 0)
        };
        if text.is_empty() && (least(&self.length).is_some() || least(&self.bytes).is_some()) {
            return Some("not be empty".to_owned());
        }
        let characters = text.chars().count() as u64;
        let length = self
            .length
            .and_then(|range| range.fault(characters, |bound| format!("{bound} characters long")));
        let bytes = self.bytes.and_then(|range| {
            range.fault(text.len() as u64, |bound| format!("{bound} bytes long"))
        });
        if let Some(fault) = length.or(bytes) {
            return Some(fault);
        }
        if !self.within.is_empty() && !self.within.iter().any(|allowed| allowed == text) {
            return Some(format!("be one of {}", self.within.join(", ")));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            return Some(match pattern.as_str() {
                "^[^?#]+[^?#/]$" => "have no `?`, no `#` and no slash at its end".to_owned(),
                pattern => format!("match {pattern}"),
            });
        }
        let bad = match self.header {
            Header::No => false,
            Header::Name => text.bytes().any(|byte| !is_name_byte(byte)),
            Header::Value => text.chars().any(|c| c.is_ascii_control() && c != '\t'),
        };
        bad.then(|| "have only characters that a header can have".to_owned())
    }
}

/// What a field has, for whoever must add it.
fn what_is(field: &FieldDescriptor) -> String {
    match field.kind() {
        _ if field.is_list() => "a list".to_owned(),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Duration" => "a duration in seconds, as `0.25s`".to_owned(),
            "google.protobuf.Any" => "a mapping with an `@type`".to_owned(),
            name if name.starts_with("google.protobuf.") => "a value".to_owned(),
            name => format!("a mapping ({name})"),
        },
        kind => what(&kind).to_owned(),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_|~`:".contains(&byte)
}

impl Reader<'_, '_> {
    /// Checks the rules of a field that was written, at the current path.
    pub(super) fn check_rules(
        &mut self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        at: Option<Mark>,
    ) {
        let rules = self.rules.of(&message.descriptor());
        let Some((_, rules)) = rules.fields.iter().find(|(f, _)| f.number() == field.number())
        else {
            return;
        };
        self.check_value(rules, field, &message.get_field(field), at);
    }

    fn check_value(
        &mut self,
        rules: &FieldRules,
        field: &FieldDescriptor,
        value: &Value,
        at: Option<Mark>,
    ) {
        if rules.ignore_empty && value.is_default(&field.kind()) {
            return;
        }
        if let Some(fault) = rules.check.fault(value) {
            let shown = match unwrapped(value).as_str() {
                Some(text) if !text.is_empty() => format!("`{}` ", shorten(text)),
                _ => String::new(),
            };
            let reason = format!("`{}` {shown}must {fault}", field.name());
            self.report.error(at, &self.path, reason, None);
            self.report.set_unreadable(self.path.clone());
        }
        let (Check::Items { each: Some(each), .. }, Some(items)) = (&rules.check, value.as_list())
        else {
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.check_value(each, field, item, at);
            self.path.truncate(length);
        }
    }

    /// Checks what was not written: required fields, and single values whose default is not
    /// allowed.
    pub(super) fn check_required(
        &mut self,
        message: &DynamicMessage,
        descriptor: &MessageDescriptor,
        at: Option<Mark>,
    ) {
        let rules = self.rules.of(descriptor);
        for (field, rules) in &rules.fields {
            // `has_field` is also false for a single value that was written as its default.
            let path = self.path_of(field.name());
            if message.has_field(field) || self.report.is_unreadable(&path) {
                continue;
            }
            if rules.is_missed(field) {
                let reason = format!("`{}` is required", field.name());
                let hint = format!("add `{}`, {}", field.name(), what_is(field));
                self.report.error(at, &path, reason, Some(hint));
            }
        }
        for oneof in &rules.oneofs {
            let settled = oneof.fields().any(|field| {
                message.has_field(&field) || self.report.is_unreadable(&self.path_of(field.name()))
            });
            if !settled {
                let names: Vec<String> =
                    oneof.fields().map(|field| format!("`{}`", field.name())).collect();
                let reason = match names.as_slice() {
                    [one] => format!("{one} is required: add it"),
                    _ => format!("one of {} is required", names.join(", ")),
                };
                let path = self.path.clone();
                self.report.error(at, &path, reason, None);
            }
        }
    }
}
