//! Whether an encoded message needs no reading by names: everything that it has is supported and
//! follows the rules. What management servers send mostly is, and is then converted as it came.
//!
//! One walk over the bytes, which builds nothing. It errs on one side only: a message that it does
//! not take for clean is read by names, which says what is wrong.
//!
//! What it leaves to others: what is known of the types (`plan`), what the fields mean (each noun's
//! `from_proto`).

use super::Scope;
use super::plan::{FieldPlan, Plan, PlannedKind, PlannedSupport, What};
use super::rules::Found;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::DescriptorPool;

/// How deep messages can stand in each other.
const DEPTH_MAX: usize = 60;

/// An extension counts like so many messages: there can be 20 in each other.
const EXTENSION_DEPTH: usize = 3;

/// Of `google.protobuf.Duration`, in seconds.
const DURATION_MAX: i64 = 315_576_000_000;

/// Whether an encoded message of this type is clean.
pub fn is_clean(pool: &DescriptorPool, message: &str, bytes: &[u8]) -> bool {
    let Some(plan) = Plan::named(pool, message) else { return false };
    Walk { pool }.message(&plan, bytes, Scope::Used, 0).is_some()
}

/// All that it does gives `None` for what is not clean.
struct Walk<'p> {
    pool: &'p DescriptorPool,
}

impl Walk<'_> {
    fn message(&self, plan: &Plan, bytes: &[u8], scope: Scope, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (mut seen, mut rest) = (0_u128, bytes);
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let field = plan.field(number)?;
            let (bit, choice) = (1 << field.place, field.choice.map_or(0, |place| 1 << place));
            // What is there twice is merged or replaced, which nobody sends.
            if seen & bit != 0 && !field.is_list || seen & choice != 0 {
                return None;
            }
            if seen & bit == 0 && field.is_list {
                check_count(field, number, bytes)?;
            }
            seen |= bit | choice;
            let scope = match (scope, &field.support) {
                (Scope::Used, PlannedSupport::Told) => return None,
                (Scope::Used, PlannedSupport::Used | PlannedSupport::Types(_)) => Scope::Used,
                _ => Scope::Kept,
            };
            self.field(field, wire, &mut rest, scope, depth)?;
        }
        let has = |place: &usize| seen & (1 << place) != 0;
        (plan.required.iter().all(has) && plan.required_choices.iter().all(has)).then_some(())
    }

    fn field(
        &self,
        field: &FieldPlan,
        wire: WireType,
        rest: &mut &[u8],
        scope: Scope,
        depth: usize,
    ) -> Option<()> {
        if field.is_map() {
            return self.entry(field, length_delimited(wire, rest)?, scope, depth);
        }
        if field.is_list && field.kind.is_packed(wire) {
            let mut items = length_delimited(wire, rest)?;
            while !items.is_empty() {
                let item = self.value(field, field, field.kind.wire(), &mut items, scope, depth)?;
                field.allows(item).then_some(())?;
            }
            return Some(());
        }
        let found = self.value(field, field, wire, rest, scope, depth)?;
        if field.has_default && found.is_default() {
            return None;
        }
        if let (Scope::Kept, PlannedSupport::Values(values)) = (scope, &field.support) {
            field.kind.text(found).filter(|text| values.contains(&text.as_str()))?;
        }
        field.allows(found).then_some(())
    }

    /// An entry of a map: a message with a key and a value.
    fn entry(&self, map: &FieldPlan, bytes: &[u8], scope: Scope, depth: usize) -> Option<()> {
        let (plan, mut rest) = (map.inner()?, bytes);
        let (mut key, mut value) = (false, false);
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let seen = if number == 1 { &mut key } else { &mut value };
            if std::mem::replace(seen, true) {
                return None;
            }
            self.value(map, plan.field(number)?, wire, &mut rest, scope, depth)?;
        }
        value.then_some(())
    }

    /// `holder` says which messages an `Any` can have.
    fn value<'b>(
        &self,
        holder: &FieldPlan,
        field: &FieldPlan,
        wire: WireType,
        rest: &mut &'b [u8],
        scope: Scope,
        depth: usize,
    ) -> Option<Found<'b>> {
        if !matches!(field.kind, PlannedKind::Message) {
            return scalar(&field.kind, wire, rest);
        }
        let (inner, bytes) = (field.inner()?, length_delimited(wire, rest)?);
        match inner.what {
            What::Any => self.any(holder, bytes, scope, depth)?,
            What::Duration => return duration(inner, bytes),
            What::Wrapper => return wrapped(inner, bytes),
            What::Value if bytes.is_empty() => return None,
            What::Value | What::Struct => {
                self.message(inner, bytes, Scope::Kept, depth + 1)?;
            }
            What::Message => self.message(inner, bytes, scope, depth + 1)?,
            What::Unusual => return None,
        }
        Some(Found::Message)
    }

    fn any(&self, holder: &FieldPlan, bytes: &[u8], scope: Scope, depth: usize) -> Option<()> {
        let (mut url, mut value, mut rest) = (None, None, bytes);
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let part = match number {
                1 => &mut url,
                2 => &mut value,
                _ => return None,
            };
            if part.replace(length_delimited(wire, &mut rest)?).is_some() {
                return None;
            }
        }
        let (_, name) = std::str::from_utf8(url?).ok()?.rsplit_once('/')?;
        let is_supported = match (scope, &holder.support) {
            (Scope::Used, PlannedSupport::Types(types)) => types.contains(&name),
            (Scope::Used, _) => false,
            (Scope::Kept, _) => true,
        };
        if !is_supported || !is_printable(url?) || name.starts_with("google.protobuf.") {
            return None;
        }
        let plan = Plan::named(self.pool, name)?;
        self.message(&plan, value.unwrap_or_default(), scope, depth + EXTENSION_DEPTH)
    }
}

fn scalar<'b>(kind: &PlannedKind, wire: WireType, rest: &mut &'b [u8]) -> Option<Found<'b>> {
    if wire != kind.wire() {
        return None;
    }
    Some(match kind {
        PlannedKind::Unsigned { bits: 32 } => {
            Found::Number(f64::from(u32::try_from(decode_varint(rest).ok()?).ok()?))
        }
        PlannedKind::Unsigned { .. } => Found::Number(decode_varint(rest).ok()? as f64),
        PlannedKind::Signed { bits: 32 } => Found::Number(f64::from(signed_32(rest)?)),
        PlannedKind::Signed { .. } => Found::Number(decode_varint(rest).ok()? as i64 as f64),
        PlannedKind::Bool => match decode_varint(rest).ok()? {
            0 => Found::Bool(false),
            1 => Found::Bool(true),
            _ => return None,
        },
        PlannedKind::Enum(descriptor) => {
            let number = signed_32(rest)?;
            descriptor.get_value(number)?;
            Found::Enum(number)
        }
        PlannedKind::Double => finite(f64::from_le_bytes(fixed(rest)?))?,
        PlannedKind::Float => finite(f64::from(f32::from_le_bytes(fixed(rest)?)))?,
        PlannedKind::Text => {
            let bytes = length_delimited(wire, rest)?;
            // Text can have what YAML cannot.
            Found::Text(std::str::from_utf8(bytes).ok().filter(|_| is_printable(bytes))?)
        }
        PlannedKind::Bytes => Found::Bytes(length_delimited(wire, rest)?),
        PlannedKind::Message | PlannedKind::Unusual => return None,
    })
}

/// What is in a wrapper such as `UInt32Value`.
fn wrapped<'b>(plan: &Plan, bytes: &'b [u8]) -> Option<Found<'b>> {
    let (kind, mut rest) = (&plan.field(1)?.kind, bytes);
    if bytes.is_empty() {
        return Some(kind.default());
    }
    let (number, wire) = decode_key(&mut rest).ok()?;
    let found = scalar(kind, wire, &mut rest)?;
    (number == 1 && rest.is_empty()).then_some(found)
}

fn duration<'b>(plan: &Plan, bytes: &'b [u8]) -> Option<Found<'b>> {
    let (mut parts, mut rest) = ([None, None], bytes);
    while !rest.is_empty() {
        let (number, wire) = decode_key(&mut rest).ok()?;
        plan.field(number).filter(|_| wire == WireType::Varint)?;
        let part = parts.get_mut(number as usize - 1)?;
        if part.replace(decode_varint(&mut rest).ok()? as i64).is_some() {
            return None;
        }
    }
    let [seconds, nanos] = parts.map(Option::unwrap_or_default);
    let is_valid = (0..=DURATION_MAX).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
    let nanoseconds = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    is_valid.then_some(Found::Duration(nanoseconds))
}

/// Whether a list has as many items as it may.
fn check_count(field: &FieldPlan, number: u32, bytes: &[u8]) -> Option<()> {
    let Some(rules) = field.rules.as_ref().filter(|rules| rules.limits_count()) else {
        return Some(());
    };
    let (mut count, mut rest) = (0, bytes);
    while !rest.is_empty() {
        let (found, wire) = decode_key(&mut rest).ok()?;
        // The items of a packed list, and different keys of a map, are counted in the long way.
        if found == number && (field.is_map() || field.kind.is_packed(wire)) {
            return None;
        }
        count += u64::from(found == number);
        match wire {
            WireType::Varint => drop(decode_varint(&mut rest).ok()?),
            WireType::SixtyFourBit => drop(fixed::<8>(&mut rest)?),
            WireType::ThirtyTwoBit => drop(fixed::<4>(&mut rest)?),
            WireType::LengthDelimited => drop(length_delimited(wire, &mut rest)?),
            WireType::StartGroup | WireType::EndGroup => return None,
        }
    }
    rules.allows_count(count).then_some(())
}

fn length_delimited<'b>(wire: WireType, rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    if wire != WireType::LengthDelimited {
        return None;
    }
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

fn fixed<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

fn signed_32(rest: &mut &[u8]) -> Option<i32> {
    i32::try_from(decode_varint(rest).ok()? as i64).ok()
}

fn finite<'b>(number: f64) -> Option<Found<'b>> {
    number.is_finite().then_some(Found::Number(number))
}

fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
}
