//! The capabilities of a host: what a container may use of it, each granted or not by the listener it calls at.

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal, $names:expr;)*) => {
        /// One capability; a run names the one it uses.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub enum Capability { #[default] $($(#[$doc])* $name = $number,)* }

        impl Capability {
            pub const ALL: &'static [Capability] = &[$(Capability::$name),*];

            /// The name in a hello, in the policy and in sentences.
            pub fn word(self) -> &'static str {
                match self { $(Capability::$name => $word,)* }
            }

            /// The names by which a container's programs reach it; a shim of the host's command of such a name cannot be.
            pub fn names(self) -> &'static [&'static str] {
                match self { $(Capability::$name => &$names,)* }
            }
        }
    };
}

capabilities! {
    /// A command of the host, as any shim runs it.
    HostExec = 0, "host_exec", ["host-exec"];
    /// A notification on the host's desktop.
    Notify = 1, "notify", ["notify-send"];
    /// Something opened by the host's programs.
    XdgOpen = 2, "xdg_open", ["xdg-open"];
    /// The host's clipboard.
    Clipboard = 3, "clipboard", ["podbox-clipboard", "bkt-clipboard", "wl-copy", "wl-paste", "xclip", "xsel", "pbcopy", "pbpaste"];
}

impl Capability {
    /// From the wire; a newer peer may know more of them.
    pub fn from_number(number: u8) -> Option<Capability> {
        Capability::ALL.iter().copied().find(|c| *c as u8 == number)
    }

    pub fn from_word(word: &str) -> Option<Capability> {
        Capability::ALL.iter().copied().find(|c| c.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_a_number_and_a_word_of_its_own() {
        for capability in Capability::ALL {
            assert_eq!(Capability::from_number(*capability as u8), Some(*capability));
            assert_eq!(Capability::from_word(capability.word()), Some(*capability));
        }
        assert_eq!((Capability::from_number(4), Capability::from_word("teleport")), (None, None));
    }
}
