//! Anything a stranger may send to the performer: URIs, names of pictures and options of a notification. What passes is no option, no
//! `file:`, no attachment, nothing with a control character in it; what does not pass is told in words.
#![no_main]

use bkt::desktop::notify::Notification;
use bkt::desktop::open;
use bkt_fuzz::seed;
use libfuzzer_sys::fuzz_target;

const SCHEMES: &str = "http,https,mailto,tel";

fn seeds() -> Vec<Vec<u8>> {
    let all = ["https://a/b?c#d", "MAILTO:a@b?%61ttach=/x", "file:///x", "-x", "string:image-path:/x", "VARIANT:image_path:'x'", "INT:value:5", "http://a/%2"];
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    match open::check_uri(data, SCHEMES) {
        Ok(()) => {
            let scheme = open::scheme(data).expect("it has a scheme").to_ascii_lowercase();
            assert!(SCHEMES.split(',').any(|allowed| allowed.as_bytes() == scheme));
            assert!(!data.starts_with(b"-") && !data.iter().any(|b| b.is_ascii_control() || *b == b' '));
            let plain = String::from_utf8_lossy(data).to_lowercase();
            assert!(scheme != b"mailto" || !plain.contains("?attach") && !plain.contains("&attach"));
        }
        Err(error) => assert!(!error.text.is_empty() && !error.text.chars().any(char::is_control)),
    }
    let mut all = Notification::default();
    for name in ["urgency", "expire-time", "replace-id", "hint", "action", "icon", "category", "app-name"] {
        match all.option(name, data, None) {
            Ok(()) => {}
            Err(what) => assert!(what.contains(name)),
        }
    }
    for option in &all.options {
        assert!(option.starts_with(b"--") && option.contains(&b'='));
        let text = String::from_utf8_lossy(option);
        let file = ["image-path", "image_path", "sound-file"].iter().any(|hint| text.split(':').nth(1) == Some(hint) && text.starts_with("--hint="));
        assert!(!file, "a file's name goes through unseen: {text}");
    }
});
