//! The policy document and how it is applied.
//!
//! ```json
//! {"listeners": {"host": {"host_exec": {
//!     "default": "deny",
//!     "rules": [{"allow": "systemctl", "arguments": ["--user", "status", "**"]}, {"allow": "journalctl"}]
//! }}}}
//! ```
//!
//! A listener has capabilities: `host_exec`, running commands, and beside it `"notify": "deny"`, `"clipboard": "deny"` and
//! `"xdg_open": {"default": "allow", "schemes": ["https"]}`. Of `host_exec`, the first rule that matches decides, else the
//! default. `host` is the user's own socket, which allows what is not named; `container:NAME` is a socket made for one container,
//! which denies it. There, `enter` says which containers may be entered, and `users` who may call.
//!
//! An allowing rule is read narrowly, a denying one widely, so that neither a path nor a second name is a way round:
//!
//! | rule's command | allows | denies |
//! |---|---|---|
//! | a name | that name; a path only if it is the very file that the name finds here | that name with any path before it, and whatever is a link to a file of that name |
//! | a path | that path as it stands; a name that finds it | that path, and whatever leads to it |

use crate::policy::pattern::{self, REST};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The schemes of URIs that may be opened unless others are named: what only shows something, or asks its user first.
const SCHEMES: &str = "http,https,mailto,tel";

/// The whole file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `listeners`")]
pub struct Policy {
    /// For editors; nothing is read from there.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    listeners: Listeners,
}

/// The user's own socket.
const HOST: &str = "host";
/// What begins the name of a container's listener.
const CONTAINER: &str = "container:";
/// The longest name of a container: in `sun_path` (unix(7)) there must be room for the runtime directory too.
const MAX_NAME_BYTES: usize = 64;

/// A listener of which the document says nothing any more, though somebody still talks there.
static NOTHING: Listener = Listener {
    host_exec: Some(HostExec { default: Verdict::Deny, rules: vec![] }),
    notify: Some(Verdict::Deny),
    xdg_open: Some(XdgOpen { default: Verdict::Deny, schemes: None }),
    clipboard: Some(Verdict::Deny),
    enter: None,
    users: None,
};

/// By name; `host` is the user's own socket. What is not named there is as if there were no file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Listeners {
    host: Option<Listener>,
    containers: Vec<(String, Listener)>,
}

/// One listener's capabilities: `None` is allowed, and in a container's replaced by a denial.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `host_exec`, `notify`, `xdg_open`, `clipboard`")]
pub struct Listener {
    #[serde(default)]
    host_exec: Option<HostExec>,
    #[serde(default)]
    notify: Option<Verdict>,
    #[serde(default)]
    xdg_open: Option<XdgOpen>,
    #[serde(default)]
    clipboard: Option<Verdict>,
    #[serde(default)]
    enter: Option<Enter>,
    #[serde(default)]
    users: Option<Users>,
}

/// Containers that may be entered.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Enter {
    All(bool),
    Named(Vec<String>),
}

/// Whose processes may call, by what the kernel says of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Users {
    /// The daemon's own.
    Same,
    /// Also those of its subordinate ids: what the users of a rootless container are outside, subuid(5).
    Mapped,
}

impl<'de> Deserialize<'de> for Listeners {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Listeners, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Listeners;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("listeners by name: `host`, `container:NAME`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listeners, A::Error> {
                let mut all = Listeners::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key != HOST && !key.starts_with(CONTAINER) {
                        return Err(de::Error::unknown_field(&key, &[HOST, "container:NAME"]));
                    }
                    let name = all.fresh(&key).map_err(de::Error::custom)?.to_string();
                    let listener: Listener = map.next_value()?;
                    if !name.is_empty() {
                        all.containers.push((name, listener.closed()));
                    } else if listener.enter.is_some() || listener.users.is_some() {
                        return Err(de::Error::custom("`enter` and `users` are for a container's listener: `container:NAME`"));
                    } else {
                        all.host = Some(listener);
                    }
                }
                Ok(all)
            }
        }
        from.deserialize_map(Read)
    }
}

impl Listeners {
    /// The container's name in a key that has not been there yet; empty for the user's own socket.
    fn fresh<'a>(&self, key: &'a str) -> Result<&'a str, &'static str> {
        let name = match key.strip_prefix(CONTAINER) {
            None => "",
            Some(name) if is_name(name) => name,
            Some(_) => return Err("a container's name has 1 to 64 letters, digits, and `_`, `.`, `-`, and begins with a letter or a digit"),
        };
        let known = if name.is_empty() { self.host.is_some() } else { self.containers.iter().any(|(known, _)| known == name) };
        if known { Err("this listener stands here twice") } else { Ok(name) }
    }
}

/// As podman(1) has it; it becomes a directory's name.
fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    name.len() <= MAX_NAME_BYTES && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(fits)
}

impl<'de> Deserialize<'de> for Enter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Enter, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Enter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`allow`, `deny`, or a list of containers' names")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Enter, E> {
                match word {
                    "allow" => Ok(Enter::All(true)),
                    "deny" => Ok(Enter::All(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Enter, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Enter::Named)
            }
        }
        from.deserialize_any(Read)
    }
}

/// Files that both sides have, or that are handed over, and URIs of these schemes.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct XdgOpen {
    default: Verdict,
    #[serde(default)]
    schemes: Option<Vec<Scheme>>,
}

/// As RFC 3986 has it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Scheme(String);

impl TryFrom<String> for Scheme {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Scheme, &'static str> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.bytes().all(fits) {
            return Err("a scheme is what stands before the colon: `https`");
        }
        // What is at a path is said by the file itself, never by a name.
        if text.eq_ignore_ascii_case("file") { Err("`file` is no scheme to allow: files are opened by their paths") } else { Ok(Scheme(text)) }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `default` and `rules`")]
struct HostExec {
    default: Verdict,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Written")]
struct Rule {
    verdict: Verdict,
    command: String,
    /// `None` is any.
    arguments: Option<Vec<String>>,
}

/// A rule as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    allow: Option<String>,
    #[serde(default)]
    deny: Option<String>,
    #[serde(default)]
    arguments: Option<Vec<String>>,
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Rule, &'static str> {
        let (verdict, command) = match (written.allow, written.deny) {
            (Some(command), None) => (Verdict::Allow, command),
            (None, Some(command)) => (Verdict::Deny, command),
            _ => return Err("this rule wants either `allow` or `deny`, with a command's name"),
        };
        if command.is_empty() || command.contains('/') && !command.starts_with('/') {
            return Err("a command is a name (`systemctl`) or an absolute path (`/usr/bin/systemctl`)");
        }
        let arguments = written.arguments;
        if arguments.as_ref().and_then(|all| all.split_last()).is_some_and(|(_, before)| before.iter().any(|a| a == REST)) {
            return Err("`**` stands for all further arguments and can only be the last of them");
        }
        Ok(Rule { verdict, command, arguments })
    }
}

/// A command that is asked for, with what the disk says of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// As the caller has it: a name, or a path.
    pub name: &'a [u8],
    pub arguments: &'a [&'a [u8]],
    /// The file that a search for the name's last component finds.
    pub found: &'a [u8],
    /// The file that is to be run, links followed.
    pub real: &'a [u8],
}

/// What the policy says of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    Allowed,
    /// The words of the rule that denies it; `None` is the default.
    Denied(Option<String>),
}

impl Policy {
    /// As it is without a file: everything.
    pub fn everything() -> Policy {
        Policy::default()
    }

    /// Nothing at all.
    pub fn nothing() -> Policy {
        Policy { _schema: None, listeners: Listeners { host: Some(NOTHING.clone()), containers: vec![] } }
    }

    /// Of the user's own socket, or of a container's.
    pub fn listener(&self, container: Option<&str>) -> &Listener {
        static EVERYTHING: Listener = Listener { host_exec: None, notify: None, xdg_open: None, clipboard: None, enter: None, users: None };
        match container {
            None => self.listeners.host.as_ref().unwrap_or(&EVERYTHING),
            Some(name) => self.listeners.containers.iter().find(|(known, _)| known == name).map_or(&NOTHING, |(_, listener)| listener),
        }
    }

    /// Those that have a socket of their own, and who may call there.
    pub fn containers(&self) -> impl Iterator<Item = (&str, Users)> {
        self.listeners.containers.iter().map(|(name, listener)| (&**name, listener.users.unwrap_or(Users::Same)))
    }
}

impl Listener {
    /// Nothing but what is named.
    fn closed(self) -> Listener {
        Listener {
            host_exec: self.host_exec.or_else(|| NOTHING.host_exec.clone()),
            notify: self.notify.or(NOTHING.notify),
            xdg_open: self.xdg_open.or_else(|| NOTHING.xdg_open.clone()),
            clipboard: self.clipboard.or(NOTHING.clipboard),
            ..self
        }
    }

    /// Whether a container's processes may enter another one.
    pub fn enters(&self, container: &[u8]) -> bool {
        match &self.enter {
            None => false,
            Some(Enter::All(allowed)) => *allowed,
            Some(Enter::Named(names)) => names.iter().any(|name| name.as_bytes() == container),
        }
    }

    pub fn allows_notify(&self) -> bool {
        self.notify != Some(Verdict::Deny)
    }

    pub fn allows_clipboard(&self) -> bool {
        self.clipboard != Some(Verdict::Deny)
    }

    pub fn allows_open(&self) -> bool {
        self.xdg_open.as_ref().is_none_or(|open| open.default == Verdict::Allow)
    }

    /// The schemes of URIs that may be opened, with commas between.
    pub fn schemes(&self) -> String {
        match self.xdg_open.as_ref().and_then(|open| open.schemes.as_ref()) {
            None => SCHEMES.to_string(),
            Some(all) => all.iter().map(|scheme| scheme.0.as_str()).collect::<Vec<_>>().join(","),
        }
    }

    /// Nothing is denied: there is no need to look at the disk before judging.
    pub fn allows_every_command(&self) -> bool {
        self.host_exec().is_none_or(|exec| exec.default == Verdict::Allow && exec.rules.iter().all(|rule| rule.verdict == Verdict::Allow))
    }

    /// No command can be allowed.
    pub fn allows_no_command(&self) -> bool {
        self.host_exec().is_some_and(|exec| exec.default == Verdict::Deny && exec.rules.iter().all(|rule| rule.verdict == Verdict::Deny))
    }

    /// Commands are denied unless a rule allows them.
    pub fn denies_by_default(&self) -> bool {
        self.host_exec().is_some_and(|exec| exec.default == Verdict::Deny)
    }

    fn host_exec(&self) -> Option<&HostExec> {
        self.host_exec.as_ref()
    }

    pub fn judge(&self, asked: Asked<'_>) -> Judgement {
        let Some(exec) = self.host_exec() else { return Judgement::Allowed };
        match exec.rules.iter().find(|rule| rule.is_for(asked)) {
            Some(Rule { verdict: Verdict::Allow, .. }) => Judgement::Allowed,
            Some(rule) => Judgement::Denied(Some(rule.words())),
            None if exec.default == Verdict::Allow => Judgement::Allowed,
            None => Judgement::Denied(None),
        }
    }

    /// The same for what nobody has looked for yet: `look` finds the file that is to be run. It is asked only where that could still
    /// deny what is allowed else, never for a path of a stranger's making: that may lie where no answer ever comes.
    pub fn judge_unseen(&self, asked: Asked<'_>, look: impl FnOnce() -> Vec<u8>) -> Judgement {
        match self.judge(asked) {
            Judgement::Allowed => self.judge(Asked { real: &look(), ..asked }),
            denied => denied,
        }
    }

    /// What is allowed, in the words of the rules.
    pub fn allowed(&self) -> impl Iterator<Item = String> {
        let rules = self.host_exec().map_or(&[][..], |exec| &exec.rules);
        rules.iter().filter(|rule| rule.verdict == Verdict::Allow).map(Rule::words)
    }
}

impl Rule {
    fn is_for(&self, asked: Asked<'_>) -> bool {
        let command = match self.verdict {
            Verdict::Allow => self.allows(asked),
            Verdict::Deny => self.denies(asked),
        };
        command && self.arguments.as_ref().is_none_or(|patterns| pattern::all_match(patterns, asked.arguments))
    }

    fn allows(&self, asked: Asked<'_>) -> bool {
        let is = |text: &[u8]| pattern::matches(self.command.as_bytes(), text);
        let by_path = asked.name.contains(&b'/');
        if self.command.starts_with('/') {
            if by_path { is_plain(asked.name) && is(asked.name) } else { is_plain(asked.found) && is(asked.found) }
        } else {
            is(base(asked.name)) && (!by_path || asked.name == asked.found)
        }
    }

    fn denies(&self, asked: Asked<'_>) -> bool {
        let is = |text: &[u8]| pattern::matches(self.command.as_bytes(), text);
        if self.command.starts_with('/') {
            let by_name = !asked.name.contains(&b'/');
            is(asked.name) || is(asked.real) || by_name && is(asked.found)
        } else {
            is(base(asked.name)) || is(base(asked.real))
        }
    }

    /// As a person would type it.
    fn words(&self) -> String {
        let mut words = self.command.clone();
        for pattern in self.arguments.iter().flatten() {
            words.push(' ');
            words.push_str(if pattern.is_empty() { "''" } else { pattern });
        }
        // The file is the user's own, and the sentence goes to a terminal.
        words.retain(|c| !c.is_control());
        words
    }
}

/// The last component.
fn base(name: &[u8]) -> &[u8] {
    name.rsplit(|b| *b == b'/').next().unwrap_or(b"")
}

/// An absolute path that says where it leads: no `.`, no `..`, nothing empty.
fn is_plain(path: &[u8]) -> bool {
    path.strip_prefix(b"/").is_some_and(|rest| rest.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(host_exec: &str) -> Policy {
        serde_json::from_str(&format!(r#"{{"listeners": {{"host": {{"host_exec": {host_exec}}}}}}}"#)).unwrap()
    }

    /// Whether a command is allowed that is found at `found` and really is `real`.
    fn allows(policy: &Policy, line: &[&str], found: &str, real: &str) -> bool {
        let arguments: Vec<&[u8]> = line[1..].iter().map(|a| a.as_bytes()).collect();
        let asked = Asked { name: line[0].as_bytes(), arguments: &arguments, found: found.as_bytes(), real: real.as_bytes() };
        policy.listener(None).judge(asked) == Judgement::Allowed
    }

    #[test]
    fn without_a_word_on_commands_everything_is_allowed() {
        for text in [r#"{"listeners": {}}"#, r#"{"$schema": "x", "listeners": {"host": {}}}"#] {
            let policy: Policy = serde_json::from_str(text).unwrap();
            assert!(policy.listener(None).allows_every_command() && !policy.listener(None).denies_by_default());
            assert!(allows(&policy, &["/any/thing"], "", ""));
        }
        assert!(Policy::everything().listener(None).allows_every_command());
        assert!(Policy::nothing().listener(None).allows_no_command() && !allows(&Policy::nothing(), &["ls"], "/bin/ls", "/bin/ls"));
    }

    #[test]
    fn each_capability_is_granted_unless_it_is_denied() {
        let read = |text: &str| serde_json::from_str::<Policy>(&format!(r#"{{"listeners": {{"host": {{{text}}}}}}}"#)).map(|policy| policy.listener(None).clone());
        let all = read("").unwrap();
        assert!(all.allows_notify() && all.allows_clipboard() && all.allows_open() && all.schemes() == SCHEMES);
        let none = read(r#""notify": "deny", "clipboard": "deny", "xdg_open": {"default": "deny"}"#).unwrap();
        assert!(!none.allows_notify() && !none.allows_clipboard() && !none.allows_open() && none.allows_every_command());
        let nothing = &NOTHING;
        assert!(!nothing.allows_notify() && !nothing.allows_clipboard() && !nothing.allows_open());
        let own = read(r#""xdg_open": {"default": "allow", "schemes": ["https", "vscode"]}"#).unwrap();
        assert!(own.allows_open() && own.schemes() == "https,vscode");
        assert_eq!(read(r#""xdg_open": {"default": "allow", "schemes": []}"#).unwrap().schemes(), "");
        for wrong in [
            r#""notify": true"#,
            r#""xdg_open": {"schemes": ["https"]}"#,
            r#""xdg_open": {"default": "allow", "schemes": ["https:"]}"#,
            r#""xdg_open": {"default": "allow", "schemes": ["FILE"]}"#,
            r#""teleport": "allow""#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_else_the_default() {
        let rules = r#"[{"deny": "podman", "arguments": ["system", "**"]}, {"allow": "podman"}, {"deny": "*"}]"#;
        let policy = policy(&format!(r#"{{"default": "allow", "rules": {rules}}}"#));
        assert!(allows(&policy, &["podman", "ps"], "/bin/podman", "/bin/podman"));
        assert!(!allows(&policy, &["podman", "system", "reset"], "/bin/podman", "/bin/podman"));
        assert!(!allows(&policy, &["ls"], "/bin/ls", "/bin/ls"));
    }

    #[test]
    fn an_allowed_name_is_that_name_or_the_very_file_it_finds() {
        let policy = policy(r#"{"default": "deny", "rules": [{"allow": "ls"}]}"#);
        assert!(allows(&policy, &["ls"], "/bin/ls", "/bin/ls"));
        assert!(allows(&policy, &["/bin/ls"], "/bin/ls", "/usr/bin/ls"));
        // A file of the caller's making; a second name; the same file under a name of the caller's making.
        for line in ["/tmp/ls", "./ls", "bin/ls", "/bin/../bin/ls", "lsx", "/bin/sh"] {
            assert!(!allows(&policy, &[line], "/bin/ls", "/bin/ls"), "{line}");
        }
    }

    #[test]
    fn an_allowed_path_is_that_path_as_it_stands() {
        let policy = policy(r#"{"default": "deny", "rules": [{"allow": "/opt/tools/*"}]}"#);
        assert!(allows(&policy, &["/opt/tools/a"], "", "") && allows(&policy, &["a"], "/opt/tools/a", ""));
        for line in ["/opt/tools/../sh", "/opt/tools/./a", "/opt/tools//a", "/opt/tool/a"] {
            assert!(!allows(&policy, &[line], "/bin/sh", "/bin/sh"), "{line}");
        }
    }

    #[test]
    fn a_denied_name_is_denied_by_every_path_and_every_link_to_it() {
        let policy = policy(r#"{"default": "allow", "rules": [{"deny": "podman"}, {"deny": "/opt/secret"}]}"#);
        for (line, real) in
            [("podman", "/bin/podman"), ("/bin/podman", "/bin/podman"), ("./podman", ""), ("docker", "/usr/bin/podman"), ("/tmp/x", "/usr/bin/podman"), ("/tmp/y", "/opt/secret")]
        {
            assert!(!allows(&policy, &[line], "", real), "{line}");
        }
        assert!(!allows(&policy, &["secret"], "/opt/secret", ""));
        assert!(allows(&policy, &["ls"], "/bin/ls", "/bin/ls"));
    }

    #[test]
    fn what_is_denied_anyway_is_not_looked_for() {
        let policy = policy(r#"{"default": "deny", "rules": [{"deny": "sh"}, {"allow": "ls"}, {"allow": "/opt/tools/*"}]}"#);
        let judge = |name: &str, look: &dyn Fn() -> Vec<u8>| policy.listener(None).judge_unseen(Asked { name: name.as_bytes(), found: b"/bin/ls", ..Asked::default() }, look);
        for name in ["/proc/7/root/mnt/x", "/tmp/ls", "./ls", "/bin/../bin/ls", "/opt/tools/../x", "/bin/sh"] {
            assert!(matches!(judge(name, &|| panic!("{name} was looked for")), Judgement::Denied(_)));
        }
        assert_eq!(judge("/opt/tools/x", &|| b"/opt/tools/x".to_vec()), Judgement::Allowed);
        assert_eq!(judge("/opt/tools/x", &|| b"/usr/bin/sh".to_vec()), Judgement::Denied(Some("sh".into())));
    }

    #[test]
    fn what_is_allowed_can_be_told() {
        let policy = policy(r#"{"default": "deny", "rules": [{"allow": "systemctl", "arguments": ["--user", "", "**"]}, {"deny": "x"}, {"allow": "ls"}]}"#);
        assert_eq!(policy.listener(None).allowed().collect::<Vec<_>>(), ["systemctl --user '' **", "ls"]);
        let asked = Asked { name: b"x", ..Asked::default() };
        assert_eq!(policy.listener(None).judge(asked), Judgement::Denied(Some("x".into())));
        assert_eq!(policy.listener(None).judge(Asked { name: b"y", ..asked }), Judgement::Denied(None));
    }

    #[test]
    fn a_containers_socket_denies_what_is_not_named() {
        let policy: Policy =
            serde_json::from_str(r#"{"listeners": {"container:dev": {"notify": "allow", "enter": ["web"], "users": "mapped"}, "container:web": {"enter": "allow"}}}"#).unwrap();
        let dev = policy.listener(Some("dev"));
        assert!(dev.allows_notify() && !dev.allows_clipboard() && !dev.allows_open() && dev.allows_no_command());
        assert!(dev.enters(b"web") && !dev.enters(b"dev") && policy.listener(Some("web")).enters(b"dev"));
        assert_eq!(policy.containers().collect::<Vec<_>>(), [("dev", Users::Mapped), ("web", Users::Same)]);
        assert!(policy.listener(None).allows_every_command(), "the user's own is as without a file");
        assert_eq!(policy.listener(Some("gone")), &NOTHING);
    }

    #[test]
    fn a_containers_name_is_one_and_stands_there_once() {
        let read = |text: &str| serde_json::from_str::<Policy>(&format!(r#"{{"listeners": {{{text}}}}}"#)).map_err(|e| e.to_string());
        for name in ["", ".", "..", "-a", ".a", "a/b", "a\\u0000", "a b", "\u{e4}", &"x".repeat(65)] {
            assert!(read(&format!(r#""container:{name}": {{}}"#)).unwrap_err().contains("a container's name has"), "{name:?}");
        }
        assert!(read(&format!(r#""container:{}": {{}}"#, "x".repeat(64))).is_ok());
        assert!(read(r#""container:a": {}, "container:a": {}"#).unwrap_err().contains("twice"));
        assert!(read(r#""host": {}, "host": {}"#).unwrap_err().contains("twice"));
        assert!(read(r#""host": {"enter": "allow"}"#).unwrap_err().contains("for a container's listener"));
        assert!(read(r#""container:a": {"enter": "some"}"#).unwrap_err().contains("a list of containers' names"));
        assert!(read(r#""guest": {}"#).unwrap_err().contains("`host` or `container:NAME`"));
    }
}
