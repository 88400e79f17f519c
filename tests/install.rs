//! `make install` and `make uninstall`, and the manual that they bring.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{BKT, Host, TempDir, eventually, other_version, stdout, text};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// `make WHAT` with the binary under test.
fn make(what: &str, home: &Path, variables: &[&str]) -> Output {
    let mut command = Command::new("make");
    command.args(["--no-print-directory", "-C", PROJECT, what, &format!("BKT={BKT}")]).args(variables);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run")).output().unwrap()
}

/// Everything below a directory, as relative paths.
fn everything(below: &Path) -> BTreeSet<PathBuf> {
    let (mut all, mut open) = (BTreeSet::new(), vec![below.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            all.insert(entry.path().strip_prefix(below).unwrap().to_path_buf());
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    all
}

#[test]
fn uninstall_takes_away_what_install_made_and_nothing_else() {
    let home = TempDir::new();
    fs::create_dir_all(home.0.join(".local/bin")).unwrap();
    fs::create_dir_all(home.0.join(".local/share/bkt/shims")).unwrap();
    fs::write(home.0.join(".local/bin/mine"), "mine").unwrap();
    // A shim that somebody made by hand, of a name that comes with bkt.
    std::os::unix::fs::symlink("/elsewhere/bkt", home.0.join(".local/share/bkt/shims/podman")).unwrap();
    let before = everything(&home.0);
    let docker = home.0.join(".local/share/bkt/shims/docker");
    for _ in 0..2 {
        let said = stdout(make("install", &home.0, &[]));
        assert!(said.contains("admin daemon install") && said.contains("shim init"), "says what comes next: {said}");
        // Declared to be a command of another name, after the first.
        let _ = fs::remove_file(&docker);
        std::os::unix::fs::symlink(".as/podman", &docker).unwrap();
    }
    stdout(make("install", &home.0, &[]));
    assert_eq!(fs::read_link(&docker).unwrap(), Path::new(".as/podman"), "what the user has declared stays");
    let bin = home.0.join(".local/bin");
    let version = Command::new(bin.join("bkt-hostd")).arg("--version").output().unwrap();
    assert_eq!(stdout(version), format!("bkt {}\n", env!("CARGO_PKG_VERSION")));
    let listed = stdout(Command::new(bin.join("bkt")).arg("--list").output().unwrap());
    for (name, shim) in listed.lines().map(|line| (line.split_whitespace().next().unwrap(), line.contains("shim: "))) {
        if !shim && !name.starts_with("bkt") {
            assert!(!home.0.join(".local/bin").join(name).exists(), "{name} would hide the host's own");
            continue;
        }
        let path = home.0.join(if shim { ".local/share/bkt/shims" } else { ".local/bin" }).join(name);
        assert!(fs::symlink_metadata(&path).is_ok(), "{} is in the table and not installed", path.display());
    }
    // Interrupted, it can be done again.
    let broken = TempDir::new();
    fs::write(broken.0.join("rm"), "#!/bin/sh\ncase $* in *bkt-guest) exit 1 ;; esac\nexec /bin/rm \"$@\"\n").unwrap();
    fs::set_permissions(broken.0.join("rm"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", broken.0.display());
    let interrupted = Command::new("make").args(["-C", PROJECT, "uninstall"]).env_clear().env("PATH", path).env("HOME", &home.0).output().unwrap();
    assert!(!interrupted.status.success() && bin.join("bkt-guest").exists() && !bin.join("bkt-hostd").exists());
    stdout(make("uninstall", &home.0, &[]));
    fs::remove_file(&docker).expect("it stays then, too");
    assert_eq!(everything(&home.0), before);
    let again = make("uninstall", &home.0, &[]);
    assert!(!again.status.success() && text(&again.stderr).contains("nothing was installed"), "{}", text(&again.stderr));
}

#[test]
fn a_file_of_somebody_else_is_named_and_nothing_is_changed() {
    let home = TempDir::new();
    let theirs = home.0.join(".local/share/man/man1/bkt.1");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    let before = everything(&home.0);
    let refused = make("install", &home.0, &[]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains(theirs.to_str().unwrap()) && text(&refused.stderr).contains("FORCE=1"), "{}", text(&refused.stderr));
    assert_eq!(everything(&home.0), before);
    stdout(make("install", &home.0, &["FORCE=1"]));
    assert_ne!(fs::read(&theirs).unwrap(), b"theirs");
}

#[test]
fn for_packagers_links_lead_to_the_final_place_and_nothing_outside_is_touched() {
    let (home, dest) = (TempDir::new(), TempDir::new());
    let variables = ["PREFIX=/usr", &format!("DESTDIR={}", dest.0.display())];
    stdout(make("install", &home.0, &variables));
    assert_eq!(fs::read_link(dest.0.join("usr/share/bkt/shims/systemctl")).unwrap(), Path::new("/usr/bin/bkt"));
    assert_eq!(fs::read_link(dest.0.join("usr/bin/bkt-hostd")).unwrap(), Path::new("bkt"));
    for page in ["man1/bkt.1", "man8/bkt-guest.8", "man8/bkt-hostd.8"] {
        assert!(dest.0.join("usr/share/man").join(page).is_file());
    }
    assert!(everything(&home.0).is_empty());
    stdout(make("uninstall", &home.0, &variables));
    assert_eq!(everything(&dest.0), BTreeSet::from([PathBuf::from("usr")]).into_iter().filter(|path| dest.0.join(path).exists()).collect());
}

#[test]
fn an_installation_over_a_running_daemon_reloads_it_and_ends_no_command() {
    let home = TempDir::new();
    stdout(make("install", &home.0, &[]));
    let installed = home.0.join(".local/bin/bkt");
    let host = Host::start_with(|command| {
        let mut fresh = Command::new(&installed);
        std::os::unix::process::CommandExt::arg0(&mut fresh, "bkt-hostd");
        fresh.arg("-v").env_clear().env("PATH", "/usr/bin:/bin").env("XDG_RUNTIME_DIR", home.0.join("run")).env("BKT_SOCKET", socket_of(command));
        let log = fs::File::create(home.0.join("log")).unwrap();
        fresh.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(log);
        *command = fresh;
    });
    let mut command = host.sh("echo $$; read line; exit 7").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(command.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut String::new()).unwrap();

    let newer = home.0.join("newer");
    other_version(&newer);
    let mut install = Command::new("make");
    install.args(["--no-print-directory", "-C", PROJECT, "install", &format!("BKT={}", newer.display())]);
    let said = stdout(install.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home.0).env("BKT_SOCKET", host.socket()).output().unwrap());
    assert!(said.contains(&format!("reloaded: version {} -> 9.9.9, 1 command", env!("CARGO_PKG_VERSION"))), "{said}");
    let status = stdout(host.bkt(["admin", "daemon", "status"]).output().unwrap());
    assert!(status.contains("version 9.9.9") && status.contains("running: 1"), "{status}");
    drop(command.stdin.take());
    assert_eq!(command.wait().unwrap().code(), Some(7));
    eventually("nothing is left", || host.children().is_empty());
}

fn socket_of(command: &Command) -> PathBuf {
    let runtime = command.get_envs().find(|(name, _)| *name == "XDG_RUNTIME_DIR").and_then(|(_, value)| value).unwrap();
    Path::new(runtime).join("bkt/host.sock")
}

#[test]
fn the_manual_has_no_mistake_and_names_every_command_and_option() {
    for page in ["bkt.1", "bkt-guest.8", "bkt-hostd.8"] {
        let path = format!("{PROJECT}/man/{page}");
        let lint = Command::new("mandoc").args(["-Tlint", "-W", "warning", &path]).output().unwrap();
        assert_eq!(text(&lint.stdout), "", "{page}");
        assert!(lint.status.success());
        let man = Command::new("man").args(["--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", &path]).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").output().unwrap();
        assert_eq!(text(&man.stderr), "", "{page}");
    }
    // As plain words: a dash in front of an option is markup.
    let words = |page: &str| {
        let source = fs::read_to_string(format!("{PROJECT}/man/{page}")).unwrap();
        source.replace("Fl -", "--").replace("Fl ", "-").replace(" Ns ", "").replace("Op ", "")
    };
    let helped = |args: &[&str]| stdout(Command::new(BKT).args(args).env("BKT_SIDE", "host").output().unwrap());
    let options = |help: &str| -> Vec<String> {
        let is_option = |word: &&str| word.starts_with("--") && word.len() > 2;
        help.split(|c: char| !(c.is_alphanumeric() || c == '-')).filter(is_option).map(str::to_string).collect()
    };
    for (page, help) in [
        ("bkt.1", helped(&["--help"])),
        ("bkt.1", helped(&["admin", "daemon", "exec", "--help"])),
        ("bkt-hostd.8", helped(&["bkt-hostd", "--help"])),
        ("bkt-guest.8", helped(&["bkt-guest", "--help"])),
    ] {
        let manual = words(page);
        for option in options(&help) {
            assert!(manual.contains(&option), "{option} is not in {page}");
        }
        let commands = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| page == "bkt.1" && line.starts_with("admin "));
        let first_words =
            help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|word| page == "bkt.1" && word.starts_with(|c: char| c.is_ascii_lowercase()));
        for word in first_words {
            assert!(manual.contains(&format!(".It Cm {word}")), "'{word}' is not in {page}");
        }
        for command in commands.map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")) {
            let command = command.split('|').next().unwrap();
            assert!(manual.contains(command), "'{command}' is not in {page}");
        }
    }
}
