//! A message type, prepared for the walk over encoded messages (`clean`): what each of its fields
//! must be so that nothing is to be told of it.
//!
//! What it leaves to others: the walk.

use super::super::support::{self, Support};
use super::extension::supported_types;
use super::rules::{FieldRules, Found, RuleTable};
use prost::encoding::WireType;
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// A message type.
pub(super) struct Plan {
    /// The numbers of the fields, ascending.
    numbers: Vec<u32>,
    /// In the order of their numbers.
    fields: Vec<FieldPlan>,
    /// Places of fields that must be there.
    pub required: Vec<usize>,
    /// Of groups of which one must be chosen: places of the choices.
    pub required_choices: Vec<usize>,
    pub what: What,
}

/// Messages that mean something by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Message,
    Any,
    Duration,
    /// `UInt32Value` and the like: one field, `value`.
    Wrapper,
    /// `google.protobuf.Value`, which must have a kind.
    Value,
    /// `google.protobuf.Struct` or `ListValue`
    Struct,
    /// Nobody sends it: the long way.
    Unusual,
}

/// A field.
pub(super) struct FieldPlan {
    /// Its bit in a set of what is there.
    pub place: usize,
    /// The group of which it is a choice.
    pub choice: Option<usize>,
    pub is_list: bool,
    pub kind: PlannedKind,
    pub support: PlannedSupport,
    pub rules: Option<FieldRules>,
    /// A single value whose default is not sent.
    pub has_default: bool,
    field: FieldDescriptor,
    inner: OnceCell<Option<Rc<Plan>>>,
}

/// What a field holds.
pub(super) enum PlannedKind {
    Unsigned {
        bits: u32,
    },
    Signed {
        bits: u32,
    },
    Bool,
    Enum(EnumDescriptor),
    Double,
    Float,
    Text,
    Bytes,
    Message,
    /// Zigzag and fixed integers, groups: the long way.
    Unusual,
}

/// What of a field is implemented.
pub(super) enum PlannedSupport {
    Used,
    /// These messages in an `Any`.
    Types(&'static [&'static str]),
    Kept,
    Values(&'static [&'static str]),
    /// There is something to tell.
    Told,
}

/// A set of places has so many bits.
const PLACES_MAX: usize = 128;

thread_local! {
    /// Of the types that were met so far: a server can send thousands of each.
    static PLANS: RefCell<HashMap<String, Option<Rc<Plan>>>> = RefCell::default();
}

impl Plan {
    /// The plan of a type; `None` for one that is too large.
    pub fn of(descriptor: &MessageDescriptor) -> Option<Rc<Plan>> {
        let name = descriptor.full_name();
        if let Some(known) = PLANS.with_borrow(|plans| plans.get(name).cloned()) {
            return known;
        }
        let plan = Plan::new(descriptor).map(Rc::new);
        PLANS.with_borrow_mut(|plans| plans.insert(name.to_owned(), plan.clone()));
        plan
    }

    /// The same by the name of the type.
    pub fn named(pool: &DescriptorPool, name: &str) -> Option<Rc<Plan>> {
        let known = PLANS.with_borrow(|plans| plans.get(name).cloned());
        known.unwrap_or_else(|| Plan::of(&pool.get_message_by_name(name)?))
    }

    pub fn field(&self, number: u32) -> Option<&FieldPlan> {
        self.fields.get(self.numbers.binary_search(&number).ok()?)
    }

    fn new(descriptor: &MessageDescriptor) -> Option<Plan> {
        let mut rules = RuleTable::new(descriptor.parent_pool()).read(descriptor);
        let oneofs: Vec<_> = descriptor.oneofs().collect();
        if descriptor.fields().len() + oneofs.len() > PLACES_MAX {
            return None;
        }
        let choice_of = |name: &str| oneofs.iter().position(|it| it.name() == name);
        let mut plan = Plan {
            numbers: Vec::with_capacity(descriptor.fields().len()),
            fields: Vec::with_capacity(descriptor.fields().len()),
            required: Vec::new(),
            required_choices: Vec::new(),
            what: What::of(descriptor),
        };
        for oneof in &rules.oneofs {
            plan.required_choices.extend(choice_of(oneof.name()));
        }
        for (place, field) in descriptor.fields().enumerate() {
            let place = oneofs.len() + place;
            let at = rules.fields.iter().position(|(of, _)| of.number() == field.number());
            let rules = at.map(|at| rules.fields.swap_remove(at).1);
            if rules.as_ref().is_some_and(|rules| rules.is_missed(&field)) {
                plan.required.push(place);
            }
            let oneof = field.containing_oneof();
            let choice = oneof.and_then(|oneof| choice_of(oneof.name()));
            plan.numbers.push(field.number());
            plan.fields.push(FieldPlan::new(field, place, choice, rules));
        }
        // The pool has them in this order.
        assert!(plan.numbers.is_sorted(), "fields of {} are out of order", descriptor.full_name());
        Some(plan)
    }
}

impl What {
    fn of(descriptor: &MessageDescriptor) -> What {
        match descriptor.full_name() {
            "google.protobuf.Any" => What::Any,
            "google.protobuf.Duration" => What::Duration,
            "google.protobuf.Value" => What::Value,
            "google.protobuf.Struct" | "google.protobuf.ListValue" => What::Struct,
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                What::Wrapper
            }
            name if name.starts_with("google.protobuf.") => What::Unusual,
            _ => What::Message,
        }
    }
}

impl FieldPlan {
    fn new(
        field: FieldDescriptor,
        place: usize,
        choice: Option<usize>,
        rules: Option<FieldRules>,
    ) -> FieldPlan {
        let message = field.parent_message().full_name().to_owned();
        let support = match support::support(&message, field.name()) {
            Some(Support::Used) => PlannedSupport::Used,
            Some(Support::Types(_)) => PlannedSupport::Types(supported_types(&field)),
            Some(Support::Kept(_)) => PlannedSupport::Kept,
            Some(Support::Only(values) | Support::Must(values)) => PlannedSupport::Values(values),
            // One of them counts, or there is something to say.
            Some(Support::FirstOf(_) | Support::Reported(_) | Support::Refused) | None => {
                PlannedSupport::Told
            }
        };
        FieldPlan {
            place,
            choice,
            is_list: field.cardinality() == Cardinality::Repeated,
            kind: PlannedKind::of(&field.kind()),
            support,
            rules,
            has_default: !field.supports_presence(),
            inner: OnceCell::new(),
            field,
        }
    }

    /// Whether its rules allow this, which is the value or one of a list.
    pub fn allows(&self, found: Found<'_>) -> bool {
        let rules = self.rules.as_ref();
        let rules = if self.is_list { rules.and_then(FieldRules::of_items) } else { rules };
        rules.is_none_or(|rules| rules.allows(found))
    }

    /// Whether it is a map; its entries are messages.
    pub fn is_map(&self) -> bool {
        self.field.is_map()
    }

    /// The type of the messages that it holds.
    pub fn inner(&self) -> Option<&Plan> {
        let of = || match self.field.kind() {
            Kind::Message(message) => Plan::of(&message),
            _ => None,
        };
        self.inner.get_or_init(of).as_deref()
    }
}

impl PlannedKind {
    /// How one value is sent.
    pub fn wire(&self) -> WireType {
        match self {
            PlannedKind::Double => WireType::SixtyFourBit,
            PlannedKind::Float => WireType::ThirtyTwoBit,
            PlannedKind::Text | PlannedKind::Bytes | PlannedKind::Message => {
                WireType::LengthDelimited
            }
            _ => WireType::Varint,
        }
    }

    /// Whether many values are sent like this.
    pub fn is_packed(&self, wire: WireType) -> bool {
        wire == WireType::LengthDelimited && self.wire() != wire
    }

    /// What is not sent.
    pub fn default<'b>(&self) -> Found<'b> {
        match self {
            PlannedKind::Bool => Found::Bool(false),
            PlannedKind::Enum(_) => Found::Enum(0),
            PlannedKind::Text => Found::Text(""),
            PlannedKind::Bytes => Found::Bytes(&[]),
            PlannedKind::Message => Found::Message,
            _ => Found::Number(0.0),
        }
    }

    /// A value as tables of what is supported have it.
    pub fn text(&self, found: Found<'_>) -> Option<String> {
        match (self, found) {
            (PlannedKind::Enum(descriptor), Found::Enum(number)) => {
                Some(descriptor.get_value(number)?.name().to_owned())
            }
            (_, Found::Bool(value)) => Some(value.to_string()),
            _ => None,
        }
    }

    fn of(kind: &Kind) -> PlannedKind {
        match kind {
            Kind::Uint32 => PlannedKind::Unsigned { bits: 32 },
            Kind::Uint64 => PlannedKind::Unsigned { bits: 64 },
            Kind::Int32 => PlannedKind::Signed { bits: 32 },
            Kind::Int64 => PlannedKind::Signed { bits: 64 },
            Kind::Bool => PlannedKind::Bool,
            Kind::Enum(descriptor) => PlannedKind::Enum(descriptor.clone()),
            Kind::Double => PlannedKind::Double,
            Kind::Float => PlannedKind::Float,
            Kind::String => PlannedKind::Text,
            Kind::Bytes => PlannedKind::Bytes,
            Kind::Message(_) => PlannedKind::Message,
            _ => PlannedKind::Unusual,
        }
    }
}
