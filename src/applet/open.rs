//! `xdg-open`: a URI, or a file of this side, opened by the host's programs. Its exit codes are those of xdg-open(1).

use crate::applet::interceptor::{self, Request};
use crate::applet::shim::Asked;
use crate::applet::{Call, RELEASE, output};
use crate::desktop::open;
use crate::error::{Error, Result, reason};
use crate::exit::End;
use crate::logging::shown;
use crate::proto::capability::Capability;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const HELP: &str = "\
xdg-open - opens a file or URL in the user's preferred application, on the host

Usage: xdg-open { file | URL }
       xdg-open { --help | --manual | --version }

URLs are opened if the host's policy allows their scheme (by default http, https, mailto, tel). A file that
only this side has is copied to the host first; the program there sees the copy.
";

/// Wrong usage, and a file that is not there.
const SYNTAX: u8 = 1;
const NOT_THERE: u8 = 2;

pub fn run(call: &Call) -> Result<End> {
    call.start_log(0);
    let typed = call.typed();
    let wrong = |what: String| Err(Error::with_code(format!("{what}; see 'xdg-open --help'"), SYNTAX));
    let what = match &typed[..] {
        [option] if option == "--help" || option == "--manual" => {
            output::print(HELP);
            return Ok(End::Code(0));
        }
        [option] if option == "--version" => {
            output::print(&format!("xdg-open of bkt {RELEASE}\n"));
            return Ok(End::Code(0));
        }
        [] => return wrong("xdg-open wants a file or a URL".into()),
        [option, ..] if option.as_bytes().starts_with(b"-") => return wrong(format!("unexpected option '{}'", shown(option.as_bytes()))),
        [what] if what.is_empty() => return wrong("xdg-open wants a file or a URL".into()),
        [what] => what.as_bytes(),
        [_, more, ..] => return wrong(format!("unexpected argument '{}'", shown(more.as_bytes()))),
    };
    let mut request = Request::default();
    let path = match interceptor::file_uri(what) {
        Some(path) => Some(path),
        None => open::scheme(what).is_none().then(|| what.to_vec()),
    };
    let Some(path) = path else {
        request.word("uri");
        request.word(what);
        return interceptor::or_become(call, interceptor::ask(call, Capability::XdgOpen, request)?);
    };
    let path = interceptor::absolute(Path::new(OsStr::from_bytes(&path)));
    // A pipe that nobody writes to would keep us waiting for nothing.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let file = file.map_err(|e| Error::with_code(format!("{}: {}", path.display(), reason(&e)), NOT_THERE))?;
    let number = request.file(file)?;
    request.word("file");
    request.word(path.into_os_string().into_vec());
    request.word(number.to_string());
    match interceptor::ask(call, Capability::XdgOpen, request)? {
        // Another bridge would hand over the path alone, and what lies there on the host may be something else.
        Asked::NoDaemon(missing) => Err(interceptor::no_daemon(&missing)),
        asked => interceptor::or_become(call, asked),
    }
}
