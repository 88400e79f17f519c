//! Which capabilities a listener grants. They belong to the listener, not to what a client claims; asked on every request.

use crate::proto::capability::Capability;
use crate::proto::message::{Code, Refusal};

/// The schemes of what may be opened, unless the policy names others: what only shows something, or asks its user first.
pub const SCHEMES: &str = "http,https,mailto,tel";

/// What one listener grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grants {
    granted: Vec<Capability>,
    /// Schemes of URIs that may be opened, with commas between.
    pub schemes: String,
}

impl Grants {
    /// The user's own socket.
    pub fn everything() -> Grants {
        Grants::only(Capability::ALL)
    }

    /// A narrowed listener.
    pub fn only(granted: &[Capability]) -> Grants {
        Grants { granted: granted.to_vec(), schemes: SCHEMES.to_string() }
    }

    /// Splits what a client wants into accepted and rejected; what nobody knows is rejected, never an error.
    pub fn judge<'a>(&self, wanted: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
        wanted.iter().partition(|word| Capability::from_word(word).is_some_and(|c| self.granted.contains(&c)))
    }

    /// The capability of a run, if it is granted here.
    pub fn allow(&self, number: u8) -> Result<Capability, Refusal> {
        let denied = |what: String| Err(Refusal::new(Code::Denied, what));
        let Some(capability) = Capability::from_number(number) else {
            return denied(format!("this daemon knows no capability of number {number}: install the same bkt on both sides"));
        };
        if self.granted.contains(&capability) {
            return Ok(capability);
        }
        let words: Vec<&str> = self.granted.iter().map(|c| c.word()).collect();
        let granted = if words.is_empty() { "nothing".to_string() } else { words.join(", ") };
        denied(format!("{} is denied: the host does not grant it to this container (granted: {granted}); the host's user can, in the policy of this socket", capability.word()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_socket_grants_all_there_is() {
        let grants = Grants::everything();
        assert_eq!(grants.judge(&["host_exec", "teleport", "clipboard"]), (vec!["host_exec", "clipboard"], vec!["teleport"]));
        assert!(Capability::ALL.iter().all(|c| grants.allow(*c as u8) == Ok(*c)));
        assert_eq!(grants.allow(77).unwrap_err().code, Code::Denied);
    }

    #[test]
    fn a_narrow_listener_refuses_what_it_does_not_name_and_says_what_it_does() {
        let grants = Grants::only(&[Capability::Notify]);
        assert_eq!(grants.allow(Capability::Notify as u8), Ok(Capability::Notify));
        for other in [Capability::HostExec, Capability::XdgOpen, Capability::Clipboard] {
            let refused = grants.allow(other as u8).unwrap_err();
            assert_eq!(refused.code, Code::Denied);
            assert!(refused.text.starts_with(other.word()) && refused.text.contains("granted: notify"), "{}", refused.text);
        }
        assert_eq!(grants.judge(&["notify", "xdg_open"]), (vec!["notify"], vec!["xdg_open"]));
        assert!(Grants::only(&[]).allow(0).unwrap_err().text.contains("granted: nothing"));
    }
}
