//! The doctor's patients: a healthy set-up, and one for each fault, made for real. What the doctor names is run as it stands, and
//! mends it.
#![allow(unsafe_code)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{Host, TempDir, complaint, eventually, lives, state, stdout, text};

/// Programs of the machine that the set-ups have in their PATH, and no others: what the machine has besides decides nothing.
const TOOLS: &[&str] = &["sh", "bash", "env", "cat", "chmod", "ln", "rm", "mv", "sed", "sleep", "true", "prlimit", "tail", "touch", "uname"];

/// A user's home with bkt installed in it, shims, and a daemon.
struct Patient {
    host: Host,
}

impl Patient {
    fn new() -> Patient {
        Patient::with(|_, _| {})
    }

    /// `change` is given the home and the command that starts the daemon.
    fn with(change: impl FnOnce(&Path, &mut Command)) -> Patient {
        let host = Host::start_with(|command| {
            let home: PathBuf = command.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap().into();
            install(&home);
            let mut installed = Command::new(home.join(".local/bin/bkt"));
            installed.arg0("bkt-hostd").arg("-vv").env_clear().env("HOME", &home).env("XDG_RUNTIME_DIR", &home).env("PATH", path(&home)).env("USER", "nobody-here");
            installed.env("DISPLAY", ":7").env("BKT_LOG_FORMAT", "json").stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(home.join("log")).unwrap());
            *command = installed;
            change(&home, command);
        });
        Patient { host }
    }

    fn home(&self) -> &Path {
        &self.host.dir.0
    }

    fn shims(&self) -> PathBuf {
        self.home().join(".local/share/bkt/shims")
    }

    /// A command of this user's, on the host.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.home()).env("PATH", path(self.home())).env("USER", "nobody-here").env("DISPLAY", ":7");
        command.env("BKT_SIDE", "host").current_dir(self.home()).stdin(Stdio::null());
        command
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.command("/bin/bash");
        command.args(["-c", script]);
        command
    }

    fn doctor(&self) -> Diagnosis {
        Diagnosis::of(self.shell("bkt doctor --json").output().unwrap())
    }

    /// The one finding, whose mending command is run as it stands, in the shell that then asks again: nothing is left.
    #[track_caller]
    fn has_and_is_mended(&self, check: &str, level: &str, what: &str, mend: &str) {
        self.has_and_is_mended_with("", check, level, what, mend);
    }

    /// The same after some words in each shell.
    #[track_caller]
    fn has_and_is_mended_with(&self, before: &str, check: &str, level: &str, what: &str, mend: &str) {
        let found = Diagnosis::of(self.shell(&format!("{before}\nbkt doctor --json")).output().unwrap());
        let finding = found.only(check, level, what);
        assert!(finding.mend.contains(mend), "{mend:?} is not in {:?}", finding.mend);
        let mut after = None;
        // What is started in the background takes its moment.
        let script = format!(
            "{before}\n{{ {}\n}} >&2\nfor n in 1 2 3 4 5 6 7 8 9; do case $(bkt doctor) in *'all is well') break ;; esac; sleep 0.1; done\nbkt doctor --json",
            finding.mend
        );
        let output = self.shell(&script).output().unwrap();
        let said = text(&output.stderr);
        let healthy = Diagnosis::of(output);
        assert!(healthy.findings.is_empty() && healthy.code == 0, "after {:?}, which said {said:?}: {:#?}", finding.mend, after.insert(healthy.findings));
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        // A daemon that a mending command has started.
        let _ = self.shell("bkt admin daemon stop").output();
        eventually("no daemon is left", || {
            !self.host.socket().exists() || fs::symlink_metadata(self.host.socket()).is_ok_and(|_| bkt::sys::socket::connect(&self.host.socket()).is_err())
        });
    }
}

fn install(home: &Path) {
    for directory in [".local/bin", ".local/share/bkt/shims", "tools", ".config/bkt"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    let bkt = home.join(".local/bin/bkt");
    support::copy_bkt(&bkt);
    symlink("bkt", home.join(".local/bin/bkt-hostd")).unwrap();
    for name in ["systemctl", "podman", "flatpak"] {
        symlink(&bkt, home.join(".local/share/bkt/shims").join(name)).unwrap();
    }
    for tool in TOOLS {
        symlink(real(tool), home.join("tools").join(tool)).unwrap();
    }
}

fn real(tool: &str) -> PathBuf {
    ["/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(tool)).find(|p| p.exists()).unwrap_or_else(|| panic!("{tool} is not installed"))
}

fn path(home: &Path) -> String {
    format!("{0}/.local/bin:{0}/tools", home.display())
}

#[derive(Debug, Clone)]
struct Finding {
    side: String,
    check: String,
    level: String,
    what: String,
    why: String,
    mend: String,
}

struct Diagnosis {
    code: i32,
    findings: Vec<Finding>,
    checks: Vec<String>,
}

impl Diagnosis {
    #[track_caller]
    fn of(output: Output) -> Diagnosis {
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", text(&output.stdout), text(&output.stderr)));
        let (mut findings, mut checks) = (Vec::new(), Vec::new());
        for side in ["container", "host"] {
            for item in json[side]["checks"].as_array().into_iter().flatten() {
                let field = |name: &str| item[name].as_str().unwrap().to_string();
                checks.push(format!("{side} {}", field("check")));
                if field("level") != "ok" {
                    findings.push(Finding { side: side.to_string(), check: field("check"), level: field("level"), what: field("what"), why: field("why"), mend: field("mend") });
                }
            }
        }
        Diagnosis { code: output.status.code().unwrap(), findings, checks }
    }

    #[track_caller]
    fn only(&self, check: &str, level: &str, what: &str) -> Finding {
        assert_eq!(self.findings.len(), 1, "{:#?}", self.findings);
        let finding = self.findings[0].clone();
        assert_eq!((&*finding.check, &*finding.level), (check, level), "{finding:#?}");
        assert!(finding.what.contains(what), "{what:?} is not in {:?}", finding.what);
        assert!(!finding.why.is_empty() && !finding.mend.is_empty() && !finding.side.is_empty(), "{finding:?}");
        assert_eq!(self.code, i32::from(level == "broken"));
        finding
    }
}

// ---- health

#[test]
fn a_healthy_host_has_no_finding_and_every_check_says_what_it_looked_at() {
    let it = Patient::new();
    let found = it.doctor();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    assert_eq!(found.code, 0);
    for check in ["socket", "daemon", "unit", "environment", "path", "shims", "recursion", "policy", "machine", "manifest"] {
        assert!(found.checks.contains(&format!("host {check}")), "{check} in {:?}", found.checks);
    }
    let plain = stdout(it.shell("bkt doctor").output().unwrap());
    assert!(plain.starts_with("bkt 0.") && plain.contains(" on the host\n") && plain.ends_with("all is well\n"), "{plain}");
    assert!(plain.contains(&format!("ok       socket       {}", it.host.socket().display())), "{plain}");
    assert!(plain.contains("3 in "), "the shims are counted: {plain}");
    let before = it.host.log();
    assert!(it.doctor().findings.is_empty());
    assert_eq!(it.host.log(), before, "looking is no operation");
}

// ---- the daemon and its socket

#[test]
fn a_missing_daemon_is_started_by_the_named_command() {
    let it = Patient::new();
    it.host.signal_daemon(libc::SIGTERM);
    eventually("it has ended", || !lives(it.host.pid()));
    it.has_and_is_mended("daemon", "broken", "no daemon is running", "bkt-hostd");
}

#[test]
fn a_daemon_that_died_has_left_a_stale_socket() {
    let it = Patient::new();
    it.host.signal_daemon(libc::SIGKILL);
    eventually("it is dead", || !lives(it.host.pid()));
    it.has_and_is_mended("daemon", "broken", "has died and left", "bkt-hostd");
}

#[test]
fn a_stopped_daemon_is_continued() {
    let it = Patient::new();
    it.host.signal_daemon(libc::SIGSTOP);
    eventually("it is stopped", || state(it.host.pid()) == Some('T'));
    it.has_and_is_mended("daemon", "broken", "has not answered", &format!("kill -CONT {}", it.host.pid()));
}

#[test]
fn loose_modes_are_tightened() {
    let it = Patient::new();
    let modes = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let directory = it.home().join("bkt");
    modes(&directory, 0o755);
    it.has_and_is_mended("socket", "warning", "mode 755, not 700", "chmod 700");
    modes(&it.host.socket(), 0o666);
    it.has_and_is_mended("socket", "warning", "mode 666, not 600", "chmod 600");
    modes(&directory.join("nowhere"), 0o700);
    it.has_and_is_mended("socket", "warning", "mode 700, not 500", "chmod 500");
}

#[test]
fn what_is_no_socket_is_moved_away() {
    let it = Patient::new();
    it.host.signal_daemon(libc::SIGTERM);
    eventually("it has ended", || !lives(it.host.pid()));
    fs::create_dir_all(it.home().join("bkt")).unwrap();
    fs::set_permissions(it.home().join("bkt"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(it.host.socket(), "mine").unwrap();
    let found = it.doctor();
    let [finding, start] = &found.findings[..] else { panic!("{:#?}", found.findings) };
    assert!(finding.what.contains("exists and is no socket") && found.code == 1);
    // The daemon says the same, by the same check.
    let refused = it.shell("bkt-hostd").output().unwrap();
    complaint(&refused, 125, &finding.what);
    assert!(it.shell(&finding.mend).status().unwrap().success());
    assert_eq!(fs::read_to_string(it.home().join("bkt/host.sock.old")).unwrap(), "mine");
    assert!(it.shell(&start.mend).status().unwrap().success());
    eventually("all is well", || it.doctor().findings.is_empty());
}

#[test]
fn a_replaced_binary_is_taken_by_a_reload() {
    let it = Patient::new();
    let bkt = it.home().join(".local/bin/bkt");
    support::copy_bkt(it.home().join("new"));
    fs::rename(it.home().join("new"), &bkt).unwrap();
    it.has_and_is_mended("daemon", "warning", "a file that has been replaced", "bkt admin daemon reload");
    assert!(lives(it.host.pid()), "the same process");
}

#[test]
fn few_descriptors_are_a_warning() {
    let it = Patient::with(|_, command| {
        support::caller::with_limits(command, [(libc::RLIMIT_NOFILE as u32, 64, Some(64))]);
    });
    it.has_and_is_mended("daemon", "warning", "may open 64 descriptors", "prlimit --nofile=4096:4096");
}

// ---- environment

#[test]
fn a_daemon_older_than_the_session_is_started_again() {
    let it = Patient::new();
    it.has_and_is_mended_with("export WAYLAND_DISPLAY=wayland-0 DISPLAY=:8", "environment", "warning", "the session's WAYLAND_DISPLAY DISPLAY", "bkt admin daemon stop");
}

#[test]
fn directories_that_the_daemons_path_lacks_are_named() {
    let it = Patient::new();
    let more = it.home().join("more programs");
    fs::create_dir(&more).unwrap();
    let before = format!("export PATH='{}':\"$PATH\"", more.display());
    it.has_and_is_mended_with(&before, "environment", "warning", "more programs", "bkt-hostd");
}

#[test]
fn a_fallback_that_is_not_understood_is_unset_in_a_container() {
    let it = Patient::new();
    let inside = Inside::new(&it);
    let found = Diagnosis::of(inside.sh("export BKT_FALLBACK=perhaps; bkt doctor --json"));
    let finding = found.only("fallback", "broken", "BKT_FALLBACK=perhaps is not understood");
    let after = Diagnosis::of(inside.sh(&format!("export BKT_FALLBACK=perhaps\n{}\nbkt doctor --json", finding.mend)));
    assert!(after.findings.is_empty(), "{:#?}", after.findings);
}

// ---- names

#[test]
fn a_dangling_shim_is_led_back_by_the_command_and_by_fix() {
    let it = Patient::new();
    let shim = it.shims().join("podman");
    for by_fix in [false, true] {
        fs::remove_file(&shim).unwrap();
        symlink("/nowhere/bkt", &shim).unwrap();
        if by_fix {
            let output = it.shell("bkt doctor --fix").output().unwrap();
            assert!(text(&output.stderr).contains("done: ln -sfn"), "{}", text(&output.stderr));
            assert!(stdout(output).ends_with("all is well\n"));
        } else {
            it.has_and_is_mended("shims", "broken", "leads to /nowhere/bkt, which is not there", "ln -sfn");
        }
        assert_eq!(fs::read_link(&shim).unwrap(), it.home().join(".local/bin/bkt"));
    }
}

#[test]
fn what_is_not_ours_among_the_shims_is_left_to_its_owner() {
    let it = Patient::new();
    symlink("/bin/true", it.shims().join("truth")).unwrap();
    fs::write(it.shims().join("note"), "keep").unwrap();
    support::copy_bkt(it.shims().join("twin"));
    let found = it.doctor();
    let whats: Vec<&str> = found.findings.iter().map(|f| &*f.what).collect();
    for part in ["truth leads to /bin/true, not to bkt", "note is a file, not a link", "twin is a copy of bkt"] {
        assert!(whats.iter().any(|what| what.contains(part)), "{part:?} in {whats:?}");
    }
    assert_eq!((found.findings.len(), found.code), (3, 1));
    let output = it.shell("bkt doctor --fix").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output.stderr).contains("done:"), "nothing of it is done unasked: {}", text(&output.stderr));
    assert!(it.shims().join("truth").is_symlink() && it.shims().join("note").exists() && it.shims().join("twin").exists());
    for finding in &found.findings {
        assert!(it.shell(&finding.mend).status().unwrap().success(), "{}", finding.mend);
    }
    assert!(it.doctor().findings.is_empty());
    assert_eq!(fs::read_to_string(it.home().join("note")).unwrap(), "keep");
}

#[test]
fn shims_in_the_hosts_path_are_taken_out() {
    let it = Patient::new();
    it.has_and_is_mended_with("PATH=$HOME/.local/share/bkt/shims:$PATH", "path", "warning", "is in the host's PATH", "export PATH=");
}

#[test]
fn containers_programs_come_before_the_hosts_own() {
    let it = Patient::new();
    assert!(it.shell("bkt shim add cargo --container dev --source /usr/bin/cargo").status().unwrap().success());
    assert!(it.home().join(".local/bin/distrobox/cargo").is_symlink());
    it.host.signal_daemon(libc::SIGTERM);
    eventually("it has ended", || !lives(it.host.pid()));
    // The daemon of these shells has the same PATH.
    let with = |path: &str| {
        format!("export PATH={path}\nbkt admin daemon status >/dev/null || {{ bkt-hostd </dev/null >/dev/null 2>&1 & while ! bkt admin daemon status >/dev/null; do :; done; }}")
    };
    let right = "$HOME/.local/bin/distrobox:$HOME/.local/bin:$HOME/tools";
    let found = Diagnosis::of(it.shell(&format!("{}\nbkt doctor --json", with(right))).output().unwrap());
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    it.has_and_is_mended_with("PATH=$HOME/.local/bin:$HOME/.local/bin/distrobox:$HOME/tools", "path", "warning", ".local/bin comes before", "distrobox:\"$PATH\"");
    it.has_and_is_mended("path", "warning", "distrobox is not in PATH", "distrobox:\"$PATH\"");
}

#[test]
fn a_copy_of_bkt_in_the_daemons_path_is_a_circle() {
    let it = Patient::new();
    let copy = it.home().join(".local/bin/systemctl");
    support::copy_bkt(&copy);
    it.has_and_is_mended("recursion", "broken", "systemctl is a copy of bkt", "rm ");
    assert!(!copy.exists());
}

#[test]
fn a_name_is_explained() {
    let it = Patient::new();
    fs::create_dir_all(it.home().join("first")).unwrap();
    symlink(it.home().join(".local/bin/bkt"), it.shims().join("uname")).unwrap();
    fs::write(it.home().join("first/uname"), "no program").unwrap();
    let explained = |path: &str, name: &str| {
        let json = stdout(it.shell(&format!("PATH={path} exec $HOME/.local/bin/bkt doctor --json {name}")).output().unwrap());
        serde_json::from_str::<Value>(&json).unwrap()["host"].clone()
    };
    let all = explained("$HOME/first:$HOME/.local/share/bkt/shims:$HOME/tools", "uname");
    let modes: Vec<(&str, bool)> = all["candidates"].as_array().unwrap().iter().map(|c| (c["mode"].as_str().unwrap(), c["wins"].as_bool().unwrap())).collect();
    assert_eq!(modes, [("not executable", false), ("host", true), ("program", false)]);
    let why = all["why"].as_str().unwrap();
    assert!(why.contains("shims/uname wins") && why.contains("passed over") && why.contains(&format!("it becomes {}", it.home().join("tools/uname").display())), "{why}");
    let program = explained("$HOME/tools:$HOME/.local/share/bkt/shims", "uname");
    assert_eq!(program["candidates"][0]["mode"], "program");
    assert!(program["why"].as_str().unwrap().contains("the first in PATH"));
    let ourselves = explained("$HOME/.local/bin", "bkt-hostd");
    assert!(ourselves["candidates"][0]["mode"] == "bkt" && !ourselves["why"].as_str().unwrap().contains("real command"), "{ourselves}");
    assert!(explained("$HOME/tools", "no-such-name")["why"].as_str().unwrap().contains("no directory in PATH has"));
    let plain = stdout(it.shell("PATH=$HOME/.local/share/bkt/shims:$PATH; bkt doctor uname").output().unwrap());
    assert!(plain.contains("> host ") && plain.contains("through the daemon"), "{plain}");
}

// ---- documents

#[test]
fn a_wrong_policy_is_opened_at_its_line() {
    let it = Patient::new();
    let policy = it.home().join(".config/bkt/policy.json");
    let editor = it.home().join("editor");
    fs::write(&editor, "#!/bin/sh\n[ \"$1\" = +2 ] && sed -i s/hots/host/ \"$2\"\nbkt admin daemon reload\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&policy, "{\"listeners\":\n{\"hots\": {}}}").unwrap();
    it.has_and_is_mended_with("export EDITOR=$HOME/editor", "policy", "broken", "policy.json:2:7: unknown field `hots`", "+2 ");
}

#[test]
fn a_wrong_manifest_is_opened_at_its_line_and_a_link_that_it_asks_for_is_made() {
    let it = Patient::new();
    let manifest = it.home().join(".config/bkt/shims.json");
    let editor = it.home().join("editor");
    fs::write(&editor, "#!/bin/sh\nsed -i s/hots/host/ \"$2\"\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&manifest, "{\"shims\": [\n  {\"name\": \"podman\", \"hots\": true}\n]}").unwrap();
    it.has_and_is_mended_with("export EDITOR=$HOME/editor", "manifest", "broken", "shims.json:2:", "+2 ");
    fs::remove_file(it.shims().join("podman")).unwrap();
    it.has_and_is_mended("manifest", "warning", "shims/podman (host): is not there", "bkt shim sync");
    fs::remove_file(it.shims().join("podman")).unwrap();
    symlink(it.home().join(".local/bin/bkt"), it.shims().join("undeclared")).unwrap();
    let found = it.doctor();
    assert!(found.findings.iter().any(|f| f.what.contains("undeclared (host): is not in the manifest") && f.mend.starts_with("bkt shim sync --prune")), "{:#?}", found.findings);
    fs::remove_file(it.shims().join("undeclared")).unwrap();
    let output = it.shell("bkt doctor --fix").output().unwrap();
    assert!(text(&output.stderr).contains("done: bkt shim sync") && it.shims().join("podman").is_symlink(), "{}", text(&output.stderr));
}

#[test]
fn a_policy_that_the_daemon_has_not_read_is_read_by_a_reload() {
    let it = Patient::new();
    let policy = it.home().join(".config/bkt/policy.json");
    fs::write(&policy, "{\"listeners\": {}}").unwrap();
    it.has_and_is_mended("policy", "warning", "is not in force", "bkt admin daemon reload");
    fs::write(&policy, "{\"listeners\": {\"host\": {}}}").unwrap();
    it.has_and_is_mended("policy", "warning", "has been changed", "bkt admin daemon reload");
    fs::remove_file(&policy).unwrap();
    it.has_and_is_mended("policy", "warning", "is gone, and still in force", "bkt admin daemon reload");
}

// ---- the unit, by a service manager of our own that keeps its words in a file

#[test]
fn a_unit_is_enabled_unmasked_restarted_and_installed() {
    let it = Patient::new();
    let manager = it.home().join("tools/systemctl");
    let script = r#"#!/bin/sh
cd "$HOME" && [ "$1" = --user ] || exit 1
case "$2" in
is-enabled) cat enabled ;;
is-active) cat active ;;
enable) echo enabled >enabled ;;
unmask) echo enabled >enabled ;;
restart) echo active >active ;;
show-environment) echo "PATH=$PATH" ;;
*) exit 1 ;;
esac
"#;
    fs::write(&manager, script).unwrap();
    fs::set_permissions(&manager, fs::Permissions::from_mode(0o755)).unwrap();
    let say = |enabled: &str, active: &str| {
        fs::write(it.home().join("enabled"), format!("{enabled}\n")).unwrap();
        fs::write(it.home().join("active"), format!("{active}\n")).unwrap();
    };
    say("enabled", "active");
    assert!(it.doctor().findings.is_empty());
    say("disabled", "active");
    it.has_and_is_mended("unit", "warning", "is not enabled", "systemctl --user enable bkt-hostd.service");
    say("disabled", "active");
    let output = it.shell("bkt doctor --fix").output().unwrap();
    assert!(text(&output.stderr).contains("done: systemctl --user enable"), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(it.home().join("enabled")).unwrap(), "enabled\n");
    say("masked", "active");
    it.has_and_is_mended("unit", "broken", "is masked", "systemctl --user unmask bkt-hostd.service");
    say("enabled", "failed");
    assert_eq!(it.doctor().only("unit", "warning", "was started by hand").mend, "bkt admin daemon stop && bkt admin daemon install");
    say("enabled", "inactive");
    it.doctor().only("unit", "warning", "was started by hand");
    say("not-found", "inactive");
    assert_eq!(it.doctor().only("unit", "warning", "is not installed").mend, "bkt admin daemon install");
}

// ---- a container

/// A container of this user's, with nothing in it but busybox, bkt and shims.
struct Inside<'p> {
    patient: &'p Patient,
    root: TempDir,
}

impl<'p> Inside<'p> {
    fn new(patient: &'p Patient) -> Inside<'p> {
        let root = TempDir::new();
        for directory in ["bin", "shims", "proc", "dev", "tmp", "run/bkt"] {
            fs::create_dir_all(root.0.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.0.join("bin/busybox")).expect("busybox-static is installed by tests/install-dependencies");
        support::copy_bkt(root.0.join("bin/bkt"));
        for name in ["sh", "ls", "uname"] {
            symlink("busybox", root.0.join("bin").join(name)).unwrap();
        }
        for name in ["systemctl", "uname"] {
            symlink("/bin/bkt", root.0.join("shims").join(name)).unwrap();
        }
        fs::write(root.0.join("run/.containerenv"), "").unwrap();
        Inside { patient, root }
    }

    fn sh(&self, script: &str) -> Output {
        self.with(&self.patient.home().join("bkt"), script)
    }

    /// With another directory in the place of the daemon's.
    fn with(&self, shared: &Path, script: &str) -> Output {
        let user = fs::metadata(self.patient.home()).unwrap().uid().to_string();
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--die-with-parent", "--uid", &user, "--gid", &user, "--bind"]).arg(&self.root.0).args(["/", "--bind"]).arg(shared).arg("/run/bkt");
        command.args(["--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp", "/bin/sh", "-c", script]);
        command.env_clear().env("PATH", "/shims:/bin").env("XDG_RUNTIME_DIR", "/run").env("container", "dev").stdin(Stdio::null()).output().unwrap()
    }
}

#[test]
fn a_healthy_container_shows_both_sides_well() {
    let it = Patient::new();
    let inside = Inside::new(&it);
    let found = Diagnosis::of(inside.sh("bkt doctor --json"));
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    assert_eq!(found.code, 0);
    for check in ["container socket", "container path", "container shims", "container fallback", "host unit", "host policy"] {
        assert!(found.checks.contains(&check.to_string()), "{check} in {:?}", found.checks);
    }
    let plain = stdout(inside.sh("bkt doctor"));
    let (container, host) = (plain.find(" in the container\n").unwrap(), plain.find(" on the host\n").unwrap());
    assert!(container < host && plain.matches("all is well\n").count() == 2, "{plain}");
    let name = stdout(inside.sh("bkt doctor uname"));
    assert!(name.contains("uname in the container") && name.contains("/shims/uname wins") && name.contains("uname on the host") && name.contains("tools/uname wins"), "{name}");
}

#[test]
fn a_container_whose_path_hides_the_shims_or_lacks_them_is_mended() {
    let it = Patient::new();
    let inside = Inside::new(&it);
    for (path, what) in [("/bin:/shims", "before the shims of these names in PATH: /bin/uname"), ("/bin", "are no shims in")] {
        let found = Diagnosis::of(inside.sh(&format!("export HOME=/tmp PATH={path}; bkt doctor --json")));
        let finding = found.only("path", "warning", what);
        let after = Diagnosis::of(inside.sh(&format!("export HOME=/tmp PATH={path}\n{{ {}\n}} >&2\nbkt doctor --json", finding.mend)));
        assert!(after.findings.is_empty(), "{:#?}", after.findings);
    }
}

#[test]
fn a_fault_of_either_side_is_seen_from_the_container() {
    let it = Patient::new();
    let inside = Inside::new(&it);
    fs::remove_file(it.shims().join("podman")).unwrap();
    symlink("/nowhere/bkt", it.shims().join("podman")).unwrap();
    let found = Diagnosis::of(inside.sh("bkt doctor --json"));
    assert_eq!(found.only("shims", "broken", "podman").side, "host");
    let output = inside.sh("bkt doctor --fix");
    assert!(text(&output.stderr).contains("done: ln -sfn"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));

    fs::remove_file(inside.root.0.join("shims/systemctl")).unwrap();
    symlink("/nowhere/bkt", inside.root.0.join("shims/systemctl")).unwrap();
    let found = Diagnosis::of(inside.sh("bkt doctor --json"));
    assert_eq!(found.only("shims", "broken", "systemctl").side, "container");
    assert_eq!(inside.sh("bkt doctor").status.code(), Some(1), "in plain words, too");
    assert_eq!(inside.sh("bkt doctor --fix").status.code(), Some(0));
}

#[test]
fn a_container_without_a_daemon_says_what_is_broken_and_that_the_host_could_not_be_asked() {
    let it = Patient::new();
    let inside = Inside::new(&it);
    let empty = TempDir::new();
    fs::set_permissions(&empty.0, fs::Permissions::from_mode(0o700)).unwrap();
    let output = inside.with(&empty.0, "bkt doctor --json");
    assert!(text(&output.stderr).contains("the host's side cannot be looked at"), "{}", text(&output.stderr));
    let found = Diagnosis::of(output);
    let finding = found.only("daemon", "broken", "no daemon is running");
    assert!(finding.mend.contains("on the host"), "{}", finding.mend);
    let unseen = Diagnosis::of(inside.sh("export XDG_RUNTIME_DIR=/run/user/7; bkt doctor --json"));
    assert!(unseen.findings.iter().any(|f| f.what.contains("/run/user/7 of the host is not visible")), "{:#?}", unseen.findings);
}

/// As in a container of docker, which runs as root where nothing else is said (20.10.24). Whoever ran what the doctor says of such a socket
/// on the host would lose the daemon.
#[test]
fn in_a_container_of_another_user_nothing_of_the_daemons_is_to_be_touched() {
    let it = Patient::new();
    fs::set_permissions(it.home(), fs::Permissions::from_mode(0o755)).unwrap();
    let anothers = TempDir::new();
    let stale = anothers.0.join("host.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for path in [&anothers.0, &stale] {
        std::os::unix::fs::chown(path, Some(65_533), None).unwrap();
    }
    for (user, owner, socket) in [(65_534, 0, it.host.socket()), (0, 65_533, stale)] {
        let mut doctor = it.command("/usr/bin/setpriv");
        doctor.args([format!("--reuid={user}"), "--clear-groups".into()]).arg(it.home().join(".local/bin/bkt")).args(["doctor", "--json"]);
        let found = Diagnosis::of(doctor.env("PATH", "/nowhere").env("BKT_SIDE", "container").env("BKT_SOCKET", socket).output().unwrap());
        let mends: Vec<&str> = found.findings.iter().filter(|finding| finding.check != "path").map(|finding| &*finding.mend).collect();
        assert_eq!(mends, [format!("docker exec --user {owner} …   # or podman; --user is an option of run, too")], "{:#?}", found.findings);
        let what = format!("belongs to uid {owner}, and in this container we are uid {user}");
        assert!(found.findings.iter().any(|finding| finding.check == "socket" && finding.what.ends_with(&what)), "{:#?}", found.findings);
    }
}

#[test]
fn a_policy_that_denies_the_doctor_is_no_reason_to_hide_this_side() {
    let it = Patient::with(|home, _| fs::write(home.join(".config/bkt/policy.json"), r#"{"listeners": {"host": {"host_exec": {"default": "deny"}}}}"#).unwrap());
    let output = Inside::new(&it).sh("bkt doctor --json");
    assert!(text(&output.stderr).contains("bkt is denied by the host's policy"), "{}", text(&output.stderr));
    assert!(Diagnosis::of(output).checks.contains(&"container socket".to_string()));
}

#[test]
fn wrong_usage_is_said() {
    let it = Patient::new();
    for args in ["--no-such", "one two", "--code x"] {
        complaint(&it.shell(&format!("bkt doctor {args}")).output().unwrap(), 125, "bkt doctor --help");
    }
    assert!(stdout(it.shell("bkt doctor --help").output().unwrap()).contains("--fix"));
}
