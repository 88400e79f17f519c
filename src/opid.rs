//! Operation ids: `op-` and twelve hexadecimal digits, 48 random bits.
//!
//! One id names one request of a user on its whole way: in the log of either side, in every refusal and every error text,
//! and in `BKT_OP_ID` of the command, so that what the command asks for next carries the same id.

use std::fmt;

/// An operation id. Never zero: zero on the wire means "none given".
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId(u64);

const DIGITS: usize = 12;
const MASK: u64 = (1 << 48) - 1;

impl OpId {
    /// From random bytes; all zeros become one, so that an id is never "none".
    pub fn from_random(bytes: [u8; 6]) -> OpId {
        let mut wide = [0; 8];
        wide[..6].copy_from_slice(&bytes);
        OpId(u64::from_le_bytes(wide).max(1))
    }

    /// From the wire's 64 bits: `None` for zero or for a number that is no 48-bit one.
    pub fn from_bits(bits: u64) -> Option<OpId> {
        (bits != 0 && bits & !MASK == 0).then_some(OpId(bits))
    }

    /// For the wire.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// From text as in `BKT_OP_ID`: `op-` and exactly twelve lower-case hexadecimal digits, not all zero.
    pub fn parse(text: &[u8]) -> Option<OpId> {
        let digits = text.strip_prefix(b"op-")?;
        if digits.len() != DIGITS {
            return None;
        }
        let mut bits = 0;
        for digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            bits = bits << 4 | u64::from(value);
        }
        OpId::from_bits(bits)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op-{:012x}", self.0)
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bits_go_round() {
        let id = OpId::from_random([0x2e, 0x7d, 0x0b, 0x9c, 0x3a, 0x1f]);
        assert_eq!(id.to_string(), "op-1f3a9c0b7d2e");
        assert_eq!(OpId::parse(id.to_string().as_bytes()), Some(id));
        assert_eq!(OpId::from_bits(id.bits()), Some(id));
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for bad in ["", "op-", "op-1f3a9c0b7d2", "op-1f3a9c0b7d2e0", "op-1F3A9C0B7D2E", "op-000000000000", "xx-1f3a9c0b7d2e", "op-1f3a9c0b7d2\n"] {
            assert_eq!(OpId::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(OpId::from_bits(0), None);
        assert_eq!(OpId::from_bits(1 << 48), None);
        assert_eq!(OpId::from_random([0; 6]).bits(), 1);
    }
}
