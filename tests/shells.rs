//! Real bash, zsh and fish in a container: what TAB and `man` do there is what the host's own completions and pages say.
//!
//! The container is a bubblewrap with this machine's programs but a home, completions and pages of its own; it is told what it is by
//! podman's mark. The host has a command `frobnicate` with completions and a page, which the container has not.
#![allow(unsafe_code)]

mod support;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use support::pty::Terminal;
use support::{BKT, Host, TempDir, eventually, kill, number_in, stdout};

/// What a shell is started with, its start-up file in the home directory, and what stands there.
struct Shell {
    name: &'static str,
    args: &'static [&'static str],
    file: &'static str,
    lines: &'static str,
}

const SHELLS: &[Shell] = &[
    Shell {
        name: "bash",
        args: &["bash", "-i"],
        file: ".bashrc",
        lines: "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; bind 'set completion-query-items 0'; HISTFILE=\n\
                eval \"$(~/.local/bin/bkt shim init bash)\"\n. /usr/share/bash-completion/bash_completion\neval \"$(bkt shim init bash)\"\nPS1='READY> '\n",
    },
    Shell {
        name: "zsh",
        args: &["zsh", "-i"],
        file: ".zshrc",
        lines: "unsetopt zle_bracketed_paste prompt_sp; eval \"$(~/.local/bin/bkt shim init zsh)\"\nautoload -Uz compinit; compinit -u -D\nPS1='READY> '\n",
    },
    Shell {
        name: "fish",
        args: &["fish", "-i"],
        file: ".config/fish/config.fish",
        lines: "set fish_greeting; set -g fish_autosuggestion_enabled 0\n~/.local/bin/bkt shim init fish | source\nfunction fish_prompt; echo -n 'READY> '; end\nfunction fish_title; end\n",
    },
];

/// The host's command: says what it was given.
const COMMAND: &str = "#!/bin/sh\nprintf 'got'; printf ' <%s>' \"$@\"; echo '.'\n";

const FOR_BASH: &str = r#"
_frobnicate() {
    case $2 in
    al*) COMPREPLY=(alpha) ;;
    od*) compopt -o filenames; COMPREPLY=('odd "na'\''me $x`&*') ;;
    hang*) echo $$ >"$HOME/hangs"; sleep 1000 ;;
    mo*) compopt -o nospace; COMPREPLY=(more:) ;;
    many*) COMPREPLY=($(seq -f many%0100.0f 20000)) ;;
    esac
    [[ $COMP_LINE != *--level=h* ]] || COMPREPLY=(high)
    echo noise; echo noise >&2
}
complete -F _frobnicate frobnicate later 'odd name'
"#;

/// A host with a tree of its own, and the home directory that its container has.
struct Place {
    host: Host,
    tree: TempDir,
    home: TempDir,
}

fn executable(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn file(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn page(name: &str, what: &str) -> String {
    format!(".TH {name} 1\n.SH NAME\n{name} \\- {what}\n")
}

impl Place {
    fn new() -> Place {
        let (tree, home) = (TempDir::new(), TempDir::new());
        for name in ["frobnicate", "later", "odd name"] {
            executable(&tree.0.join("bin").join(name), COMMAND);
            file(&tree.0.join(".local/share/bash-completion/completions").join(name), FOR_BASH);
        }
        file(&tree.0.join("share/man/man1/frobnicate.1"), &page("frobnicate", "told by the man of the host"));
        let path = format!("{}/bin:{}", tree.0.display(), std::env::var("PATH").unwrap());
        let host = Host::start_with(|command| {
            command.env("PATH", path).env("HOME", &tree.0);
        });
        let place = Place { host, tree, home };
        executable(&place.home.0.join(".local/bin/bkt"), "");
        support::copy_bkt(place.home.0.join(".local/bin/bkt"));
        for name in ["frobnicate", "systemctl", "odd name"] {
            place.add_shim(name);
        }
        place
    }

    fn add_shim(&self, name: &str) {
        let shims = self.home.0.join(".local/share/bkt/shims");
        fs::create_dir_all(&shims).unwrap();
        symlink("../../../bin/bkt", shims.join(name)).unwrap();
    }

    /// A program in the container. `/tmp` is on either side, the completions of this machine on the host's only.
    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev"]);
        for link in ["bin", "sbin", "lib", "lib64"] {
            if let Ok(to) = fs::read_link(Path::new("/").join(link)) {
                command.arg("--symlink").arg(to).arg(Path::new("/").join(link));
            }
        }
        for hidden in ["/usr/share/bash-completion/completions", "/usr/share/fish/completions", "/usr/share/man", "/tmp", "/run"] {
            command.args(["--tmpfs", hidden]);
        }
        command.arg("--bind").arg(&self.home.0).arg("/home/box").arg("--bind").arg(self.host.dir.0.join("bkt")).arg("/run/bkt");
        command.args(["--ro-bind", "/dev/null", "/run/.containerenv", "--chdir", "/tmp"]).args(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/home/box/.local/bin")
            .env("HOME", "/home/box")
            .env("XDG_RUNTIME_DIR", "/run")
            .env("LANG", "C.UTF-8")
            .env("BKT_FALLBACK", "never");
        command
    }

    /// An interactive shell there, at its first prompt.
    fn shell(&self, shell: &Shell) -> Terminal {
        self.shell_with(shell, &[])
    }

    fn shell_with(&self, shell: &Shell, bwrap: &[&str]) -> Terminal {
        file(&self.home.0.join(shell.file), shell.lines);
        let mut command = self.command(&[]);
        command.args(bwrap).args(shell.args);
        let mut terminal = Terminal::run(&mut command);
        terminal.expect("READY> ");
        terminal
    }
}

fn each_shell(test: impl Fn(&Place, &Shell)) {
    let place = Place::new();
    for shell in SHELLS {
        eprintln!("---- {}", shell.name);
        test(&place, shell);
    }
}

#[test]
fn tab_behind_a_shims_name_is_answered_by_the_hosts_completion() {
    each_shell(|place, shell| {
        let mut terminal = place.shell(shell);
        for (keys, runs) in [("frobnicate al\t", "got <alpha>."), ("frobnicate x --level=h\t", "got <x> <--level=high>."), ("frobnicate mo\tx al\t", "got <more:x> <alpha>.")] {
            terminal.send(&format!("{keys}\r"));
            terminal.expect(runs);
            terminal.expect("READY> ");
        }
        // What the host's real systemctl has to say, which is more than one thing.
        terminal.send("systemctl sta\t\t");
        terminal.expect("status");
        terminal.send("\x15\r");
        terminal.expect("READY> ");
    });
}

/// All candidates at once, by a key of readline's own (`insert-completions`), for the line to be printed and not run.
fn inserted(terminal: &mut Terminal, line: &str) -> String {
    terminal.send(&format!("{line}\x1b*\x01printf '<%s>' \x05 'E'ND\r"));
    let shown = terminal.expect("><END>");
    terminal.expect("READY> ");
    shown.rsplit('\n').next().unwrap().to_string()
}

#[test]
fn in_bash_the_hosts_candidates_are_the_very_same_as_on_the_host() {
    let place = Place::new();
    let bash = &SHELLS[0];
    for name in ["git", "journalctl", "podman", "tar"] {
        place.add_shim(name);
    }
    let native = TempDir::new();
    file(&native.0.join("rc"), &bash.lines.replace("eval", "#"));
    let mut command = Command::new("bash");
    command.args(["--rcfile", native.0.join("rc").to_str().unwrap(), "-i"]).current_dir("/tmp");
    let mut on_host = Terminal::run(&mut command);
    on_host.expect("READY> ");
    let mut inside = place.shell(bash);
    file(&native.0.join("so me file"), "");
    let files = format!("tar -cf {}/so", native.0.display());
    for line in [
        "systemctl sta",
        "systemctl --no-",
        "systemctl list-units --state=act",
        "git checko",
        "git --no-",
        "journalctl --out",
        "journalctl --output js",
        "journalctl --output=js",
        "podman ima",
        &files,
    ] {
        assert_eq!(inserted(&mut inside, line), inserted(&mut on_host, line), "{line}");
    }
}

#[test]
fn candidates_with_odd_characters_are_typed_so_that_they_arrive_as_they_are() {
    each_shell(|place, shell| {
        let mut terminal = place.shell(shell);
        terminal.send("frobnicate od\t\r");
        terminal.expect("got <odd \"na'me $x`&*>.");
        terminal.expect("READY> ");
    });
}

#[test]
fn a_shim_made_later_completes_in_the_shell_that_is_there() {
    each_shell(|place, shell| {
        let mut terminal = place.shell(shell);
        place.add_shim("later");
        // fish looks at its prompts.
        terminal.send("\r");
        terminal.expect("READY> ");
        terminal.send("later al\t\r");
        terminal.expect("got <alpha>.");
        terminal.expect("READY> ");
        fs::remove_file(place.home.0.join(".local/share/bkt/shims/later")).unwrap();
    });
}

#[test]
fn a_shim_with_an_odd_name_does_no_harm() {
    each_shell(|place, shell| {
        for name in ["$(touch /tmp/harm)", "`touch /tmp/harm`", "a;touch /tmp/harm", "*", "'\"", "new\nline", "[a", "~", "{a,b}", "--"] {
            let link = place.home.0.join(".local/share/bkt/shims").join(name.replace('/', "\\"));
            if fs::symlink_metadata(&link).is_err() {
                symlink("../../../bin/bkt", link).unwrap();
            }
        }
        let mut terminal = place.shell(shell);
        terminal.send("frobnicate al\t\r");
        let shown = terminal.expect("got <alpha>.");
        assert!(!String::from_utf8_lossy(&terminal.shown).contains("rror") && !shown.contains("bkt"), "{}", String::from_utf8_lossy(&terminal.shown));
        terminal.expect("READY> ");
        terminal.send("test -e /tmp/harm || echo un''harmed\r");
        terminal.expect("unharmed");
    });
}

#[test]
fn a_completion_that_hangs_is_ended_and_one_without_end_is_cut_off() {
    each_shell(|place, shell| {
        // fish asks fish first, which knows nothing of this command, as it has no completion of it.
        let mut terminal = place.shell(shell);
        let _ = fs::remove_file(place.tree.0.join("hangs"));
        terminal.send("frobnicate hang\t");
        let hangs = number_in(&place.tree.0.join("hangs"));
        terminal.send("s\r");
        terminal.expect("got <hangs>.");
        eventually("the host's bash has ended, and its sleep", || !support::lives(hangs) && place.host.children().is_empty());
        terminal.expect("READY> ");
    });
    let place = Place::new();
    let many = place.command(&["/home/box/.local/bin/bkt", "complete", "fish", "frobnicate many"]).output().unwrap();
    let lines = stdout(many);
    assert!(lines.ends_with('\n') && lines.lines().all(|line| line.starts_with("many")), "no half candidate");
    assert!((9_000..11_000).contains(&lines.lines().count()), "{}", lines.lines().count());
}

#[test]
fn without_a_daemon_or_with_a_silent_one_tab_does_nothing() {
    each_shell(|place, shell| {
        let mut terminal = place.shell(shell);
        kill(place.host.pid(), libc::SIGSTOP);
        terminal.send("frobnicate al\tX");
        terminal.expect("X");
        kill(place.host.pid(), libc::SIGCONT);
        terminal.send("\r");
        terminal.expect("got <alX>.");
        terminal.expect("READY> ");
    });
    let place = Place::new();
    kill(place.host.pid(), libc::SIGTERM);
    eventually("the daemon has ended", || !support::lives(place.host.pid()));
    // The container was made when there was one.
    fs::create_dir_all(place.host.dir.0.join("bkt")).unwrap();
    for shell in SHELLS {
        let mut terminal = place.shell(shell);
        terminal.send("frobnicate al\tX\r");
        let shown = terminal.expect("no daemon answers at ");
        assert!(shown.matches("bkt").count() == 1, "only the command's own complaint: {shown:?}");
        terminal.expect("READY> ");
    }
}

#[test]
fn bkt_completes_its_own_words_and_those_of_a_command_behind_it() {
    each_shell(|place, shell| {
        let mut terminal = place.shell(shell);
        terminal.send("bkt adm\tdaem\ttes\t --js\t\r");
        terminal.expect("\"command\": \"true\"");
        terminal.expect("READY> ");
        terminal.send("bkt admin daemon exec -- frobnicate al\t\r");
        terminal.expect("got <alpha>.");
        terminal.expect("READY> ");
    });
}

#[test]
fn the_completions_that_are_installed_for_bkt_work_by_themselves() {
    let place = Place::new();
    let share = place.home.0.join(".local/share");
    for (from, to) in [("bkt.bash", "bash-completion/completions/bkt"), ("_bkt", "zsh/site-functions/_bkt"), ("bkt.fish", "fish/vendor_completions.d/bkt.fish")] {
        file(&share.join(to), &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(from)).unwrap());
    }
    for shell in SHELLS {
        eprintln!("---- {}", shell.name);
        let lines = shell
            .lines
            .lines()
            .filter(|line| !line.contains("shim init bash") && !line.contains("shim init fish"))
            .map(|line| line.replace("eval \"$(~/.local/bin/bkt shim init zsh)\"", "fpath+=(~/.local/share/zsh/site-functions)") + "\n");
        let mut terminal = place.shell(&Shell { lines: lines.collect::<String>().leak(), ..*shell });
        terminal.send("bkt adm\tdaem\ttes\t --js\t\r");
        terminal.expect("\"command\": \"true\"");
        terminal.expect("READY> ");
    }
}

#[test]
fn a_shim_of_another_name_completes_as_the_command_that_it_stands_for() {
    let place = Place::new();
    symlink(".as/frobnicate", place.home.0.join(".local/share/bkt/shims/frob")).unwrap();
    assert_eq!(stdout(place.command(&["/home/box/.local/bin/bkt", "complete", "fish", "frob al"]).output().unwrap()), "alpha\t\n");
}

#[test]
fn the_start_up_code_puts_directories_first_in_path_once_whatever_they_are_called() {
    let dir = TempDir::new();
    let home = dir.0.join("o'd \\\"$h");
    fs::create_dir_all(&home).unwrap();
    let home = home.to_str().unwrap();
    let (shims, distrobox) = (format!("{home}/.local/share/bkt/shims"), format!("{home}/.local/bin/distrobox"));
    let twice = ["set -u; eval \"$($BKT shim init bash)\"", "setopt nounset; eval \"$($BKT shim init zsh)\"", "$BKT shim init fish | source"];
    for (shell, line) in SHELLS.iter().zip(twice) {
        for (side, first) in [("container", format!("{shims}:{distrobox}")), ("host", distrobox.clone())] {
            let mut command = Command::new(shell.name);
            command.args(["-c", &format!("{line}\n{line}\nprintenv PATH")]).env_clear().env("BKT", BKT).env("HOME", home).env("BKT_SIDE", side);
            command.env("PATH", format!("/usr/bin:/bin:{home}/.local/bin:{distrobox}:{home}/.local/bin"));
            let path = stdout(command.output().unwrap());
            assert_eq!(path, format!("{first}:/usr/bin:/bin:{home}/.local/bin:{home}/.local/bin\n"), "{} on the {side}", shell.name);
        }
    }
}

/// What the terminal shows of a page, the pager quit.
fn read_page(terminal: &mut Terminal, line: &str, wanted: &str) {
    terminal.send(&format!("{line}\r"));
    terminal.expect(wanted);
    terminal.expect("(END)");
    terminal.send("q");
    terminal.expect("READY> ");
}

#[test]
fn man_shows_the_hosts_page_where_its_files_are_visible_and_through_the_bridge_where_not() {
    each_shell(|place, shell| {
        // Not visible: the host's man finds it by the host's PATH, and its pager is at this terminal.
        let mut terminal = place.shell(shell);
        read_page(&mut terminal, "man frobnicate", "told by the man of the host");
        let status = if shell.name == "fish" { "$status" } else { "$?" };
        terminal.send(&format!("bkt man 7 frobnicate; echo status {status}\r"));
        terminal.expect("No manual entry for frobnicate in section 7");
        terminal.expect("status 16");
        terminal.expect("READY> ");

        // Visible: this side's man reads the host's files. The container's own page is not hidden by them, but for a shim.
        let (own, hosts) = (place.home.0.join("man/man1"), place.home.0.join("host/man1"));
        for (directory, name, what) in [
            (&own, "frobnicate", "of the container"),
            (&own, "both", "of the container"),
            (&hosts, "both", "seen in its files"),
            (&hosts, "frobnicate", "seen in its files"),
            (&hosts, "only", "seen in its files"),
        ] {
            file(&directory.join(format!("{name}.1")), &page(name, what));
        }
        let at = |directory: &str| place.home.0.join(directory).to_str().unwrap().to_string();
        let mut terminal = place.shell_with(shell, &["--ro-bind", &at("host"), "/run/host/usr/share/man", "--ro-bind", &at("man"), "/usr/share/man"]);
        read_page(&mut terminal, "man frobnicate", "seen in its files");
        read_page(&mut terminal, "man both", "of the container");
        read_page(&mut terminal, "man only", "seen in its files");
    });
}
