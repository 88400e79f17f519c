//! The frame: a length, a fixed header, a postcard body.
//!
//! ```text
//! offset  size  what (little endian)
//!      0     4  length of all that follows this field: 12 to 12 + MAX_BODY
//!      4     2  protocol version
//!      6     1  kind, see `message`
//!      7     1  number of descriptors that ride on the frame's first byte
//!      8     8  operation id, 48 bits; 0 is none
//!     16        body
//! ```
//!
//! This header is the same in every version of the protocol, so that a peer of any version can be refused by name.

use crate::opid::OpId;

/// The version of the bodies' layout. A peer of another version gets `bad_version`.
pub const VERSION: u16 = 1;

/// Length field and header.
pub const HEADER_BYTES: usize = 16;

/// The largest body. `execve(2)` takes at most 6 MiB of arguments and environment (three quarters of the largest stack);
/// both sent once each, and a path or two, stay below this.
pub const MAX_BODY: usize = 8 * 1024 * 1024;

/// The header as it stands on the wire; nothing in it has been judged yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub version: u16,
    pub kind: u8,
    pub fds: u8,
    pub op: Option<OpId>,
}

/// A complete frame at the front of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub header: Header,
    /// The whole frame's length, header included.
    pub length: usize,
}

/// Why a buffer can never become a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// The length field says less than a header.
    TooShort(u32),
    /// The length field says more than [`MAX_BODY`].
    TooLong(u32),
}

/// The header at the front of `bytes`, once it is there; its length field is checked before anything trusts it.
pub fn peek(bytes: &[u8]) -> Result<Option<Found>, Bad> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    if (length as usize) < HEADER_BYTES - 4 {
        return Err(Bad::TooShort(length));
    }
    if length as usize > HEADER_BYTES - 4 + MAX_BODY {
        return Err(Bad::TooLong(length));
    }
    let Some(rest) = rest.first_chunk::<12>() else { return Ok(None) };
    let [v0, v1, kind, fds, op @ ..] = *rest;
    let header = Header { version: u16::from_le_bytes([v0, v1]), kind, fds, op: OpId::from_bits(u64::from_le_bytes(op)) };
    Ok(Some(Found { header, length: 4 + length as usize }))
}

/// Writes a frame whose body `write` appends.
pub fn build(header: Header, write: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    // Room for every short body: most are.
    let mut bytes = Vec::with_capacity(64);
    bytes.extend([0; 4]);
    bytes.extend(header.version.to_le_bytes());
    bytes.extend([header.kind, header.fds]);
    bytes.extend(header.op.map_or(0, OpId::bits).to_le_bytes());
    let mut bytes = write(bytes);
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_forged_length_is_refused_before_anything_is_read() {
        assert_eq!(peek(&[11, 0, 0, 0]), Err(Bad::TooShort(11)));
        assert_eq!(peek(&u32::MAX.to_le_bytes()), Err(Bad::TooLong(u32::MAX)));
        let most = (12 + MAX_BODY) as u32;
        assert_eq!(peek(&most.to_le_bytes()), Ok(None));
        assert_eq!(peek(&(most + 1).to_le_bytes()), Err(Bad::TooLong(most + 1)));
    }

    #[test]
    fn the_header_is_these_bytes_for_ever() {
        let header = Header { version: 1, kind: 2, fds: 3, op: OpId::parse(b"op-1f3a9c0b7d2e") };
        let bytes = build(header, |mut b| {
            b.extend(b"xy");
            b
        });
        assert_eq!(bytes, [14, 0, 0, 0, 1, 0, 2, 3, 0x2e, 0x7d, 0x0b, 0x9c, 0x3a, 0x1f, 0, 0, b'x', b'y']);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(found)) = peek(&bytes) {
                prop_assert!((HEADER_BYTES..=HEADER_BYTES + MAX_BODY).contains(&found.length));
            }
        }

        #[test]
        fn what_is_built_is_found(version: u16, kind: u8, fds: u8, bits in 0u64..1 << 48, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let header = Header { version, kind, fds, op: OpId::from_bits(bits) };
            let bytes = build(header, |mut b| { b.extend(&body); b });
            for cut in 0..HEADER_BYTES {
                prop_assert_eq!(peek(&bytes[..cut]), Ok(None));
            }
            prop_assert_eq!(peek(&bytes), Ok(Some(Found { header, length: bytes.len() })));
        }
    }
}
