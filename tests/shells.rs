//! Real bash, zsh and fish in a container: what TAB and `man` do there is what the host's own completions and pages say.
//!
//! The container is a bubblewrap with this machine's programs but a home, completions and pages of its own; it is told what it is by
//! podman's mark. The host has a command `frobnicate` with completions and a page, which the container has not.
#![allow(unsafe_code)]

mod support;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::pty::Terminal;
use support::{BKT, Host, TempDir, eventually, stdout, text};

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
    many*) COMPREPLY=($(seq -f many%g 200000)) ;;
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
        fs::copy(BKT, place.home.0.join(".local/bin/bkt")).unwrap();
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
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/home/box").env("XDG_RUNTIME_DIR", "/run").env("LANG", "C.UTF-8").env("BKT_FALLBACK", "never");
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

#[test]
fn candidates_with_odd_characters_are_typed_so_that_they_arrive_as_they_are() {
    each_shell(|place, shell| {
        let mut terminal = place.shell(shell);
        terminal.send("frobnicate od\t\r");
        terminal.expect("got <odd \"na'me $x`&*>.");
        terminal.expect("READY> ");
    });
}
