//! A command line up to the cursor, taken apart as shells do it for their completions, and words quoted for it.

/// What bash takes for one word: the shell's words are split again at `=` and `:`.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// As it was typed.
    pub raw: Vec<u8>,
    /// Without quotes.
    pub text: Vec<u8>,
    /// It goes on the word before it.
    joined: bool,
    is_break: bool,
}

/// One command, of which the last piece is at the cursor; it is empty where a new word begins there.
#[derive(Debug, Default)]
pub struct Line {
    pub pieces: Vec<Piece>,
    /// The cursor is within this kind of quotes.
    pub quote: Option<u8>,
}

/// What bash may split words at, within them.
const BREAKS: &[u8] = b"=:@,+%";

/// What may precede a command's name on its line.
const BEFORE_COMMANDS: &[&[u8]] = &[b"and", b"or", b"not", b"!", b"time", b"command", b"builtin", b"exec"];

/// Takes a line apart. `breaks` are the characters, of those that may be, at which words are split again.
pub fn take_apart(line: &[u8], breaks: &[u8]) -> Line {
    let is_break = |b: u8| BREAKS.contains(&b) && breaks.contains(&b);
    let mut out = Line::default();
    let mut piece: Option<Piece> = None;
    let mut joined = false;
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let space = out.quote.is_none() && byte.is_ascii_whitespace();
        let breaks_here = out.quote.is_none() && is_break(byte);
        if (space || piece.as_ref().is_some_and(|p| p.is_break != breaks_here))
            && let Some(done) = piece.take()
        {
            out.pieces.push(done);
            joined = true;
        }
        if space {
            joined = false;
            continue;
        }
        let at = piece.get_or_insert(Piece { raw: vec![], text: vec![], joined, is_break: breaks_here });
        at.raw.push(byte);
        match (out.quote, byte) {
            (None, b'\'' | b'"') => out.quote = Some(byte),
            (Some(quote), _) if byte == quote => out.quote = None,
            (None | Some(b'"'), b'\\') => {
                let Some(next) = bytes.next() else { break };
                at.raw.push(next);
                // Within double quotes a backslash is one, but before these.
                if out.quote.is_some() && !b"\\\"$`\n".contains(&next) {
                    at.text.push(byte);
                }
                at.text.push(next);
            }
            _ => at.text.push(byte),
        }
    }
    out.pieces.push(piece.unwrap_or(Piece { raw: vec![], text: vec![], joined: false, is_break: false }));
    out.begin_at_command();
    out
}

impl Line {
    /// The shell's words without quotes; the last is at the cursor.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        for piece in &self.pieces {
            match words.last_mut() {
                Some(word) if piece.joined => word.extend(&piece.text),
                _ => words.push(piece.text.clone()),
            }
        }
        words
    }

    /// The line as it was typed, with another name for the command.
    pub fn with_name(&self, name: &[u8]) -> Vec<u8> {
        let mut line = quoted(name, None);
        for piece in self.pieces.iter().skip(1).skip_while(|p| p.joined) {
            line.extend(if piece.joined { &b""[..] } else { b" " });
            line.extend(&piece.raw);
        }
        line
    }

    /// What bash would complete: the last piece, unless it is a break, behind which nothing has been typed yet.
    pub fn current(&self) -> &[u8] {
        self.pieces.last().filter(|p| !p.is_break).map_or(b"", |p| &p.text)
    }

    /// The part of the word at the cursor that comes before what bash would complete.
    pub fn before_current(&self) -> Vec<u8> {
        let mut word = self.words().pop().unwrap_or_default();
        word.truncate(word.len() - self.current().len());
        word
    }

    /// Leaves out assignments and words like `time`, unless the cursor is at them.
    fn begin_at_command(&mut self) {
        loop {
            let end = self.pieces.iter().skip(1).position(|p| !p.joined).map(|at| at + 1);
            let word: Vec<u8> = self.pieces.iter().take(end.unwrap_or(0)).flat_map(|p| p.raw.iter().copied()).collect();
            let name = word.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            let assignment = name > 0 && word.get(name) == Some(&b'=');
            match end {
                Some(end) if assignment || BEFORE_COMMANDS.contains(&word.as_slice()) => drop(self.pieces.drain(..end)),
                _ => return,
            }
        }
    }
}

/// A word as it is to be typed, within quotes of that kind or none. A tilde at its beginning keeps its meaning.
pub fn quoted(word: &[u8], quote: Option<u8>) -> Vec<u8> {
    let special: &[u8] = match quote {
        None => b" \t!\"#$&'()*;<>?[\\]^`{|}",
        Some(b'"') => b"\"$\\`",
        Some(_) => b"",
    };
    let mut out = Vec::with_capacity(word.len());
    for byte in word {
        if special.contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(line: &str) -> (Vec<String>, Vec<String>, String) {
        let line = take_apart(line.as_bytes(), b"=:");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (line.pieces.iter().map(|p| text(&p.raw)).collect(), line.words().iter().map(|w| text(w)).collect(), text(&line.before_current()) + "|" + &text(line.current()))
    }

    #[test]
    fn a_line_is_taken_apart_as_bash_does_it() {
        let table: &[(&str, &[&str], &[&str], &str)] = &[
            ("systemctl sta", &["systemctl", "sta"], &["systemctl", "sta"], "|sta"),
            ("systemctl  status ", &["systemctl", "status", ""], &["systemctl", "status", ""], "|"),
            ("a --b=c", &["a", "--b", "=", "c"], &["a", "--b=c"], "--b=|c"),
            ("a --b=", &["a", "--b", "="], &["a", "--b="], "--b=|"),
            ("a x::y", &["a", "x", "::", "y"], &["a", "x::y"], "x::|y"),
            ("a = b", &["a", "=", "b"], &["a", "=", "b"], "|b"),
            (r"a b\ c", &["a", r"b\ c"], &["a", "b c"], "|b c"),
            (r#"a "b c"#, &["a", r#""b c"#], &["a", "b c"], "|b c"),
            (r#"a "x\"\y" 'it='"#, &["a", r#""x\"\y""#, "'it='"], &["a", r#"x"\y"#, "it="], "|it="),
            ("A=1 B= time run x", &["run", "x"], &["run", "x"], "|x"),
            ("A=1", &["A", "=", "1"], &["A=1"], "A=|1"),
            (r"a b\", &["a", r"b\"], &["a", "b"], "|b"),
            ("", &[""], &[""], "|"),
        ];
        for (line, raw, words, current) in table {
            let (got_raw, got_words, got_current) = apart(line);
            assert_eq!(
                (got_raw, got_words, got_current.as_str()),
                (raw.iter().map(|r| r.to_string()).collect(), words.iter().map(|w| w.to_string()).collect(), *current),
                "{line}"
            );
        }
    }

    #[test]
    fn a_quoted_word_is_read_back_as_it_was() {
        let odd = b"~a b'c\"d\\e$f*\xff(g)".as_slice();
        for (open, quote) in [(&b""[..], None), (b"\"", Some(b'"'))] {
            let line = take_apart(&[open, &quoted(odd, quote)].concat(), b"=:");
            assert_eq!((line.words(), line.quote), (vec![odd.to_vec()], quote));
        }
        assert_eq!(quoted(b"a$b", Some(b'\'')), b"a$b");
    }
}
