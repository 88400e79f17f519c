//! The clipboard: any bytes in, the same bytes out, by the host's `wl-copy` and `wl-paste`, or `xclip`, or `xsel`.
//!
//! Whoever sets a clipboard has to stay and serve it. That is the host's program, in a session of its own with nothing of the
//! caller's open; so `$(…)` and the container's end wait for nobody, and the content stays.

use crate::desktop::programs::{self, Programs};
use crate::error::{Error, Result, reason};
use crate::event::Wait;
use crate::sys::{files, process};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

/// The largest content: it is in memory, once here and once at the program that serves it. How many such the daemon starts at once
/// is limited too (`MAX_CLIPBOARDS`).
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// How often, and how far apart, it is looked whether the clipboard has what was set.
const SETTLE_TRIES: u32 = 50;
const SETTLE_MS: u64 = 10;
/// How long it is waited where it cannot be looked: ten times what it takes on a busy machine.
const ONCE_SETTLE_MS: u64 = 100;

/// The longest name of a type.
const MAX_TYPE_BYTES: usize = 255;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Action {
    #[default]
    Set,
    Get,
    Clear,
    /// Lists the types in which the content is offered.
    Types,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Selection {
    #[default]
    Clipboard,
    Primary,
    /// X has it.
    Secondary,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request {
    pub action: Action,
    pub selection: Selection,
    /// A MIME type, or an X target.
    pub kind: Option<Vec<u8>>,
    /// Without the newline at the end, if there is one.
    pub trim: bool,
    /// With a newline after a text.
    pub newline: bool,
    /// Serve one paste only.
    pub once: bool,
    /// Serve it here, not in the background.
    pub foreground: bool,
    /// After what is there.
    pub append: bool,
    /// Print what is set, too.
    pub echo: bool,
}

const ACTIONS: [(Action, &str); 4] = [(Action::Set, "set"), (Action::Get, "get"), (Action::Clear, "clear"), (Action::Types, "types")];

impl Request {
    /// The action of a word, if it is one.
    pub fn action(word: &[u8]) -> Option<Action> {
        ACTIONS.iter().find(|(_, known)| known.as_bytes() == word).map(|(action, _)| *action)
    }

    /// As `bkt-clipboard` is told it.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let action = ACTIONS.iter().find(|(action, _)| *action == self.action).map_or("get", |(_, word)| word);
        let mut words = vec![action.as_bytes().to_vec()];
        let flags = [
            (self.selection == Selection::Primary, "--primary"),
            (self.selection == Selection::Secondary, "--secondary"),
            (self.trim, "--trim"),
            (self.newline, "--newline"),
            (self.once, "--once"),
            (self.foreground, "--foreground"),
            (self.append, "--append"),
            (self.echo, "--echo"),
        ];
        words.extend(flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag.as_bytes().to_vec()));
        words.extend(self.kind.iter().map(|kind| [b"--type=", &kind[..]].concat()));
        words
    }

    fn check(&self) -> Result<()> {
        let fine = |kind: &Vec<u8>| (1..=MAX_TYPE_BYTES).contains(&kind.len()) && kind[0] != b'-' && kind.iter().all(u8::is_ascii_graphic);
        match &self.kind {
            Some(kind) if !fine(kind) => Err(Error::new(format!("'{}' is no type; one is 'text/plain' or 'image/png'", crate::logging::shown(kind)))),
            _ => Ok(()),
        }
    }

    /// Plain text, which every program of a clipboard knows under several names.
    fn is_text(&self) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind.starts_with(b"text/plain") || [&b"text"[..], b"STRING", b"UTF8_STRING", b"TEXT"].contains(&&kind[..]))
    }
}

/// The program that has the host's clipboard.
enum Tool {
    Wayland { copy: CString, paste: CString },
    Xclip(CString),
    Xsel(CString),
}

/// Does it, with the caller's own streams.
pub fn run(request: &Request, programs: &mut Programs<'_>) -> Result<()> {
    request.check()?;
    let tool = tool(programs)?;
    if request.selection == Selection::Secondary && matches!(tool, Tool::Wayland { .. }) {
        return Err(Error::new("the host runs Wayland, which has no secondary selection"));
    }
    match request.action {
        Action::Set => set(request, &tool, programs),
        Action::Get => get(request, &tool, programs),
        Action::Clear => clear(request, &tool, programs),
        Action::Types => types(request, &tool, programs),
    }
}

/// Wayland where a compositor answers, else X; of those only what is installed.
fn tool(programs: &mut Programs<'_>) -> Result<Tool> {
    let wayland = programs.know_wayland();
    if wayland && let (Some(copy), Some(paste)) = (programs.find("wl-copy"), programs.find("wl-paste")) {
        return Ok(Tool::Wayland { copy, paste });
    }
    let x = programs.know_x();
    if x && let Some(xclip) = programs.find("xclip") {
        return Ok(Tool::Xclip(xclip));
    }
    if x && let Some(xsel) = programs.find("xsel") {
        return Ok(Tool::Xsel(xsel));
    }
    Err(match (wayland, x) {
        (false, false) => Error::new("the host has no clipboard now: neither Wayland nor X runs there, as far as its daemon can see"),
        (true, _) => Error::with_code("the host has no wl-copy and wl-paste: install there the package that has them (wl-clipboard)", crate::exit::NOT_FOUND),
        (false, true) => Error::with_code("the host has neither xclip nor xsel: install one of them there (xclip)", crate::exit::NOT_FOUND),
    })
}

fn options(tool: &Tool, request: &Request) -> Vec<Vec<u8>> {
    let selection = match (tool, request.selection) {
        (Tool::Wayland { .. }, Selection::Primary) => vec!["--primary"],
        (Tool::Wayland { .. }, _) => vec![],
        (Tool::Xclip(_), Selection::Clipboard) => vec!["-selection", "clipboard"],
        (Tool::Xclip(_), Selection::Primary) => vec!["-selection", "primary"],
        (Tool::Xclip(_), Selection::Secondary) => vec!["-selection", "secondary"],
        (Tool::Xsel(_), Selection::Clipboard) => vec!["--clipboard"],
        (Tool::Xsel(_), Selection::Primary) => vec!["--primary"],
        (Tool::Xsel(_), Selection::Secondary) => vec!["--secondary"],
    };
    let mut all: Vec<Vec<u8>> = selection.into_iter().map(|o| o.as_bytes().to_vec()).collect();
    match (tool, &request.kind) {
        (Tool::Wayland { .. }, Some(kind)) => all.extend([b"--type".to_vec(), kind.clone()]),
        // X's names of plain text are others; xclip knows them.
        (Tool::Xclip(_), Some(kind)) if !request.is_text() => all.extend([b"-target".to_vec(), kind.clone()]),
        _ => {}
    }
    all
}

fn with(mut options: Vec<Vec<u8>>, more: &[&str]) -> Vec<Vec<u8>> {
    options.extend(more.iter().map(|o| o.as_bytes().to_vec()));
    options
}

/// xsel carries text alone.
fn text_only(request: &Request) -> Result<()> {
    if request.is_text() { Ok(()) } else { Err(Error::with_code("the host has only xsel, which knows no types: install xclip there", crate::exit::NOT_FOUND)) }
}

fn set(request: &Request, tool: &Tool, programs: &Programs<'_>) -> Result<()> {
    let mut content = memory()?;
    if request.append {
        // An empty clipboard is no error here.
        let _ = fetch(request, tool, programs, &content);
        content.seek(SeekFrom::End(0)).map_err(|e| Error::io("memory", &e))?;
    }
    gather(&mut content)?;
    if request.trim {
        trim(&mut content)?;
    }
    content.rewind().map_err(|e| Error::io("memory", &e))?;
    if request.echo {
        print(&content)?;
        content.rewind().map_err(|e| Error::io("memory", &e))?;
    }
    serve(request, tool, programs, content)
}

/// Has the content served by a program of the host's.
fn serve(request: &Request, tool: &Tool, programs: &Programs<'_>, mut content: File) -> Result<()> {
    let options = options(tool, request);
    let (program, mut args) = match tool {
        Tool::Wayland { copy, .. } => (copy, with(options, if request.once { &["--paste-once"] } else { &[] })),
        Tool::Xclip(xclip) => (xclip, with(options, if request.once { &["-in", "-loops", "1"] } else { &["-in"] })),
        Tool::Xsel(xsel) => {
            text_only(request)?;
            if request.once {
                return Err(Error::with_code("the host has only xsel, which cannot serve one paste alone: install xclip there", crate::exit::NOT_FOUND));
            }
            (xsel, with(options, &["--input"]))
        }
    };
    if request.foreground {
        let flag = match tool {
            Tool::Wayland { .. } => "--foreground",
            Tool::Xclip(_) => "-quiet",
            Tool::Xsel(_) => "--nodetach",
        };
        args.push(flag.into());
        let _ = files::become_standard(content.into(), 0);
        return Err(programs.become_one(program, &args));
    }
    // On GNOME wl-paste takes the keyboard for a moment: looking is not worth that.
    if matches!(tool, Tool::Wayland { .. }) && programs.var("XDG_CURRENT_DESKTOP").is_some_and(|name| name.ends_with(b"GNOME")) {
        return programs::succeeded(program, programs.run(program, &args, Some(&content), None)?);
    }
    if request.once {
        // The same is there before, should somebody paste too early.
        serve(&Request { once: false, ..request.clone() }, tool, programs, content.try_clone().map_err(|e| Error::io("memory", &e))?)?;
        content.rewind().map_err(|e| Error::io("memory", &e))?;
    }
    programs::succeeded(program, programs.run(program, &args, Some(&content), None)?)?;
    settle(request, tool, programs, &mut content)
}

/// The programs say that they are done and take the selection over a moment later, in the background: whoever pastes next must
/// get what was set. Not for ever: somebody else may have set something meanwhile.
fn settle(request: &Request, tool: &Tool, programs: &Programs<'_>, content: &mut File) -> Result<()> {
    let asked = Request { newline: false, ..request.clone() };
    // To look at what is served once would be the one paste; on Wayland even to ask for its types may be. There, only time helps.
    let (tries, pause_ms) = if request.once { (1, ONCE_SETTLE_MS) } else { (SETTLE_TRIES, SETTLE_MS) };
    for _ in 0..tries {
        let mut now = memory()?;
        if !request.once && fetch(&asked, tool, programs, &now).is_ok() && same(content, &mut now).map_err(|e| Error::io("memory", &e))? {
            break;
        }
        let at = process::monotonic_ms();
        Wait::<()>::with_capacity(0).run(at, Some(at + pause_ms));
    }
    Ok(())
}

fn same(a: &mut File, b: &mut File) -> io::Result<bool> {
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    a.rewind()?;
    b.rewind()?;
    let (mut a, mut b) = (BufReader::new(a), BufReader::new(b));
    loop {
        let (x, y) = (a.fill_buf()?, b.fill_buf()?);
        let length = x.len().min(y.len());
        if length == 0 || x[..length] != y[..length] {
            return Ok(length == 0);
        }
        a.consume(length);
        b.consume(length);
    }
}

fn get(request: &Request, tool: &Tool, programs: &Programs<'_>) -> Result<()> {
    let mut content = memory()?;
    let text = fetch(request, tool, programs, &content)?;
    if request.trim {
        trim(&mut content)?;
    }
    content.rewind().map_err(|e| Error::io("memory", &e))?;
    print(&content)?;
    if request.newline && text {
        put(b"\n")?;
    }
    Ok(())
}

/// The content, to a file; says whether it is a text that may want a newline.
fn fetch(request: &Request, tool: &Tool, programs: &Programs<'_>, to: &File) -> Result<bool> {
    let options = options(tool, request);
    let (program, args) = match tool {
        // It adds the newline itself, and knows where none belongs.
        Tool::Wayland { paste, .. } => (paste, with(options, if request.newline { &[] } else { &["--no-newline"] })),
        Tool::Xclip(xclip) => (xclip, with(options, &["-out"])),
        Tool::Xsel(xsel) => {
            text_only(request)?;
            (xsel, with(options, &["--output"]))
        }
    };
    let fetched = programs::succeeded(program, programs.run(program, &args, None, Some(to))?);
    match (tool, &request.kind) {
        (Tool::Wayland { .. }, _) => fetched.map(|()| false),
        // A picture, say, is not offered as text: what is there is wanted then, as with wl-paste.
        (Tool::Xclip(_), None) if fetched.is_err() => match offered(request, tool, programs)? {
            Some(kind) => fetch(&Request { kind: Some(kind), ..request.clone() }, tool, programs, to),
            None => fetched.map(|()| true),
        },
        // Its owner may give a picture under any name, also as text.
        (Tool::Xclip(_), None) if request.newline => offered(request, tool, programs).map(|picture| picture.is_none()),
        _ => fetched.map(|()| request.is_text()),
    }
}

/// The first MIME type in which an X selection is offered, unless it is a text.
fn offered(request: &Request, tool: &Tool, programs: &Programs<'_>) -> Result<Option<Vec<u8>>> {
    let mut list = memory()?;
    let asked = list_types(request, tool, programs, &list);
    let mut text = Vec::new();
    list.rewind().and_then(|()| list.read_to_end(&mut text)).map_err(|e| Error::io("memory", &e))?;
    let mut kinds = text.split(|b| *b == b'\n').filter(|_| asked.is_ok());
    let is_text = kinds.clone().any(|kind| matches!(kind, b"UTF8_STRING" | b"STRING" | b"TEXT"));
    Ok(kinds.find(|kind| !is_text && kind.contains(&b'/')).map(<[u8]>::to_vec))
}

fn clear(request: &Request, tool: &Tool, programs: &Programs<'_>) -> Result<()> {
    let options = options(tool, &Request { kind: None, ..request.clone() });
    let (program, args) = match tool {
        Tool::Wayland { copy, .. } => (copy, with(options, &["--clear"])),
        // It serves nothing, from /dev/null.
        Tool::Xclip(xclip) => (xclip, with(options, &["-in"])),
        Tool::Xsel(xsel) => (xsel, with(options, &["--clear"])),
    };
    programs::succeeded(program, programs.run(program, &args, None, None)?)
}

fn types(request: &Request, tool: &Tool, programs: &Programs<'_>) -> Result<()> {
    let mut list = memory()?;
    list_types(request, tool, programs, &list)?;
    list.rewind().map_err(|e| Error::io("memory", &e))?;
    print(&list)
}

fn list_types(request: &Request, tool: &Tool, programs: &Programs<'_>, to: &File) -> Result<()> {
    let options = options(tool, &Request { kind: None, ..request.clone() });
    let (program, args) = match tool {
        Tool::Wayland { paste, .. } => (paste, with(options, &["--list-types"])),
        Tool::Xclip(xclip) => (xclip, with(options, &["-out", "-target", "TARGETS"])),
        Tool::Xsel(_) => return Err(Error::with_code("the host has only xsel, which knows no types: install xclip there", crate::exit::NOT_FOUND)),
    };
    programs::succeeded(program, programs.run(program, &args, None, Some(to))?)
}

fn memory() -> Result<File> {
    files::memory_file(c"clipboard").map_err(|e| Error::io("memory for the clipboard's content", &e))
}

/// All of standard input, before anything is set: a caller that goes in the middle sets nothing.
fn gather(content: &mut File) -> Result<()> {
    let mut input = io::stdin().lock();
    let length = io::copy(&mut input.by_ref().take(MAX_BYTES + 1), content).map_err(|e| Error::io("read standard input", &e))?;
    if length > MAX_BYTES { Err(Error::new(format!("the content is longer than {MAX_BYTES} bytes; the clipboard is as it was"))) } else { Ok(()) }
}

fn trim(content: &mut File) -> Result<()> {
    let failed = |e: io::Error| Error::io("memory", &e);
    let length = content.seek(SeekFrom::End(0)).map_err(failed)?;
    if length > 0 {
        let mut last = [0];
        content.seek(SeekFrom::Start(length - 1)).and_then(|_| content.read_exact(&mut last)).map_err(failed)?;
        if last == *b"\n" {
            content.set_len(length - 1).map_err(failed)?;
        }
    }
    Ok(())
}

fn print(mut content: &File) -> Result<()> {
    let mut out = io::stdout().lock();
    io::copy(&mut content, &mut out).and_then(|_| out.flush()).map_err(|e| wrote(&e))
}

fn put(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| wrote(&e))
}

fn wrote(error: &io::Error) -> Error {
    Error::with_code(format!("write to standard output: {}", reason(error)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_words_that_say_the_same() {
        let all = Request { action: Action::Get, selection: Selection::Primary, kind: Some(b"image/png".to_vec()), trim: true, newline: true, ..Request::default() };
        let words: Vec<String> = all.words().into_iter().map(|w| String::from_utf8(w).unwrap()).collect();
        assert_eq!(words, ["get", "--primary", "--trim", "--newline", "--type=image/png"]);
        assert_eq!(Request::default().words(), [b"set"]);
        assert_eq!((Request::action(b"types"), Request::action(b"dance")), (Some(Action::Types), None));
    }

    #[test]
    fn a_type_is_no_option_and_has_no_blanks() {
        for (kind, fine) in [("text/plain;charset=utf-8", true), ("TARGETS", true), ("-o", false), ("a b", false), ("", false), ("a\nb", false)] {
            assert_eq!(Request { kind: Some(kind.into()), ..Request::default() }.check().is_ok(), fine, "{kind}");
        }
    }
}
