//! A word as every shell reads it back: sh, bash, zsh, the C shell, and fish.

/// Within single quotes, but for a single quote, and a backslash, which fish takes for special there.
pub fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => out.extend(b"'\\''"),
            b'\\' => out.extend(b"'\\\\'"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_stand_outside() {
        assert_eq!(quoted(b"/a b/it's"), br"'/a b/it'\''s'");
        assert_eq!(quoted(br"a\"), br"'a'\\''");
    }
}
