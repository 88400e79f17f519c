//! PATH: who is found first, and who should be.

use crate::checks::{Finding, Mend, quoted};
use std::path::{Path, PathBuf};

/// Behind a command that mends this shell alone.
const FOR_GOOD: &str = "   # in every shell: bkt shim init --help";

/// In a container: the shims must be found, and before anything of the same name. `before` are programs in earlier directories
/// that hide one of them.
pub fn in_container(shims: &Path, any: bool, position: Option<usize>, before: &[PathBuf]) -> Option<Finding> {
    let first = || Mend::ByHand(format!("export PATH={}:\"$PATH\"{FOR_GOOD}", quoted(shims)));
    if !any {
        let mend = Mend::ByHand(format!("bkt --install {0} && export PATH={0}:\"$PATH\"", quoted(shims)));
        return Some(Finding::warning(format!("there are no shims in {}", shims.display()), "the host's commands are not found here by their names", mend));
    }
    if position.is_none() {
        return Some(Finding::warning(format!("the shims in {} are not in PATH", shims.display()), "the host's commands are not found here by their names", first()));
    }
    let (hiding, others) = before.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    Some(Finding::warning(format!("before the shims of these names in PATH: {}{more}", hiding.display()), "the container's own program runs, not the host's", first()))
}

/// On the host: the shims must not be found, for they would only look for the real command.
pub fn on_host(shims: &Path, path: &[PathBuf]) -> Option<Finding> {
    if !path.iter().any(|directory| directory == shims) {
        return None;
    }
    let others: Vec<String> = path.iter().filter(|directory| *directory != shims).map(|d| d.display().to_string()).collect();
    let what = format!("{} is in the host's PATH", shims.display());
    Some(Finding::warning(
        what,
        "each of these commands takes a way round to itself; only containers want it there",
        Mend::ByHand(format!("export PATH={}", quoted(Path::new(&others.join(":"))))),
    ))
}

/// On the host: names of containers' programs come before the rest, or they are not found.
pub fn containers_programs(directory: &Path, path: &[PathBuf]) -> Option<Finding> {
    let bin = directory.parent()?;
    let at = |wanted: &Path| path.iter().position(|d| d == wanted);
    let mend = || Mend::ByHand(format!("export PATH={}:\"$PATH\"{FOR_GOOD}", quoted(directory)));
    match (at(directory), at(bin)) {
        (Some(first), Some(second)) if second < first => Some(Finding::warning(
            format!("{} comes before {} in PATH", bin.display(), directory.display()),
            "of a name that is in both, the container's program is never run",
            mend(),
        )),
        (None, _) => Some(Finding::warning(format!("{} is not in PATH", directory.display()), "the containers' programs in it are not found by their names", mend())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<PathBuf> {
        text.split(':').map(PathBuf::from).collect()
    }

    #[test]
    fn shims_are_first_in_a_container_and_nowhere_on_the_host() {
        let shims = Path::new("/s");
        assert!(in_container(shims, true, Some(0), &[]).is_none());
        assert!(in_container(shims, true, None, &[]).unwrap().what.contains("not in PATH"));
        assert!(in_container(shims, true, Some(1), &path("/bin/ls:/bin/cat:/bin/x")).unwrap().what.ends_with(": /bin/ls and 2 more"));
        assert!(in_container(shims, false, None, &[]).unwrap().mend.command().starts_with("bkt --install /s && export PATH=/s:"));
        assert!(on_host(shims, &path("/a:/b")).is_none());
        assert_eq!(on_host(shims, &path("/a:/s:/b")).unwrap().mend.command(), "export PATH=/a:/b");
    }

    #[test]
    fn containers_programs_come_before_the_hosts_own() {
        let directory = Path::new("/h/.local/bin/distrobox");
        assert!(containers_programs(directory, &path("/h/.local/bin/distrobox:/h/.local/bin")).is_none());
        assert!(containers_programs(directory, &path("/h/.local/bin/distrobox:/bin")).is_none());
        assert!(containers_programs(directory, &path("/h/.local/bin:/h/.local/bin/distrobox")).unwrap().what.contains("comes before"));
        assert!(containers_programs(directory, &path("/bin")).unwrap().what.contains("not in PATH"));
    }
}
