//! The shims of a home: manifest and links, each test in a home of its own.

mod support;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{BKT, TempDir, complaint, stdout, text};

struct Home(TempDir);

/// Everything below a directory: path, and kind with content.
type Tree = BTreeMap<PathBuf, String>;

impl Home {
    /// A home with bkt in `~/.local/bin`, as an installation leaves it.
    fn new() -> Home {
        let home = Home(TempDir::new());
        fs::create_dir_all(home.path(".local/bin")).unwrap();
        support::copy_bkt(home.path(".local/bin/bkt"));
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.0.join(below)
    }

    fn bkt(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path(".local/bin/bkt"));
        command.args(args).env_clear().env("HOME", &self.0.0).env("PATH", "/usr/bin:/bin").env("BKT_SIDE", "host").stdin(Stdio::null()).current_dir(&self.0.0);
        command
    }

    fn shim(&self, line: &str) -> Output {
        let args: Vec<&str> = std::iter::once("shim").chain(line.split_whitespace()).collect();
        self.bkt(&args).output().unwrap()
    }

    /// A run that succeeds; its standard output.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        stdout(self.shim(line))
    }

    fn program(&self, below: &str) {
        self.file(below, "#!/bin/sh\n");
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, below: &str, content: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, below: &str, target: impl AsRef<Path>) {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        symlink(target, self.path(below)).unwrap();
    }

    fn manifest(&self, content: &str) {
        self.file(".config/bkt/shims.json", content);
    }

    /// Where a link leads to, with the home as `~`; `-` where there is none.
    fn leads_to(&self, below: &str) -> String {
        match fs::read_link(self.path(below)) {
            Ok(target) => target.display().to_string().replace(self.0.0.to_str().unwrap(), "~"),
            Err(_) => "-".into(),
        }
    }

    fn tree(&self) -> Tree {
        let (mut all, mut open) = (Tree::new(), vec![self.0.0.clone()]);
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let (path, about) = (entry.path(), entry.metadata().unwrap());
                let what = if about.is_symlink() {
                    format!("link {} {}", fs::read_link(&path).unwrap().display(), about.ino())
                } else if about.is_dir() {
                    open.push(path.clone());
                    "directory".into()
                } else {
                    format!("file {} {:?} {}", about.len(), about.modified().unwrap(), about.ino())
                };
                all.insert(path, what);
            }
        }
        all
    }
}

const FIRST: &str = r#"{
  "shims": [
    { "name": "cargo", "source": "~/.cargo/bin/cargo" },
    { "name": "rg", "source": "~/.cargo/bin/rg" },
    { "name": "node", "source": "~/.proto/shims/node" },
    { "name": "locald", "source": "~/.cargo/bin/locald", "host_only": true }
  ]
}
"#;

const FIRST_LIST: &str = "\
NAME      SOURCE                    MODE
cargo     ~/.cargo/bin/cargo        distrobox
rg        ~/.cargo/bin/rg           distrobox
node      ~/.proto/shims/node       distrobox
locald    ~/.cargo/bin/locald       host-only
";

fn with_programs() -> Home {
    let home = Home::new();
    for program in [".cargo/bin/cargo", ".cargo/bin/rg", ".proto/shims/node", ".cargo/bin/locald"] {
        home.program(program);
    }
    home
}

#[test]
fn a_manifest_of_the_first_form_is_listed_and_its_links_are_made() {
    let home = with_programs();
    home.manifest(FIRST);
    assert_eq!(home.ok("list"), FIRST_LIST);
    home.ok("sync");
    for name in ["cargo", "rg", "node"] {
        assert_eq!(home.leads_to(&format!(".local/bin/distrobox/{name}")), "~/.local/bin/bkt");
    }
    assert_eq!(home.leads_to(".local/bin/locald"), "~/.cargo/bin/locald");
    assert!(home.ok("check").ends_with("4 shims, as declared\n"));
    assert_eq!(fs::read_to_string(home.path(".config/bkt/shims.json")).unwrap(), FIRST, "sync writes links, not the manifest");
}

#[test]
fn the_short_forms_find_their_sources() {
    let home = with_programs();
    for line in ["add cargo", "add rg", "add node", "add locald --host-only"] {
        home.ok(line);
    }
    assert_eq!(home.ok("list"), FIRST_LIST);
    // Version managers' shims come before programs, a home before the system; a shim of ours is no source.
    home.program(".proto/bin/node");
    home.program(".asdf/shims/cat");
    home.ok("add node");
    home.ok("add cat --container dev");
    home.ok("add sh --container dev");
    let listed = home.ok("list");
    for row in ["node      ~/.proto/shims/node ", "cat       ~/.asdf/shims/cat ", "sh        /usr/bin/sh "] {
        assert!(listed.contains(row), "{row}\n{listed}");
    }
    let output = home.bkt(&["shim", "add", "cargo2"]).output().unwrap();
    complaint(&output, 125, "no program cargo2 was found");
    home.program("elsewhere/bin/moved");
    stdout(home.bkt(&["shim", "add", "moved", "--host-only"]).env("CARGO_HOME", home.path("elsewhere")).output().unwrap());
    assert_eq!(home.leads_to(".local/bin/moved"), "~/elsewhere/bin/moved");
}

#[test]
fn in_a_container_its_name_is_taken_unless_the_manifest_says_it_for_all() {
    let home = with_programs();
    let add = |name: &str| stdout(home.bkt(&["shim", "add", name]).env("BKT_SIDE", "container").env("CONTAINER_ID", "dev").output().unwrap());
    add("cargo");
    assert!(home.ok("list --json").contains("\"container\": \"dev\""));
    home.manifest(r#"{"container": "dev"}"#);
    add("cargo");
    assert_eq!(fs::read_to_string(home.path(".config/bkt/shims.json")).unwrap().matches("\"dev\"").count(), 1);
    home.ok("add rg --container dev");
    assert_eq!(fs::read_to_string(home.path(".config/bkt/shims.json")).unwrap().matches("\"dev\"").count(), 1);
    assert!(home.ok("list --json").matches("\"container\": \"dev\"").count() == 2, "what is said for all holds for each");
}

#[test]
fn host_shims_are_links_to_bkt_and_one_of_another_name_says_which() {
    let home = Home::new();
    home.ok("add bootc --host");
    home.ok("add docker --host podman");
    home.ok("add --host flatpak");
    home.ok("add podman --host=podman");
    let at = |name: &str| home.leads_to(&format!(".local/share/bkt/shims/{name}"));
    assert_eq!(
        [at("bootc"), at("docker"), at(".as/podman"), at("flatpak"), at("podman")],
        ["~/.local/bin/bkt", ".as/podman", "~/.local/bin/bkt", "~/.local/bin/bkt", "~/.local/bin/bkt"]
    );
    home.ok("add docker --host nerdctl");
    assert_eq!([at("docker"), at(".as/podman"), at(".as/nerdctl")], [".as/nerdctl", "-", "~/.local/bin/bkt"]);
    home.ok("add k --host nerdctl");
    home.ok("remove docker");
    assert_eq!([at("docker"), at("k"), at(".as/nerdctl")], ["-", ".as/nerdctl", "~/.local/bin/bkt"]);
    home.ok("remove k");
    assert_eq!(at(".as/nerdctl"), "-");
    assert!(home.ok("check").ends_with("3 shims, as declared\n"));
}

#[test]
fn what_is_done_twice_is_done_once() {
    let home = with_programs();
    home.manifest(FIRST);
    home.ok("sync");
    home.ok("add docker --host podman");
    home.ok("add only-there --container c --source /opt/only-there");
    let before = home.tree();
    assert!(home.ok("sync").starts_with("nothing to do: 7 links"));
    assert_eq!(home.ok("add docker --host podman"), "docker is there already\n");
    home.ok("add rg");
    let captured = home.shim("capture");
    assert_eq!(text(&captured.stderr), "", "a program that is nowhere here was declared all the same");
    assert_eq!(stdout(captured), "nothing new was found\n");
    assert_eq!(home.tree(), before, "not even an inode has changed");
}

#[test]
fn a_dry_run_says_all_and_writes_nothing() {
    let home = with_programs();
    home.manifest(FIRST);
    home.ok("sync");
    home.link(".local/bin/tool", "../../.cargo/bin/rg");
    home.link(".local/share/bkt/shims/made-by-hand", home.path(".local/bin/bkt"));
    home.manifest(&FIRST.replace("\"cargo\"", "\"cargo2\""));
    let before = home.tree();
    let table = [
        (
            "sync --dry-run --prune",
            vec![
                "would make ~/.local/bin/distrobox/cargo2 -> ~/.local/bin/bkt\n",
                "would remove ~/.local/bin/distrobox/cargo\n",
                "would remove ~/.local/share/bkt/shims/made-by-hand\n",
            ],
        ),
        ("add docker --host podman --dry-run", vec!["would make ~/.local/share/bkt/shims/docker -> .as/podman\n", "would write ~/.config/bkt/shims.json\n"]),
        ("remove rg --dry-run", vec!["would remove ~/.local/bin/distrobox/rg\n", "would write "]),
        ("capture --dry-run", vec!["~/.local/bin/tool: tool host-only ~/.cargo/bin/rg\n", "made-by-hand host made-by-hand\n", "would write "]),
    ];
    for (line, parts) in table {
        let said = home.ok(line);
        parts.iter().for_each(|part| assert!(said.contains(part), "{line}: {part:?}\n{said}"));
        assert_eq!(home.tree(), before, "{line}");
    }
}

#[test]
fn what_is_not_ours_is_never_touched_without_force() {
    let lines =
        [("add x --container c --source /x", ".local/bin/distrobox/x"), ("add x --host", ".local/share/bkt/shims/x"), ("add x --host-only --source /usr/bin/true", ".local/bin/x")];
    type Make = fn(&Home, &str);
    let foreign: [(&str, Make); 4] = [
        ("is a file that is not ours", |home, at| home.file(at, "precious\n")),
        ("is a link to /usr/bin/env, which is not ours", |home, at| home.link(at, "/usr/bin/env")),
        ("is a link to /no/such, which is not ours", |home, at| home.link(at, "/no/such")),
        ("is a directory", |home, at| home.file(&format!("{at}/precious"), "precious\n")),
    ];
    for (line, at) in lines {
        for (what, make) in foreign {
            let home = Home::new();
            make(&home, at);
            let before = home.tree();
            complaint(&home.shim(line), 125, &format!("~/{at} {what}; nothing was changed"));
            let mut after = home.tree();
            after.retain(|path, _| before.contains_key(path) || !path.ends_with(".config") && !path.ends_with(".config/bkt"));
            assert_eq!(after, before, "{line}: {what}");
            let forced = home.shim(&format!("{line} --force"));
            if what == "is a directory" {
                complaint(&forced, 125, "move it away");
                assert!(home.path(at).join("precious").exists());
            } else {
                stdout(forced);
                assert_ne!(home.leads_to(at), "-");
            }
        }
    }
}

#[test]
fn one_file_in_the_way_stops_no_other_link() {
    let home = with_programs();
    home.manifest(FIRST);
    home.file(".local/bin/distrobox/rg", "precious\n");
    let output = home.shim("sync");
    assert_eq!(output.status.code(), Some(125));
    let said = text(&output.stderr);
    assert!(said.contains("~/.local/bin/distrobox/rg is a file that is not ours; move it away, or replace it with --force\n") && said.contains("1 of 4 links"), "{said}");
    assert_eq!(fs::read_to_string(home.path(".local/bin/distrobox/rg")).unwrap(), "precious\n");
    assert_eq!([home.leads_to(".local/bin/distrobox/cargo"), home.leads_to(".local/bin/locald")], ["~/.local/bin/bkt", "~/.cargo/bin/locald"]);
    home.ok("sync --force");
    assert_eq!(home.leads_to(".local/bin/distrobox/rg"), "~/.local/bin/bkt");
}

#[test]
fn a_link_is_replaced_as_a_whole_and_a_linked_directory_is_followed() {
    let home = with_programs();
    home.file("dotfiles/precious", "precious\n");
    home.link(".local/bin/distrobox", home.path("dotfiles"));
    home.link("dotfiles/rg", "precious");
    home.manifest(FIRST);
    assert_eq!(home.shim("sync").status.code(), Some(125));
    home.ok("sync --force");
    assert_eq!(fs::read_to_string(home.path("dotfiles/precious")).unwrap(), "precious\n", "not written through the link");
    assert_eq!([home.leads_to("dotfiles/rg"), home.leads_to("dotfiles/cargo")], ["~/.local/bin/bkt", "~/.local/bin/bkt"]);
    assert!(fs::symlink_metadata(home.path(".local/bin/distrobox")).unwrap().is_symlink());
    // The manifest itself may be kept elsewhere.
    fs::rename(home.path(".config/bkt/shims.json"), home.path("dotfiles/shims.json")).unwrap();
    home.link(".config/bkt/shims.json", home.path("dotfiles/shims.json"));
    home.ok("add bootc --host");
    assert!(fs::symlink_metadata(home.path(".config/bkt/shims.json")).unwrap().is_symlink());
    assert!(fs::read_to_string(home.path("dotfiles/shims.json")).unwrap().contains("bootc"));
}

#[test]
fn remove_and_prune_delete_only_what_we_made() {
    let home = with_programs();
    home.manifest(FIRST);
    home.ok("sync");
    home.file(".local/bin/distrobox/foreign", "#!/bin/sh\n");
    home.link(".local/bin/distrobox/foreign-link", "/usr/bin/env");
    home.link(".local/bin/foreign-tool", home.path(".cargo/bin/rg"));
    home.link(".local/bin/bkt-hostd", "bkt");
    home.link(".local/share/bkt/shims/systemctl", home.path(".local/bin/bkt"));
    home.link(".local/share/bkt/shims/by-hand", home.path(".local/bin/bkt"));
    // Somebody made it lead elsewhere: it is theirs now.
    fs::remove_file(home.path(".local/bin/locald")).unwrap();
    home.link(".local/bin/locald", "/usr/bin/env");
    let foreign: Tree = home
        .tree()
        .into_iter()
        .filter(|(path, _)| ["foreign", "foreign-link", "foreign-tool", "bkt-hostd", "systemctl", "locald", "bkt"].iter().any(|n| path.ends_with(n)))
        .collect();
    let still_there = || home.tree().into_iter().filter(|(path, _)| foreign.contains_key(path)).collect::<Tree>() == foreign;
    let output = home.shim("remove locald");
    assert!(text(&output.stderr).contains("~/.local/bin/locald is not ours and was left alone"), "{}", text(&output.stderr));
    stdout(output);
    assert!(still_there());
    home.ok("remove cargo");
    home.manifest("{}");
    let said = home.shim("sync");
    assert!(text(&said.stderr).contains("links of ours that are not declared: 3"), "{}", text(&said.stderr));
    assert_eq!(home.leads_to(".local/bin/distrobox/rg"), "~/.local/bin/bkt", "only --prune deletes");
    home.ok("sync --prune");
    for gone in ["distrobox/cargo", "distrobox/rg", "distrobox/node", "../share/bkt/shims/by-hand"] {
        assert_eq!(home.leads_to(&format!(".local/bin/{gone}")), "-", "{gone}");
    }
    assert!(still_there(), "{:#?}", home.tree());
    complaint(&home.shim("remove rg"), 125, "there is no shim 'rg'; nothing was changed");
    // A shipped name needs no manifest, and can be removed by name.
    home.ok("remove systemctl");
    assert_eq!(home.leads_to(".local/share/bkt/shims/systemctl"), "-");
}

#[test]
fn a_name_in_two_modes_is_removed_from_the_one_that_is_named() {
    let home = with_programs();
    home.ok("add cargo --container dev");
    home.ok("add cargo --host-only");
    home.ok("remove cargo --mode distrobox");
    assert_eq!([home.leads_to(".local/bin/distrobox/cargo"), home.leads_to(".local/bin/cargo")], ["-", "~/.cargo/bin/cargo"]);
    complaint(&home.shim("remove cargo --mode distrobox"), 125, "there is no shim 'cargo' in mode distrobox");
    home.ok("remove cargo");
    assert_eq!(home.leads_to(".local/bin/cargo"), "-");
}

#[test]
fn an_invalid_manifest_is_an_error_with_its_place_and_nothing_is_changed() {
    let table = [
        ("{\n  \"shims\": [\n    { \"name\": \"a/b\", \"source\": \"/x\" }\n  ]\n}", "~/.config/bkt/shims.json:3:19: the name \"a/b\" contains '/'"),
        ("{\"shims\": [{\"name\": \"x\"}]}", "neither \"source\" nor \"host\"; expected one of them"),
        ("{\"shims\": [", "shims.json:1:11: EOF"),
        ("", "shims.json:1:0: EOF"),
        ("{\"shims\": [{\"name\": \"x\", \"host\": treu}]}", "1:36: expected true, false or null"),
        ("{\"shims\": [], \"colour\": 1}", "unknown field `colour`, expected one of"),
        ("\u{feff}{}", "shims.json:1:1: "),
    ];
    for (manifest, part) in table {
        let home = with_programs();
        home.manifest(FIRST);
        home.ok("sync");
        home.manifest(manifest);
        let before = home.tree();
        for line in ["list", "list --json", "add bootc --host", "remove cargo", "sync --prune --force", "capture", "check"] {
            complaint(&home.shim(line), 125, part.trim_start_matches("~/.config/bkt/"));
            assert_eq!(home.tree(), before, "{line}");
        }
        let shim = Command::new(home.path(".local/bin/distrobox/cargo")).env_clear().env("HOME", &home.0.0).output().unwrap();
        complaint(&shim, 125, "shims.json:");
    }
}

#[test]
fn names_are_checked_where_they_are_typed_too() {
    let home = Home::new();
    let long = "x".repeat(256);
    for (name, part) in [
        ("a/b", "contains '/'"),
        ("..", "begins with"),
        (".", "begins with"),
        (".hidden", "begins with"),
        ("", "is empty"),
        ("a\nb", "control character"),
        (&long, "longer than 255"),
        ("bkt-hostd", "a name of bkt itself"),
    ] {
        let output = home.bkt(&["shim", "add", "--host", "--", name]).output().unwrap();
        complaint(&output, 125, part);
    }
    complaint(&home.bkt(&["shim", "add", "--", "-x", "--host"]).output().unwrap(), 125, "takes one name");
    complaint(&home.bkt(&["shim", "add", "--host", "--", "-x"]).output().unwrap(), 125, "begins with");
    complaint(&home.shim("add x --host a/b"), 125, "contains '/'");
    complaint(&home.shim("add x --host-only --source bin/x"), 125, "no path of a program");
    complaint(&home.shim("add x --container a/b --source /x"), 125, "no container's name");
    complaint(&home.shim("add x --host --host-only"), 125, "exclude each other");
    assert!(!home.path(".config").exists());
}

#[test]
fn no_moment_is_without_the_link() {
    let home = with_programs();
    home.manifest(FIRST);
    home.ok("sync");
    // Two installations take turns: each sync moves all links.
    fs::create_dir(home.path("other")).unwrap();
    support::copy_bkt(home.path("other/bkt"));
    let (done, at) = (AtomicBool::new(false), home.path(".local/bin/distrobox/rg"));
    let looked = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut targets = BTreeMap::new();
            while !done.load(Ordering::Relaxed) {
                let target = fs::read_link(&at).expect("there is a link at every moment");
                *targets.entry(target).or_insert(0) += 1;
            }
            targets
        });
        for round in 0..60 {
            let mut command = home.bkt(&["shim", "sync"]);
            if round % 2 == 0 {
                fs::rename(home.path(".local/bin/bkt"), home.path(".local/bin/bkt-away")).unwrap();
                command = Command::new(home.path("other/bkt"));
                command.args(["shim", "sync"]).env_clear().env("HOME", &home.0.0).env("PATH", "/usr/bin");
                assert!(stdout(command.output().unwrap()).contains("move ~/.local/bin/distrobox/rg -> ~/other/bkt\n"));
                fs::rename(home.path(".local/bin/bkt-away"), home.path(".local/bin/bkt")).unwrap();
            } else {
                assert!(stdout(command.output().unwrap()).contains("move ~/.local/bin/distrobox/rg -> ~/.local/bin/bkt\n"));
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert_eq!(looked.len(), 2, "{looked:?}");
}

#[test]
fn changes_at_once_lose_nothing() {
    let home = Home::new();
    let all: Vec<_> = (0..12).map(|n| home.bkt(&["shim", "add", &format!("tool-{n}"), "--host"]).stdout(Stdio::null()).spawn().unwrap()).collect();
    all.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    assert!(home.ok("check").ends_with("12 shims, as declared\n"));
}

#[test]
fn a_shipped_name_for_another_command_is_pruned_with_it() {
    let home = Home::new();
    home.link(".local/share/bkt/shims/podman", home.path(".local/bin/bkt"));
    home.ok("add podman --host docker");
    home.manifest("{\"shims\": []}");
    assert_eq!(home.shim("check").status.code(), Some(1));
    home.ok("sync --prune");
    home.ok("check");
    assert_eq!(home.leads_to(".local/share/bkt/shims/podman"), "-");
}

#[test]
fn check_says_what_has_drifted_and_what_mends_it() {
    type Break = fn(&Home);
    let table: [(&str, &str, Break); 9] = [
        ("cargo (distrobox): ~/.local/bin/distrobox/cargo is not there", "bkt shim sync\n", |home| fs::remove_file(home.path(".local/bin/distrobox/cargo")).unwrap()),
        ("rg (distrobox): ~/.local/bin/distrobox/rg leads elsewhere than to ~/.local/bin/bkt", "bkt shim sync\n", |home| {
            fs::remove_file(home.path(".local/bin/distrobox/rg")).unwrap();
            home.link(".local/bin/distrobox/rg", "/opt/old/bkt");
        }),
        ("rg (distrobox): ~/.local/bin/distrobox/rg is a file that is not ours", "bkt shim sync --force\n", |home| {
            fs::remove_file(home.path(".local/bin/distrobox/rg")).unwrap();
            home.file(".local/bin/distrobox/rg", "");
        }),
        ("locald (host-only): ~/.local/bin/locald is a link to /usr/bin/env, which is not ours", "bkt shim sync --force\n", |home| {
            fs::remove_file(home.path(".local/bin/locald")).unwrap();
            home.link(".local/bin/locald", "/usr/bin/env");
        }),
        ("docker (host): ~/.local/share/bkt/shims/.as/podman is not there", "bkt shim sync\n", |home| fs::remove_file(home.path(".local/share/bkt/shims/.as/podman")).unwrap()),
        ("locald (host-only): ~/.cargo/bin/locald is no program", "install it, or: bkt shim add locald --host-only --source PATH\n", |home| {
            fs::remove_file(home.path(".cargo/bin/locald")).unwrap()
        }),
        ("rg (distrobox): ~/.cargo/bin/rg is no program", "install it, or: bkt shim add rg --source PATH\n", |home| {
            fs::set_permissions(home.path(".cargo/bin/rg"), fs::Permissions::from_mode(0o644)).unwrap()
        }),
        ("stray (distrobox): ~/.local/bin/distrobox/stray is not in the manifest", "bkt shim sync --prune", |home| home.link(".local/bin/distrobox/stray", "../bkt")),
        ("systemctl (host): ~/.local/share/bkt/shims/systemctl leads to nothing", "bkt --install ~/.local/share/bkt/shims\n", |home| {
            home.link(".local/share/bkt/shims/systemctl", "/opt/gone/bkt")
        }),
    ];
    for (what, mend, spoil) in table {
        let home = with_programs();
        home.manifest(&FIRST.replacen('{', "{\"container\": \"dev\",", 1));
        home.ok("add docker --host podman");
        home.ok("sync");
        assert_eq!(home.ok("check"), "5 shims, as declared\n");
        spoil(&home);
        let output = home.shim("check");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), format!("{what}\n  mend: {}\n", mend.trim_end()).replace("--prune\n", "--prune, or into the manifest: bkt shim capture\n"));
        let json = home.shim("check --json");
        assert_eq!((json.status.code(), text(&json.stdout).matches("\"drift\": true").count()), (Some(1), 1));
        if mend.starts_with("bkt shim sync") {
            home.ok(mend.trim_start_matches("bkt shim "));
            assert_eq!(home.ok("check"), "5 shims, as declared\n", "{what}");
        }
    }
    let home = with_programs();
    home.manifest(FIRST);
    home.ok("sync");
    let said = home.ok("check");
    assert!(said.starts_with("cargo (distrobox): ~/.local/bin/distrobox/cargo is in no container that is named\n  mend: bkt shim add cargo --container NAME"), "{said}");
}

/// The same examples for the published schema, by another's validator, and for the reader.
#[test]
fn the_schema_and_the_reader_agree() {
    let home = Home::new();
    let long = |n: usize| format!(r#"{{"shims": [{{"name": "{}", "host": true}}]}}"#, "x".repeat(n));
    let (longest, too_long) = (long(255), long(256));
    let shim = |fields: &str| format!("{{\"shims\": [{{{fields}}}]}}");
    let mut examples: Vec<String> = [
        FIRST,
        "{}",
        "[]",
        "{\"shims\": {}}",
        "{\"shims\": null}",
        "{\"container\": \"a b\"}",
        "{\"container\": \"dev-1.x\"}",
        "{\"container\": null}",
        "{\"$schema\": \"x\"}",
        "{\"$schema\": 1}",
        "{\"colour\": 1}",
        &longest,
        &too_long,
    ]
    .map(String::from)
    .to_vec();
    for fields in [
        r#""name": "x", "source": "/x""#,
        r#""name": "x", "source": "~/x", "container": "dev", "host_only": false"#,
        r#""name": "x", "source": "x""#,
        r#""name": "x", "source": "~x""#,
        r#""name": "x", "source": "/""#,
        r#""name": "x", "source": "/x/""#,
        r#""name": "x", "source": "/a\nb""#,
        r#""name": "x""#,
        r#""source": "/x""#,
        r#""name": "", "source": "/x""#,
        r#""name": "a/b", "source": "/x""#,
        r#""name": "-x", "source": "/x""#,
        r#""name": "..", "source": "/x""#,
        r#""name": "a\u0007", "source": "/x""#,
        r#""name": "a\u0085b", "source": "/x""#,
        r#""name": "caf\u00e9 au lait", "source": "/x""#,
        r#""name": "bkt", "source": "/x""#,
        r#""name": "bkt", "source": "/x", "host_only": true"#,
        r#""name": "bkt", "host": true"#,
        r#""name": "bktx", "host": true"#,
        r#""name": "xclip", "host": true"#,
        r#""name": "notify-send", "source": "/x""#,
        r#""name": "xclip", "source": "/x", "host_only": true"#,
        r#""name": "clip", "host": "xclip""#,
        r#""name": "x", "host": "bkt-hostd""#,
        r#""name": "x", "host": true"#,
        r#""name": "x", "host": "y""#,
        r#""name": "x", "host": "a/b""#,
        r#""name": "x", "host": false"#,
        r#""name": "x", "host": null"#,
        r#""name": "x", "host": true, "source": "/x""#,
        r#""name": "x", "host": true, "container": "dev""#,
        r#""name": "x", "host": true, "host_only": true"#,
        r#""name": "x", "source": "/x", "host_only": true, "container": "dev""#,
        r#""name": "x", "source": "/x", "host_only": "yes""#,
        r#""name": "x", "source": "/x", "host_only": null"#,
        r#""name": "x", "source": null, "host": true"#,
        r#""name": "x", "source": "/x", "colour": 1"#,
        r#""name": 1, "source": "/x""#,
    ] {
        examples.push(shim(fields));
    }
    examples.extend([r#"{"shims": [["x", "/x"]]}"#, r#"{"shims": ["x"]}"#, r#"["x", "dev", []]"#].map(String::from));
    let reader: Vec<bool> = examples
        .iter()
        .map(|example| {
            home.manifest(example);
            home.shim("list").status.success()
        })
        .collect();
    fs::write(home.path("schema"), stdout(home.bkt(&["schema", "shims"]).output().unwrap())).unwrap();
    let script = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\njsonschema.Draft7Validator.check_schema(schema)\nv = jsonschema.Draft7Validator(schema)\nfor e in sys.argv[2:]: print(v.is_valid(json.loads(e)))";
    let output = Command::new("python3").args(["-c", script]).arg(home.path("schema")).args(&examples).output().unwrap();
    let schema: Vec<bool> = stdout(output).lines().map(|line| line == "True").collect();
    assert_eq!(schema.len(), examples.len());
    for ((example, schema), reader) in examples.iter().zip(schema).zip(&reader) {
        assert_eq!(schema, *reader, "schema and reader: {example}");
    }
    assert!(reader.iter().filter(|valid| **valid).count() > 8 && reader.iter().filter(|valid| !**valid).count() > 20);
    complaint(&home.bkt(&["schema", "nothing"]).output().unwrap(), 125, "'schema' wants one of these names: policy, shims");
}

/// Wrapper scripts as different versions of `distrobox-export` and of their like write them, and what becomes of them.
#[test]
fn scripts_are_captured_or_left_alone_with_a_reason() {
    let exported = |enter: &str, own: &str| format!("#!/bin/sh\n# distrobox_binary\n# name: dev\nif [ -z \"${{CONTAINER_ID}}\" ]; then\n\t{enter}\nelse\n    {own}\nfi\n");
    let three = |enter: &str, own: &str| {
        exported(
            &format!("{enter}\nelif [ -n \"${{CONTAINER_ID}}\" ] && [ \"${{CONTAINER_ID}}\" != \"dev\" ]; then\n\texec distrobox-host-exec '/home/u/.local/bin/tool' \"$@\""),
            own,
        )
    };
    let taken = "tool distrobox /usr/bin/tool";
    let table = [
        (exported("distrobox-enter --name dev -e /usr/bin/tool  $@", "/usr/bin/tool $@"), taken),
        (exported("distrobox-enter --name dev -- /usr/bin/tool  $@", "/usr/bin/tool $@"), taken),
        (exported("distrobox-enter  -n dev -- \\\n\t\t /usr/bin/tool  \"$@\"", "/usr/bin/tool \"$@\""), taken),
        (exported("exec /usr/bin/distrobox-enter  -n dev -- \\\n\t\t  /usr/bin/tool  \"$@\"", "exec /usr/bin/tool \"$@\""), taken),
        (three("exec \"/usr/bin/distrobox-enter\"  -n dev -- /bin/sh -l -c '/usr/bin/tool  $@' -- \"$@\"", "exec /usr/bin/tool \"$@\""), taken),
        (three("exec \"/usr/bin/distrobox-enter\"  -n dev  --  '/usr/bin/tool'  \"$@\"", "exec '/usr/bin/tool' \"$@\""), taken),
        (three("exec \"distrobox\" enter  -n dev  --  '/usr/bin/tool'  \"$@\"", "exec  '/usr/bin/tool' \"$@\""), taken),
        (three("exec \"/usr/bin/distrobox-enter\" -n dev -- '/opt/a b/tool'  \"$@\"", "exec '/opt/a b/tool' \"$@\""), "tool distrobox /opt/a b/tool"),
        (three("exec \"/usr/bin/distrobox-enter\"  -n dev  --  '/usr/bin/tool' --fast -p \"$@\"", "exec '/usr/bin/tool' \"$@\""), "passes further arguments (--fast -p)"),
        (three("exec \"/usr/bin/distrobox-enter\"  -n dev  -- sudo -S '/usr/bin/tool'  \"$@\"", "exec sudo -S '/usr/bin/tool' \"$@\""), "as root"),
        (three("exec \"/usr/bin/distrobox-enter\"  -n dev  -- sudo '/usr/bin/tool'  \"$@\"", "exec '/usr/bin/tool' \"$@\""), "as root"),
        (three("exec \"/usr/bin/distrobox-enter\" --root -n dev  --  '/usr/bin/tool'  \"$@\"", "exec '/usr/bin/tool' \"$@\""), "container of root's"),
        (three("exec \"/usr/bin/distrobox-enter\"  -n dev --no-workdir --  '/usr/bin/tool'  \"$@\"", "exec '/usr/bin/tool' \"$@\""), "further options"),
        ("#!/bin/sh\n# distrobox_binary\n# name: dev\necho hello\n".into(), "not like one that we know"),
        ("#!/bin/sh\n# distrobox_binary\n# name: a b\n".into(), "no container's name"),
        ("#!/bin/bash\n# Managed by: bkt shim\n\nif [[ -S \"${XDG_RUNTIME_DIR}/bkt/host.sock\" ]]; then\n    exec bkt admin daemon exec -- podman \"$@\"\nelse\n    exec flatpak-spawn --host podman \"$@\"\nfi\n".into(), "tool host podman"),
        ("#!/bin/bash\nexec bkt admin daemon exec -- 'tool' \"$@\"\n".into(), "tool host tool"),
        ("#!/bin/sh\nexec flatpak-spawn --host tool \"$@\"\n".into(), "tool host tool"),
        ("#!/bin/sh\nexec flatpak-spawn --host tool status\n".into(), "does not pass its arguments on"),
        ("#!/bin/sh\nexec flatpak-spawn --host /usr/bin/tool \"$@\"\n".into(), "no plain name"),
        ("#!/bin/sh\nexec ls \"$@\"\n".into(), "nothing new"),
        ("\u{7f}ELF".into(), "nothing new"),
    ];
    for (script, expected) in table {
        for directory in [".local/bin/distrobox", ".local/bin", ".local/toolbox/shims", "elsewhere"] {
            let home = Home::new();
            home.file(&format!("{directory}/tool"), &script);
            let output = home.shim(if directory == "elsewhere" { "capture elsewhere" } else { "capture" });
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(output.status.success() && said.contains(expected), "{script}\n{said}\n{expected}");
            let listed = home.ok("list --json");
            assert_eq!(listed == "[]\n", !expected.starts_with("tool "), "{script}\n{listed}");
            assert_eq!(listed.contains("\"container\": \"dev\""), expected.starts_with("tool distrobox"), "{script}\n{listed}");
            assert_eq!(fs::read_to_string(home.path(&format!("{directory}/tool"))).unwrap(), script, "capture only reads");
        }
    }
}

#[test]
fn a_named_pipe_among_the_scripts_is_waited_for_by_nobody() {
    let home = Home::new();
    home.file(".local/bin/tool", "#!/bin/sh\nexec flatpak-spawn --host tool \"$@\"\n");
    assert!(Command::new("mkfifo").arg(home.path(".local/bin/pipe")).status().unwrap().success());
    let bkt = home.bkt(&[]);
    let mut capture = Command::new("timeout");
    capture.arg("20").arg(bkt.get_program()).args(["shim", "capture"]).env_clear().env("HOME", &home.0.0).env("PATH", "/usr/bin:/bin").env("BKT_SIDE", "host");
    assert!(stdout(capture.output().unwrap()).contains("tool host tool"));
}

#[test]
fn links_into_package_managers_directories_are_captured_and_become_ours() {
    let home = with_programs();
    home.program("Code/locald/target/release/locald2");
    home.link(".local/bin/locald", home.path(".cargo/bin/locald"));
    home.link(".local/bin/node", "../../.proto/shims/node");
    home.link(".local/bin/locald2", home.path("Code/locald/target/release/locald2"));
    home.link(".local/bin/env", "/usr/bin/env");
    home.link(".local/share/bkt/shims/vendor", home.path(".local/bin/bkt"));
    home.link(".local/share/bkt/shims/docker", ".as/podman");
    home.link(".local/share/bkt/shims/.as/podman", home.path(".local/bin/bkt"));
    home.link(".local/share/bkt/shims/systemctl", home.path(".local/bin/bkt"));
    home.link(".local/bin/distrobox/rg", "../bkt");
    let said = home.ok("capture");
    let rows = ["rg distrobox ~/.cargo/bin/rg", "locald host-only ~/.cargo/bin/locald", "node host-only ~/.proto/shims/node", "docker host podman", "vendor host vendor"];
    rows.iter().for_each(|row| assert!(said.contains(row), "{row}\n{said}"));
    let listed = home.ok("list");
    assert!(listed.lines().count() == 7 && listed.contains("systemctl "), "those that come with bkt are listed, too: {listed}");
    // A relative link to the same program is not what we would make: it stays until it is replaced.
    assert_eq!(home.shim("sync").status.code(), Some(125));
    home.ok("sync --force");
    home.ok("remove locald node docker vendor rg");
    assert_eq!([home.leads_to(".local/bin/locald"), home.leads_to(".local/bin/node"), home.leads_to(".local/bin/env")], ["-", "-", "/usr/bin/env"]);
}

/// The real thing, as Debian has it: in a container-like place, as an ordinary user.
#[test]
fn real_scripts_of_distrobox_export_are_captured_and_replaced() {
    let home = Home::new();
    let place = home.0.0.display();
    home.file("containerenv", "engine=\"podman\"\nname=\"dev-box\"\n");
    for (extra, name) in [("", "env"), ("--extra-flags -u", "printenv"), ("--sudo", "id")] {
        let script = format!("distrobox-export --bin /usr/bin/{name} --export-path {place}/.local/bin {extra}");
        let mut command = Command::new("bwrap");
        command
            .args(["--unshare-user", "--uid", "1000", "--gid", "1000", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/run", "--tmpfs", "/tmp"])
            .arg("--bind")
            .arg(&home.0.0)
            .arg(&home.0.0);
        command.arg("--ro-bind").arg(home.path("containerenv")).arg("/run/.containerenv").args(["sh", "-c", &script]);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home.0.0).env("USER", "u").env("CONTAINER_ID", "dev-box").stdin(Stdio::null());
        assert!(stdout(command.output().unwrap()).contains("exported successfully"));
    }
    let output = home.shim("capture");
    let said = text(&output.stdout) + &text(&output.stderr);
    for part in ["~/.local/bin/env: env distrobox /usr/bin/env\n", "~/.local/bin/printenv passes further arguments (-u)", "~/.local/bin/id runs its program as root"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(home.ok("list --json").contains("\"container\": \"dev-box\""));
    home.ok("sync");
    assert_eq!(home.leads_to(".local/bin/distrobox/env"), "~/.local/bin/bkt");
}

#[test]
fn links_lead_to_where_bkt_stays() {
    let home = with_programs();
    // Started by another name of the same file, from a version's directory.
    fs::create_dir_all(home.path("opt/bkt-0.1.0")).unwrap();
    fs::rename(home.path(".local/bin/bkt"), home.path("opt/bkt-0.1.0/bkt")).unwrap();
    home.link(".local/bin/bkt", home.path("opt/bkt-0.1.0/bkt"));
    home.ok("add bootc --host");
    assert_eq!(home.leads_to(".local/share/bkt/shims/bootc"), "~/.local/bin/bkt");
    // Elsewhere in PATH.
    fs::rename(home.path(".local/bin/bkt"), home.path(".cargo/bin/bkt")).unwrap();
    let mut command = Command::new(home.path("opt/bkt-0.1.0/bkt"));
    command.args(["shim", "sync"]).env_clear().env("HOME", &home.0.0).env("PATH", home.path(".cargo/bin"));
    stdout(command.output().unwrap());
    assert_eq!(home.leads_to(".local/share/bkt/shims/bootc"), "~/.cargo/bin/bkt");
}

#[test]
fn without_a_home_there_is_a_sentence() {
    for line in [&["shim", "list"][..], &["shim", "sync"]] {
        let output = Command::new(BKT).args(line).env_clear().output().unwrap();
        complaint(&output, 125, "HOME is not set");
    }
    let home = Home::new();
    let help = |words: &[&str]| stdout(home.bkt(words).output().unwrap());
    assert!(help(&["shim", "--help"]).contains("capture [DIR…]"));
    assert_eq!((help(&["help", "shim"]), help(&["help", "shim", "add"])), (help(&["shim", "--help"]), help(&["shim", "--help"])));
    assert_eq!((help(&["help"]), help(&["help", "ps"])), (help(&["--help"]), help(&["--help"])));
    complaint(&home.bkt(&["shim"]).output().unwrap(), 125, "'shim' wants a command");
    complaint(&home.shim("list --prune"), 125, "shim list: invalid option '--prune'");
}
