//! Any environments, merged: each variable stands once, what was set is there, what was unset or is another's is not, and what we
//! add is always there.
#![no_main]

use bkt::opid::OpId;
use bkt::process::environment::{self, Base, DEPTH, OP_ID, Wanted};
use bkt_fuzz::{Input, seed};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

/// Four runs of strings, each after its length in two bytes, and a byte of flags. A NUL is written `,` too: libFuzzer likes text.
fn strings(input: &mut Input<'_>) -> Vec<u8> {
    let length = usize::from(input.number() & 0xfff);
    let mut bytes: Vec<u8> = input.bytes(length).iter().map(|b| if *b == b',' { 0 } else { *b }).collect();
    if bytes.last().is_some_and(|b| *b != 0) {
        bytes.push(0);
    }
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = |flags: u8, parts: [&str; 4]| {
        let parts = parts.iter().flat_map(|p| [&(p.len() as u16).to_le_bytes()[..], p.as_bytes()].concat());
        [flags].into_iter().chain(parts).collect()
    };
    vec![
        whole(0, ["PATH=/bin,HOME=/root,LANG=C", "PATH=/c,TERM=xterm,LD_PRELOAD=x,DISTROBOX_X=1,PWD=/x", "A=1,PATH=/s", "TERM,HOME"]),
        whole(1, ["PATH=/bin,LD_X=1", "A=1,A=2,=,nonsense,BKT_DEPTH=3,BKT_OP_ID=x", "A=3,A=4,PWD=/p", "B"]),
        whole(2, ["PAGER=less,LANG=C", "PAGER=x,LANG=de,LC_ALL=C,BASH_ENV=/x,GNUPGHOME=/x", "A=1", "B"]),
        whole(0, ["XDG_RUNTIME_DIR=/run,container=x", "XDG_RUNTIME_DIR=/c,container=podman,DISPLAY=:0", "", "PWD,BKT_DEPTH"]),
    ]
}

fn name(entry: &[u8]) -> Option<&[u8]> {
    entry.iter().position(|b| *b == b'=').filter(|at| *at > 0).map(|at| &entry[..at])
}

fn names(entries: &[u8]) -> BTreeSet<&[u8]> {
    environment::strings(entries).filter_map(name).collect()
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    let mut input = Input(data);
    let flags = input.byte();
    let (clear, narrow) = (flags & 1 == 1, flags & 2 == 2);
    let [server, callers, set, unset] = std::array::from_fn(|_| strings(&mut input));
    let op = OpId::from_bits(1).expect("one is an id");
    let wanted = Wanted { callers: &callers, set: &set, unset: &unset, clear, narrow };
    let merged = environment::merge(&Base::new(server.clone()), wanted, b"/d", op);

    assert_eq!(merged.last(), Some(&0));
    let all: Vec<&[u8]> = environment::strings(&merged).collect();
    let mut seen = BTreeSet::new();
    for entry in &all {
        let name = name(entry).expect("every entry is a variable");
        assert!(seen.insert(name), "{:?} stands twice", String::from_utf8_lossy(name));
    }
    let (servers, from_caller, chosen) = (names(&server), names(&callers), names(&set));
    let unset: BTreeSet<&[u8]> = environment::strings(&unset).collect();
    let ours = [DEPTH.as_bytes(), OP_ID.as_bytes()];
    for name in &chosen {
        assert!(seen.contains(name), "{:?} was set", String::from_utf8_lossy(name));
    }
    for name in &seen {
        let is_ours = ours.contains(name) || *name == b"PWD";
        assert!(is_ours || chosen.contains(name) || !unset.contains(name), "{:?} was unset", String::from_utf8_lossy(name));
        assert!(is_ours || chosen.contains(name) || !clear && (servers.contains(name) || from_caller.contains(name)));
        // What the dynamic linker obeys is never the caller's.
        if name.starts_with(b"LD_") && !chosen.contains(name) {
            assert!(servers.contains(name));
        }
    }
    // Where commands are denied by default, what a caller has starts nothing.
    for entry in all.iter().filter(|_| narrow) {
        let name = name(entry).expect("every entry is a variable");
        assert!(environment::is_harmless(name) || ours.contains(&name) || name == b"PWD" || chosen.contains(name) || environment::strings(&server).any(|e| e == *entry));
    }
    for name in ours {
        assert!(seen.contains(name));
    }
    assert!(all.contains(&&format!("{OP_ID}={op}").into_bytes()[..]));
    let depth = environment::depth(&merged);
    assert!(depth >= 1 && depth == environment::depth(&callers).saturating_add(1) || environment::depth(&callers) == u32::MAX);
});
