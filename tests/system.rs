//! `bkt admin system`: all of bkt from one executable, the record of it, and the way back.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{BKT, TempDir, other_version, stdout, text};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// Somebody who has downloaded bkt.
struct User {
    dir: TempDir,
}

impl User {
    fn new() -> User {
        let dir = TempDir::new();
        for below in ["home", "run", "downloads"] {
            fs::create_dir(dir.0.join(below)).unwrap();
        }
        support::copy_bkt(dir.0.join("downloads/bkt"));
        User { dir }
    }

    fn home(&self, below: &str) -> PathBuf {
        self.dir.0.join("home").join(below)
    }

    fn downloaded(&self) -> PathBuf {
        self.dir.0.join("downloads/bkt")
    }

    /// At a desktop, which is what starts the daemon where there is no systemd.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.dir.0.join("home")).env("XDG_RUNTIME_DIR", self.dir.0.join("run")).env("PATH", "/usr/bin:/bin").env("USER", "somebody");
        command.env("BKT_SIDE", "host").env("DISPLAY", ":7").stdin(Stdio::null());
        command
    }

    fn system(&self, args: &str) -> Output {
        let mut command = self.command(self.downloaded());
        command.args(["admin", "system"]).args(args.split(' ')).output().unwrap()
    }

    fn make(&self, what: &str) -> Output {
        self.command("make").args(["--no-print-directory", "-C", PROJECT, what, &format!("BKT={BKT}")]).output().unwrap()
    }

    fn status(&self) -> (Option<i32>, Value) {
        let output = self.system("status --json");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Everything in the home, with what it is.
    fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let (mut all, mut open) = (BTreeMap::new(), vec![self.dir.0.join("home")]);
        while let Some(directory) = open.pop() {
            for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                let about = fs::symlink_metadata(&path).unwrap();
                let what = match fs::read_link(&path) {
                    Ok(target) => format!("-> {}", target.display()),
                    Err(_) if about.is_dir() => "directory".into(),
                    Err(_) => format!("{:?} {}", about.modified(), text(&fs::read(&path).unwrap())),
                };
                if about.is_dir() {
                    open.push(path.clone());
                }
                all.insert(path, what);
            }
        }
        all
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.command(BKT).args(["admin", "daemon", "stop"]).output();
    }
}

#[track_caller]
fn refused(output: Output, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
}

#[test]
fn one_command_installs_everything_and_one_makes_it_as_it_was() {
    let user = User::new();
    for directory in [".local/bin", ".local/share/bkt/shims", ".config/bkt"] {
        fs::create_dir_all(user.home(directory)).unwrap();
    }
    fs::write(user.home(".local/bin/mine"), "mine").unwrap();
    symlink("bkt", user.home(".local/bin/bkt-guest")).unwrap();
    symlink("/elsewhere/bkt", user.home(".local/share/bkt/shims/podman")).unwrap();
    fs::write(user.home(".config/bkt/shims.json"), r#"{"shims": [{"name": "docker", "host": "podman"}, {"name": "lsusb", "host": true}]}"#).unwrap();
    let before = user.snapshot();

    let would = stdout(user.system("install --dry-run --no-service"));
    assert!(would.contains(&format!("would make {}", user.home(".local/bin/bkt").display())), "{would}");
    refused(user.system("uninstall"), &["nothing is recorded"]);
    assert_eq!(user.system("status").status.code(), Some(3));
    assert_eq!(user.snapshot(), before);

    let said = stdout(user.system(&format!("install --no-service --files {PROJECT}")));
    assert!(said.contains(&format!("installed: version {}", env!("CARGO_PKG_VERSION"))) && said.contains("is not in your PATH"), "{said}");
    let shim = |name: &str| fs::read_link(user.home(".local/share/bkt/shims").join(name)).unwrap();
    assert_eq!((shim("podman"), shim("systemctl"), shim("lsusb")), (user.home(".local/bin/bkt"), user.home(".local/bin/bkt"), user.home(".local/bin/bkt")));
    assert_eq!(shim("docker"), Path::new(".as/podman"));
    let listed = stdout(user.command(user.home(".local/bin/bkt-hostd")).arg("--version").output().unwrap());
    assert_eq!(listed, format!("bkt {}\n", env!("CARGO_PKG_VERSION")));
    // Every text that comes with the sources has come.
    let installed = user.snapshot();
    for file in ["man", "completions"].iter().flat_map(|directory| fs::read_dir(format!("{PROJECT}/{directory}")).unwrap()) {
        let content = fs::read(file.unwrap().path()).unwrap();
        assert!(installed.keys().any(|path| path.is_file() && fs::read(path).unwrap() == content));
    }

    let again = stdout(user.system(&format!("install --no-service --files {PROJECT}")));
    assert!(again.contains("0 of "), "{again}");
    let (code, status) = user.status();
    assert_eq!((code, &status["drift"], &status["installed"]["user"]), (Some(0), &Value::Array(vec![]), &"somebody".into()));
    assert_eq!(status["installed"]["source"], user.downloaded().to_str().unwrap());

    // Declared since: the links go, the declaration stays.
    let manifest = user.home(".config/bkt/shims.json");
    for args in [&["add", "ip", "--host"][..], &["add", "dnf", "--host", "rpm-ostree"]] {
        stdout(user.command(user.home(".local/bin/bkt")).arg("shim").args(args).output().unwrap());
    }
    assert_eq!(shim("dnf"), Path::new(".as/rpm-ostree"));
    let would = stdout(user.system("uninstall --dry-run"));
    assert!(would.contains("shims/ip\n") && would.contains("shims/.as/rpm-ostree\n"), "{would}");
    stdout(user.system("uninstall"));
    let (mut after, mut before) = (user.snapshot(), before);
    assert!(after.remove(&manifest).unwrap().contains("dnf") && before.remove(&manifest).is_some());
    assert_eq!(after, before);
}

#[test]
fn make_and_bkt_install_the_same() {
    let (by_make, by_bkt) = (User::new(), User::new());
    stdout(by_make.make("install"));
    stdout(by_bkt.system(&format!("install --no-service --files {PROJECT}")));
    let files = |user: &User| -> Vec<PathBuf> {
        let home = user.dir.0.join("home");
        let all = user.snapshot().into_iter().filter(|(_, what)| what != "directory");
        all.map(|(path, _)| path.strip_prefix(&home).unwrap().to_path_buf()).filter(|path| !path.ends_with("bkt/installed") && !path.ends_with("install.json")).collect()
    };
    assert_eq!(files(&by_make), files(&by_bkt));
}

#[test]
fn a_file_that_was_downloaded_under_another_name_installs_itself() {
    let user = User::new();
    for name in ["bkt-x86_64-linux-musl", "bkt-0.1.0", "bkt(1)"] {
        let file = user.downloaded().with_file_name(name);
        support::copy_bkt(&file);
        let said = stdout(user.command(&file).args(["admin", "system", "install", "--no-service"]).output().unwrap());
        assert!(said.contains("installed: version"), "{said}");
        assert_eq!(stdout(user.command(user.home(".local/bin/bkt")).arg("--version").output().unwrap()), format!("bkt {}\n", env!("CARGO_PKG_VERSION")));
        stdout(user.command(&file).args(["admin", "system", "uninstall"]).output().unwrap());
    }
    // A link says what it is to be, and the host has no such command.
    let link = user.downloaded().with_file_name("bkt-unknown");
    symlink(user.downloaded(), &link).unwrap();
    let output = user.command(&link).arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).contains("bkt-unknown is a link to bkt") && text(&output.stderr).contains("bkt --list"), "{}", text(&output.stderr));
}

#[test]
fn what_is_not_ours_is_named_replaced_by_force_and_comes_back() {
    let user = User::new();
    fs::create_dir_all(user.home(".local/bin")).unwrap();
    fs::write(user.home(".local/bin/bkt"), "an older one, by hand").unwrap();
    symlink("/opt/other", user.home(".local/bin/bkt-hostd")).unwrap();
    let before = user.snapshot();
    let (bkt, hostd) = (user.home(".local/bin/bkt"), user.home(".local/bin/bkt-hostd"));
    refused(user.system("install --no-service"), &[bkt.to_str().unwrap(), hostd.to_str().unwrap(), "--force"]);
    assert_eq!(user.snapshot(), before);

    // What it would be kept as must be free.
    let aside = user.home(".local/bin/bkt.before-bkt");
    fs::write(&aside, "theirs").unwrap();
    refused(user.system("install --no-service --force"), &["in the way", "nothing was changed"]);
    assert_eq!(fs::read_to_string(&aside).unwrap(), "theirs");
    fs::remove_file(&aside).unwrap();

    stdout(user.system("install --no-service --force"));
    assert_eq!(fs::read(&bkt).unwrap(), fs::read(BKT).unwrap());
    stdout(user.system("install --no-service"));
    stdout(user.system("uninstall"));
    assert_eq!(user.snapshot(), before);

    // A directory is replaced by nobody.
    fs::remove_file(&hostd).unwrap();
    fs::create_dir(&hostd).unwrap();
    refused(user.system("install --no-service --force"), &[hostd.to_str().unwrap()]);
}

#[test]
fn an_interrupted_installation_is_gone_on_with_or_taken_back() {
    let user = User::new();
    fs::create_dir_all(user.home(".local/bin")).unwrap();
    fs::write(user.home(".local/bin/bkt"), "an older one, by hand").unwrap();
    let before = user.snapshot();
    // The record may be written, the executable is too large a file: the kernel ends us in the middle of it.
    let interrupted = || {
        let script = "ulimit -c 0; ulimit -f 100; exec \"$0\" admin system install --no-service --force";
        let output = user.command("bash").args(["-c", script]).arg(user.downloaded()).output().unwrap();
        assert!(!output.status.success() && user.home(".local/state/bkt/install.json").exists(), "{}", text(&output.stderr));
    };
    interrupted();
    assert_eq!(user.status().0, Some(1));
    stdout(user.system("uninstall"));
    assert_eq!(user.snapshot(), before);

    interrupted();
    stdout(user.system("install --no-service"));
    assert_eq!(user.status().0, Some(0));
    // And a removal that got half way.
    let (bkt, hostd) = (user.home(".local/bin/bkt"), user.home(".local/bin/bkt-hostd"));
    fs::rename(user.home(".local/bin/bkt.before-bkt"), &bkt).unwrap();
    fs::remove_file(hostd).unwrap();
    stdout(user.system("uninstall"));
    assert_eq!(user.snapshot(), before);
}

#[test]
fn status_names_what_has_drifted_and_an_installation_mends_it() {
    let user = User::new();
    stdout(user.system(&format!("install --no-service --files {PROJECT}")));
    let (hostd, page) = (user.home(".local/bin/bkt-hostd"), user.home(".local/share/man/man1/bkt.1"));
    fs::remove_file(&hostd).unwrap();
    fs::write(&page, "mine").unwrap();
    other_version(&user.home("newer"));
    fs::rename(user.home("newer"), user.home(".local/bin/bkt")).unwrap();
    let (code, status) = user.status();
    let drift = |path: &Path| status["drift"].as_array().unwrap().iter().find(|drift| drift["path"] == path.to_str().unwrap()).map(|drift| drift["state"].clone());
    assert_eq!((code, drift(&hostd), drift(&page)), (Some(1), Some("missing".into()), Some("changed".into())));
    assert_eq!((&status["file_version"], &status["installed"]["version"]), (&"9.9.9".into(), &env!("CARGO_PKG_VERSION").into()));
    let said = text(&user.system("status").stdout);
    assert!(said.contains("version 9.9.9") && said.contains(&format!("missing: {}", hostd.display())), "{said}");

    refused(user.system(&format!("install --no-service --files {PROJECT}")), &[page.to_str().unwrap()]);
    stdout(user.system(&format!("install --no-service --force --files {PROJECT}")));
    assert_eq!(user.status().0, Some(0));
    // What somebody changed is not taken away.
    fs::write(&page, "mine again").unwrap();
    let output = user.system("uninstall");
    assert!(text(&output.stderr).contains(page.to_str().unwrap()), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&page).unwrap(), "mine again");
    assert_eq!(fs::read_to_string(page.with_extension("1.before-bkt")).unwrap(), "mine");
}

#[test]
fn an_upgrade_reloads_the_daemon_a_restart_asks_first_and_an_uninstall_ends_it() {
    let user = User::new();
    let before_all = user.snapshot();
    let said = stdout(user.system("install"));
    assert!(said.contains("start the daemon"), "{said}");
    let bkt = user.home(".local/bin/bkt");
    let mut command = user.command(&bkt);
    let mut command = command.args(["admin", "daemon", "exec", "--", "sh", "-c", "echo up; read line; exit 7"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(command.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();

    fs::remove_file(user.downloaded()).unwrap();
    other_version(&user.downloaded());
    let said = stdout(user.system("install"));
    assert!(said.contains("installed: version 9.9.9 (before: 0.1.0)") && said.contains("reloaded: ") && said.contains("1 command still running"), "{said}");
    let (code, status) = user.status();
    assert_eq!((code, &status["daemon_version"], &status["installed"]["earlier"]), (Some(0), &"9.9.9".into(), &"0.1.0".into()));

    let pid = || text(&user.command(&bkt).args(["admin", "daemon", "status"]).output().unwrap().stdout).lines().next().map(str::to_string);
    let before = pid();
    refused(user.system("restart"), &["restart ends them", "admin daemon reload", "--force", " sh"]);
    drop(command.stdin.take());
    assert_eq!(command.wait().unwrap().code(), Some(7), "it went on, through the reload too");
    let said = stdout(user.system("restart"));
    assert!(said.contains("no unit has the daemon"), "{said}");
    assert!(pid().is_some_and(|now| now.contains("running, pid")) && pid() != before);

    let said = stdout(user.system("uninstall"));
    assert!(said.contains("the daemon is stopped"), "{said}");
    assert!(!bkt.exists() && !user.home(".config").exists());
    assert!(!user.dir.0.join("run/bkt/host.sock").exists(), "the daemon has ended");
    assert_eq!(user.snapshot(), before_all, "not even its log is left");
    refused(user.system("restart"), &["there is no daemon"]);
}

#[test]
fn what_make_installed_is_taken_over_and_make_leaves_it_alone_then() {
    let user = User::new();
    stdout(user.make("install"));
    let said = stdout(user.system(&format!("install --no-service --files {PROJECT}")));
    assert!(said.contains("(before: make install)"), "{said}");
    assert!(!user.home(".local/share/bkt/installed").exists());
    refused_by_make(user.make("uninstall"), "bkt admin system uninstall");
    // A newer one by make is an upgrade of it.
    let said = stdout(user.make("install"));
    assert!(said.contains("installed: version"), "{said}");
    assert_eq!(user.status().0, Some(0));
    stdout(user.system("uninstall"));
    stdout(user.command("sh").args(["-c", "! [ -e ~/.local/bin ] && ! [ -e ~/.local/share ]"]).output().unwrap());
}

#[track_caller]
fn refused_by_make(output: Output, part: &str) {
    assert!(!output.status.success() && text(&output.stderr).contains(part), "{}", text(&output.stderr));
}
