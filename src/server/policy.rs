//! Which commands a listener allows, where it grants running commands at all (`grants`).

use crate::proto::message::{Code, Refusal};

/// What one listener allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Names of commands that may be run; `None` is all.
    commands: Option<Vec<Vec<u8>>>,
}

impl Policy {
    /// The user's own socket.
    pub fn everything() -> Policy {
        Policy { commands: None }
    }

    /// A narrowed listener.
    pub fn only(commands: &[&[u8]]) -> Policy {
        Policy { commands: Some(commands.iter().map(|c| c.to_vec()).collect()) }
    }

    /// Whether a command may be run; by its name as given, so that a path is no way around a list of names.
    pub fn allow_run(&self, name: &[u8]) -> Result<(), Refusal> {
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
    fn the_users_own_socket_allows_everything() {
        assert!(Policy::everything().allow_run(b"/bin/ls").is_ok());
    }

    #[test]
    fn a_narrow_listener_refuses_what_it_does_not_name() {
        let policy = Policy::only(&[b"ls"]);
        assert!(policy.allow_run(b"ls").is_ok());
        let refused = policy.allow_run(b"/tmp/ls").unwrap_err();
        assert_eq!(refused.code, Code::Denied);
        assert!(refused.text.contains("ls"));
    }
}
