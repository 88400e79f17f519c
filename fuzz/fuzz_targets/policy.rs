//! Any policy, and any command asked of it: what is no policy is refused with a sentence. What a policy allows, its rules allow in
//! so many words; what is denied by name is denied by every path; a rule for nobody changes nothing.
#![no_main]

use bkt::document;
use bkt::policy::pattern;
use bkt::policy::rules::{Asked, Judgement, Policy};
use bkt_fuzz::{Input, seed};
use libfuzzer_sys::fuzz_target;

/// An input is five texts, each after its length in one byte, and the rest is the policy.
fn whole(asked: [&str; 5], policy: &str) -> Vec<u8> {
    let texts = asked.iter().flat_map(|text| [&[text.len() as u8][..], text.as_bytes()].concat());
    texts.chain(policy.bytes()).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let policy = |words: &str| format!(r#"{{"listeners": {{"host": {words}}}}}"#);
    let rules = r#"{"host_exec": {"default": "deny", "rules": [{"allow": "ls", "arguments": ["-l", "a*b", "**"]}, {"deny": "/opt/*"}, {"allow": "p\\*"}]}}"#;
    let dev = r#"{"listeners": {"container:dev": {"host_exec": {"rules": [{"allow": "ls"}]}, "notify": "allow", "enter": ["web"], "users": "same"}}}"#;
    vec![
        whole(["ls", "-l", "", "/bin/ls", "/usr/bin/ls"], dev),
        whole(["ls", "-l", "axb", "/bin/ls", "/usr/bin/ls"], &policy(rules)),
        whole(["/opt/x", "", "", "/bin/x", "/opt/x"], &policy(r#"{"host_exec": {"default": "allow", "rules": [{"deny": "podman"}]}}"#)),
        whole(["../x", "a", "b", "", ""], &policy(r#"{"notify": "deny", "clipboard": "allow", "xdg_open": {"default": "allow", "schemes": ["https"]}}"#)),
    ]
}

/// The same, told slowly: each `*` is tried with each length.
fn matches_slowly(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|at| matches_slowly(rest, &text[at..])),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => text.split_first().is_some_and(|(first, after)| first == byte && matches_slowly(rest, after)),
    }
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    let mut input = Input(data);
    let texts: [&[u8]; 5] = std::array::from_fn(|_| {
        let length = usize::from(input.byte());
        input.bytes(length)
    });
    let [name, first, second, found, real] = texts;
    // Few stars, so that the slow way ends.
    if first.iter().filter(|b| **b == b'*').count() < 5 {
        assert_eq!(pattern::matches(first, second), matches_slowly(first, second));
    }
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    let policy: Policy = match document::parse(text) {
        Ok(policy) => policy,
        Err(error) => return assert!(!error.is_empty()),
    };
    let arguments = [first, second];
    let asked = Asked { name, arguments: &arguments, found, real };
    for container in [None, Some("dev"), Some("unnamed, for it has a blank")] {
        let listener = policy.listener(container);
        let judged = listener.judge(asked);
        if listener.allows_every_command() {
            assert_eq!(judged, Judgement::Allowed);
        }
        if listener.allows_no_command() {
            assert_ne!(judged, Judgement::Allowed);
        }
        if judged == Judgement::Allowed && listener.denies_by_default() {
            assert!(listener.allowed().next().is_some(), "allowed, and nothing says so");
            // What the name finds may be it; what lies elsewhere under the same name is not, unless a path is allowed.
            if name.contains(&b'/') && name != found {
                assert!(listener.allowed().any(|words| words.starts_with('/')), "a path of the caller's");
            }
        }
        if let Judgement::Denied(Some(words)) = &judged {
            assert!(!words.chars().any(char::is_control));
        }
        assert_eq!(listener.judge(asked), judged, "the same is judged the same");
        assert!(listener.schemes().split(',').all(|scheme| !scheme.eq_ignore_ascii_case("file")));
    }
    let nobody = policy.listener(Some("unnamed, for it has a blank"));
    assert!(nobody.allows_no_command() && !nobody.allows_notify() && !nobody.allows_clipboard() && !nobody.allows_open() && !nobody.enters(b"dev"));
});
