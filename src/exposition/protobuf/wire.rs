//! Protobuf's wire format: the few primitives that this engine needs.
//!
//! In: the bytes of a message. Out: its fields, lent from those bytes; and the other way round, fields appended to a
//! buffer. Nothing here panics on what came from outside, and nothing is allocated by a length that a message claims.
//!
//! It is as strict as the strictest of the readers behind the sidecar (gogo/protobuf, protobuf-go, prost): field numbers
//! from 1 to 2^29 - 1, varints of at most ten bytes that fit 64 bits, and no groups, which no exposition uses.

use crate::exposition::progress::DropReason;

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A varint has at most this many bytes: seven bits each, for 64 bits.
pub(super) const MAX_VARINT: usize = 10;

impl From<Malformed> for DropReason {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
}

/// The value of a field, as the wire types have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    /// A string, a message or packed numbers.
    Bytes(&'a [u8]),
    Fixed32(u32),
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// The fields of a message, in its order. After a [`Malformed`] it must not be asked again.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field, and the bytes in which it stands.
    pub(super) fn next_raw(&mut self) -> Option<Result<(Field<'a>, &'a [u8]), Malformed>> {
        let before = self.rest;
        let field = self.next()?;
        Some(field.map(|field| (field, &before[..before.len() - self.rest.len()])))
    }

    /// The number of bytes behind the field that was read last.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(read_field(&mut self.rest))
    }
}

#[inline(always)]
fn read_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, Malformed> {
    let key = u32::try_from(read_varint(rest)?).map_err(|_| Malformed)?;
    let number = key >> 3;
    if number == 0 {
        return Err(Malformed);
    }
    let value = match key & 7 {
        VARINT => Value::Varint(read_varint(rest)?),
        FIXED64 => Value::Fixed64(u64::from_le_bytes(read_array(rest)?)),
        BYTES => {
            let length = usize::try_from(read_varint(rest)?).map_err(|_| Malformed)?;
            let (bytes, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
            *rest = behind;
            Value::Bytes(bytes)
        }
        FIXED32 => Value::Fixed32(u32::from_le_bytes(read_array(rest)?)),
        _ => return Err(Malformed),
    };
    Ok(Field { number, value })
}

#[inline(always)]
fn read_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (array, behind) = rest.split_first_chunk().ok_or(Malformed)?;
    *rest = behind;
    Ok(*array)
}

/// Reads a varint off the front of `rest`.
#[inline(always)]
pub(super) fn read_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    match *rest {
        [byte, behind @ ..] if *byte < 0x80 => {
            *rest = behind;
            Ok(u64::from(*byte))
        }
        _ => read_long_varint(rest),
    }
}

fn read_long_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut varint = Varint::default();
    for (index, byte) in rest.iter().enumerate() {
        if let Some(value) = varint.push(*byte)? {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A varint that is read byte by byte.
#[derive(Debug, Default)]
pub(super) struct Varint {
    value: u64,
    bytes: usize,
}

impl Varint {
    /// Takes the next byte; returns the value with the last one.
    #[inline(always)]
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<u64>, Malformed> {
        // The tenth byte has room for the highest of the 64 bits alone.
        if self.bytes == MAX_VARINT - 1 && byte > 1 {
            return Err(Malformed);
        }
        self.value |= u64::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        Ok((byte < 0x80).then_some(self.value))
    }

    /// Whether no byte has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// The number that a zigzag-encoded `sint64` stands for.
pub(super) fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The number that a zigzag-encoded `sint32` stands for; higher bits are cut off, as every reader does.
pub(super) fn unzigzag32(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// The number of bytes that a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends a varint.
#[inline(always)]
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field with a varint: an integer (as `u64`), an enum or a `bool`.
pub(super) fn put_varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | VARINT), out);
    put_varint(value, out);
}

/// Appends a field with a double.
pub(super) fn put_double_field(number: u32, value: f64, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | FIXED64), out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the key and the length of a field with bytes; `length` bytes must follow.
#[inline(always)]
pub(super) fn put_bytes_head(number: u32, length: usize, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | BYTES), out);
    put_varint(length as u64, out);
}

/// Appends a field with bytes: a string, a message or packed numbers.
pub(super) fn put_bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_bytes_head(number, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// A length whose bytes are yet to be written: it is put before them when they are all there.
#[derive(Debug)]
pub(super) struct Pending {
    /// Where the room for the length begins.
    start: usize,
    room: usize,
}

impl Pending {
    /// Leaves room for the length of what will be appended. The nearer the guess the better: a length that takes as
    /// many bytes as the guess moves nothing.
    pub(super) fn begin(guess: usize, out: &mut Vec<u8>) -> Self {
        let room = varint_len(guess as u64);
        let start = out.len();
        out.resize(start + room, 0);
        Self { start, room }
    }

    /// The number of bytes appended so far.
    pub(super) fn length(&self, out: &[u8]) -> usize {
        out.len() - self.start - self.room
    }

    /// Takes back what was appended, and the room.
    pub(super) fn take_back(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }

    /// Writes the length.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        let Self { start, room } = self;
        let length = self.length(out);
        let needed = varint_len(length as u64);
        if needed > room {
            out.resize(out.len() + needed - room, 0);
        }
        if needed != room {
            out.copy_within(start + room..start + room + length, start + needed);
        }
        out.truncate(start + needed + length);
        let mut rest = length as u64;
        for byte in &mut out[start..start + needed] {
            *byte = rest as u8 | 0x80;
            rest >>= 7;
        }
        out[start + needed - 1] &= 0x7f;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(message: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
        Fields::of(message).collect()
    }

    #[test]
    fn what_is_put_is_read_again() {
        let mut out = Vec::new();
        put_varint_field(1, u64::MAX, &mut out);
        put_double_field(2, 0.5, &mut out);
        put_bytes_field(16, b"abc", &mut out);
        out.extend_from_slice(&[3 << 3 | 5, 1, 0, 0, 0]);
        let field = |number, value| Field { number, value };
        let expected = [
            field(1, Value::Varint(u64::MAX)),
            field(2, Value::Fixed64(0.5f64.to_bits())),
            field(16, Value::Bytes(b"abc")),
            field(3, Value::Fixed32(1)),
        ];
        assert_eq!(read_all(&out), Ok(expected.to_vec()));
    }

    #[test]
    fn what_breaks_the_wire_format_is_malformed() {
        for (message, why) in [
            (&b"\x08"[..], "no value"),
            (b"\x80", "half a key"),
            (b"\x00\x00", "the field number 0"),
            (b"\x0a\x02a", "fewer bytes than claimed"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a length of 2^64 - 1"),
            (b"\x09\0\0\0\0\0\0\0", "seven bytes of eight"),
            (b"\x0d\0\0\0", "three bytes of four"),
            (b"\x0b\x0c", "a group"),
            (b"\x0c", "the end of a group"),
            (b"\x0e", "a wire type that is none"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a varint over 64 bits"),
            (b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", "a varint of eleven bytes"),
            (b"\x88\x80\x80\x80\x10\x00", "a field number over 2^29 - 1"),
        ] {
            let fields: Result<Vec<_>, _> = Fields::of(message).collect();
            assert_eq!(fields, Err(Malformed), "{why}");
        }
    }

    #[test]
    fn zigzag_numbers_alternate_around_zero() {
        for (encoded, number) in [(0, 0), (1, -1), (2, 1), (3, -2), (u64::from(u32::MAX), i64::from(i32::MIN))] {
            assert_eq!(unzigzag64(encoded), number);
            assert_eq!(i64::from(unzigzag32(encoded)), number);
        }
        assert_eq!(unzigzag64(u64::MAX), i64::MIN);
    }

    #[test]
    fn a_varint_takes_a_byte_for_each_seven_bits() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::MAX] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }

    #[test]
    fn a_pending_length_is_right_however_wrong_the_guess() {
        for guess in [0, 1, 127, 128, 20_000] {
            for length in [0, 1, 127, 128, 300, 20_000] {
                let mut out = b"before".to_vec();
                let pending = Pending::begin(guess, &mut out);
                out.resize(out.len() + length, b'x');
                assert_eq!(pending.length(&out), length);
                pending.end(&mut out);
                let mut expected = b"before".to_vec();
                put_varint(length as u64, &mut expected);
                expected.resize(expected.len() + length, b'x');
                assert_eq!(out, expected);
            }
        }
    }
}
