//! The last refusals and failures, for `bkt status`: a ring, so that a day of them takes no more room than a minute.

use crate::opid::OpId;
use crate::proto::message::{Code, Failed};
use std::collections::VecDeque;
use std::rc::Rc;

/// How many are kept.
const KEPT: usize = 16;
/// How much of a sentence is kept; the log has all of it.
const TEXT_BYTES: usize = 400;

struct Kept {
    op: Option<OpId>,
    at_ms: u64,
    code: u8,
    text: String,
    /// Whose own socket it came by.
    container: Option<Rc<str>>,
}

#[derive(Default)]
pub struct Errors(VecDeque<Kept>);

impl Errors {
    /// What an image before us kept.
    pub fn resume(before: &[Failed<'_>]) -> Errors {
        Errors(before.iter().map(|e| Kept { op: OpId::from_bits(e.op), at_ms: e.at_ms, code: e.code, text: e.text.to_string(), container: None }).collect())
    }

    /// One more. Where there are too many the oldest goes of whoever has most of them: a container that is refused all day leaves
    /// the last of everybody else's.
    pub fn note(&mut self, op: Option<OpId>, at_ms: u64, code: Code, text: &str, container: Option<Rc<str>>) {
        // Whoever is told so goes on another way: nothing has failed.
        if matches!(code, Code::SameSide | Code::NoGuest) {
            return;
        }
        if self.0.len() >= KEPT {
            let share = |kept: &Kept| self.0.iter().filter(|other| other.container == kept.container).count();
            let most = self.0.iter().map(share).max();
            let oldest = self.0.iter().position(|kept| Some(share(kept)) == most);
            oldest.map(|at| self.0.remove(at));
        }
        let end = (0..=TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = text[..end].to_string();
        self.0.push_back(Kept { op, at_ms, code: code as u8, text, container });
    }

    /// The oldest first.
    pub fn told(&self) -> Vec<Failed<'_>> {
        self.0.iter().map(|e| Failed { op: e.op.map_or(0, OpId::bits), at_ms: e.at_ms, code: e.code, text: &e.text }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_no_more_of_them_than_fits() {
        let mut errors = Errors::default();
        errors.note(None, 0, Code::SameSide, "no error", None);
        for at_ms in 0..20 {
            errors.note(OpId::from_bits(at_ms + 1), at_ms, Code::Denied, &"\u{e9}".repeat(300), None);
        }
        let told = errors.told();
        assert_eq!((told.len(), told[0].at_ms, told[15].op), (KEPT, 4, 20));
        assert_eq!(told[0].text.len(), TEXT_BYTES);
        assert_eq!(Errors::resume(&told).told(), told);
    }

    #[test]
    fn one_container_pushes_out_nobody_elses() {
        let mut errors = Errors::default();
        let mut note = |at_ms, container: Option<&str>| errors.note(None, at_ms, Code::Denied, "no", container.map(Rc::from));
        note(1, None);
        note(2, Some("web"));
        (3..100).for_each(|at_ms| note(at_ms, Some("dev")));
        let kept: Vec<u64> = errors.told().iter().map(|e| e.at_ms).collect();
        assert_eq!(kept, [&[1, 2][..], &(86..100).collect::<Vec<_>>()].concat());
    }
}
