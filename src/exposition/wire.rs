//! The protobuf wire format, as far as it is written here.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH: u32 = 2;

/// Appends a number, seven bits to the byte.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that [`put_varint`] appends.
pub(super) fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// Appends a field that holds a whole number.
pub(super) fn put_varint_field(field: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3 | VARINT), out);
    put_varint(value, out);
}

/// Appends a field that holds a floating point number.
pub(super) fn put_double(field: u32, value: f64, out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3 | FIXED_64), out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field that holds these bytes: a text, or a message.
pub(super) fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_length(field, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends what stands before the bytes of a field: they follow.
pub(super) fn put_length(field: u32, length: usize, out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3 | LENGTH), out);
    put_varint(length as u64, out);
}

/// The bytes that [`put_bytes`] appends for a field below 16.
pub(super) fn bytes_field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}
