//! What a listener allows. Capabilities and policy belong to the listener, not to what a client claims.
//!
//! The user's own socket allows everything that this server can do. A socket made for one container names what it grants.

use crate::proto::message::{Code, Refusal};

/// The capabilities that this server has; others in a hello are rejected, never an error.
pub const CAPABILITIES: &[&str] = &["host_exec"];

/// What one listener allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Granted capabilities.
    capabilities: Vec<String>,
    /// Names of commands that may be run; `None` is all.
    commands: Option<Vec<Vec<u8>>>,
}

impl Policy {
    /// The user's own socket.
    pub fn everything() -> Policy {
        Policy { capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(), commands: None }
    }

    /// A narrowed listener.
    pub fn only(capabilities: &[&str], commands: Option<&[&[u8]]>) -> Policy {
        Policy { capabilities: capabilities.iter().map(ToString::to_string).collect(), commands: commands.map(|all| all.iter().map(|c| c.to_vec()).collect()) }
    }

    /// Splits what a client wants into accepted and rejected.
    pub fn judge<'a>(&self, wanted: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
        wanted.iter().partition(|name| CAPABILITIES.contains(name) && self.capabilities.iter().any(|c| c == *name))
    }

    /// Whether a command may be run; by its name as given, so that a path is no way around a list of names.
    pub fn allow_run(&self, name: &[u8]) -> Result<(), Refusal> {
        if !self.capabilities.iter().any(|c| c == "host_exec") {
            return Err(Refusal::new(Code::Denied, "running commands (host_exec) is not granted to this container; grant it in the host's policy"));
        }
        match &self.commands {
            Some(allowed) if !allowed.iter().any(|a| a == name) => {
                let names: Vec<String> = allowed.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect();
                Err(Refusal::new(Code::Denied, format!("this command is not on the list of the host's policy; allowed are: {}", names.join(", "))))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_socket_allows_everything_there_is() {
        let policy = Policy::everything();
        assert_eq!(policy.judge(&["host_exec", "teleport"]), (vec!["host_exec"], vec!["teleport"]));
        assert!(policy.allow_run(b"/bin/ls").is_ok());
    }

    #[test]
    fn a_narrow_listener_refuses_what_it_does_not_name() {
        let policy = Policy::only(&["host_exec"], Some(&[b"ls"]));
        assert!(policy.allow_run(b"ls").is_ok());
        let refused = policy.allow_run(b"/tmp/ls").unwrap_err();
        assert_eq!(refused.code, Code::Denied);
        assert!(refused.text.contains("ls"));
        let none = Policy::only(&[], None);
        assert_eq!(none.allow_run(b"ls").unwrap_err().code, Code::Denied);
        assert_eq!(none.judge(&["host_exec"]), (vec![], vec!["host_exec"]));
    }
}
