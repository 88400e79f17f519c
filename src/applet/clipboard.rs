//! The host's clipboard: `bkt-clipboard`, and the names that scripts know: each reads its own options, and all ask for the same.

use crate::applet::interceptor;
use crate::applet::shim::Asked;
use crate::applet::{Call, RELEASE, output, usage};
use crate::desktop::clipboard::{self, Action, Request, Selection};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::logging::shown;
use crate::proto::capability::Capability;
use crate::sys::files::{self, Standard};
use lexopt::{Arg, Parser};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const HELP: &str = "\
Usage: bkt-clipboard set | get | clear | types  [OPTIONS]

  set               standard input becomes the content of the host's clipboard, byte for byte
  get               the content, byte for byte
  clear             nothing is in it
  types             in which types the content is offered

  --primary         the selection that the middle mouse button pastes
  --secondary       X's third one
  --type=TYPE       what the content is, or what is wanted: image/png
  --trim            without a newline at the end
  --newline         with a newline after a text
  --append          set: after what is there
  --once            set: for one paste
  --foreground      set: serve it here until something else is set
  --echo            set: print it, too
";

/// What a name's options came to.
enum Typed {
    Do(Request),
    /// The content was typed, or lies in files.
    With(Request, Content),
    Help,
}

enum Content {
    Text(Vec<u8>),
    Files(Vec<OsString>),
}

pub fn run(call: &Call) -> Result<End> {
    let typed = read(call.typed())?;
    call.start_log(0);
    let Typed::Do(request) = typed else {
        output::print(HELP);
        return Ok(End::Code(0));
    };
    match ask(call, &request)? {
        Asked::Ended(end) => Ok(end),
        // There is no real program of this name: it is done here.
        Asked::Here(_) => clipboard::run(&request, &mut interceptor::programs(call)).map(|()| End::Code(0)),
        Asked::NoDaemon(missing) => Err(interceptor::no_daemon(&missing)),
    }
}

pub fn wl_copy(call: &Call) -> Result<End> {
    drop_in(call, read_wl_copy(call.typed()), "wl-copy [-n] [-p] [-o] [-f] [-c] [-t TYPE] [TEXT…]")
}

pub fn wl_paste(call: &Call) -> Result<End> {
    drop_in(call, read_wl_paste(call.typed()), "wl-paste [-n] [-p] [-l] [-t TYPE]")
}

pub fn xclip(call: &Call) -> Result<End> {
    let help = "xclip [-i | -o] [-selection primary|secondary|clipboard] [-target TYPE] [-filter] [-rmlastnl] [-loops 1] [-quiet] [FILE…]";
    drop_in(call, read_xclip(&call.typed()), help)
}

pub fn xsel(call: &Call) -> Result<End> {
    let terminal = |number| matches!(files::standard(number), Standard::Terminal(_));
    drop_in(call, read_xsel(call.typed(), terminal(0), terminal(1)), "xsel [-i | -o | -a | -c] [-p | -s | -b] [-n]")
}

pub fn pbcopy(call: &Call) -> Result<End> {
    drop_in(call, read_pasteboard(&call.typed(), Action::Set), "pbcopy [-pboard general]")
}

pub fn pbpaste(call: &Call) -> Result<End> {
    drop_in(call, read_pasteboard(&call.typed(), Action::Get), "pbpaste [-pboard general] [-Prefer txt]")
}

/// One of the names that the host may have a program of.
fn drop_in(call: &Call, typed: Result<Typed>, help: &str) -> Result<End> {
    call.start_log(0);
    match typed? {
        Typed::Help => {
            output::print(&format!("Usage: {help}\n\nThe host's clipboard, by bkt {RELEASE}. For more: bkt-clipboard --help\n"));
            Ok(End::Code(0))
        }
        Typed::Do(request) => interceptor::or_become(call, ask(call, &request)?),
        Typed::With(request, content) => {
            let by_files = matches!(content, Content::Files(_));
            files::become_standard(content.open()?.into(), 0).map_err(|e| Error::io("take the content", &e))?;
            match ask(call, &request)? {
                // Another bridge would hand over the names alone, and what lies there on the host may be something else.
                Asked::NoDaemon(missing) if by_files => Err(interceptor::no_daemon(&missing)),
                asked => interceptor::or_become(call, asked),
            }
        }
    }
}

fn ask(call: &Call, request: &Request) -> Result<Asked> {
    let mut words = interceptor::Request::default();
    request.words().iter().for_each(|word| words.word(word));
    interceptor::ask(call, Capability::Clipboard, words)
}

impl Content {
    fn open(self) -> Result<File> {
        let failed = |what: &OsStr, e: io::Error| Error::with_code(format!("{}: {}", shown(what.as_bytes()), crate::error::reason(&e)), 1);
        let files = match self {
            Content::Files(files) => files,
            Content::Text(text) => {
                let mut memory = files::memory_file(c"text").map_err(|e| Error::io("memory", &e))?;
                memory.write_all(&text).and_then(|()| memory.rewind()).map_err(|e| Error::io("memory", &e))?;
                return Ok(memory);
            }
        };
        if let [file] = &files[..] {
            return File::open(file).map_err(|e| failed(file, e));
        }
        let mut memory = files::memory_file(c"files").map_err(|e| Error::io("memory", &e))?;
        for file in &files {
            File::open(file).and_then(|mut from| io::copy(&mut from, &mut memory)).map_err(|e| failed(file, e))?;
        }
        memory.rewind().map_err(|e| Error::io("memory", &e))?;
        Ok(memory)
    }
}

/// What an interceptor sent, read as a stranger's.
pub fn sent(args: Vec<OsString>) -> Result<Request> {
    match read(args)? {
        Typed::Do(request) => Ok(request),
        _ => Err(Error::new("there is nothing to do")),
    }
}

fn read(args: Vec<OsString>) -> Result<Typed> {
    let wrong = |e: lexopt::Error| usage(e, "bkt-clipboard");
    let (mut request, mut action) = (Request::default(), None);
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("primary") | Arg::Short('p') => request.selection = Selection::Primary,
            Arg::Long("secondary") => request.selection = Selection::Secondary,
            Arg::Long("type") | Arg::Short('t') => request.kind = Some(parser.value().map_err(wrong)?.into_vec()),
            Arg::Long("trim") => request.trim = true,
            Arg::Long("newline") => request.newline = true,
            Arg::Long("once") => request.once = true,
            Arg::Long("foreground") => request.foreground = true,
            Arg::Long("append") => request.append = true,
            Arg::Long("echo") => request.echo = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(Typed::Help),
            Arg::Value(word) if action.is_none() => match Request::action(word.as_bytes()) {
                Some(known) => action = Some(known),
                None => return Err(usage(format_args!("'{}' is nothing that can be done with a clipboard", shown(word.as_bytes())), "bkt-clipboard")),
            },
            other => return Err(wrong(other.unexpected())),
        }
    }
    let action = action.ok_or_else(|| usage("set, get, clear or types is wanted", "bkt-clipboard"))?;
    Ok(Typed::Do(Request { action, ..request }))
}

fn read_wl_copy(args: Vec<OsString>) -> Result<Typed> {
    let wrong = |e: lexopt::Error| usage(e, "wl-copy");
    let mut request = Request::default();
    let mut text: Vec<Vec<u8>> = Vec::new();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("primary") | Arg::Short('p') => request.selection = Selection::Primary,
            Arg::Long("trim-newline") | Arg::Short('n') => request.trim = true,
            Arg::Long("paste-once") | Arg::Short('o') => request.once = true,
            Arg::Long("foreground") | Arg::Short('f') => request.foreground = true,
            Arg::Long("clear") | Arg::Short('c') => request.action = Action::Clear,
            Arg::Long("type") | Arg::Short('t') => request.kind = Some(parser.value().map_err(wrong)?.into_vec()),
            // The host's compositor has the seats; the usual one is meant.
            Arg::Long("seat") | Arg::Short('s') => drop(parser.value().map_err(wrong)?),
            Arg::Long("help" | "version") | Arg::Short('h' | 'v') => return Ok(Typed::Help),
            Arg::Value(word) => text.push(word.into_vec()),
            other => return Err(wrong(other.unexpected())),
        }
    }
    if text.is_empty() || request.action == Action::Clear {
        return Ok(Typed::Do(request));
    }
    Ok(Typed::With(request, Content::Text(text.join(&b' '))))
}

fn read_wl_paste(args: Vec<OsString>) -> Result<Typed> {
    let wrong = |e: lexopt::Error| usage(e, "wl-paste");
    let mut request = Request { action: Action::Get, newline: true, ..Request::default() };
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("primary") | Arg::Short('p') => request.selection = Selection::Primary,
            Arg::Long("no-newline") | Arg::Short('n') => request.newline = false,
            Arg::Long("list-types") | Arg::Short('l') => request.action = Action::Types,
            Arg::Long("type") | Arg::Short('t') => request.kind = Some(parser.value().map_err(wrong)?.into_vec()),
            Arg::Long("seat") | Arg::Short('s') => drop(parser.value().map_err(wrong)?),
            Arg::Long("help" | "version") | Arg::Short('h' | 'v') => return Ok(Typed::Help),
            Arg::Long("watch") | Arg::Short('w') => {
                return Err(usage("--watch would run a command for each change of the clipboard, and is not passed on to the host", "wl-paste"));
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    Ok(Typed::Do(request))
}

/// xclip's options are X's: one dash, and as short as they stay unambiguous; what is ambiguous or unknown is a file (xclip(1)).
const XCLIP: &[&str] =
    &["-in", "-out", "-filter", "-rmlastnl", "-selection", "-target", "-loops", "-display", "-silent", "-quiet", "-verbose", "-version", "-help", "-noutf8", "-sensitive"];

fn xclip_option(word: &OsStr) -> Option<&'static str> {
    let word = word.as_bytes();
    // The newest option is not in everybody's xclip: `-se` has long been `-selection`.
    let fits = |option: &str| option.as_bytes() == word || word.len() > 1 && option != "-sensitive" && option.as_bytes().starts_with(word);
    let mut fitting = XCLIP.iter().filter(|option| fits(option));
    let first = fitting.next().filter(|option| option.as_bytes() == word || fitting.next().is_none());
    first.copied()
}

fn read_xclip(args: &[OsString]) -> Result<Typed> {
    let mut request = Request { selection: Selection::Primary, ..Request::default() };
    let mut files: Vec<OsString> = Vec::new();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let option = xclip_option(word);
        let mut value = || args.next().map(|v| v.as_bytes()).ok_or_else(|| usage(format_args!("{} wants a value", shown(word.as_bytes())), "xclip"));
        match option {
            Some("-in") => request.action = Action::Set,
            Some("-out") => request.action = Action::Get,
            Some("-filter") => request.echo = true,
            Some("-rmlastnl") => request.trim = true,
            Some("-target") => request.kind = Some(value()?.to_vec()),
            Some("-loops") => request.once = value()? == b"1",
            Some("-selection") => {
                request.selection = match value()?.first() {
                    Some(b'p' | b'P') => Selection::Primary,
                    Some(b's' | b'S') => Selection::Secondary,
                    Some(b'c' | b'C') => Selection::Clipboard,
                    _ => return Err(usage("-selection wants primary, secondary or clipboard", "xclip")),
                }
            }
            Some("-quiet" | "-verbose") => request.foreground = true,
            // The display is the host's; its xclip is silent and reads UTF-8 by itself.
            Some("-display") => drop(value()?),
            Some("-silent" | "-noutf8" | "-sensitive") => {}
            Some(_) => return Ok(Typed::Help),
            None => files.push(word.clone()),
        }
    }
    if request.action == Action::Get && request.kind.as_deref() == Some(b"TARGETS") {
        (request.action, request.kind) = (Action::Types, None);
    }
    if files.is_empty() || request.action != Action::Set { Ok(Typed::Do(request)) } else { Ok(Typed::With(request, Content::Files(files))) }
}

fn read_xsel(args: Vec<OsString>, input_is_terminal: bool, output_is_terminal: bool) -> Result<Typed> {
    let wrong = |e: lexopt::Error| usage(e, "xsel");
    let mut request = Request { selection: Selection::Primary, ..Request::default() };
    let (mut input, mut output, mut clear) = (false, false, false);
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("input") | Arg::Short('i') => input = true,
            Arg::Long("append") | Arg::Short('a') => (input, request.append) = (true, true),
            Arg::Long("output") | Arg::Short('o') => output = true,
            Arg::Long("clear" | "delete") | Arg::Short('c' | 'd') => clear = true,
            Arg::Long("primary") | Arg::Short('p') => request.selection = Selection::Primary,
            Arg::Long("secondary") | Arg::Short('s') => request.selection = Selection::Secondary,
            Arg::Long("clipboard") | Arg::Short('b') => request.selection = Selection::Clipboard,
            Arg::Long("nodetach") | Arg::Short('n') => request.foreground = true,
            Arg::Long("trim") => request.trim = true,
            Arg::Long("selectionTimeout" | "logfile" | "display") | Arg::Short('t' | 'l') => drop(parser.value().map_err(wrong)?),
            Arg::Long("verbose") | Arg::Short('v') => {}
            Arg::Long("help" | "version") | Arg::Short('h') => return Ok(Typed::Help),
            Arg::Long("keep" | "exchange" | "follow") | Arg::Short('k' | 'x' | 'f') => {
                return Err(usage("--keep, --exchange and --follow are not passed on to the host: -i, -o, -a and -c are", "xsel"));
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    if input && output {
        return Err(usage("-i and -o together are not passed on to the host: call xsel twice", "xsel"));
    }
    // Without a word, whichever end is not the terminal says it; and where neither is, a script reads (xsel itself would also
    // set the clipboard to whatever the script's input is, mostly nothing).
    request.action = match () {
        () if clear => Action::Clear,
        () if input => Action::Set,
        () if output || input_is_terminal || !output_is_terminal => Action::Get,
        () => Action::Set,
    };
    Ok(Typed::Do(request))
}

/// `-pboard` names one of several pasteboards, of which others have one; `-Prefer` a type, of which text is the one.
fn read_pasteboard(args: &[OsString], action: Action) -> Result<Typed> {
    let name = if action == Action::Set { "pbcopy" } else { "pbpaste" };
    let mut args = args.iter().map(|a| a.as_bytes());
    while let Some(word) = args.next() {
        match (word, if word.starts_with(b"-h") || word.starts_with(b"--h") { None } else { args.next() }) {
            (b"-help" | b"--help" | b"-h", _) => return Ok(Typed::Help),
            (b"-pboard", Some(b"general")) | (b"-Prefer", Some(b"txt")) => {}
            (b"-pboard", _) => return Err(usage("-pboard: the host has one clipboard, 'general'", name)),
            (b"-Prefer", _) => return Err(usage("-Prefer: 'txt' is what there is", name)),
            _ => return Err(usage(format_args!("invalid option '{}'", shown(word)), name)),
        }
    }
    Ok(Typed::Do(Request { action, ..Request::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    /// The request as words, with `<` and the content where it does not come by standard input.
    fn words(typed: Result<Typed>) -> String {
        let text = |request: &Request| request.words().iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect::<Vec<_>>().join(" ");
        match typed {
            Ok(Typed::Do(request)) => text(&request),
            Ok(Typed::With(request, Content::Text(content))) => format!("{} < '{}'", text(&request), shown(&content)),
            Ok(Typed::With(request, Content::Files(files))) => format!("{} < {files:?}", text(&request)),
            Ok(Typed::Help) => "help".into(),
            Err(error) => error.into_text(),
        }
    }

    #[test]
    fn wl_clipboards_options() {
        for (line, said) in [
            ("", "set"),
            ("-n -p -t image/png", "set --primary --trim --type=image/png"),
            ("-nof --seat seat0", "set --trim --once --foreground"),
            ("-c", "clear"),
            ("Hello  world", "set < 'Hello world'"),
            ("-- -n", "set < '-n'"),
            ("-x", "invalid option '-x'; see 'wl-copy --help'"),
        ] {
            assert_eq!(words(read_wl_copy(args(line))), said, "{line}");
        }
        for (line, said) in [("", "get --newline"), ("-n", "get"), ("-l", "types --newline"), ("-np -t text", "get --primary --type=text")] {
            assert_eq!(words(read_wl_paste(args(line))), said, "{line}");
        }
        assert!(words(read_wl_paste(args("-w cat"))).contains("--watch"));
    }

    #[test]
    fn xclips_options() {
        for (line, said) in [
            ("", "set --primary"),
            ("-i", "set --primary"),
            ("-sel clip", "set"),
            ("-selection c -o", "get"),
            ("-o -se s -t image/png", "get --secondary --type=image/png"),
            ("-o -t TARGETS -selection clipboard", "types"),
            ("-f -r -l 1 -q", "set --primary --trim --once --foreground --echo"),
            ("-loops 3 -d :1 -silent a b", "set --primary < [\"a\", \"b\"]"),
            ("-v", "set --primary < [\"-v\"]"),
            ("-h", "help"),
            ("-selection x", "-selection wants primary, secondary or clipboard; see 'xclip --help'"),
            ("-t", "-t wants a value; see 'xclip --help'"),
        ] {
            assert_eq!(words(read_xclip(&args(line))), said, "{line}");
        }
    }

    #[test]
    fn xsels_options() {
        for (line, terminals, said) in [
            ("", (true, true), "get --primary"),
            ("", (false, true), "set --primary"),
            ("", (true, false), "get --primary"),
            ("", (false, false), "get --primary"),
            ("-ib", (true, true), "set"),
            ("-ob", (false, true), "get"),
            ("-ab -t 5", (true, true), "set --append"),
            ("-cs", (true, true), "clear --secondary"),
            ("-in", (true, true), "set --primary --foreground"),
        ] {
            assert_eq!(words(read_xsel(args(line), terminals.0, terminals.1)), said, "{line} {terminals:?}");
        }
        assert!(words(read_xsel(args("-i -o"), true, true)).contains("twice"));
        assert!(words(read_xsel(args("-k"), true, true)).contains("--keep"));
    }

    #[test]
    fn the_pasteboards_options() {
        for (line, said) in [("", "get"), ("-pboard general -Prefer txt", "get"), ("-help", "help")] {
            assert_eq!(words(read_pasteboard(&args(line), Action::Get)), said, "{line}");
        }
        for line in ["-pboard font", "-Prefer rtf", "-pboard", "x"] {
            assert!(words(read_pasteboard(&args(line), Action::Get)).contains("pbpaste"), "{line}");
        }
    }

    #[test]
    fn our_own_name_has_words_for_all_of_it() {
        for line in ["get --primary --trim --newline --type=image/png", "set --secondary --once --foreground --append --echo", "clear", "types"] {
            assert_eq!(words(read(args(line))), line);
        }
        assert!(words(read(args("dance"))).contains("dance") && words(read(args(""))).contains("wanted") && words(read(args("get set"))).contains("set"));
    }
}
