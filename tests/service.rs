//! The daemon as a service, on a host with a real systemd: started at login and at boot, reloaded and stopped by its manager.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use support::realhost::{RealHost, User};
use support::{BKT, eventually, text};

/// A user who has bkt, and nothing else of it.
fn user_with_bkt(host: &RealHost) -> User<'_> {
    let user = host.new_user();
    let bkt = host.bring(Path::new(BKT), "bkt");
    user.ok(&format!("mkdir -p ~/.local/bin && cp {bkt} ~/.local/bin/bkt"));
    user
}

/// The end of a command that waits for a line: its exit status.
fn release(mut command: Child) -> Option<i32> {
    command.stdin.take().unwrap().write_all(b"go\n").unwrap();
    command.wait().unwrap().code()
}

#[test]
fn an_installed_daemon_is_there_after_every_login_and_gone_after_every_logout() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    {
        let _session = user.log_in();
        let said = user.ok("bkt admin daemon install");
        for part in ["write ", "enable ", "running: pid ", "loginctl enable-linger"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(user.ok("systemctl --user is-enabled bkt-hostd; systemctl --user is-active bkt-hostd"), "enabled\nactive\n");
        assert_eq!(user.ok("bkt admin daemon exec -- id -un").trim(), user.name);
        let again = user.ok("bkt admin daemon install");
        assert!(!again.contains("write ") && !again.contains("restart"), "nothing is left to do: {again}");
        user.ok("echo $XDG_RUNTIME_DIR >/tmp/runtime-of-$USER");
    }
    assert_eq!(host.root(&format!("ls /run/user | grep {} || echo gone", user.uid)), "gone\n", "nobody lingers");
    assert_eq!(host.root(&format!("pgrep -c -u {} || true", user.name)), "0\n");
    {
        let _session = user.log_in();
        eventually("it is there again", || user.sh("bkt admin daemon status").status.success());
        assert_eq!(user.ok("BKT_OP_ID=op-0123456789ab bkt admin daemon exec -- echo again"), "again\n");
        eventually("what succeeded is found in the log", || text(&user.sh("bkt log --op op-0123456789ab").stdout).contains("echo: exit status 0"));
        let log = user.ok("bkt log --json --since 1h");
        assert!(log.lines().any(|line| line.starts_with("{\"time\":\"20") && line.contains("\"systemd: Started bkt-hostd.service")), "{log}");
    }
}

#[test]
fn with_lingering_it_is_there_before_the_first_login_after_a_reboot() {
    let mut host = RealHost::boot();
    let name = {
        let user = user_with_bkt(&host);
        host.root(&format!("loginctl enable-linger {}", user.name));
        eventually("the user's manager runs", || user.sh("systemctl --user is-system-running").status.success());
        let said = user.ok("bkt admin daemon install");
        assert!(said.contains("you linger"), "{said}");
        user.name
    };
    host.reboot();
    eventually("the daemon runs, and nobody has logged in", || !host.root(&format!("pgrep -u {name} -f 'bkt bkt-hostd' || true")).is_empty());
    assert_eq!(host.root("loginctl list-sessions --no-legend"), "");
}

#[test]
fn a_command_finds_what_the_login_shell_finds() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("mkdir ~/tools && printf '#!/bin/sh\\necho mine\\n' >~/tools/my-tool && chmod +x ~/tools/my-tool");
    user.ok("printf 'echo Welcome\\nPATH=$PATH:$HOME/tools\\nexport EDITOR=ed\\n' >>~/.profile; bkt admin daemon install");
    assert_eq!(user.ok("env -u EDITOR bkt admin daemon exec -- sh -c 'my-tool; echo $EDITOR'"), "Welcome\nmine\ned\n");
    // A profile that never ends is no reason for not starting.
    user.ok("echo 'sleep 1000' >>~/.profile; systemctl --user restart bkt-hostd");
    user.ok_in("bash", "-c", "~/.local/bin/bkt admin daemon exec -- true");
}

#[test]
fn its_manager_reloads_it_in_place_and_restarts_it_after_a_crash() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install");
    let pid = || user.ok("systemctl --user show -P MainPID bkt-hostd");
    let before = pid();
    let command = user.start("bkt admin daemon exec -- sh -c 'echo $$ >~/started; read line; exit 7'");
    eventually("the command runs", || user.sh("test -s ~/started").status.success());
    user.ok("systemctl --user reload bkt-hostd && systemctl --user is-active bkt-hostd");
    assert_eq!(pid(), before, "the same process");
    assert_eq!(release(command), Some(7));

    user.ok("kill -KILL $(systemctl --user show -P MainPID bkt-hostd)");
    eventually("another one serves", || user.sh("bkt admin daemon exec -- true").status.success() && pid() != before);

    // A file that is no bkt: the reload fails, says so, and the daemon goes on.
    let now = pid();
    user.ok("mkdir ~/kept; cp ~/.local/bin/bkt ~/kept/; cp /bin/true ~/new; mv ~/new ~/.local/bin/bkt");
    assert!(!user.sh("~/kept/bkt admin daemon reload").status.success());
    user.ok("~/kept/bkt admin daemon exec -- true && mv ~/kept/bkt ~/.local/bin/bkt");
    assert_eq!(pid(), now);
}

/// The cgroups below the unit's, but the daemon's own, as paths from there.
const CGROUPS: &str = "cd /sys/fs/cgroup$(systemctl --user show -P ControlGroup bkt-hostd) && find . -mindepth 1 -type d ! -path ./daemon | sort";

#[test]
fn each_command_has_a_cgroup_of_its_own_named_after_its_operation() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install");
    assert!(user.ok("bkt admin daemon status").contains("cgroup:  per command"));
    let own = user.ok("bkt admin daemon exec -- sh -c 'echo $BKT_OP_ID; grep ^0:: /proc/self/cgroup'");
    let (op, cgroup) = own.trim().split_once('\n').unwrap();
    assert!(cgroup.ends_with(&format!("/app.slice/bkt-hostd.service/{op}")), "{own}");
    assert_eq!(user.ok("bkt admin daemon exec --pty -- grep -c bkt-hostd.service/op- /proc/self/cgroup").trim(), "1", "at a terminal, too");
    assert_eq!(user.ok(CGROUPS), "", "and it is gone with the command");

    // What forks and returns lives on, through a reload and other commands; then its cgroup is removed.
    user.ok("bkt admin daemon exec -- sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $! >~/left'");
    user.ok("bkt admin daemon reload; bkt admin daemon exec -- true; kill -0 $(cat ~/left)");
    assert_eq!(user.ok(CGROUPS).lines().count(), 1);
    let shown = user.ok("systemctl --user status bkt-hostd");
    assert!(shown.contains("─op-") && shown.contains("sleep 1000") && shown.contains("─daemon"), "{shown}");
    user.ok("kill $(cat ~/left)");
    eventually("nothing is left of it", || user.ok(&format!("bkt admin daemon exec -- true; {CGROUPS}")).is_empty());
}

#[test]
fn a_unit_that_is_not_delegated_its_cgroup_does_not_divide_it() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install; mkdir -p ~/.config/systemd/user/bkt-hostd.service.d");
    let status = || user.ok("bkt admin daemon exec -- grep ^0:: /proc/self/cgroup; bkt admin daemon status; bkt doctor");
    let is_divided = |status: &str| {
        let divided = status.contains("/bkt-hostd.service/op-");
        assert_eq!(status.contains("cgroup:  per command"), divided, "{status}");
        assert_eq!(status.contains("commands have no cgroups of their own"), !divided, "{status}");
        divided
    };
    assert!(is_divided(&status()));
    let drop_in = "~/.config/systemd/user/bkt-hostd.service.d/override.conf; systemctl --user daemon-reload; systemctl --user restart bkt-hostd";
    user.ok(&format!("printf '[Service]\\nDelegate=no\\n' >{drop_in}"));
    assert!(!is_divided(&status()));
    user.ok("bkt admin daemon reload");
    assert!(!is_divided(&status()), "nor after a reload");
    user.ok(&format!("rm {drop_in}"));
    assert!(is_divided(&status()));
    user.ok("bkt admin daemon reload");
    assert!(is_divided(&status()), "and after a reload");
}

#[test]
fn what_left_its_group_is_ended_with_a_command_whose_caller_is_gone() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install");
    // Twice removed from its command, deaf to everything that can be ignored; and a reload in the middle of its ending.
    user.ok("(bkt admin daemon exec -- sh -c '(setsid sh -c \"trap : HUP TERM; exec >/dev/null 2>&1; echo \\$\\$ >~/escaped; while :; do sleep 1; done\" &); sleep 1000' & \
         until test -s ~/escaped; do sleep 0.1; done; kill -KILL $!); bkt admin daemon reload");
    user.ok("kill -0 $(cat ~/escaped)");
    eventually("it has been ended", || !user.sh("kill -0 $(cat ~/escaped)").status.success());

    // The end of the daemon does the same, within its grace; a command that obeys costs no wait at all.
    let command = user.start("bkt admin daemon exec -- sh -c 'setsid sleep 1001 & sleep 1002'");
    eventually("it runs", || user.sh("pgrep -f 'sleep 1001' && pgrep -f 'sleep 1002'").status.success());
    user.ok("systemctl --user stop bkt-hostd");
    assert!(!user.sh("pgrep -f 'sleep 100[12]'").status.success());
    drop(command);
}

#[test]
fn what_a_command_left_behind_survives_a_crash_of_the_daemon_and_is_not_in_the_way_of_the_next() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install; bkt admin daemon exec -- sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $! >~/left'");
    user.ok("kill -KILL $(systemctl --user show -P MainPID bkt-hostd)");
    eventually("the next one serves", || user.sh("bkt admin daemon status").status.success());
    user.ok("kill -0 $(cat ~/left); bkt admin daemon status | grep 'per command'; systemctl --user restart bkt-hostd; kill -0 $(cat ~/left)");
}

#[test]
fn the_doctor_finds_what_is_wrong_with_the_unit_and_the_first_command_it_names_mends_it() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt --install ~/.local/share/bkt/shims");
    let mends = |before: &str, what: &str, mend: &str| {
        let found = text(&user.sh(&format!("{before} bkt doctor")).stdout);
        assert!(found.contains(what) && found.contains(&format!("mend: {mend}")), "{what}, {mend}: {found}");
        user.ok(&format!("{before} eval \"$(bkt doctor | sed -n 's/^ *mend: //p' | head -n 1)\""));
        let after = user.ok(&format!("{before} bkt doctor"));
        assert!(after.ends_with("all is well\n"), "{after}");
    };
    mends("", "no daemon is running", "bkt admin daemon install");
    user.ok("bkt admin daemon uninstall; systemctl --user mask --quiet bkt-hostd");
    assert!(text(&user.sh("bkt admin daemon install").stderr).contains("is masked: nothing may start it"));
    assert_eq!(text(&user.sh("bkt doctor").stdout).matches("mend: ").count(), 1);
    mends("", "and the unit bkt-hostd.service is masked", "systemctl --user unmask bkt-hostd.service && bkt admin daemon install");
    user.ok("systemctl --user disable --quiet bkt-hostd");
    mends("", "is not enabled", "systemctl --user enable bkt-hostd.service");
    user.ok("systemctl --user stop bkt-hostd");
    mends("", "no daemon is running", "systemctl --user start bkt-hostd");
    // Tried too often, systemd refuses a plain start for a while.
    let until_given_up = "until systemctl --user is-failed --quiet bkt-hostd; do sleep 0.1; done";
    user.ok(&format!("chmod -x ~/.local/bin/bkt; systemctl --user restart bkt-hostd; {until_given_up}; chmod +x ~/.local/bin/bkt"));
    mends("", "has failed", "bkt admin daemon install");
    mends("export DISPLAY=:5;", "the session's DISPLAY", "systemctl --user import-environment DISPLAY && systemctl --user restart bkt-hostd");
    user.ok("cp ~/.local/bin/bkt ~/new && mv ~/new ~/.local/bin/bkt");
    mends("", "a file that has been replaced", "bkt admin daemon reload");
    user.ok("mkdir ~/mine && echo 'PATH=$PATH:$HOME/mine' >>~/.profile");
    mends("export PATH=$PATH:$HOME/mine;", "PATH has not", "systemctl --user restart bkt-hostd");
    assert!(user.ok("bkt status").contains("by a service manager"));

    // The journal has the refusal, under the id that its caller was told.
    user.ok("mkdir -p ~/.config/bkt && echo '{\"listeners\": {\"host\": {\"host_exec\": {\"default\": \"deny\"}}}}' >~/.config/bkt/policy.json && bkt admin daemon reload");
    let refused = text(&user.sh("bkt admin daemon exec -- id").stderr);
    let op = support::op_id_at_end(&refused);
    eventually("the journal has it", || text(&user.sh(&format!("bkt log --op {op}")).stdout).contains("id is denied by the host's policy"));
}

#[test]
fn what_is_in_the_way_is_said_and_left() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    let fails = |script: &str, parts: &[&str]| {
        let output = user.sh(script);
        assert_eq!(output.status.code(), Some(125), "{script}: {}{}", text(&output.stdout), text(&output.stderr));
        parts.iter().for_each(|part| assert!(text(&output.stderr).contains(part), "{part}: {}", text(&output.stderr)));
    };
    let unit = "~/.config/systemd/user/bkt-hostd.service";
    user.ok("systemd-run --user --unit=by-hand --quiet ~/.local/bin/bkt bkt-hostd");
    eventually("a daemon by hand", || user.sh("bkt admin daemon status").status.success());
    fails("bkt admin daemon install", &["by hand", "bkt admin daemon stop", "nothing was changed"]);
    user.ok(&format!("test ! -e {unit} && bkt admin daemon stop"));

    assert!(user.ok("bkt admin daemon install --dry-run").starts_with("would write "));
    user.ok(&format!("test ! -e {unit} && bkt admin daemon install"));
    user.ok(&format!("echo '# mine' >>{unit}"));
    fails("bkt admin daemon install", &["changed by somebody", "systemctl --user edit", "--force"]);
    fails("bkt admin daemon uninstall", &["changed by somebody", "--force"]);
    user.ok(&format!("mkdir {unit}.d && printf '[Service]\\nEnvironment=MINE=yes\\n' >{unit}.d/mine.conf && bkt admin daemon install --force && grep -q mine {unit}.before-bkt"));
    assert_eq!(user.ok("bkt admin daemon exec -- sh -c 'echo $MINE'"), "yes\n", "drop-ins count");

    let said = user.ok("bkt admin daemon uninstall");
    assert!(said.contains("left as they are"), "{said}");
    assert_eq!(user.ok("cd ~/.config/systemd/user; find . -type f -o -type l | sort"), "./bkt-hostd.service.before-bkt\n./bkt-hostd.service.d/mine.conf\n");
    assert_eq!(user.ok("ls $XDG_RUNTIME_DIR/bkt 2>&1 | grep -c . || true"), "1\n", "the socket's directory is gone");
    assert!(user.ok("bkt admin daemon uninstall").contains("nothing to take away"));
}

#[test]
fn an_uninstallation_takes_the_directories_away_that_were_made_for_the_unit_and_no_others() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    let there = || user.ok("find ~ -mindepth 1 -name '.config*' -prune -exec find {} ';' | sort");
    for before in ["rm -rf ~/.config", "mkdir -p ~/.config/systemd", "mkdir -p ~/.config/systemd/user ~/.config/other"] {
        user.ok(before);
        let before = there();
        user.ok("bkt admin daemon install");
        // An older text of ours is replaced, and keeps what it knows.
        user.ok("mkdir ~/elsewhere && cp ~/.local/bin/bkt ~/elsewhere/ && ~/elsewhere/bkt admin daemon install && rm -r ~/elsewhere && bkt admin daemon install");
        user.ok("bkt admin daemon uninstall");
        assert_eq!(there(), before);
    }
    // What somebody has put there meanwhile stays, and where.
    user.ok("rm -rf ~/.config; bkt admin daemon install; touch ~/.config/systemd/mine; bkt admin daemon uninstall");
    assert_eq!(user.ok("cd ~/.config; find . -mindepth 1 | sort"), "./systemd\n./systemd/mine\n");
}

#[test]
fn the_log_has_what_the_daemon_says_and_not_what_others_say_in_its_name() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install; mkdir -p ~/.config/systemd/user/bkt-hostd.service.d");
    // Each lives for long enough for the journal to see where it does.
    let forged = r#"{"time":"2026-01-31T18:30:00.000Z","level":"info","message":"forged by WHOM","op_id":"op-00000000beef"}"#;
    user.ok(&format!("for by in logger systemd-cat; do printf '%s\\n' '{forged}' | sed s/WHOM/$by/ >~/forged-by-$by; done"));
    let forge = || {
        for by in ["logger", "systemd-cat"] {
            user.ok(&format!("bkt admin daemon exec -- sh -c '(cat ~/forged-by-{by}; sleep 0.5) | {by} -t bkt-hostd'"));
        }
        user.ok("printf 'MESSAGE=forged by field\\nUSER_UNIT=bkt-hostd.service\\n' | logger --journald");
    };
    let run = |number: u32| {
        let op = format!("op-0000000000{number:02}");
        user.ok(&format!("BKT_OP_ID={op} bkt admin daemon exec -- true"));
        op
    };
    forge();
    let mut ops = vec![run(10)];
    user.ok("bkt admin daemon reload");
    ops.push(run(11));
    user.ok("systemctl --user restart bkt-hostd");
    ops.push(run(12));
    user.ok("kill -KILL $(systemctl --user show -P MainPID bkt-hostd)");
    eventually("another one serves", || user.sh("bkt admin daemon status").status.success());
    ops.push(run(13));
    // Commands without cgroups of their own, which live where the daemon does.
    user.ok("printf '[Service]\\nDelegate=no\\n' >~/.config/systemd/user/bkt-hostd.service.d/no.conf; systemctl --user daemon-reload; systemctl --user restart bkt-hostd");
    forge();
    ops.push(run(14));
    let journal = || user.ok("journalctl --user --unit=bkt-hostd --quiet --output=cat");
    eventually("the journal has it all, also what is forged", || {
        let journal = journal();
        ops.iter().all(|op| journal.contains(&**op)) && ["logger", "systemd-cat", "field"].iter().all(|by| journal.matches(&format!("forged by {by}")).count() == 2)
    });
    let log = user.ok("bkt log --json");
    assert!(!log.contains("forged"), "{log}");
    let ours: Vec<String> = journal().lines().filter(|line| line.starts_with("{\"time\"") && !line.contains("forged")).map(str::to_string).collect();
    assert_eq!(log.lines().filter(|line| !line.contains("\"level\":\"\"")).collect::<Vec<_>>(), ours, "all that the daemons have said");
    assert_eq!(log.matches("systemd: Started bkt-hostd.service").count(), 4, "{log}");
    for op in ops {
        assert!(user.ok(&format!("bkt log --op {op}")).contains("true: exit status 0"));
    }
    // And it is followed.
    let followed = user.ok("head -n 1 < <(timeout 20 bkt log -f --op op-0000000000aa) & BKT_OP_ID=op-0000000000aa bkt admin daemon exec -- true; wait");
    assert!(followed.contains("true: exit status 0"), "{followed}");
}

#[test]
fn an_uninstallation_through_the_daemon_itself_leaves_nothing() {
    let host = RealHost::shared();
    let user = user_with_bkt(host);
    let _session = user.log_in();
    user.ok("bkt admin daemon install");
    let output = user.sh("BKT_SIDE=container bkt admin daemon exec -- bkt admin daemon uninstall");
    assert!(text(&output.stdout).contains("remove "), "{}", text(&output.stderr));
    eventually("the daemon has ended", || user.sh("systemctl --user is-active bkt-hostd").status.code() != Some(0));
    eventually("nothing of it is left", || user.ok("find ~/.config -name 'bkt-hostd*'; systemctl --user list-unit-files | grep bkt-hostd || true").is_empty());
}

#[test]
fn without_systemd_a_desktop_starts_it_or_it_is_said_what_to_do() {
    let home = support::TempDir::new();
    let bkt = |args: &[&str], desktop: Option<&str>| {
        let mut command = std::process::Command::new(BKT);
        command.arg0_bkt().args(args).env_clear().env("HOME", &home.0).env("XDG_RUNTIME_DIR", &home.0).env("BKT_SIDE", "host").env("PATH", "/usr/bin:/bin");
        command.envs(desktop.map(|name| ("XDG_CURRENT_DESKTOP", name))).stdin(Stdio::null()).output().unwrap()
    };
    assert!(!Path::new("/run/systemd/system").exists(), "this test wants a machine that systemd has not booted");
    let nothing = bkt(&["admin", "daemon", "install"], None);
    assert_eq!(nothing.status.code(), Some(125));
    for part in ["runit", "openrc", "~/.profile"] {
        assert!(text(&nothing.stdout).contains(part), "{part}");
    }
    let entry = home.0.join(".config/autostart/bkt-hostd.desktop");
    assert!(!entry.exists());
    let said = support::stdout(bkt(&["admin", "daemon", "install"], Some("XFCE")));
    assert!(said.contains("start the daemon"), "{said}");
    let line = fs::read_to_string(&entry).unwrap().lines().find(|l| l.starts_with("Exec=")).unwrap().to_string();
    assert_eq!(line, format!("Exec=\"{BKT}\" bkt-hostd -v --log-file"));
    assert!(bkt(&["admin", "daemon", "status"], None).status.success(), "it runs");
    // Its log, of JSON lines, is its owner's alone, and is opened anew by a reload.
    let log = home.0.join(".local/state/bkt/hostd.log");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    fs::rename(&log, home.0.join("rotated")).unwrap();
    support::stdout(bkt(&["admin", "daemon", "reload"], None));
    assert!(log.exists());
    support::stdout(bkt(&["admin", "daemon", "stop"], None));
    let said = support::stdout(bkt(&["admin", "daemon", "uninstall"], Some("XFCE")));
    assert!(said.starts_with("remove ") && !entry.exists(), "{said}");
}

trait AsBkt {
    fn arg0_bkt(&mut self) -> &mut Self;
}

impl AsBkt for std::process::Command {
    fn arg0_bkt(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, "bkt")
    }
}

#[test]
fn one_command_installs_all_of_it_with_its_unit_and_one_takes_all_of_it_away() {
    let host = RealHost::shared();
    let user = host.new_user();
    fs::create_dir(host.share().join("download")).unwrap();
    let bkt = host.bring(Path::new(BKT), "download/bkt");
    let _session = user.log_in();
    let everything = "find ~ -mindepth 1 ! -path '*/.cache*' | sort";
    // A unit of somebody's own, of that name.
    user.ok("mkdir -p ~/.config/systemd/user && printf '[Service]\\nExecStart=/bin/sleep 1000\\n' >~/.config/systemd/user/bkt-hostd.service");
    let before = user.ok(everything);
    let refused = user.sh(&format!("{bkt} admin system install"));
    assert!(!refused.status.success() && text(&refused.stderr).contains("was changed by somebody"), "{}", text(&refused.stderr));
    assert_eq!(user.ok(everything), before);

    let said = user.ok(&format!("{bkt} admin system install --force"));
    assert!(said.contains("installed: version") && said.contains("running: pid "), "{said}");
    assert_eq!(user.ok("systemctl --user is-enabled bkt-hostd; bkt admin daemon exec -- id -un"), format!("enabled\n{}\n", user.name));
    let pid = || user.ok("systemctl --user show -P MainPID bkt-hostd");
    let first = pid();
    // Over a running command: an upgrade ends nothing, and a restart asks first.
    let command = user.start("bkt admin daemon exec -- sh -c 'echo $$ >~/started; read line; exit 7'");
    eventually("the command runs", || user.sh("test -s ~/started").status.success());
    user.ok(&format!("mkdir ~/new && cp {bkt} ~/new/ && printf more >>~/new/bkt && ~/new/bkt admin system install && rm -r ~/new"));
    assert_eq!(pid(), first);
    assert!(text(&user.sh("bkt admin system restart").stderr).contains("a restart ends them"));
    assert_eq!(release(command), Some(7));
    assert!(user.ok("rm ~/started; bkt admin system restart").contains("running: pid ") && pid() != first);
    user.ok("bkt admin system status");

    // Through the daemon that ends with it, as from a container.
    let said = user.sh("bkt admin daemon exec -- bkt admin system uninstall");
    eventually("the daemon has ended", || pid() == "0\n");
    assert_eq!(user.ok(everything), before, "{said:?}");
    assert!(user.ok("cat ~/.config/systemd/user/bkt-hostd.service").contains("sleep 1000"), "{said:?}");
}
