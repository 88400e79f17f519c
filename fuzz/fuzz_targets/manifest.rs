//! Any manifest: what is none is refused with a place and a sentence; what is one is written as it was read, and every link that it
//! declares lies where its kind lies.
#![no_main]

use bkt::document;
use bkt::shims::manifest::{Manifest, check_name};
use bkt_fuzz::seed;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"shims": [{"name": "cargo", "source": "~/.cargo/bin/cargo"}, {"name": "x", "source": "/opt/x", "host_only": true}]}"#,
        r#"{"$schema": "s", "container": "dev", "shims": [{"name": "docker", "host": "podman"}, {"name": "bootc", "host": true}]}"#,
        r#"{"shims": [{"name": "a/b", "source": "x"}, {"name": "-r", "host": false}, {"name": "\u0007", "container": "-", "other": null}]}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fuzz_target!(init: { seed(&seeds()); }, |text: &str| {
    let manifest: Manifest = match document::parse(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let mut words = error.splitn(3, ':');
            let place: Vec<usize> = words.by_ref().take(2).map(|number| number.parse().expect("line and column")).collect();
            return assert!(place.len() == 2 && words.next().is_some_and(|what| !what.trim().is_empty()), "{error}");
        }
    };
    let again: Manifest = document::parse(&document::text(&manifest)).expect("what is written can be read");
    assert_eq!(again, manifest);
    let mut seen = BTreeSet::new();
    for shim in &manifest.shims {
        assert_eq!((check_name(&shim.name), shim.check()), (Ok(()), Ok(())));
        assert!(!shim.name.contains(['/', '\0']) && !shim.name.starts_with('.'));
        assert!(seen.insert((shim.mode().word(), shim.name.clone())), "declared twice: {}", shim.name);
        assert_eq!(manifest.find(&shim.name, shim.mode()), Some(shim));
    }
});
