//! Any events in any order, at any time: one start, one last word, nothing said after hanging up, no signal after the end, and
//! never a deadline that has passed and is asked for again and again.
#![no_main]

use bkt::exit::End;
use bkt::proto::message::{Code, Refusal};
use bkt::server::session::{Action, Event, Session, State, Terms};
use bkt_fuzz::{Input, seed};
use libfuzzer_sys::fuzz_target;

/// One event: its number, an argument, and how much later it comes, in units of 4 ms.
fn event(input: &mut Input<'_>) -> (Event, u64) {
    let (number, argument, later) = (input.byte(), input.byte(), u64::from(input.byte()) * 4);
    let flag = |bit: u8| argument & 1 << bit != 0;
    let refusal = || Refusal::new(Code::BadRequest, "x");
    let event = match number % 16 {
        0 => Event::Asked(Terms { terminal: flag(0), survives: flag(1), detach: flag(2) }),
        1 => Event::Refuse(refusal()),
        2 => Event::Signal(argument),
        3 => Event::Continue { foreground: flag(0) },
        4 => Event::Foreground(flag(0)),
        5 => Event::Gone,
        6 => Event::Made,
        7 => Event::NotStarted(refusal()),
        8 => Event::Started,
        9 => Event::Stopped(argument),
        10 => Event::Continued,
        11 => Event::Ended { end: End::Code(argument), group_left: false },
        12 => Event::Ended { end: End::Signal(argument), group_left: true },
        13 => Event::MonitorLost,
        14 => Event::Time,
        _ => Event::Shutdown,
    };
    (event, later)
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = |numbers: &[u8]| numbers.iter().flat_map(|n| [*n, 0, 1]).collect();
    vec![
        whole(&[0, 6, 8, 11]),
        whole(&[0, 6, 8, 2, 9, 3, 10, 12, 14, 14]),
        whole(&[0, 6, 8, 5, 14, 14, 14, 12, 14]),
        whole(&[0, 5]),
        whole(&[0, 6, 5, 7]),
        whole(&[0, 6, 8, 13, 14, 14]),
        whole(&[0, 6, 8, 15, 14, 11]),
        [[0, 1, 1], [6, 0, 1], [8, 0, 1], [4, 1, 1], [11, 3, 255]].concat(),
        [[14, 0, 255], [14, 0, 255], [14, 0, 255], [14, 0, 255], [14, 0, 255], [14, 0, 255]].concat(),
    ]
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    let mut input = Input(data);
    let (mut session, mut now) = (Session::new(0), 0);
    let (mut enqueued, mut last_words, mut hangups) = (0, 0, 0);
    while !input.is_empty() {
        let (event, later) = event(&mut input);
        now += later;
        let (was_over, is_time) = (session.is_over(), event == Event::Time);
        for action in session.on(event, now) {
            assert!(!was_over, "{action:?} after the end");
            match action {
                Action::Enqueue => enqueued += 1,
                Action::ExitedReply(_) | Action::Refuse(_) => {
                    last_words += 1;
                    assert_eq!(hangups, 0, "a last word after hanging up");
                }
                Action::Hangup => hangups += 1,
                Action::Accepted | Action::StartedReply | Action::StoppedReply(_) | Action::ContinuedReply => {
                    assert_eq!((last_words, hangups), (0, 0), "{action:?} after the last word");
                }
                Action::SignalGroup(_) | Action::KillChild => assert_eq!(enqueued, 1, "a signal to nobody"),
                _ => {}
            }
        }
        assert!(enqueued <= 1 && last_words <= 1 && hangups <= 1);
        if session.is_over() {
            assert_eq!(session.deadline(), None);
        } else if is_time {
            // The ladder may be behind by several steps; each reading of the clock takes one.
            let (mut steps, mut state) = (0, session.state());
            while session.deadline().is_some_and(|at| at <= now) && !session.is_over() {
                session.on(Event::Time, now);
                steps += 1;
                assert!(steps < 4, "a deadline at {state:?} does not go away: the daemon would spin");
                state = session.state();
            }
            assert!(!matches!(state, State::Greeting { until } if until <= now));
        }
    }
});
