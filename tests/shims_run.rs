//! Shims that a home declares, at work: host commands of another name, and programs of containers: in their own container, from
//! the host by real `distrobox-enter` and `podman exec`, and from a third container through the host.

mod support;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{Host, TempDir, complaint, pty, stdout, text};

/// A home with bkt, and a program that says how it was called: `~/bin/tool`.
struct Home(TempDir);

const TOOL: &str = "#!/bin/sh\nprintf '%s\\0' \"$0\" \"$@\"; exit 37\n";

impl Home {
    fn new() -> Home {
        let home = Home(TempDir::new());
        for directory in [".local/bin", "bin", "run"] {
            fs::create_dir_all(home.path(directory)).unwrap();
        }
        support::copy_bkt(home.path(".local/bin/bkt"));
        home.script("bin/tool", TOOL);
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.0.join(below)
    }

    fn script(&self, below: &str, content: &str) {
        fs::write(self.path(below), content).unwrap();
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn shim(&self, line: &str) {
        let mut command = Command::new(self.path(".local/bin/bkt"));
        command.arg("shim").args(line.split_whitespace()).env_clear().env("HOME", &self.0.0).env("PATH", "/usr/bin:/bin").env("BKT_SIDE", "host");
        stdout(command.output().unwrap());
    }

    /// A link in this home, started on this side, which is not told what it is.
    fn start(&self, below: &str) -> Command {
        let mut command = Command::new(self.path(below));
        command.env_clear().env("HOME", &self.0.0).env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).current_dir(&self.0.0);
        command
    }

    /// The same in a container of that name, with a root, process and user namespace of its own.
    fn in_container(&self, name: &str, host: Option<&Host>, program: &[&OsStr]) -> Command {
        fs::write(self.path("run/containerenv"), format!("engine=\"podman-4.3.1\"\nname=\"{name}\"\nid=\"0\"\n")).unwrap();
        let mut command = Command::new("/usr/bin/bwrap");
        command.args([
            "--unshare-user",
            "--unshare-pid",
            "--ro-bind",
            "/usr",
            "/usr",
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
        ]);
        command.args(["--proc", "/proc", "--dev", "/dev", "--bind"]).arg(&self.0.0).arg(&self.0.0).arg("--ro-bind").arg(self.path("run/containerenv")).arg("/run/.containerenv");
        if let Some(host) = host {
            command.arg("--bind").arg(&host.dir.0).arg(&host.dir.0);
        }
        command.arg("--chdir").arg(&self.0.0).args(program);
        let socket = host.map_or(self.path("run/nobody.sock"), Host::socket);
        command.env_clear().env("HOME", &self.0.0).env("PATH", "/usr/bin:/bin").env("BKT_SOCKET", socket).stdin(Stdio::null());
        command
    }
}

/// What gets lost on bad ways: empty, spaces, newlines, quotes, patterns, options, bytes that are no text.
fn odd() -> Vec<OsString> {
    let mut all: Vec<OsString> = [
        "", " ", "a  b", "\n", "x\n\n", "it's", "\"q\"", "'\"'", "\\", "\\n", "\\\\0047", "$HOME", "`id`", "*", "?", "[a-z]*", "--", "-n", "-c", "!", "%s%%", "~", "{a,b}",
        "\u{e9}", "; exit 3", "\t",
    ]
    .map(OsString::from)
    .to_vec();
    all.push(OsString::from_vec((1..=255).collect()));
    all.push(OsString::from_vec(vec![0xff, 0xfe]));
    all.push(OsString::from("x y\n".repeat(10_000)));
    all
}

#[track_caller]
fn assert_intact(output: &Output, program: &Path) {
    let expected: Vec<u8> = std::iter::once(program.as_os_str().to_os_string()).chain(odd()).flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
    let got: Vec<&[u8]> = output.stdout.split(|b| *b == 0).collect();
    for (got, expected) in got.iter().zip(expected.split(|b| *b == 0)) {
        assert!(*got == expected, "{:?} is not {:?}; {}", text(&got[..got.len().min(300)]), text(&expected[..expected.len().min(300)]), text(&output.stderr));
    }
    assert!(output.stdout == expected, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(37), "{}", text(&output.stderr));
}

#[test]
fn a_host_shim_of_another_name_runs_that_command_on_either_side() {
    let (home, host) = (Home::new(), Host::start());
    home.shim("add show --host cat");
    home.shim("add seen --host readlink");
    home.shim("add missing --host no-such-command");
    let at = |name: &str| home.path(&format!(".local/share/bkt/shims/{name}")).into_os_string();
    let inside = |name: &str, argument: &str| home.in_container("box", Some(&host), &[&at(name), OsStr::new(argument)]).output().unwrap();
    let namespace = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(stdout(inside("seen", "/proc/self/ns/mnt")), format!("{}\n", namespace.display()), "on the host");
    assert_eq!(stdout(inside("show", "/proc/self/cmdline")), "cat\0/proc/self/cmdline\0");
    let output = inside("missing", "x");
    complaint(&output, 127, "no-such-command: command not found");
    // On its own side it is the real command of that other name.
    let mut own = home.start(".local/share/bkt/shims/show");
    assert_eq!(stdout(own.arg("/proc/self/cmdline").env("BKT_SIDE", "host").env("BKT_SOCKET", "/no/such").output().unwrap()), "cat\0/proc/self/cmdline\0");
    // And by another bridge.
    home.script("bin/host-spawn", "#!/bin/sh\nprintf '%s ' \"$@\"\n");
    let mut bridged = home.in_container("box", None, &[&at("show"), OsStr::new("a b")]);
    assert_eq!(stdout(bridged.env("PATH", home.path("bin")).output().unwrap()), "cat a b ");
}

#[test]
fn in_its_own_container_a_shim_becomes_the_program() {
    let home = Home::new();
    home.shim(&format!("add tool --container dev --source {}", home.path("bin/tool").display()));
    let tool = home.path("bin/tool");
    let link = home.path(".local/bin/distrobox/tool").into_os_string();
    let odd = odd();
    let run = |name: &str, script: &str| {
        let mut program = vec![OsStr::new("/bin/sh"), OsStr::new("-c"), OsStr::new(script), link.as_os_str()];
        program.extend(odd.iter().map(OsString::as_os_str));
        home.in_container(name, None, &program)
    };
    // However it is called, even under another name of the caller's choice.
    for script in [
        "exec \"$0\" \"$@\"",
        "cd .local/bin/distrobox; exec ./tool \"$@\"",
        "cd .local/bin; exec distrobox/tool \"$@\"",
        "cd bin; exec ../.local/bin/distrobox/tool \"$@\"",
        "PATH=\"${0%/tool}:$PATH\"; tool \"$@\"",
        "exec bash -c 'exec -a other \"$0\" \"$@\"' \"$0\" \"$@\"",
    ] {
        assert_intact(&run("dev", script).output().unwrap(), &tool);
    }
    // The environment is the last to be asked for the container's name: it says another thing here.
    assert_intact(&run("dev", "CONTAINER_ID=other exec \"$0\" \"$@\"").output().unwrap(), &tool);
    fs::write(home.path("run/containerenv"), "").unwrap();
    // The same process, with the environment as it was; but a script is counted, for it may call the shim again.
    home.script("bin/tool", "#!/bin/sh\necho $$ ${BKT_DEPTH-unset} ${BKT_OP_ID-unset}\n");
    let output = run("dev", "echo $$; exec \"$0\"").output().unwrap();
    let said = stdout(output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[1], format!("{} 1 unset", lines[0]));
    home.script("bin/tool", &format!("#!/bin/sh\nexec {} again\n", home.path(".local/bin/distrobox/tool").display()));
    complaint(&run("dev", "exec \"$0\"").output().unwrap(), 125, "in a circle");
    home.shim("add env --container dev --source /usr/bin/env");
    let output = run("dev", "exec \"${0%tool}env\"").output().unwrap();
    assert!(!stdout(output).contains("BKT_DEPTH"));
}

#[test]
fn a_shim_without_a_container_runs_in_whichever_there_is() {
    let home = Home::new();
    home.shim(&format!("add tool --source {}", home.path("bin/tool").display()));
    let link = home.path(".local/bin/distrobox/tool").into_os_string();
    let output = home.in_container("any", None, &[&link, OsStr::new("x")]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(37), format!("{}\0x\0", home.path("bin/tool").display())));
    let output = home.start(".local/bin/distrobox/tool").env("BKT_SIDE", "host").output().unwrap();
    complaint(&output, 125, "tool: nothing says which container it is in; bkt shim add tool --container NAME, or \"container\": \"NAME\" at the top of ~/.config/bkt/shims.json");
}

#[test]
fn what_cannot_run_says_why_and_what_to_try() {
    let home = Home::new();
    for (name, source) in [("gone", "bin/gone"), ("plain", "bin/plain"), ("circle", ".local/bin/distrobox/circle"), ("circle2", ".local/share/bkt/shims/x")] {
        home.shim(&format!("add {name} --container dev --source {}", home.path(source).display()));
    }
    home.shim("add x --host");
    fs::write(home.path("bin/plain"), "").unwrap();
    symlink("../bkt", home.path(".local/bin/distrobox/stray")).unwrap();
    let run = |name: &str| home.in_container("dev", None, &[home.path(&format!(".local/bin/distrobox/{name}")).as_os_str()]).output().unwrap();
    complaint(&run("gone"), 127, "gone: cannot execute ~/bin/gone: No such file or directory; install it here, or: bkt shim add gone --source PATH");
    complaint(&run("plain"), 126, "plain: cannot execute ~/bin/plain: Permission denied");
    complaint(&run("circle"), 125, "leads back to bkt");
    complaint(&run("circle2"), 125, "leads back to bkt");
    complaint(&run("stray"), 127, "stray: ~/.config/bkt/shims.json has no distrobox shim of that name; bkt shim add stray");
    // On the host with nothing to enter by.
    let output = home.start(".local/bin/distrobox/gone").env("BKT_SIDE", "host").env("PATH", "/no/such").output().unwrap();
    complaint(&output, 125, "neither distrobox, podman, docker nor toolbox is in PATH");
    let output = home.start(".local/bin/distrobox/gone").env("BKT_SIDE", "host").env("BKT_DEPTH", "16").output().unwrap();
    complaint(&output, 125, "gone has come through 16 bridges already");
    // In another container, without a daemon or any other bridge.
    let output = home.in_container("other", None, &[home.path(".local/bin/distrobox/gone").as_os_str()]).env("BKT_FALLBACK", "never:gone").output().unwrap();
    complaint(&output, 125, "no daemon answers at");
}

/// Where neither podman nor docker can be asked: `toolbox`, and a `distrobox` without `distrobox-enter`, as version 2 comes: what they
/// are given.
#[test]
fn the_other_ways_in_are_called_as_they_want_it() {
    let home = Home::new();
    home.shim(&format!("add tool --container dev --source {}", home.path("bin/tool").display()));
    let source = home.path("bin/tool").display().to_string();
    for (name, start) in [("toolbox", "run -c dev"), ("distrobox", "enter -n dev --")] {
        fs::create_dir(home.path(name)).unwrap();
        home.script(&format!("{name}/{name}"), "#!/bin/sh\nprintf '%s\\n' \"$*\" \"$BKT_DEPTH\"\n");
        let mut command = home.start(".local/bin/distrobox/tool");
        if bkt::sys::process::user() == 0 {
            // distrobox serves ordinary users only.
            command = Command::new("/usr/bin/setpriv");
            command.args(["--reuid", "65534", "--clear-groups"]).arg(home.path(".local/bin/distrobox/tool")).env_clear().env("HOME", &home.0.0);
        }
        let said = stdout(command.args(["a", "--b"]).env("PATH", home.path(name)).env("BKT_SIDE", "host").output().unwrap());
        assert_eq!(said, format!("{start} {source} a --b\n1\n"));
    }
}

/// podman, docker, toolbox and distrobox as far as they are asked: the answers and the ends are those of podman 4.3.1, docker 20.10.24,
/// toolbox 0.0.99.3 and distrobox 1.4.2, with which the same was seen.
#[test]
fn a_container_is_entered_by_who_runs_it_and_waited_for_by_who_has_made_it() {
    let home = Home::new();
    let (id, tools) = ("0123456789abcdef".repeat(4), home.path("tools"));
    fs::create_dir(&tools).unwrap();
    let manager = |name: &str, known: &str| {
        let lines = format!("#!/bin/sh\ncase $1 in\ninspect) case $6 in\n{known}*) exit 125;; esac;;\nps) ;;\n*) echo {name} $*; echo {name} $1 >&2;; esac\n");
        home.script(&format!("tools/{name}"), &lines);
    };
    manager(
        "podman",
        &format!(
            "box) echo {id} false /usr/bin/entrypoint distrobox;;\ntb|tb2) echo {id} false 'toolbox ';;\non) echo {id} true 'toolbox ';;\nplain) echo {id} false 'sleep ';;\n"
        ),
    );
    manager("docker", &format!("dbox) echo {id} true /usr/bin/entrypoint distrobox;;\nweb) echo {id} false 'sleep ';;\n"));
    home.script("tools/toolbox", "#!/bin/sh\necho toolbox $* >>\"$HOME/toolbox\"; [ $3 = tb ] || { echo 'Error: no' >&2; exit 1; }\n");
    home.script("tools/distrobox-enter", "#!/bin/sh\necho $DBX_CONTAINER_MANAGER: distrobox-enter $*\n");
    fs::set_permissions(&home.0.0, fs::Permissions::from_mode(0o777)).unwrap();
    let enter = |container: &str| {
        // distrobox serves ordinary users only.
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(home.path(".local/bin/bkt")).args(["enter", container, "--", "tool", "a"]);
        command.env_clear().env("HOME", &home.0.0).env("PATH", format!("{}:/usr/bin:/bin", tools.display())).env("BKT_SIDE", "host").env("BKT_SOCKET", "/no/socket");
        command.env("DBX_CONTAINER_MANAGER", "other").current_dir("/").stdin(Stdio::null()).output().unwrap()
    };
    let steps = |container: &str| (stdout(enter(container)), text(&enter(container).stderr));
    assert_eq!(steps("box").0, "podman: distrobox-enter -n box -- tool a\n", "it waits for its own to be ready");
    assert_eq!(steps("dbox").0, "docker: distrobox-enter -n dbox -- tool a\n");
    for (container, program, options) in [
        ("plain", "podman", "--detach-keys= --user 65534 "),
        ("tb", "podman", "--detach-keys= --user 65534 "),
        ("on", "podman", "--detach-keys= --user 65534 "),
        ("web", "docker", "--detach-keys=ctrl-^,ctrl-@,ctrl-^ --user 65534:65534 "),
    ] {
        let (said, order) = steps(container);
        assert!(said.starts_with(&format!("{program} exec --interactive {options}")) && said.ends_with(" tool a\n"), "{container}: {said}");
        let start = if container == "on" { String::new() } else { format!("{program} start\n") };
        assert_eq!(order, format!("{start}{program} exec\n"), "{container}");
    }
    let asked = fs::read_to_string(home.path("toolbox")).unwrap();
    assert!(asked.lines().count() == 2 && asked.lines().all(|line| line == "toolbox run -c tb true"), "a toolbox that runs is ready: {asked}");
    complaint(&enter("tb2"), 125, "enter: toolbox cannot start tb2: Error: no");
    complaint(&enter("gone"), 127, "enter: there is no container gone; none is there; distrobox-create, toolbox, podman or docker make one (op-");
    home.script("tools/docker", "#!/bin/sh\nexit 1\n");
    complaint(&enter("gone"), 127, "none is there; distrobox-create, toolbox, podman or docker make one; docker does not answer");
}

// ---- real containers of podman

/// A static busybox and directories for what is mounted.
fn make_root(root: &Path) {
    for directory in ["bin", "usr/bin", "etc", "proc", "dev", "tmp", "sys", "run/host"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed by tests/install-dependencies");
    for name in ["sh", "printf", "sleep", "readlink", "tty", "cat"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
}

/// An ordinary user with a daemon and two rootless containers, `dev` and `other`, there for one script only: in a mount namespace
/// of its own, with storage and all below a temporary directory.
struct User(Home);

const USER: u32 = 54_322;

impl User {
    fn new() -> User {
        let home = Home::new();
        let at = home.0.0.display().to_string();
        for directory in ["etc", "run/bkt", "no-distrobox"] {
            fs::create_dir_all(home.path(directory)).unwrap();
        }
        for (file, line) in [("passwd", format!("bkt-shims:x:{USER}:{USER}::{at}:/bin/sh\n")), ("group", format!("bkt-shims:x:{USER}:\n"))] {
            fs::write(home.path("etc").join(file), fs::read_to_string(Path::new("/etc").join(file)).unwrap() + &line).unwrap();
        }
        for file in ["subuid", "subgid"] {
            fs::write(home.path("etc").join(file), "bkt-shims:3000000:65536\n").unwrap();
            assert!(Path::new("/etc").join(file).exists(), "/etc/{file} comes with Debian's passwd and uidmap");
        }
        fs::write(
            home.path("containers.conf"),
            "[containers]\ndefault_ulimits = []\ndefault_sysctls = []\nnetns = \"none\"\n[engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
        )
        .unwrap();
        fs::write(home.path("storage.conf"), format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/storage\"\nrunroot = \"{at}/run/state\"\n")).unwrap();
        for root in ["dev", "other"] {
            make_root(&home.path(&format!("roots/{root}")));
        }
        // A PATH in which there is podman and no distrobox.
        for name in ["podman", "sh", "newuidmap", "newgidmap"] {
            symlink(format!("/usr/bin/{name}"), home.path("no-distrobox").join(name)).unwrap();
        }
        symlink("bkt", home.path(".local/bin/bkt-hostd")).unwrap();
        home.shim(&format!("add tool --container dev --source {at}/bin/tool"));
        User(home)
    }

    /// A script as that user, while the daemon and both containers run.
    fn command(&self, script: &str) -> Command {
        let at = self.0.0.0.display();
        let as_user = format!(
            "cd {at}; shim={at}/.local/bin/distrobox/tool; container() {{ podman run -d --name $1 --label manager=distrobox --userns keep-id --ulimit host --hostname $1 -v {at}:{at} -v /:/run/host:ro \
             -e HOME={at} -e XDG_RUNTIME_DIR={at}/run --rootfs {at}/roots/$1 sleep 100000 >/dev/null; }}; \
             {at}/.local/bin/bkt-hostd -v 2>log & daemon=$!; container dev && container other || exit; \
             for i in $(seq 100); do [ -S {at}/run/bkt/host.sock ] || sleep 0.2; done; {script}\n status=$?; podman rm -f -t 0 dev other >/dev/null; kill $daemon; wait $daemon; exit $status"
        );
        let as_root = format!(
            "umount /sys/fs/cgroup/unified 2>/dev/null; for file in passwd group subuid subgid; do mount --bind {at}/etc/$file /etc/$file || exit; done; \
             chown -Rh {USER}:{USER} {at} && shift 0 && exec setpriv --reuid {USER} --regid {USER} --init-groups sh -c \"$0\" sh \"$@\""
        );
        let mut command = Command::new("unshare");
        // Rootless podman leaves processes behind for its next call; they end with their namespace.
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &as_root, &as_user]).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("HOME", &self.0.0.0).env("USER", "bkt-shims").env("XDG_RUNTIME_DIR", self.0.path("run")).stdin(Stdio::null());
        command.env("CONTAINERS_CONF", self.0.path("containers.conf")).env("CONTAINERS_STORAGE_CONF", self.0.path("storage.conf"));
        command
    }

    fn run(&self, script: &str) -> Output {
        self.command(script).args(odd()).output().unwrap()
    }
}

/// All in one, for the containers are what takes time.
#[test]
fn from_the_host_and_from_a_third_container_a_program_runs_in_its_own() {
    let user = User::new();
    let tool = user.0.path("bin/tool");
    let places = "#!/bin/sh\necho \"in ${CONTAINER_ID} $(cat /etc/hostname) in $PWD depth ${BKT_DEPTH-0} op ${BKT_OP_ID-none} mine ${MINE-none}\"; printf '%s\\0' \"$0\" \"$@\" >\"$OUT\"; exit 37\n";
    user.0.script("bin/tool", places);
    let at = user.0.0.0.display();
    // Each way writes what it got to a file of its own, and says where it was.
    let script = format!(
        "export MINE=yes; say() {{ echo \"$1 $2\"; }}; \
         OUT={at}/by-distrobox; export OUT; $shim \"$@\"; say status $?; \
         OUT={at}/by-podman PATH={at}/no-distrobox $shim \"$@\"; say status $?; \
         podman stop -t 0 dev >/dev/null; OUT={at}/stopped PATH={at}/no-distrobox $shim \"$@\"; say status $?; \
         (cd /usr/lib && OUT={at}/elsewhere PATH={at}/no-distrobox $shim \"$@\"); say status $?; \
         OUT={at}/direct podman exec -e OUT -e CONTAINER_ID=dev dev $shim plain; say status $?; \
         OUT={at}/through podman exec -e OUT -e MINE -e CONTAINER_ID=other -e BKT_OP_ID=op-0123456789ab -w {at} other {at}/bin/third; say status $?; \
         podman exec -e CONTAINER_ID=other other {at}/.local/bin/bkt enter dev -- sh -c 'exit 38'; say entered $?"
    );
    // podman's own exec would spoil the arguments: they are made in the container.
    user.0.script("bin/third", &format!("#!/bin/sh\nset --; while IFS= read -r piece; do set -- \"$@\" \"$(printf \"%b.\" \"$piece\")\"; done <{at}/args; for a do shift; set -- \"$@\" \"${{a%.}}\"; done; exec {at}/.local/bin/distrobox/tool \"$@\"\n"));
    let escaped: String = odd().iter().map(|arg| arg.as_bytes().iter().map(|b| format!("\\0{b:03o}")).collect::<String>() + "\n").collect();
    fs::write(user.0.path("args"), escaped).unwrap();
    let output = user.run(&script);
    eprintln!("{}\n{}", text(&output.stderr), fs::read_to_string(user.0.path("log")).unwrap());
    let said = stdout(output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 13, "{said}");
    assert_eq!(lines[12], "entered 38", "bkt enter goes through the host, too");
    assert!(lines.iter().skip(1).step_by(2).all(|line| *line == "status 37"), "{said}");
    let place = |line: usize, directory: &str, depth: u32| {
        assert!(lines[line].starts_with(&format!("in dev dev in {directory} depth {depth} op ")), "{said}");
    };
    place(0, &at.to_string(), 1);
    place(2, &at.to_string(), 1);
    place(4, &at.to_string(), 1);
    place(6, "/run/host/usr/lib", 1);
    place(8, "/", 1);
    // Through the host: two bridges, one operation.
    place(10, &at.to_string(), 2);
    assert!(lines[10].ends_with(" op op-0123456789ab mine yes"), "{said}");
    assert!(lines[..8].iter().step_by(2).all(|line| line.ends_with(" mine yes") && !line.contains("op none")), "{said}");
    assert!(fs::read_to_string(user.0.path("log")).unwrap().contains("op-0123456789ab"));
    let expected: Vec<u8> = std::iter::once(tool.into_os_string()).chain(odd()).flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
    for way in ["by-distrobox", "by-podman", "stopped", "elsewhere", "through"] {
        let got = fs::read(user.0.path(way)).unwrap();
        let (got, expected): (Vec<&[u8]>, Vec<&[u8]>) = (got.split(|b| *b == 0).collect(), expected.split(|b| *b == 0).collect());
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got == expected, "{way}: {:?} is not {:?}", text(&got[..got.len().min(300)]), text(&expected[..expected.len().min(300)]));
        }
        assert_eq!(got.len(), expected.len(), "{way}");
    }
}

#[test]
fn at_a_terminal_the_program_in_a_container_has_one() {
    let user = User::new();
    user.0.script("bin/tool", "#!/bin/sh\ntty; read line; echo \"got $line\" >&2; exit 5\n");
    let at = user.0.0.0.display();
    for (way, path) in [("distrobox", "/usr/bin:/bin".to_string()), ("podman", format!("{at}/no-distrobox"))] {
        let mut command = user.command(&format!("echo ready; PATH={path} $shim; exit_code=$?; echo status $exit_code"));
        let mut terminal = pty::Terminal::run_with(&mut command, |command, follower| {
            command.stdin(follower.try_clone().unwrap());
        });
        terminal.expect("ready");
        terminal.expect("/dev/pts/");
        terminal.send("hello\r");
        terminal.expect("got hello");
        terminal.expect("status 5");
        assert!(terminal.wait().success(), "{way}");
    }
}
