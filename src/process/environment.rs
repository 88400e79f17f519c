//! The environment of a command: the one table.
//!
//! Base: the server's own environment. On top of it comes the caller's, by these rules:
//!
//! | rule | names | why |
//! |---|---|---|
//! | server's | `BKT_SOCKET`, `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `MAIL`, `MANPATH`, `TMPDIR`, `XDG_RUNTIME_DIR`, `XDG_DATA_HOME`, `XDG_CONFIG_HOME`, `XDG_CACHE_HOME`, `XDG_STATE_HOME`, `XDG_DATA_DIRS`, `XDG_CONFIG_DIRS`, `XDG_BIN_HOME` | they name places and programs of the caller's side |
//! | server's first | `DBUS_SESSION_BUS_ADDRESS`, `DBUS_SYSTEM_BUS_ADDRESS`, `SSH_AUTH_SOCK`, `XAUTHORITY`, `GNUPGHOME`, `PULSE_SERVER`, `ICEAUTHORITY`, `XDG_SESSION_*`, `XDG_SEAT`, `XDG_VTNR`, `XDG_CURRENT_DESKTOP`, `DESKTOP_SESSION` | sockets and sessions: the server's own are valid here; the caller's only fill a gap |
//! | nobody's | `LD_*`, `GLIBC_TUNABLES`, `GCONV_PATH`, `LOCPATH`, `NLSPATH`, `TERMINFO`, `TERMINFO_DIRS`, `GIO_EXTRA_MODULES`, `GTK_PATH`, `QT_PLUGIN_PATH`, `PYTHONHOME`, `PERL5LIB`, `container`, `container_*`, `CONTAINER_ID`, `HOSTNAME`, `HOST`, `TOOLBOX_PATH`, `DISTROBOX_*`, `FLATPAK_ID`, `SNAP*`, `OLDPWD`, `_`, `BKT_*` | they name the container, would break the command, or are ours; of these the server's own `LD_*` and the like stay |
//! | dropped on both sides | `NOTIFY_SOCKET`, `LISTEN_*`, `WATCHDOG_*`, `MAINPID`, `MANAGERPID`, `INVOCATION_ID`, `JOURNAL_STREAM`, `SYSTEMD_EXEC_PID`, `MEMORY_PRESSURE_*`, `FDSTORE`, `CREDENTIALS_DIRECTORY`, `BKT_*` | they belong to one service's process alone |
//! | caller's | everything else (`TERM`, `LANG`, `LC_*`, `DISPLAY`, `WAYLAND_DISPLAY`, `EDITOR`, your own) | as a command would have it |
//!
//! Then `--unset-env`, then `--env`, and always `PWD` (the directory entered), `BKT_OP_ID` and `BKT_DEPTH`. With `--clear-env`
//! there is neither base nor caller: only `--env` and the last three. Where a policy denies commands by default, a caller sets
//! nothing but `TERM`, `LANG`, `LC_*` and what else is harmless.

use crate::opid::OpId;
use std::ffi::CStr;
use std::ops::Range;

/// Shims may call shims that call shims, so often.
pub const MAX_DEPTH: u32 = 16;

/// The variable that counts how many bridges a command has come through.
pub const DEPTH: &str = "BKT_DEPTH";

/// The variable that hands an operation's id on.
pub const OP_ID: &str = "BKT_OP_ID";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Servers,
    ServersFirst,
    Nobodys,
    DroppedOnBothSides,
    Callers,
}

/// Names, or beginnings of names where they end in `*`.
const RULES: &[(Rule, &[&str])] = &[
    (
        Rule::Servers,
        &[
            "BKT_SOCKET",
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "MAIL",
            "MANPATH",
            "TMPDIR",
            "XDG_RUNTIME_DIR",
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
            "XDG_CACHE_HOME",
            "XDG_STATE_HOME",
            "XDG_DATA_DIRS",
            "XDG_CONFIG_DIRS",
            "XDG_BIN_HOME",
        ],
    ),
    (
        Rule::ServersFirst,
        &[
            "DBUS_SESSION_BUS_ADDRESS",
            "DBUS_SYSTEM_BUS_ADDRESS",
            "SSH_AUTH_SOCK",
            "XAUTHORITY",
            "GNUPGHOME",
            "PULSE_SERVER",
            "ICEAUTHORITY",
            "XDG_SESSION_*",
            "XDG_SEAT",
            "XDG_VTNR",
            "XDG_CURRENT_DESKTOP",
            "DESKTOP_SESSION",
        ],
    ),
    (
        Rule::DroppedOnBothSides,
        &[
            "NOTIFY_SOCKET",
            "LISTEN_*",
            "WATCHDOG_*",
            "MAINPID",
            "MANAGERPID",
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "SYSTEMD_EXEC_PID",
            "MEMORY_PRESSURE_*",
            "FDSTORE",
            "CREDENTIALS_DIRECTORY",
            "BKT_*",
        ],
    ),
    (
        Rule::Nobodys,
        &[
            "LD_*",
            "GLIBC_TUNABLES",
            "GCONV_PATH",
            "LOCPATH",
            "NLSPATH",
            "TERMINFO",
            "TERMINFO_DIRS",
            "GIO_EXTRA_MODULES",
            "GTK_PATH",
            "QT_PLUGIN_PATH",
            "PYTHONHOME",
            "PERL5LIB",
            "container",
            "container_*",
            "CONTAINER_ID",
            "HOSTNAME",
            "HOST",
            "TOOLBOX_PATH",
            "DISTROBOX_*",
            "FLATPAK_ID",
            "SNAP*",
            "OLDPWD",
            "_",
        ],
    ),
];

/// How many patterns there are.
const PATTERNS: usize = {
    let (mut count, mut group) = (0, 0);
    while group < RULES.len() {
        count += RULES[group].1.len();
        group += 1;
    }
    count
};

/// The patterns in the order of their first bytes: each variable of each run is looked up, and only those few that begin as it
/// does are compared with it.
const BY_FIRST_BYTE: [(u8, &str, Rule); PATTERNS] = {
    let mut all = [(0, "", Rule::Callers); PATTERNS];
    let (mut filled, mut group) = (0, 0);
    while group < RULES.len() {
        let (rule, names) = RULES[group];
        let mut name = 0;
        while name < names.len() {
            let (first, mut at) = (names[name].as_bytes()[0], filled);
            while at > 0 && all[at - 1].0 > first {
                all[at] = all[at - 1];
                at -= 1;
            }
            all[at] = (first, names[name], rule);
            filled += 1;
            name += 1;
        }
        group += 1;
    }
    all
};

fn rule(name: &[u8]) -> Rule {
    let Some(&first) = name.first() else { return Rule::Callers };
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => name == pattern.as_bytes(),
    };
    let from = BY_FIRST_BYTE.partition_point(|row| row.0 < first);
    let same = BY_FIRST_BYTE[from..].iter().take_while(|row| row.0 == first);
    let found = { same }.find(|row| is(row.1));
    found.map_or(Rule::Callers, |row| row.2)
}

/// The name of a variable that a container's command is to have from its caller on the host: as the other way round, and the
/// runtime directory, which containers share. A name that is no identifier may mean something else to who passes it on.
pub fn carried(entry: &[u8]) -> Option<&[u8]> {
    let name = name_of(entry)?;
    let shared = [b"XDG_RUNTIME_DIR", OP_ID.as_bytes(), DEPTH.as_bytes()].contains(&name);
    let wanted = shared || name != b"PWD" && matches!(rule(name), Rule::Callers | Rule::ServersFirst);
    (wanted && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')).then_some(name)
}

/// What a caller may set of a command where commands are denied by default: how it speaks and looks. Of the rest too much is
/// read as a program to start (`BASH_ENV`, `PAGER`, `LESSOPEN`, `GIT_SSH_COMMAND`, …) for a list of what is dangerous.
const HARMLESS: &[&str] = &["TERM", "COLORTERM", "LANG", "LANGUAGE", "TZ", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"];

/// Whether a `NAME=VALUE`, or a name, only changes how a command speaks and looks.
pub fn is_harmless(entry: &[u8]) -> bool {
    let name = name_of(entry).unwrap_or(entry);
    name.starts_with(b"LC_") || HARMLESS.iter().any(|known| known.as_bytes() == name)
}

/// What a caller asked for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wanted<'a> {
    /// NUL-terminated strings, here and below.
    pub callers: &'a [u8],
    pub set: &'a [u8],
    pub unset: &'a [u8],
    pub clear: bool,
    /// Of the caller's only what is harmless.
    pub narrow: bool,
}

/// The name in `NAME=VALUE`; a string without `=`, or with nothing before it, is no variable and is not passed on.
fn name_of(entry: &[u8]) -> Option<&[u8]> {
    entry.iter().position(|&b| b == b'=').filter(|at| *at > 0).map(|at| &entry[..at])
}

/// The strings of a run of NUL-terminated ones.
pub fn strings(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let next = CStr::from_bytes_until_nul(rest).ok()?.to_bytes();
        rest = &rest[next.len() + 1..];
        Some(next)
    })
}

/// How many bridges the caller itself has come through.
pub fn depth(callers: &[u8]) -> u32 {
    let digits = strings(callers).find_map(|entry| entry.strip_prefix(DEPTH.as_bytes())?.strip_prefix(b"="));
    depth_of(digits)
}

/// The same from the counter's value.
pub fn depth_of(value: Option<&[u8]>) -> u32 {
    value.map_or(0, |digits| std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(MAX_DEPTH))
}

/// A server's own environment, and what of it a command may have: looked through once, not for each command.
#[derive(Default)]
pub struct Base {
    /// All of it, as NUL-terminated strings.
    pub bytes: Vec<u8>,
    /// Where a variable that commands may have lies, and the length of its name; in the order of names, each once.
    given: Vec<(Range<usize>, usize)>,
}

impl Base {
    pub fn new(bytes: Vec<u8>) -> Base {
        let given = Variables::sorted(&mut variables(&bytes).filter(|(name, _)| !is_ours(name) && rule(name) != Rule::DroppedOnBothSides), Which::First);
        let start = |entry: &[u8]| entry.as_ptr() as usize - bytes.as_ptr() as usize;
        let given = given.0.iter().map(|v| (start(v.entry)..start(v.entry) + v.entry.len(), v.name.len())).collect();
        Base { bytes, given }
    }

    fn name(&self, (entry, length): &(Range<usize>, usize)) -> &[u8] {
        &self.bytes[entry.start..entry.start + length]
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.given.binary_search_by(|given| self.name(given).cmp(name)).is_ok()
    }
}

/// The command's environment as NUL-terminated strings. Sorted, not searched: a hostile caller sends a million variables.
pub fn merge(base: &Base, wanted: Wanted<'_>, directory: &[u8], op: OpId) -> Vec<u8> {
    let set = Variables::sorted(&mut variables(wanted.set), Which::Last);
    let unset = Variables::sorted(&mut strings(wanted.unset).map(|name| (name, name)), Which::First);
    let is_settled = |name: &[u8]| unset.contain(name) || set.contain(name);

    let mut out = Vec::with_capacity(base.bytes.len() + wanted.callers.len() + wanted.set.len() + directory.len() + 64);
    let mut push = |entry: &[u8]| {
        out.extend_from_slice(entry);
        out.push(0);
    };
    if !wanted.clear {
        let is_callers = |name: &[u8]| match rule(name) {
            _ if wanted.narrow && !is_harmless(name) => false,
            Rule::Callers => !is_ours(name) && !is_settled(name),
            Rule::ServersFirst => !is_settled(name) && !base.contains(name),
            Rule::Servers | Rule::Nobodys | Rule::DroppedOnBothSides => false,
        };
        let callers = Variables::sorted(&mut variables(wanted.callers).filter(|(name, _)| is_callers(name)), Which::First);
        callers.0.iter().for_each(|variable| push(variable.entry));
        let mut over = callers.0.iter().peekable();
        for given in &base.given {
            let name = base.name(given);
            while over.next_if(|caller| caller.name < name).is_some() {}
            if over.peek().is_none_or(|caller| caller.name != name) && !is_settled(name) {
                push(&base.bytes[given.0.clone()]);
            }
        }
    }
    let chosen = set.0.iter().filter(|variable| variable.name == b"PWD" || !is_ours(variable.name));
    chosen.for_each(|variable| push(variable.entry));
    if !set.contain(b"PWD") && !unset.contain(b"PWD") {
        push(&[b"PWD=", directory].concat());
    }
    push(format!("{OP_ID}={op}").as_bytes());
    push(format!("{DEPTH}={}", depth(wanted.callers).saturating_add(1)).as_bytes());
    out
}

/// The variables among `NAME=VALUE` strings: name, and all of it.
fn variables(entries: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    strings(entries).filter_map(|entry| Some((name_of(entry)?, entry)))
}

/// Which of several variables with the same name counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// As getenv(3) has it.
    First,
    Last,
}

struct Variable<'a> {
    /// The first bytes of the name, as a number: mostly that is all that is compared.
    rank: u64,
    name: &'a [u8],
    entry: &'a [u8],
}

/// Variables in the order of their names, each once.
struct Variables<'a>(Vec<Variable<'a>>);

impl<'a> Variables<'a> {
    /// From names and entries that all lie in one run of bytes, so that the lower address is the earlier string.
    fn sorted(all: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>, which: Which) -> Variables<'a> {
        let rank = |name: &[u8]| (0..8).fold(0, |rank, at| rank << 8 | u64::from(name.get(at).copied().unwrap_or(0)));
        let mut all: Vec<Variable<'a>> = all.map(|(name, entry)| Variable { rank: rank(name), name, entry }).collect();
        let place = |v: &Variable<'_>| if which == Which::First { v.entry.as_ptr() as usize } else { usize::MAX - v.entry.as_ptr() as usize };
        all.sort_unstable_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.name.cmp(b.name)).then_with(|| place(a).cmp(&place(b))));
        all.dedup_by(|dropped, kept| dropped.name == kept.name);
        Variables(all)
    }

    fn contain(&self, name: &[u8]) -> bool {
        self.0.binary_search_by(|variable| variable.name.cmp(name)).is_ok()
    }
}

/// Names whose value is decided here.
fn is_ours(name: &[u8]) -> bool {
    name == b"PWD" || name == DEPTH.as_bytes() || name == OP_ID.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(server: &[u8], wanted: Wanted<'_>) -> Vec<String> {
        let op = OpId::parse(b"op-00000000000a").unwrap();
        strings(&merge(&Base::new(server.to_vec()), wanted, b"/d", op)).map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    fn callers(bytes: &[u8]) -> Wanted<'_> {
        Wanted { callers: bytes, ..Wanted::default() }
    }

    const TAIL: [&str; 3] = ["PWD=/d", "BKT_OP_ID=op-00000000000a", "BKT_DEPTH=1"];

    #[test]
    fn each_rule_of_the_table_holds_for_each_of_its_names() {
        for (rule, names) in RULES {
            for pattern in *names {
                let name = pattern.replace('*', "X");
                if name == DEPTH || name == OP_ID {
                    continue;
                }
                let (server, caller) = (format!("{name}=server\0"), format!("{name}=caller\0"));
                let both = merged(server.as_bytes(), callers(caller.as_bytes()));
                let alone = merged(b"", callers(caller.as_bytes()));
                let has = |all: &[String], value: &str| all.contains(&format!("{name}={value}"));
                match rule {
                    Rule::Servers | Rule::Nobodys => assert!(has(&both, "server") && !has(&alone, "caller"), "{name}"),
                    Rule::ServersFirst => assert!(has(&both, "server") && has(&alone, "caller"), "{name}"),
                    Rule::DroppedOnBothSides => assert!(!has(&both, "server") && !has(&both, "caller") && !has(&alone, "caller"), "{name}"),
                    Rule::Callers => unreachable!("the default has no row"),
                }
            }
        }
        let mine = merged(b"TERM=dumb\0KEEP=1\0", callers(b"TERM=xterm\0MINE=\xff\0"));
        assert!(mine.contains(&"TERM=xterm".into()) && mine.contains(&"KEEP=1".into()) && !mine.contains(&"TERM=dumb".into()));
    }

    #[test]
    fn a_container_gets_its_callers_variables_but_not_the_hosts_places() {
        for name in ["TERM", "LANG", "DISPLAY", "MINE", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "BKT_OP_ID", "BKT_DEPTH"] {
            assert_eq!(carried(format!("{name}=x=y").as_bytes()), Some(name.as_bytes()));
        }
        for entry in ["PATH=/x", "HOME=/x", "PWD=/x", "LD_PRELOAD=/x", "CONTAINER_ID=x", "XDG_DATA_DIRS=/x", "BKT_SOCKET=/x", "BASH_FUNC_f%%=() { :; }", "A*=x", "nonsense", "=x"] {
            assert_eq!(carried(entry.as_bytes()), None, "{entry}");
        }
    }

    #[test]
    fn set_wins_over_unset_wins_over_everything() {
        let wanted = Wanted { callers: b"A=caller\0B=caller\0", set: b"A=set\0PATH=/mine\0", unset: b"A\0B\0C\0", ..Wanted::default() };
        let mut expected = vec!["D=server", "A=set", "PATH=/mine"];
        expected.extend(TAIL);
        assert_eq!(merged(b"C=server\0D=server\0PATH=/usr\0", wanted), expected);
    }

    #[test]
    fn a_narrowed_caller_sets_how_a_command_speaks_and_looks_and_nothing_else() {
        let callers = b"TERM=xterm\0LC_ALL=C\0BASH_ENV=/x\0PAGER=x\0GNUPGHOME=/x\0LCX=1\0LD_PRELOAD=x\0";
        let all = merge(&Base::new(b"PAGER=less\0".to_vec()), Wanted { callers, narrow: true, ..Wanted::default() }, b"/", OpId::from_bits(1).unwrap());
        let names: Vec<&[u8]> = strings(&all).map(|entry| name_of(entry).unwrap()).collect();
        assert_eq!(names, [&b"LC_ALL"[..], b"TERM", b"PAGER", b"PWD", b"BKT_OP_ID", b"BKT_DEPTH"]);
        assert!(strings(&all).any(|entry| entry == b"PAGER=less"));
    }

    #[test]
    fn clear_leaves_only_what_was_set_and_what_is_ours() {
        let wanted = Wanted { callers: b"A=1\0", set: b"B=2\0", clear: true, ..Wanted::default() };
        let mut expected = vec!["B=2"];
        expected.extend(TAIL);
        assert_eq!(merged(b"C=3\0", wanted), expected);
    }

    #[test]
    fn the_depth_is_counted_and_a_forged_one_counts_as_too_deep() {
        assert_eq!(depth(b"A=1\0"), 0);
        assert_eq!(depth(b"BKT_DEPTH=3\0"), 3);
        assert_eq!(depth(b"BKT_DEPTH=-1\0"), MAX_DEPTH);
        assert!(merged(b"BKT_DEPTH=9\0", callers(b"BKT_DEPTH=3\0")).contains(&"BKT_DEPTH=4".into()));
    }

    #[test]
    fn what_is_no_variable_is_left_out_and_the_first_of_a_name_wins() {
        let mut expected = vec!["A=1"];
        expected.extend(TAIL);
        assert_eq!(merged(b"=x\0", callers(b"nonsense\0=1\0A=1\0A=2\0")), expected);
        // Of what was typed, the last.
        let wanted = Wanted { set: b"A=3\0B=1\0A=2\0A=1\0", ..Wanted::default() };
        assert_eq!(merged(b"", wanted)[..2], ["A=1", "B=1"]);
    }
}
