//! Any script beside the shims: what is taken for one is a shim that may be declared, of the script's own program and container;
//! and a plain script of distrobox-export is always taken.
#![no_main]

use bkt::shims::capture::of_script;
use bkt::shims::manifest::{check_container, check_source};
use bkt::shims::place::Places;
use bkt_fuzz::{Input, seed};
use libfuzzer_sys::fuzz_target;

/// What distrobox-export writes, for a container and a program.
fn exported(container: &str, program: &str) -> String {
    format!(
        "#!/bin/sh\n# distrobox_binary\n# name: {container}\nif [ -z \"${{CONTAINER_ID}}\" ]; then\n\texec \"/usr/bin/distrobox-enter\"  -n {container}  --  '{program}'  \"$@\"\n\
         elif [ -n \"${{CONTAINER_ID}}\" ] && [ \"${{CONTAINER_ID}}\" != \"{container}\" ]; then\n\texec distrobox-host-exec '/home/u/.local/bin/x' \"$@\"\nelse\n\texec '{program}' \"$@\"\nfi\n"
    )
}

/// An input is a container and a program, each after its length in one byte, and the text of a script.
fn whole(container: &str, program: &str, script: &str) -> Vec<u8> {
    let names = [container, program].iter().flat_map(|text| [&[text.len() as u8][..], text.as_bytes()].concat()).collect::<Vec<u8>>();
    [&names, script.as_bytes()].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let older = "#!/bin/sh\n# distrobox_binary\n# name: dev\nif [ -z \"${CONTAINER_ID}\" ]; then\n    exec distrobox-enter  -n dev -- /usr/bin/x  \"$@\"\nelse\n    exec /usr/bin/x \"$@\"\nfi\n";
    vec![
        whole("dev", "/usr/bin/htop", &exported("dev", "/usr/bin/htop")),
        whole("a.b-c", "/home/u/.cargo/bin/cargo", older),
        whole("d", "/opt/with blank", "#!/bin/bash\nif true; then\n  exec flatpak-spawn --host podman \"$@\"\nfi\nexec host-spawn podman \"$@\"\n"),
        whole("d", "/x", "#!/bin/sh\nexec bkt admin daemon exec -- systemctl \"$@\"\n"),
    ]
}

fn places() -> Places {
    let home = std::path::PathBuf::from("/home/u");
    let below = |path: &str| home.join(path);
    Places {
        manifest: below(".config/bkt/shims.json"),
        record: below(".local/state/bkt/links.json"),
        host: below(".local/share/bkt/shims"),
        distrobox: below(".local/bin/distrobox"),
        bin: below(".local/bin"),
        own: below(".local/bin/bkt"),
        home,
    }
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    let mut input = Input(data);
    let [container, program] = std::array::from_fn(|_| {
        let length = usize::from(input.byte());
        std::str::from_utf8(input.bytes(length)).unwrap_or_default()
    });
    let places = places();
    if let Some(Ok(shim)) = std::str::from_utf8(input.0).ok().and_then(|script| of_script("name", script, &places)) {
        assert_eq!(shim.check(), Ok(()));
        if let Some(container) = &shim.container {
            assert_eq!(check_container(container), Ok(()));
            assert!(shim.source.as_deref().is_some_and(|source| check_source(source).is_ok()));
        }
    }
    let program_path = std::path::Path::new(program);
    // Quotes are the shell's, and distrobox-export writes none of them; a name in a path that is also a word of the line is odd.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    let last = program.rsplit('/').next().unwrap_or_default();
    if check_container(container).is_ok() && program.starts_with('/') && program.bytes().all(is_plain) && !["", ".", "..", "sudo", "doas", "su-exec"].contains(&last) && program_path != places.home {
        let shim = of_script("name", &exported(container, program), &places).expect("it is one").expect("and can be a shim");
        assert_eq!(shim.container.as_deref(), Some(container));
        assert_eq!(places.expand(shim.source.as_deref().expect("a program")), program_path);
    }
});
