//! Where programs are that people install for themselves: one table of package managers and their directories.

use crate::invocation::Invocation;
use crate::process::program;
use crate::shims::manifest::Mode;
use crate::shims::place::{Places, is_own};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A package manager: the variable that moves its directory, that directory below the home, and where in it programs are.
struct Row(&'static str, &'static str, &'static [&'static str]);

/// In the order of the search. Shims of version managers come before their programs: they choose the version.
const MANAGERS: &[Row] = &[
    Row("CARGO_HOME", ".cargo", &["bin"]),
    Row("PROTO_HOME", ".proto", &["shims", "bin"]),
    Row("MISE_DATA_DIR", ".local/share/mise", &["shims"]),
    Row("ASDF_DATA_DIR", ".asdf", &["shims"]),
    Row("NVM_DIR", ".nvm", &["current/bin"]),
    Row("FNM_DIR", ".local/share/fnm", &["aliases/default/bin"]),
    Row("VOLTA_HOME", ".volta", &["bin"]),
    Row("BUN_INSTALL", ".bun", &["bin"]),
    Row("DENO_INSTALL", ".deno", &["bin"]),
    Row("PNPM_HOME", ".local/share/pnpm", &["", "bin"]),
    Row("", ".yarn", &["bin"]),
    Row("", ".npm-global", &["bin"]),
    Row("GOPATH", "go", &["bin"]),
    Row("GOENV_ROOT", ".goenv", &["shims"]),
    Row("RBENV_ROOT", ".rbenv", &["shims"]),
    Row("PYENV_ROOT", ".pyenv", &["shims"]),
    Row("NODENV_ROOT", ".nodenv", &["shims"]),
    Row("JENV_ROOT", ".jenv", &["shims"]),
    Row("RYE_HOME", ".rye", &["shims"]),
    Row("PIXI_HOME", ".pixi", &["bin"]),
    Row("GHCUP_INSTALL_BASE_PREFIX", ".ghcup", &["bin"]),
    Row("CABAL_DIR", ".cabal", &["bin"]),
    Row("", ".juliaup", &["bin"]),
    Row("KREW_ROOT", ".krew", &["bin"]),
    Row("", ".dotnet", &["tools"]),
    Row("", ".composer", &["vendor/bin"]),
    Row("", ".config/composer", &["vendor/bin"]),
    Row("", ".local/share/aquaproj-aqua", &["bin"]),
    Row("RUSTUP_HOME", ".rustup", &[]),
    Row("", ".local/share/uv", &[]),
    Row("", ".local/share/pipx", &[]),
    Row("", ".nix-profile", &["bin"]),
    Row("", ".local/state/nix/profile", &["bin"]),
];

/// The directories that belong to package managers, by their variables and by their usual places.
fn managers<'a>(invocation: &'a Invocation, home: &'a Path) -> impl Iterator<Item = (PathBuf, &'static [&'static str])> + 'a {
    MANAGERS.iter().flat_map(move |Row(variable, usual, programs)| {
        let moved = Some(*variable).filter(|name| !name.is_empty()).and_then(|name| invocation.var(name)).filter(|value| value.starts_with(b"/"));
        let moved = moved.map(|value| PathBuf::from(OsStr::from_bytes(value)));
        moved.into_iter().chain([home.join(usual)]).map(move |root| (root, *programs))
    })
}

/// Whether a path is in a directory of a package manager.
pub fn is_managed(path: &Path, invocation: &Invocation, home: &Path) -> bool {
    managers(invocation, home).any(|(root, _)| path.starts_with(&root))
}

/// The program of a name: in the package managers' directories, in `~/.local/bin`, then in PATH. A link to us is none, and
/// nor is, for a link in `~/.local/bin`, what is there.
pub fn find(name: &str, mode: Mode, invocation: &Invocation, places: &Places) -> Option<PathBuf> {
    let managed = managers(invocation, &places.home).flat_map(|(root, programs)| programs.iter().map(move |below| root.join(below)));
    let usual = [places.home.join("bin"), places.bin.clone()];
    let path = program::directories(invocation.var("PATH").unwrap_or_default()).map(Path::to_path_buf);
    let left_out = |directory: &Path| directory == places.host || directory == places.distrobox || mode == Mode::HostOnly && directory == places.bin;
    let programs = managed.chain(usual).chain(path).filter(|directory| !left_out(directory)).map(|directory| directory.join(name));
    let is_link_to_us = |program: &Path| name != "bkt" && is_own(Path::new("/"), program, &places.own);
    programs.into_iter().find(|program| program::is_executable(program) && !is_link_to_us(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_managers_directory_is_known_by_its_variable_and_by_its_usual_place() {
        let invocation = Invocation { env: vec![c"CARGO_HOME=/opt/cargo", c"GOPATH=relative"], ..Invocation::default() };
        let managed = |path: &str| is_managed(Path::new(path), &invocation, Path::new("/home/u"));
        for path in ["/opt/cargo/bin/rg", "/home/u/.cargo/bin/rg", "/home/u/.nvm/versions/node/v22.1.0/bin/node", "/home/u/go/bin/gopls", "/home/u/.nix-profile/bin/x"] {
            assert!(managed(path), "{path}");
        }
        for path in ["/usr/bin/rg", "/home/u/.cargo-other/bin/rg", "/home/v/.cargo/bin/rg", "/home/u/Code/locald", "relative/bin/x"] {
            assert!(!managed(path), "{path}");
        }
    }
}
