//! The rules of the house, read off its source: six floors, imports only downward, `unsafe` in one room.
//!
//! A file imports only from floors below its own and from files of its own room. Within a room there is a bottom, too: no circle
//! of imports, however long. Floor 0 is one room of words, though its files lie in the open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The floor of each room or file directly below `src`.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["invocation", "exit", "error", "opid", "quoted"]),
    (1, &["sys"]),
    (2, &["checks", "container", "document", "event", "handed", "logging", "paths", "policy", "process", "proto"]),
    (3, &["client", "desktop", "doctor", "guest", "server", "service", "shims"]),
    (4, &["applet"]),
    (5, &["main"]),
];

/// Files that are no floor: the plan itself.
const NO_FLOOR: &[&str] = &["lib.rs"];

fn floor(room: &str) -> u8 {
    let found = FLOORS.iter().find(|(_, rooms)| rooms.contains(&room));
    found.unwrap_or_else(|| panic!("'{room}' has no floor: give it one in tests/house.rs, if the house needs it")).0
}

/// All source files, as paths below `src`, with their text less comments and tests.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut all, mut open) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
                all.insert(name, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(all.len() > 20, "the source was found");
    all
}

/// The text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    body.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Room and file of a path below `src`: `("client", "run")`, `("client", "mod")`, `("event", "event")`.
fn place(name: &str) -> (String, String) {
    let stem = name.strip_suffix(".rs").unwrap();
    match stem.split_once('/') {
        Some((room, file)) => (room.to_string(), file.to_string()),
        None => (stem.to_string(), stem.to_string()),
    }
}

/// The first two parts of every `crate::…` path in the text; a `use` with braces is taken apart.
fn imports(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let room = word(rest);
        if room.is_empty() {
            // use crate::{a, b::c}
            let inside = rest.trim_start().strip_prefix('{').and_then(|r| r.split('}').next()).unwrap_or("");
            found.extend(inside.split(',').map(|part| (word(part.trim()), String::new())).filter(|(room, _)| !room.is_empty()));
            continue;
        }
        let Some(after) = rest[room.len()..].strip_prefix("::") else {
            found.insert((room, String::new()));
            continue;
        };
        match after.strip_prefix('{') {
            Some(group) => found.extend(group.split('}').next().unwrap().split(',').map(|part| (room.clone(), word(part.trim())))),
            None => drop(found.insert((room, word(after)))),
        }
    }
    found
}

#[test]
fn imports_go_only_downward() {
    let mut wrong = Vec::new();
    for (name, text) in files().iter().filter(|(name, _)| !NO_FLOOR.contains(&name.as_str())) {
        let (room, _) = place(name);
        // `entry` is a macro of ours, which the top floor calls.
        for (other, _) in imports(text).into_iter().filter(|(other, _)| *other != room && other != "entry") {
            let words = floor(&other) == 0 && floor(&room) == 0;
            if floor(&other) >= floor(&room) && !words {
                wrong.push(format!("{name} (floor {}) imports {other} (floor {})", floor(&room), floor(&other)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn within_a_room_imports_make_no_circle() {
    let files = files();
    let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, text) in files.iter().filter(|(name, _)| !name.ends_with("mod.rs")) {
        let (room, file) = place(name);
        let path = |(other, what): (String, String)| {
            let inside = format!("{other}/{what}.rs");
            if files.contains_key(&inside) { inside } else { format!("{other}.rs") }
        };
        let of_own_room = |other: &String| files.contains_key(other) && (place(other).0 == room || floor(&place(other).0) == 0 && floor(&room) == 0);
        let own = imports(text).into_iter().map(path).filter(of_own_room).filter(|other| place(other).1 != file);
        left.insert(name, own.collect());
    }
    // Files that import nothing that is left are taken away, until nothing is left; a circle never goes.
    while !left.is_empty() {
        let bottom: Vec<&str> = left.iter().filter(|(_, imports)| imports.iter().all(|i| !left.contains_key(i.as_str()))).map(|(name, _)| *name).collect();
        assert!(!bottom.is_empty(), "a circle among {left:#?}");
        bottom.into_iter().for_each(|name| drop(left.remove(name)));
    }
}

#[test]
fn what_belongs_to_one_room_is_in_no_other() {
    /// A word, the places (rooms, or files) it may stand in, and why nowhere else.
    const RULES: &[(&str, &[&str], &str)] = &[
        ("unsafe ", &["sys/"], "the thin syscall layer is the only unsafe"),
        ("lexopt", &["applet/"], "options are read where names are"),
        ("std::process::exit", &["sys/"], "the process ends once, at the top"),
        ("std::env::var", &[], "the environment is captured in main and handed down"),
        ("std::env::args", &[], "the arguments are captured in main and handed down"),
        ("SystemTime", &["logging.rs"], "only log records have a date"),
        ("Instant::now", &[], "the clock is read in sys and handed down"),
        ("thread::", &[], "no threads"),
        ("thread_local!", &[], "no hidden state"),
        ("static mut", &[], "no mutable globals"),
        ("println!", &["applet/output.rs"], "printing may fail, and must not crash"),
        ("serde_json", &["applet/", "document.rs", "logging.rs"], "JSON is for what people read"),
    ];
    let mut wrong = Vec::new();
    for (name, text) in files() {
        for (word, allowed, why) in RULES {
            if text.contains(word) && !allowed.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name}: '{word}': {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_room_opens_with_a_sign_and_has_a_name_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for name in files().keys() {
        let text = fs::read_to_string(root.join(name)).unwrap();
        assert!(text.starts_with("//! "), "src/{name} has no sign at its door");
        let (room, file) = place(name);
        for bad in ["util", "utils", "common", "manager", "data", "helpers", "misc"] {
            assert!(room != bad && file != bad, "src/{name}: '{bad}' says nothing");
        }
    }
}

#[test]
fn the_plan_and_the_floors_agree() {
    let plan = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: Vec<&str> = plan.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let in_order: Vec<u8> = declared.iter().map(|room| floor(room)).collect();
    assert!(in_order.is_sorted(), "src/lib.rs lists the floors from the ground up: {declared:?}");
    assert!(declared.len() >= 10);
}
