//! How the process was started: its arguments and its environment, as bytes.
//!
//! Captured once, in `main`, and handed down; nothing below asks the process for them again.
//! The strings are those the kernel put on the stack at `execve(2)`; they live as long as the process.

use std::ffi::CStr;

/// Arguments and environment as the kernel delivered them.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `argv`; may be empty, `execve(2)` allows it.
    pub args: Vec<&'static CStr>,
    /// `envp`, one `NAME=VALUE` each; entries without `=` are possible and kept.
    pub env: Vec<&'static CStr>,
    /// The path that was executed, as it was given to `execve(2)`: the link, not what it leads to (`AT_EXECFN`, getauxval(3)).
    /// Empty where the kernel does not say.
    pub path: &'static CStr,
}

impl Invocation {
    /// The last path component of `argv[0]`, less a login shell's leading `-`; empty where there is none.
    pub fn name(&self) -> &'static [u8] {
        let full = self.args.first().map_or(&b""[..], |a| a.to_bytes());
        let base = full.rsplit(|&b| b == b'/').next().unwrap_or(b"");
        base.strip_prefix(b"-").unwrap_or(base)
    }

    /// The arguments, under another name.
    pub fn args_as<'a>(&'a self, name: &'a CStr) -> Vec<&'a CStr> {
        std::iter::once(name).chain(self.args.iter().copied().skip(1)).collect()
    }

    /// The executed path in two: the last component of its directory, and its own name. `./cargo` gives `.` and `cargo`.
    pub fn executed(&self) -> (&'static [u8], &'static [u8]) {
        let mut components = self.path.to_bytes().rsplit(|&b| b == b'/');
        let name = components.next().unwrap_or(b"");
        (components.find(|c| !c.is_empty()).unwrap_or(b"."), name)
    }

    /// The value of an environment variable, the first of that name as `getenv(3)` has it.
    pub fn var(&self, name: &str) -> Option<&'static [u8]> {
        let name = name.as_bytes();
        let found = self.env.iter().find_map(|entry| {
            let entry = entry.to_bytes();
            // Looking at one byte each passes over most of them.
            if entry.get(name.len()) == Some(&b'=') { entry.strip_prefix(name)?.get(1..) } else { None }
        });
        found.filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_component_and_survives_an_empty_argv() {
        let name = |a: &[&'static CStr]| Invocation { args: a.to_vec(), ..Invocation::default() }.name();
        assert_eq!(name(&[]), b"");
        assert_eq!(name(&[c""]), b"");
        assert_eq!(name(&[c"bootc"]), b"bootc");
        assert_eq!(name(&[c"/usr/bin/bootc", c"x"]), b"bootc");
        assert_eq!(name(&[c"-bash"]), b"bash");
    }

    #[test]
    fn the_executed_path_has_a_directory_and_a_name() {
        let executed = |path: &'static CStr| Invocation { path, ..Invocation::default() }.executed();
        assert_eq!(executed(c"/home/u/.local/bin/distrobox/cargo"), (&b"distrobox"[..], &b"cargo"[..]));
        assert_eq!(executed(c"distrobox//cargo"), (&b"distrobox"[..], &b"cargo"[..]));
        assert_eq!(executed(c"./cargo"), (&b"."[..], &b"cargo"[..]));
        assert_eq!(executed(c"cargo"), (&b"."[..], &b"cargo"[..]));
        assert_eq!(executed(c""), (&b"."[..], &b""[..]));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let i = Invocation { env: vec![c"A=", c"AB=2", c"C=x=y"], ..Invocation::default() };
        assert_eq!(i.var("A"), None);
        assert_eq!(i.var("AB"), Some(&b"2"[..]));
        assert_eq!(i.var("C"), Some(&b"x=y"[..]));
    }
}
