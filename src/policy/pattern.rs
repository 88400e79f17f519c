//! Patterns: `*` stands for any bytes, also none, also slashes; a backslash takes the next byte as it is; all else is itself.
//!
//! A list of patterns stands for a list of arguments, one for one. The last may be `**`: any further arguments, also none.

/// The pattern, last in a list, that stands for all further arguments.
pub const REST: &str = "**";

/// Whether the whole of `text` is what the pattern says. Goes back to the last `*` only, so that no pattern takes more than
/// length times length.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much of the text it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let (wanted, width) = match pattern.get(p..).unwrap_or(&[]) {
            [b'*', ..] => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            [b'\\', byte, ..] => (Some(*byte), 2),
            [byte, ..] => (Some(*byte), 1),
            [] => (None, 0),
        };
        let here = text.get(t).copied();
        if wanted == here {
            if here.is_none() {
                return true;
            }
            (p, t) = (p + width, t + 1);
            continue;
        }
        match &mut star {
            Some((after, from)) if *from < text.len() => {
                *from += 1;
                (p, t) = (*after, *from);
            }
            _ => return false,
        }
    }
}

/// The same for a list of arguments.
pub fn all_match(patterns: &[String], arguments: &[&[u8]]) -> bool {
    let (fixed, open) = match patterns.split_last() {
        Some((last, before)) if last == REST => (before, true),
        _ => (patterns, false),
    };
    let enough = if open { arguments.len() >= fixed.len() } else { arguments.len() == fixed.len() };
    enough && fixed.iter().zip(arguments).all(|(pattern, argument)| matches(pattern.as_bytes(), argument))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_bytes_and_a_backslash_takes_its_meaning_away() {
        for (pattern, yes, no) in [
            ("", vec![""], vec!["a"]),
            ("status", vec!["status"], vec!["statu", "statuss", "Status", ""]),
            ("*", vec!["", "a", "a/b", "\n"], vec![]),
            ("a*", vec!["a", "ab", "a/b"], vec!["", "ba"]),
            ("*.service", vec![".service", "x.service", "x.service.service"], vec!["x.service ", "service"]),
            ("a*b*c", vec!["abc", "axxbxxc", "abbc", "abcbc"], vec!["ab", "acb", "abcd"]),
            ("\\*", vec!["*"], vec!["a", "", "\\*"]),
            ("a\\\\b", vec!["a\\b"], vec!["ab"]),
            ("a\\", vec!["a\\"], vec!["a"]),
        ] {
            for text in yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern:?} is {text:?}");
            }
            for text in no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern:?} is not {text:?}");
            }
        }
        assert!(matches(b"a*", b"a\xff\xfe"), "bytes, not text");
    }

    #[test]
    fn arguments_are_matched_one_for_one_and_two_stars_take_the_rest() {
        let all = |patterns: &[&str], arguments: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            all_match(&patterns, &arguments.iter().map(|a| a.as_bytes()).collect::<Vec<_>>())
        };
        assert!(all(&[], &[]) && !all(&[], &[""]));
        assert!(all(&["--user", "*"], &["--user", "a b"]) && !all(&["--user", "*"], &["--user", "a", "b"]) && !all(&["--user", "*"], &["--user"]));
        assert!(all(&["**"], &[]) && all(&["**"], &["a", "b"]));
        assert!(all(&["status", "**"], &["status"]) && all(&["status", "**"], &["status", "x", "y"]) && !all(&["status", "**"], &["stop", "status"]));
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&b"*a".repeat(2_000), &b"a".repeat(1_999)));
        assert!(matches(&b"*a".repeat(200), &b"a".repeat(20_000)));
    }

    proptest! {
        #[test]
        fn a_text_escaped_is_itself_alone_and_with_a_star_at_the_end_its_beginning(text in proptest::collection::vec(any::<u8>(), 0..20), more in proptest::collection::vec(any::<u8>(), 1..5)) {
            let escaped: Vec<u8> = text.iter().flat_map(|b| [b'\\', *b]).collect();
            let longer = [&text[..], &more].concat();
            prop_assert!(matches(&escaped, &text) && !matches(&escaped, &longer));
            prop_assert!(matches(&[&escaped[..], b"*"].concat(), &longer));
        }
    }
}
