//! The manifest: the shims that a person wants, declared once (`$XDG_CONFIG_HOME/bkt/shims.json`).
//!
//! Everything is checked while it is read, so that each error has its line and column. `shims.schema.json` beside this file says
//! the same to editors; a test holds the two together.

use crate::document;
use crate::error::{Error, Result};
use crate::proto::capability::Capability;
use crate::shims::place::Places;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// The published schema.
pub const SCHEMA: &str = include_str!("shims.schema.json");

/// The longest file name, `NAME_MAX` of limits.h.
const NAME_MAX: usize = 255;

/// What the name of a shim runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The host's command, from a container.
    Host,
    /// A container's program, from everywhere.
    Distrobox,
    /// The file itself.
    HostOnly,
}

impl Mode {
    pub fn word(self) -> &'static str {
        match self {
            Mode::Host => "host",
            Mode::Distrobox => "distrobox",
            Mode::HostOnly => "host-only",
        }
    }

    pub fn of_word(word: &str) -> Option<Mode> {
        [Mode::Host, Mode::Distrobox, Mode::HostOnly].into_iter().find(|mode| mode.word() == word)
    }
}

#[derive(Deserialize, Serialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For editors.
    #[serde(rename = "$schema", default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    /// Where the programs of `distrobox` shims are that do not say it themselves.
    #[serde(default, deserialize_with = "container", skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, deserialize_with = "distinct")]
    pub shims: Vec<Shim>,
}

/// One shim; the fields go together as [`Shim::mode`] says.
#[derive(Deserialize, Serialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(try_from = "Fields")]
pub struct Shim {
    pub name: String,
    /// The program, with the home directory as `~`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub host_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// As it stands in the file, each field by itself right.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(deserialize_with = "name")]
    name: String,
    #[serde(default, deserialize_with = "source")]
    source: Option<String>,
    #[serde(default)]
    host_only: bool,
    #[serde(default, deserialize_with = "present")]
    host: Option<Host>,
    #[serde(default, deserialize_with = "container")]
    container: Option<String>,
}

/// The host's command: of the shim's own name, or of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    SameName,
    Command(String),
}

impl Shim {
    pub fn mode(&self) -> Mode {
        match (&self.host, self.host_only) {
            (Some(_), _) => Mode::Host,
            (None, true) => Mode::HostOnly,
            (None, false) => Mode::Distrobox,
        }
    }

    /// What a person sees as the source: the host's command, or the program's path.
    pub fn shown_source(&self) -> &str {
        match (&self.host, &self.source) {
            (Some(Host::Command(command)), _) => command,
            (Some(Host::SameName), _) => &self.name,
            (None, source) => source.as_deref().unwrap_or_default(),
        }
    }

    /// Whether the fields go together.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let is_taken = match self.mode() {
            Mode::Host => is_own_name(name),
            // A container may have an `xclip` of its own.
            Mode::Distrobox => is_of_bkt(name.as_bytes()),
            Mode::HostOnly => false,
        };
        if is_taken {
            return Err(format!("'{name}' is a name of bkt itself; it can be \"host_only\" and nothing else"));
        }
        match self.mode() {
            Mode::Host if self.source.is_some() || self.container.is_some() || self.host_only => {
                Err(format!("'{name}' has \"host\": \"source\", \"container\" and \"host_only\" do not go with that"))
            }
            Mode::HostOnly if self.container.is_some() => Err(format!("'{name}' is \"host_only\": \"container\" does not go with that")),
            Mode::HostOnly | Mode::Distrobox if self.source.is_none() => Err(format!("'{name}' has neither \"source\" nor \"host\"; expected one of them")),
            _ => Ok(()),
        }
    }
}

impl TryFrom<Fields> for Shim {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Shim, String> {
        let Fields { name, source, host_only, host, container } = fields;
        let shim = Shim { name, source, host_only, host, container };
        shim.check().map(|()| shim)
    }
}

impl Manifest {
    /// The manifest of a home; an empty one where there is no file.
    pub fn read(places: &Places) -> Result<Manifest> {
        document::read::<Object<Manifest>>(&places.manifest).map(|found| found.map(|object| object.0).unwrap_or_default())
    }

    pub fn write(&self, places: &Places) -> Result<()> {
        document::write(&places.manifest, &document::text(self))
    }

    pub fn find(&self, name: &str, mode: Mode) -> Option<&Shim> {
        self.shims.iter().find(|shim| shim.name == name && shim.mode() == mode)
    }

    /// The container that a shim's program is in, where anybody says so.
    pub fn container_of<'a>(&'a self, shim: &'a Shim) -> Option<&'a str> {
        shim.container.as_deref().or(self.container.as_deref())
    }

    /// Puts a shim in the place of the one of the same name and mode, or at the end. Says whether that changed anything.
    pub fn put(&mut self, shim: Shim) -> bool {
        match self.shims.iter_mut().find(|known| known.name == shim.name && known.mode() == shim.mode()) {
            Some(known) if *known == shim => false,
            Some(known) => {
                *known = shim;
                true
            }
            None => {
                self.shims.push(shim);
                true
            }
        }
    }
}

/// Whether this executable has a meaning of its own for a name: a link of such a name is never a shim of the host's command. A test
/// holds this to the applets' table.
pub fn is_own_name(name: &str) -> bool {
    is_of_bkt(name.as_bytes()) || Capability::ALL.iter().any(|capability| capability.names().contains(&name))
}

/// Whether a name is bkt's alone, wherever the link is: `bkt`, and what begins so and goes on with another kind of character, as
/// roles do (`bkt-hostd`) and downloaded files (`bkt-0.1.0`, `bkt.1`, `bkt(1)`).
pub fn is_of_bkt(name: &[u8]) -> bool {
    name.strip_prefix(b"bkt").is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric))
}

/// What a name may be: one component of a path, and nothing that a shell, an option parser or a terminal takes for something else.
pub fn check_name(name: &str) -> Result<(), String> {
    let wrong = match name {
        "" => "is empty",
        _ if name.contains('/') => "contains '/'; expected a plain name",
        _ if name.starts_with(['-', '.']) => "begins with '-' or '.'",
        _ if name.contains(char::is_control) => "contains a control character",
        _ if name.len() > NAME_MAX => "is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(format!("the name {name:?} {wrong}"))
}

pub fn check_source(source: &str) -> Result<(), String> {
    let wrong = match source {
        _ if source.contains(char::is_control) => "contains a control character",
        _ if source.ends_with('/') || !(source.starts_with('/') || source.starts_with("~/")) => "is no path of a program; expected one that begins with '/' or '~/'",
        _ => return Ok(()),
    };
    Err(format!("the source {source:?} {wrong}"))
}

/// What podman, docker and distrobox take for a container's name.
pub fn check_container(container: &str) -> Result<(), String> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = container.bytes().all(inside) && container.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if good { Ok(()) } else { Err(format!("{container:?} is no container's name; expected letters, digits, '_', '.' and '-', and the first a letter or digit")) }
}

/// A field that may be left out, but not be null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The text of a field that passes a check.
fn checked<'de, D: Deserializer<'de>>(from: D, check: fn(&str) -> Result<(), String>) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    check(&text).map(|()| text).map_err(D::Error::custom)
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(from, check_name)
}

fn source<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked(from, check_source).map(Some)
}

fn container<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked(from, check_container).map(Some)
}

/// The list, in which a name stands once in a mode: checked at each element, so that an error is said behind it.
fn distinct<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Shim>, D::Error> {
    struct Distinct;
    impl<'de> Visitor<'de> for Distinct {
        type Value = Vec<Shim>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of shims")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<Shim>, A::Error> {
            let mut shims: Vec<Shim> = Vec::new();
            while let Some(Object(shim)) = all.next_element::<Object<Shim>>()? {
                if shims.iter().any(|known| known.name == shim.name && known.mode() == shim.mode()) {
                    return Err(A::Error::custom(format_args!("'{}' stands here a second time in mode {}", shim.name, shim.mode().word())));
                }
                shims.push(shim);
            }
            Ok(shims)
        }
    }
    from.deserialize_seq(Distinct)
}

/// What serde would also take from a list of values without their names, and must come from an object.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object<T>, D::Error> {
        struct Named<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_map(Named(PhantomData)).map(Object)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Host, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Host;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or the name of the host's command")
            }

            fn visit_bool<E: serde::de::Error>(self, same: bool) -> Result<Host, E> {
                if same { Ok(Host::SameName) } else { Err(E::invalid_value(serde::de::Unexpected::Bool(false), &self)) }
            }

            fn visit_str<E: serde::de::Error>(self, command: &str) -> Result<Host, E> {
                Host::named(command).map_err(E::custom)
            }
        }
        from.deserialize_any(Either)
    }
}

impl Host {
    /// The host's command of this name.
    pub fn named(command: &str) -> Result<Host, String> {
        check_name(command)?;
        if is_of_bkt(command.as_bytes()) { Err(format!("'{command}' is a name of bkt itself")) } else { Ok(Host::Command(command.to_string())) }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Host::SameName => to.serialize_bool(true),
            Host::Command(command) => to.serialize_str(command),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands it so.
fn is_false(value: &bool) -> bool {
    !value
}

/// A path as it stands in the manifest: below the home as `~`. What is no text cannot stand there.
pub fn to_source(path: &Path, home: &Path) -> Result<String> {
    let Some(text) = path.to_str() else {
        return Err(Error::new(format!("{} is not UTF-8, and a manifest can hold nothing else", path.display())));
    };
    match path.strip_prefix(home) {
        Ok(below) if home.parent().is_some() => Ok(format!("~/{}", below.display())),
        _ => Ok(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        document::parse::<Object<Manifest>>(text).map(|object| object.0)
    }

    /// As an earlier bkt wrote it.
    const FIRST: &str = r#"{
  "shims": [
    { "name": "cargo", "source": "~/.cargo/bin/cargo" },
    { "name": "rg", "source": "~/.cargo/bin/rg" },
    { "name": "locald", "source": "~/.cargo/bin/locald", "host_only": true },
    { "name": "bkt", "source": "~/.cargo/bin/bkt", "host_only": true }
  ]
}"#;

    #[test]
    fn the_first_form_is_read_as_it_stands() {
        let manifest = parse(FIRST).unwrap();
        let modes: Vec<_> = manifest.shims.iter().map(|shim| (shim.name.as_str(), shim.mode().word())).collect();
        assert_eq!(modes, [("cargo", "distrobox"), ("rg", "distrobox"), ("locald", "host-only"), ("bkt", "host-only")]);
        assert_eq!(parse(&document::text(&manifest)).unwrap(), manifest);
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_is_added() {
        let text = r#"{"$schema":"x","container":"dev","shims":[{"name":"bootc","host":true},{"name":"docker","host":"podman"},{"name":"rg","source":"/usr/bin/rg","container":"other"}]}"#;
        let manifest = parse(text).unwrap();
        let written: String = document::text(&manifest).split_whitespace().collect();
        assert_eq!(written, text);
        assert_eq!(manifest.container_of(&manifest.shims[2]), Some("other"));
    }

    #[test]
    fn an_invalid_manifest_is_an_error_with_a_place() {
        let shim = |fields: &str| format!("{{\"shims\": [\n  {{{fields}}}\n]}}");
        let table = [
            (shim(r#""name": "a/b", "source": "/x""#), "2:16: the name \"a/b\" contains '/'"),
            (shim(r#""name": "..", "source": "/x""#), "2:15: the name \"..\" begins with"),
            (shim(r#""name": "-x", "source": "/x""#), "2:15: the name \"-x\" begins with"),
            (shim(r#""name": "", "source": "/x""#), "2:13: the name \"\" is empty"),
            (shim(r#""name": "a\u001bb", "source": "/x""#), "control character"),
            (shim(&format!(r#""name": "{}", "source": "/x""#, "x".repeat(256))), "longer than 255"),
            (shim(r#""name": "bkt-hostd", "source": "/x""#), "a name of bkt itself"),
            (shim(r#""name": "x", "source": "bin/x""#), "2:34: the source \"bin/x\" is no path"),
            (shim(r#""name": "x""#), "neither \"source\" nor \"host\""),
            (shim(r#""name": "x", "host": true, "source": "/x""#), "do not go with that"),
            (shim(r#""name": "x", "host": false"#), "expected true, or the name"),
            (shim(r#""name": "x", "host": "a/b""#), "contains '/'"),
            (shim(r#""name": "x", "source": "/x", "colour": 1"#), "unknown field `colour`, expected one of `name`, `source`"),
            (shim(r#""name": "x", "source": "/x", "container": "a b""#), "no container's name"),
            (shim(r#""name": "x", "source": "/x", "host_only": "yes""#), "invalid type: string \"yes\", expected a boolean"),
            (shim(r#""name": "x", "source": "/x"}, {"name": "x", "source": "/y""#), "3:1: 'x' stands here a second time in mode distrobox"),
            ("{\"shims\": {}}".into(), "1:10: invalid type: map, expected a list of shims"),
            ("{\"shim\": []}".into(), "1:7: unknown field `shim`, expected one of `$schema`, `container`, `shims`"),
            ("{\"container\": \"\"}".into(), "no container's name"),
            ("[]x".into(), "1:"),
        ];
        for (text, expected) in table {
            let error = parse(&text).expect_err(&text);
            let place: Vec<_> = error.splitn(3, ':').map(str::parse::<u32>).collect();
            assert!(place[0].is_ok() && place[1].is_ok() && error.contains(expected), "{text}\n{error}\n{expected}");
        }
    }

    #[test]
    fn a_name_may_stand_once_in_each_mode() {
        let text = r#"{"shims": [{"name": "x", "source": "/x"}, {"name": "x", "source": "/x", "host_only": true}, {"name": "x", "host": true}]}"#;
        assert_eq!(parse(text).unwrap().shims.len(), 3);
    }
}
