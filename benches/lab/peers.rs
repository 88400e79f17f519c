//! Other ways from a container to its host, where they are installed: each is set up in the temporary directory and runs
//! `/bin/true`.

use super::Result;
use super::place::{BKT, Place};
use super::spawn::{Io, Program};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What measuring one of them may take, in nanoseconds: the slow ones get fewer rounds.
pub const BUDGET: u64 = 3_000_000_000;

const PATIENCE: Duration = Duration::from_secs(5);

/// Not in PATH: for callers inside a Flatpak.
const FLATPAK_SPAWN: &str = "/usr/libexec/flatpak-xdg-utils/flatpak-spawn";

pub struct Peer {
    pub name: &'static str,
    /// What runs `/bin/true` by it, or why that cannot be.
    pub program: Result<Program>,
    /// What serves it, ended with this value.
    _server: Option<Server>,
}

struct Server {
    child: Option<Child>,
    /// To be run at the end.
    undo: Option<Command>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(undo) = &mut self.undo {
            let _ = undo.output();
        }
        if let Some(child) = &mut self.child {
            // SAFETY: kill(2) touches no memory; the child is ours and not waited for yet.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            let _ = child.wait();
        }
    }
}

impl Server {
    fn of(command: &mut Command) -> Result<Server> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|e| format!("{name}: {e}"))?;
        Ok(Server { child: Some(child), undo: None })
    }
}

/// All of them, in the order of the table. One that is set up but does not work is told by its first run.
pub fn all(place: &Place) -> Vec<Peer> {
    let mut peers = Vec::new();
    let mut add = |name, made: Made| {
        peers.push(match made {
            Ok((program, server)) => Peer { name, program: wait_until(|| place.run(&program, Io::Null).map(drop)).map(|()| program), _server: server },
            Err(why) => Peer { name, program: Err(why), _server: None },
        });
    };
    add("s6-sudo", s6_sudo(place));
    let (flatpak, host_spawn) = on_a_session_bus(place);
    add("flatpak-spawn --host", flatpak);
    add("host-spawn", host_spawn);
    let (plain, multiplexed) = ssh(place);
    add("ssh to loopback, connected already", multiplexed);
    add("ssh to loopback", plain);
    add("podman exec (the other way)", podman(place).map(|(container, server)| (container.podman_exec(place, false, TRUE), Some(server))));
    peers
}

const TRUE: &[&str] = &["/bin/true"];

/// Ways into a container, which has our own root and is podman's: `/bin/true` there, and an interactive shell that ends at once.
/// The first is the command itself, run by nobody but its caller, on this side.
pub fn ways_in(place: &Place) -> Result<Vec<Way>> {
    let (container, server) = podman(place)?;
    // What the container is started with, where it is ours.
    let mut start = Command::new(&container.podman);
    let socket = place.environment().iter().find_map(|e| e.strip_prefix("XDG_RUNTIME_DIR=")).unwrap_or_default().to_string() + "/bkt/host.sock";
    start.args(["exec", "-d", &container.name, BKT, "bkt-guest", "--daemon", "--idle-timeout", "0", "--name", &container.name, "--socket", &socket]);
    let started = start.stdin(Stdio::null()).output().map_err(|e| format!("podman: {e}"))?;
    if !started.status.success() {
        return Err(format!("not available here: {}", String::from_utf8_lossy(&started.stderr)));
    }
    let shell: &[&str] = &["/bin/sh", "-i", "-c", "exit"];
    let mut pid = Command::new(&container.podman);
    let pid = pid.args(["inspect", "-f", "{{.State.Pid}}", &container.name]).output().map_err(|e| format!("podman: {e}"))?;
    let pid = String::from_utf8_lossy(&pid.stdout).trim().to_string();
    let mut ways = vec![Way { name: "direct", programs: [Ok(place.direct(TRUE)), Ok(place.direct(shell))], _server: Some(server) }];
    let mut add = |name, made: &dyn Fn(&[&str], bool) -> Result<Program>| {
        let program = |args: &[&str], terminal: bool| {
            let program = made(args, terminal)?;
            let once = || if terminal { place.at_terminal(&program).map(drop) } else { place.run(&program, Io::Null).map(drop) };
            wait_until(once).map(|()| program)
        };
        ways.push(Way { name, programs: [program(TRUE, false), program(shell, true)], _server: None });
    };
    add("bkt enter", &|args, _| Ok(place.direct(&[BKT, "--no-delegate", "enter", &container.name, "--"]).with(args)));
    // A shell's process group must be one of its own namespace, or it cannot have the terminal.
    let session = |terminal: bool| if terminal { &["/usr/bin/setsid", "-c"][..] } else { &[] };
    add("nsenter", &|args, terminal| Ok(place.direct(&[&installed("nsenter")?, "-t", &pid, "-m", "-p", "-i", "-u", "-r"]).with(session(terminal)).with(args)));
    add("podman exec", &|args, terminal| Ok(container.podman_exec(place, terminal, args)));
    let path = path_of_a_user(place)?;
    add("distrobox-enter", &|args, _| Ok(place.direct(&["/usr/bin/env", &path, "USER=root", &installed("distrobox-enter")?, "-n", &container.name, "--"]).with(args)));
    Ok(ways)
}

/// distrobox serves no root, and we are root where podman needs it: it hears of another number from `id`, and is the same otherwise.
fn path_of_a_user(place: &Place) -> Result<String> {
    let tools = place.dir.join("a-user");
    let write = |to: &Path| fs::write(to, "#!/bin/sh\necho 1000\n").and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(0o755)));
    fs::create_dir_all(&tools).and_then(|()| write(&tools.join("id"))).map_err(|e| format!("{}: {e}", tools.display()))?;
    Ok(format!("PATH={}:{}", tools.display(), std::env::var("PATH").unwrap_or_default()))
}

/// One way into a container.
pub struct Way {
    pub name: &'static str,
    /// `/bin/true`, and a shell at a terminal.
    pub programs: [Result<Program>; 2],
    _server: Option<Server>,
}

/// A container of podman's.
struct Container {
    podman: String,
    name: String,
}

impl Container {
    fn podman_exec(&self, place: &Place, terminal: bool, args: &[&str]) -> Program {
        let options: &[&str] = if terminal { &["-it"] } else { &[] };
        place.direct(&[&[self.podman.as_str(), "exec"][..], options, &[&self.name]].concat()).with(args)
    }
}

/// Tries again until it succeeds, or not any more.
fn wait_until(mut condition: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            done => return done.map_err(|why| format!("not available here: {why}")),
        }
    }
}

/// The path of a program, if it is installed.
fn installed(name: &str) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').map(|d| Path::new(d).join(name)).chain([Path::new("/usr/sbin").join(name)]);
    let found = places.into_iter().find(|p| p.is_file());
    found.map(|p| p.display().to_string()).ok_or_else(|| format!("not available here: {name} is not installed"))
}

/// A program and what serves it.
type Made = Result<(Program, Option<Server>)>;

fn s6_sudo(place: &Place) -> Made {
    let (client, server, helper) = (installed("s6-sudo")?, installed("s6-ipcserver")?, installed("s6-sudod")?);
    let socket = place.dir.join("s6").display().to_string();
    let server = Server::of(Command::new(server).args([&socket, &helper, "/bin/true"]))?;
    Ok((place.direct(&[&client, &socket]), Some(server)))
}

/// Both speak to Flatpak's helper on a session bus: one is started for them.
fn on_a_session_bus(place: &Place) -> (Made, Made) {
    let flatpak = if Path::new(FLATPAK_SPAWN).exists() { Ok(FLATPAK_SPAWN.to_string()) } else { installed("flatpak-spawn") };
    let host_spawn = installed("host-spawn");
    let bus = || -> Result<(Server, Vec<String>)> {
        if !Path::new("/usr/share/dbus-1/services/org.freedesktop.Flatpak.service").exists() {
            return Err("not available here: Flatpak's helper for the session bus is not installed".into());
        }
        let socket = place.dir.join("bus").display().to_string();
        let runtime = place.dir.join("bus-runtime");
        fs::create_dir_all(&runtime).map_err(|e| e.to_string())?;
        let mut daemon = Command::new(installed("dbus-daemon")?);
        daemon.args(["--session", "--nofork", "--nopidfile", &format!("--address=unix:path={socket}")]).env("XDG_RUNTIME_DIR", &runtime);
        let env = place.environment().iter().filter(|e| !e.starts_with("XDG_RUNTIME_DIR=") && !e.starts_with("DBUS_SESSION_BUS_ADDRESS="));
        let env = env.cloned().chain([format!("XDG_RUNTIME_DIR={}", runtime.display()), format!("DBUS_SESSION_BUS_ADDRESS=unix:path={socket}")]);
        Ok((Server::of(&mut daemon)?, env.collect()))
    };
    if flatpak.is_err() && host_spawn.is_err() {
        return (Err(flatpak.err().unwrap_or_default()), Err(host_spawn.err().unwrap_or_default()));
    }
    let (server, env) = match bus() {
        Ok((server, env)) => (server, env),
        Err(why) => return (Err(why.clone()), Err(why)),
    };
    let flatpak = flatpak.map(|path| (Program::new(&path, &[&path, "--host", "/bin/true"], &env, false), Some(server)));
    let host_spawn = host_spawn.map(|path| (Program::new(&path, &[&path, "/bin/true"], &env, false), None));
    (flatpak, host_spawn)
}

/// A server of our own on a high port of the loopback interface, with keys made for it; with a new connection for each command,
/// and with one that stays.
fn ssh(place: &Place) -> (Made, Made) {
    let made = || -> Result<(Server, Vec<String>, String)> {
        let (ssh, sshd, keygen) = (installed("ssh")?, installed("sshd")?, installed("ssh-keygen")?);
        let dir = place.dir.join("ssh");
        fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let _ = fs::create_dir_all("/run/sshd");
        let at = |name: &str| dir.join(name).display().to_string();
        for key in ["host", "user"] {
            Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).output().map_err(|e| format!("ssh-keygen: {e}"))?;
        }
        let port = 20_000 + std::process::id() % 10_000;
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n",
            at("host"),
            at("user.pub")
        );
        fs::write(at("config"), config).map_err(|e| e.to_string())?;
        let server = Server::of(Command::new(sshd).args(["-D", "-f", &at("config")]))?;
        let options = format!("-F none -i {} -p {port} -T -q -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null", at("user"));
        let client = std::iter::once(ssh).chain(options.split(' ').map(str::to_string)).collect();
        Ok((server, client, format!("ControlPath={}", at("control"))))
    };
    let (server, client, control) = match made() {
        Ok(made) => made,
        Err(why) => return (Err(why.clone()), Err(why)),
    };
    let with = |more: &[&str]| place.direct(&client.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>());
    let plain = with(&["127.0.0.1", "/bin/true"]);
    let _ = wait_until(|| place.run(&plain, Io::Null).map(drop));
    let master = Server::of(Command::new(&client[0]).args(&client[1..]).args(["-N", "-M", "-o", &control, "127.0.0.1"]));
    let _ = wait_until(|| fs::metadata(place.dir.join("ssh/control")).map(drop).map_err(|e| e.to_string()));
    let multiplexed = with(&["-o", &control, "127.0.0.1", "/bin/true"]);
    (Ok((plain, Some(server))), master.map(|master| (multiplexed, Some(master))))
}

/// Into a container instead of out of one; the same work for the two programs between them. Our own root is the container's, and
/// the daemon's directory is seen in it.
fn podman(place: &Place) -> Result<(Container, Server)> {
    let podman = installed("podman")?;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("bkt-bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let seen = format!("{0}:{0}", place.dir.display());
    let mut run = Command::new(&podman);
    run.args(["run", "-d", "--name", &name, "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
    // As distrobox makes its own, whose directories are found there.
    run.args(["-v", "/:/run/host:rslave", "-v", &seen, "--rootfs", "/:O", "/bin/sleep", "600"]).stdin(Stdio::null());
    let mut undo = Command::new(&podman);
    undo.args(["rm", "-f", "-t", "0", &name]);
    let mut why = String::new();
    // Where both generations of control groups are mounted, podman takes the wrong one: hide it, in our own mount namespace.
    for hide in [None, Some(PathBuf::from("/sys/fs/cgroup/unified"))] {
        if let Some(path) = hide.filter(|p| p.exists())
            && let Ok(path) = CString::new(path.into_os_string().into_encoded_bytes())
        {
            // SAFETY: a C string that lives across the call.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        let output = run.output().map_err(|e| format!("podman: {e}"))?;
        if output.status.success() {
            return Ok((Container { podman, name }, Server { child: None, undo: Some(undo) }));
        }
        why = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("").chars().take(100).collect();
        let _ = undo.output();
    }
    Err(format!("not available here: {why}"))
}
