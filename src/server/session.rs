//! One client's conversation, decided without I/O: events in, actions out.
//!
//! Nothing here reads a clock, a socket or a process; the daemon does, and does what it is told. So the rules of a run (at most
//! once, nothing for a caller that has gone, no orphan, no signal to a stranger) can be tested and fuzzed as they stand.

use crate::exit::End;
use crate::proto::message::{Code, Refusal};
use crate::sys::signals::{self as signal, SignalSet};
use serde::{Deserialize, Serialize};

/// How long a connection may take to say what it wants. Longer than the client's own 2 s, so that its sentence comes first.
pub const REQUEST_DEADLINE_MS: u64 = 5_000;
/// How long after its start a command is looked at. Most have ended by then, and then one message says it all: two wake-ups less
/// on the way. It is also how long the client keeps its copies of the streams, at the most.
pub const LOOK_AFTER_MS: u64 = 5;
/// A request that has not started by then is acknowledged, within the client's 2 s, so that the client waits on.
pub const ANSWER_WITHIN_MS: u64 = 500;
/// From SIGHUP to SIGTERM for a command whose client has vanished: time to save and leave.
pub const HANGUP_GRACE_MS: u64 = 3_000;
/// From SIGTERM to SIGKILL, there and when the daemon ends.
pub const TERM_GRACE_MS: u64 = 5_000;

/// Where a conversation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum State {
    /// Connected; has not asked for a run yet, and has until then to do so.
    Greeting { until: u64 },
    /// Its run was taken and waits for its turn to be started.
    Queued,
    /// Its child exists and has not exec'ed.
    Starting,
    /// Its command runs.
    Running,
    /// Its command is being ended: the next harder signal is due at `at`.
    Ending { last: u8, at: u64 },
    /// Its command's leader is gone, members of its group are being ended.
    Sweeping { last: u8, at: u64 },
    /// Nothing more will come of it.
    Over,
    /// A container's guest daemon: stays as long as it lives.
    Serving,
}

/// What is said of a run when it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Terms {
    /// It has a terminal, and with it a monitor.
    pub terminal: bool,
    /// It goes on when its client vanishes: detached, or SIGHUP ignored at the caller.
    pub survives: bool,
    /// The client waits for nothing but the start.
    pub detach: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    state: State,
    terms: Terms,
    /// The connection is open.
    connected: bool,
    /// When an acknowledgement is due.
    answer_by: Option<u64>,
    /// When the child is to be watched for its start.
    look_at: Option<u64>,
    /// Signals that came before there was a command to get them.
    held: SignalSet,
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A run was asked for and nothing speaks against it.
    Asked(Terms),
    /// The peer made a mistake, or asked for something that is refused.
    Refuse(Refusal),
    /// The peer is a guest daemon, and was taken as one.
    Serves,
    Signal(u8),
    Continue {
        foreground: bool,
    },
    Foreground(bool),
    /// The client's connection has ended.
    Gone,
    /// The child was made.
    Made,
    /// The child could not be made, or could not become the command.
    NotStarted(Refusal),
    /// The command has exec'ed.
    Started,
    Stopped(u8),
    Continued,
    /// The monitor of a terminal run is gone without a word of the command's end.
    MonitorLost,
    /// The command has ended; `group_left` says whether others of its group live.
    Ended {
        end: End,
        group_left: bool,
    },
    /// Nothing is left of what was being swept up.
    Swept,
    /// The clock has been read.
    Time,
    /// The daemon ends.
    Shutdown,
}

/// What is to be done about it, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Put the run in the queue of those to be started.
    Enqueue,
    /// Take it out again.
    Discard,
    /// Wait for the child's report from now on, not only for its end.
    Watch,
    Accepted,
    StartedReply,
    StoppedReply(u8),
    ContinuedReply,
    ExitedReply(End),
    Refuse(Refusal),
    /// Send a signal to the command's process group.
    SignalGroup(u8),
    /// Kill the child that has not become the command.
    KillChild,
    /// Continue the command in the pty's foreground or background.
    ContinueOnTerminal {
        foreground: bool,
    },
    SetForeground(bool),
    /// The client is gone: put its terminal's modes back.
    RestoreTerminal,
    /// Close the connection once what was said has been read.
    Hangup,
}

impl Session {
    pub fn new(now: u64) -> Session {
        Session { state: State::Greeting { until: now + REQUEST_DEADLINE_MS }, terms: Terms::default(), connected: true, answer_by: None, look_at: None, held: SignalSet::EMPTY }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// When [`Event::Time`] is wanted.
    pub fn deadline(&self) -> Option<u64> {
        let at = match self.state {
            State::Greeting { until } => Some(until),
            State::Ending { last, at } | State::Sweeping { last, at } if last != signal::KILL => Some(at),
            _ => None,
        };
        [at, self.answer_by, self.look_at].into_iter().flatten().min()
    }

    /// Nothing more will come: the daemon may forget it once its last words are out.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Its command is to go on when its client vanishes.
    pub fn survives(&self) -> bool {
        self.terms.survives
    }

    /// It has a command that lives, or a child on its way to be one.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Starting | State::Running | State::Ending { .. })
    }

    /// What is to be done about what has happened.
    pub fn on(&mut self, event: Event, now: u64) -> Vec<Action> {
        match event {
            Event::Asked(terms) => self.on_asked(terms, now),
            Event::Refuse(refusal) => self.on_refuse(refusal, now),
            Event::Serves => self.on_serves(),
            Event::Signal(signal) => self.on_signal(signal),
            Event::Continue { foreground } => self.on_continue(foreground),
            Event::Foreground(yes) if self.has_command() && self.terms.terminal => vec![Action::SetForeground(yes)],
            Event::Foreground(_) => vec![],
            Event::Gone => self.on_gone(now),
            Event::Made => self.on_made(now),
            Event::NotStarted(refusal) => self.on_not_started(refusal),
            Event::Started => self.on_started(),
            Event::Stopped(signal) if self.has_command() => self.say(Action::StoppedReply(signal)),
            Event::Continued if self.has_command() => self.say(Action::ContinuedReply),
            Event::Stopped(_) | Event::Continued => vec![],
            Event::Ended { end, group_left } => self.on_ended(end, group_left),
            Event::MonitorLost => self.on_monitor_lost(now),
            Event::Swept if matches!(self.state, State::Sweeping { .. }) => {
                self.state = State::Over;
                vec![]
            }
            Event::Swept => vec![],
            Event::Time => self.on_time(now),
            Event::Shutdown => self.on_shutdown(now),
        }
    }

    fn on_asked(&mut self, terms: Terms, now: u64) -> Vec<Action> {
        if !matches!(self.state, State::Greeting { .. }) {
            return self.on_refuse(Refusal::new(Code::BadRequest, "one connection runs one command"), now);
        }
        (self.state, self.terms, self.answer_by) = (State::Queued, terms, Some(now + ANSWER_WITHIN_MS));
        vec![Action::Enqueue]
    }

    fn on_serves(&mut self) -> Vec<Action> {
        if matches!(self.state, State::Greeting { .. }) {
            self.state = State::Serving;
        }
        vec![]
    }

    /// A refusal before the run ends the conversation. One during a run is the peer breaking the protocol: it is as if it had gone.
    fn on_refuse(&mut self, refusal: Refusal, now: u64) -> Vec<Action> {
        let mut actions = self.say(Action::Refuse(refusal));
        actions.extend(self.hangup());
        actions.extend(self.without_client(now));
        actions
    }

    fn on_made(&mut self, now: u64) -> Vec<Action> {
        if self.state != State::Queued {
            return vec![];
        }
        self.state = State::Starting;
        // At a terminal, output may come at once.
        if self.terms.terminal || self.terms.detach {
            return vec![Action::Watch];
        }
        self.look_at = Some(now + LOOK_AFTER_MS);
        vec![]
    }

    fn on_signal(&mut self, signal: u8) -> Vec<Action> {
        match self.state {
            State::Queued | State::Starting => {
                self.held = self.held.with(signal);
                vec![]
            }
            State::Running | State::Ending { .. } => vec![Action::SignalGroup(self.as_delivered(signal))],
            _ => vec![],
        }
    }

    /// The kernel discards the terminal's stop signals for an orphaned process group, and without a monitor the command's group
    /// is one: there, only SIGSTOP stops.
    fn as_delivered(&self, signal: u8) -> u8 {
        let stops = [signal::TSTP, signal::TTIN, signal::TTOU].contains(&signal);
        if stops && !self.terms.terminal { signal::STOP } else { signal }
    }

    fn on_continue(&mut self, foreground: bool) -> Vec<Action> {
        if !self.has_command() {
            vec![]
        } else if self.terms.terminal {
            vec![Action::ContinueOnTerminal { foreground }]
        } else {
            vec![Action::SignalGroup(signal::CONT)]
        }
    }

    fn on_gone(&mut self, now: u64) -> Vec<Action> {
        let mut actions = self.hangup();
        actions.extend(self.without_client(now));
        actions
    }

    /// The client is no more: what it had asked for is not started, or is ended, unless it was to survive.
    fn without_client(&mut self, now: u64) -> Vec<Action> {
        (self.answer_by, self.look_at) = (None, None);
        match self.state {
            State::Greeting { .. } | State::Serving => {
                self.state = State::Over;
                vec![]
            }
            State::Queued => {
                self.state = State::Over;
                vec![Action::Discard]
            }
            State::Starting if !self.terms.survives => {
                self.state = State::Ending { last: signal::KILL, at: now };
                vec![Action::KillChild]
            }
            State::Running => {
                let mut actions = if self.terms.terminal { vec![Action::RestoreTerminal] } else { vec![] };
                if !self.terms.survives {
                    self.state = State::Ending { last: signal::HUP, at: now + HANGUP_GRACE_MS };
                    // A stopped command could not even notice.
                    actions.extend([Action::SignalGroup(signal::HUP), Action::SignalGroup(signal::CONT)]);
                }
                actions
            }
            _ => vec![],
        }
    }

    fn on_not_started(&mut self, refusal: Refusal) -> Vec<Action> {
        if !matches!(self.state, State::Queued | State::Starting | State::Ending { .. }) {
            return vec![];
        }
        self.state = State::Over;
        (self.answer_by, self.look_at) = (None, None);
        let mut actions = self.say(Action::Refuse(refusal));
        actions.extend(self.hangup());
        actions
    }

    fn on_started(&mut self) -> Vec<Action> {
        if self.state != State::Starting {
            return vec![];
        }
        self.state = State::Running;
        (self.answer_by, self.look_at) = (None, None);
        let mut actions = self.say(Action::StartedReply);
        actions.extend(self.held.iter().map(|signal| Action::SignalGroup(self.as_delivered(signal))));
        actions
    }

    fn on_ended(&mut self, end: End, group_left: bool) -> Vec<Action> {
        (self.answer_by, self.look_at) = (None, None);
        let mut actions = vec![];
        match self.state {
            State::Starting | State::Running => self.state = State::Over,
            // Being ended, and some of its group outlived it: they get the rest of the ladder.
            State::Ending { last, at } if group_left && last != signal::KILL => self.state = State::Sweeping { last, at },
            State::Ending { last, .. } => {
                if group_left && last == signal::KILL {
                    actions.push(Action::SignalGroup(signal::KILL));
                }
                self.state = State::Over;
            }
            _ => return vec![],
        }
        actions.extend(self.say(Action::ExitedReply(end)));
        actions.extend(self.hangup());
        actions
    }

    /// Nobody will tell of the command's end any more: it is ended by its group, without waiting for news of it.
    fn on_monitor_lost(&mut self, now: u64) -> Vec<Action> {
        match self.state {
            State::Starting => return self.on_not_started(Refusal::new(Code::Internal, "the command's monitor died before the command ran")),
            State::Running | State::Ending { .. } => {}
            _ => return vec![],
        }
        let mut actions = self.say(Action::Refuse(Refusal::new(Code::Internal, "the command's monitor was killed; the command is being ended")));
        actions.extend(self.hangup());
        (self.answer_by, self.look_at) = (None, None);
        self.state = State::Sweeping { last: signal::HUP, at: now + HANGUP_GRACE_MS };
        actions.extend([Action::SignalGroup(signal::HUP), Action::SignalGroup(signal::CONT)]);
        actions
    }

    fn on_time(&mut self, now: u64) -> Vec<Action> {
        let mut actions = vec![];
        if self.answer_by.is_some_and(|at| at <= now) {
            self.answer_by = None;
            actions.extend(self.say(Action::Accepted));
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            actions.push(Action::Watch);
        }
        match self.state {
            State::Greeting { until } if until <= now => {
                let text = format!("no whole request within {} s", REQUEST_DEADLINE_MS / 1000);
                actions.extend(self.on_refuse(Refusal::new(Code::TooSlow, text), now));
            }
            State::Ending { last, at } if at <= now && last != signal::KILL => {
                let (signals, at) = harder(last, now);
                self.state = State::Ending { last: signals[0], at };
                actions.extend(signals.into_iter().map(Action::SignalGroup));
            }
            State::Sweeping { last, at } if at <= now => {
                let (signals, at) = harder(last, now);
                self.state = if signals[0] == signal::KILL { State::Over } else { State::Sweeping { last: signals[0], at } };
                actions.extend(signals.into_iter().map(Action::SignalGroup));
            }
            _ => {}
        }
        actions
    }

    fn on_shutdown(&mut self, now: u64) -> Vec<Action> {
        match self.state {
            State::Greeting { .. } | State::Queued => {
                let refusal = Refusal::new(Code::ShuttingDown, "the daemon is ending; the command was not started");
                self.on_refuse(refusal, now)
            }
            State::Serving => self.on_gone(now),
            State::Starting => {
                let mut actions = self.say(Action::Refuse(Refusal::new(Code::ShuttingDown, "the daemon is ending; the command was ended at its start")));
                actions.extend(self.hangup());
                actions.push(Action::KillChild);
                (self.answer_by, self.look_at) = (None, None);
                self.state = State::Ending { last: signal::KILL, at: now };
                actions
            }
            State::Running => {
                self.state = State::Ending { last: signal::TERM, at: now + TERM_GRACE_MS };
                vec![Action::SignalGroup(signal::TERM), Action::SignalGroup(signal::CONT)]
            }
            // Already hung up on: no longer than the others.
            State::Ending { last: signal::HUP, .. } => {
                self.state = State::Ending { last: signal::TERM, at: now + TERM_GRACE_MS };
                vec![Action::SignalGroup(signal::TERM), Action::SignalGroup(signal::CONT)]
            }
            State::Sweeping { last: signal::HUP, .. } => {
                self.state = State::Sweeping { last: signal::TERM, at: now + TERM_GRACE_MS };
                vec![Action::SignalGroup(signal::TERM), Action::SignalGroup(signal::CONT)]
            }
            State::Ending { .. } | State::Sweeping { .. } | State::Over => vec![],
        }
    }

    fn has_command(&self) -> bool {
        matches!(self.state, State::Running | State::Ending { .. })
    }

    /// An answer, if there is still somebody to hear it.
    fn say(&self, action: Action) -> Vec<Action> {
        if self.connected { vec![action] } else { vec![] }
    }

    fn hangup(&mut self) -> Vec<Action> {
        if std::mem::take(&mut self.connected) { vec![Action::Hangup] } else { vec![] }
    }
}

/// The next step of the ladder HUP, TERM, KILL. A stopped command is continued, or it could not obey.
fn harder(last: u8, now: u64) -> (Vec<u8>, u64) {
    if last == signal::HUP { (vec![signal::TERM, signal::CONT], now + TERM_GRACE_MS) } else { (vec![signal::KILL], now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal() -> Refusal {
        Refusal::new(Code::NotFound, "x")
    }

    fn running(terms: Terms) -> Session {
        let mut session = Session::new(0);
        assert_eq!(session.on(Event::Asked(terms), 0), [Action::Enqueue]);
        session.on(Event::Made, 0);
        assert_eq!(session.on(Event::Started, 0), [Action::StartedReply]);
        session
    }

    #[test]
    fn a_run_goes_from_asked_to_exited() {
        let mut session = running(Terms::default());
        assert_eq!(session.on(Event::Ended { end: End::Code(7), group_left: true }, 9), [Action::ExitedReply(End::Code(7)), Action::Hangup]);
        assert!(session.is_over() && session.deadline().is_none());
    }

    #[test]
    fn a_caller_that_goes_while_it_waits_gets_nothing_started() {
        let mut session = Session::new(0);
        session.on(Event::Asked(Terms::default()), 0);
        assert_eq!(session.on(Event::Gone, 1), [Action::Hangup, Action::Discard]);
        assert!(session.is_over());
    }

    #[test]
    fn a_vanished_client_is_answered_with_hup_then_term_then_kill() {
        let mut session = running(Terms::default());
        assert_eq!(session.on(Event::Gone, 10), [Action::Hangup, Action::SignalGroup(signal::HUP), Action::SignalGroup(signal::CONT)]);
        assert_eq!(session.on(Event::Time, 10 + HANGUP_GRACE_MS - 1), []);
        let term = 10 + HANGUP_GRACE_MS;
        assert_eq!(session.deadline(), Some(term));
        assert_eq!(session.on(Event::Time, term), [Action::SignalGroup(signal::TERM), Action::SignalGroup(signal::CONT)]);
        assert_eq!(session.on(Event::Time, term + TERM_GRACE_MS), [Action::SignalGroup(signal::KILL)]);
        assert_eq!(session.deadline(), None);
        assert_eq!(session.on(Event::Ended { end: End::Signal(9), group_left: false }, term + TERM_GRACE_MS), []);
        assert!(session.is_over());
    }

    #[test]
    fn the_rest_of_the_group_of_a_vanished_client_is_ended_too() {
        let mut session = running(Terms::default());
        session.on(Event::Gone, 0);
        assert_eq!(session.on(Event::Ended { end: End::Signal(1), group_left: true }, 1), []);
        assert!(!session.is_over());
        assert_eq!(session.on(Event::Time, HANGUP_GRACE_MS), [Action::SignalGroup(signal::TERM), Action::SignalGroup(signal::CONT)]);
        assert_eq!(session.on(Event::Time, HANGUP_GRACE_MS + TERM_GRACE_MS), [Action::SignalGroup(signal::KILL)]);
        assert!(session.is_over());
    }

    #[test]
    fn the_end_of_the_daemon_bounds_every_ladder() {
        let mut running_session = running(Terms::default());
        let term = [Action::SignalGroup(signal::TERM), Action::SignalGroup(signal::CONT)];
        assert_eq!(running_session.on(Event::Shutdown, 0), term);
        let mut hung_up = running(Terms::default());
        hung_up.on(Event::Gone, 0);
        assert_eq!(hung_up.on(Event::Shutdown, 10), term);
        let mut sweeping = running(Terms::default());
        sweeping.on(Event::Gone, 0);
        sweeping.on(Event::Ended { end: End::Signal(1), group_left: true }, 1);
        assert_eq!(sweeping.on(Event::Shutdown, 10), term);
        for session in [running_session, hung_up, sweeping] {
            assert!(session.deadline().is_some_and(|at| at <= 10 + TERM_GRACE_MS), "{session:?}");
        }
    }

    #[test]
    fn a_command_that_is_being_started_when_the_daemon_ends_is_killed_and_its_caller_told_why() {
        let mut session = Session::new(0);
        session.on(Event::Asked(Terms::default()), 0);
        session.on(Event::Made, 0);
        let actions = session.on(Event::Shutdown, 0);
        assert!(matches!(&actions[..], [Action::Refuse(r), Action::Hangup, Action::KillChild] if r.code == Code::ShuttingDown), "{actions:?}");
        assert_eq!(session.on(Event::Ended { end: End::Signal(9), group_left: false }, 1), []);
        assert!(session.is_over());
    }

    #[test]
    fn a_command_that_is_to_survive_does() {
        for terminal in [false, true] {
            let mut session = running(Terms { survives: true, terminal, detach: false });
            let actions = session.on(Event::Gone, 10);
            assert!(!actions.iter().any(|a| matches!(a, Action::SignalGroup(_))), "{actions:?}");
            assert_eq!((session.deadline(), session.state()), (None, State::Running));
        }
    }

    #[test]
    fn stop_signals_are_made_effective_only_where_there_is_no_terminal() {
        for stop in [signal::TSTP, signal::TTIN, signal::TTOU] {
            assert_eq!(running(Terms::default()).on(Event::Signal(stop), 0), [Action::SignalGroup(signal::STOP)]);
            let terminal = Terms { terminal: true, ..Terms::default() };
            assert_eq!(running(terminal).on(Event::Signal(stop), 0), [Action::SignalGroup(stop)]);
        }
    }

    #[test]
    fn signals_before_the_start_are_held_until_it() {
        let mut session = Session::new(0);
        session.on(Event::Asked(Terms::default()), 0);
        session.on(Event::Made, 0);
        assert_eq!(session.on(Event::Signal(signal::TERM), 0), []);
        assert_eq!(session.on(Event::Started, 0), [Action::StartedReply, Action::SignalGroup(signal::TERM)]);
    }

    #[test]
    fn a_child_is_watched_at_once_where_somebody_waits_for_its_start_and_later_elsewhere() {
        for (terms, at_once) in [(Terms::default(), false), (Terms { terminal: true, ..Terms::default() }, true), (Terms { detach: true, survives: true, terminal: false }, true)] {
            let mut session = Session::new(0);
            session.on(Event::Asked(terms), 0);
            let now = if at_once { vec![Action::Watch] } else { vec![] };
            assert_eq!(session.on(Event::Made, 0), now);
            let later = if at_once { vec![] } else { vec![Action::Watch] };
            assert_eq!(session.on(Event::Time, LOOK_AFTER_MS), later);
        }
    }

    #[test]
    fn a_slow_start_is_acknowledged_once() {
        let mut session = Session::new(0);
        session.on(Event::Asked(Terms::default()), 0);
        assert_eq!(session.deadline(), Some(ANSWER_WITHIN_MS));
        assert_eq!(session.on(Event::Time, ANSWER_WITHIN_MS), [Action::Accepted]);
        assert_eq!(session.on(Event::Time, ANSWER_WITHIN_MS + 1), []);
    }

    #[test]
    fn a_guest_stays_until_it_goes_or_the_daemon_ends() {
        for last in [Event::Gone, Event::Shutdown, Event::Refuse(refusal())] {
            let mut session = Session::new(0);
            assert_eq!(session.on(Event::Serves, 0), []);
            assert_eq!((session.deadline(), session.is_running()), (None, false));
            assert_eq!(session.on(Event::Time, 1_000_000), []);
            assert_eq!(session.on(last, 1_000_000).last(), Some(&Action::Hangup));
            assert!(session.is_over());
        }
    }

    #[test]
    fn who_says_nothing_is_refused_in_time() {
        let mut session = Session::new(0);
        assert_eq!(session.on(Event::Time, REQUEST_DEADLINE_MS - 1), []);
        let actions = session.on(Event::Time, REQUEST_DEADLINE_MS);
        assert!(matches!(&actions[..], [Action::Refuse(r), Action::Hangup] if r.code == Code::TooSlow), "{actions:?}");
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            (any::<bool>(), any::<bool>()).prop_map(|(terminal, survives)| Event::Asked(Terms { terminal, survives, detach: survives })),
            Just(Event::Refuse(refusal())),
            (0u8..=255).prop_map(Event::Signal),
            any::<bool>().prop_map(|foreground| Event::Continue { foreground }),
            any::<bool>().prop_map(Event::Foreground),
            Just(Event::Gone),
            Just(Event::Serves),
            Just(Event::Made),
            Just(Event::NotStarted(refusal())),
            Just(Event::Started),
            (1u8..=64).prop_map(Event::Stopped),
            Just(Event::Continued),
            (any::<u8>(), any::<bool>()).prop_map(|(code, group_left)| Event::Ended { end: End::Code(code), group_left }),
            Just(Event::MonitorLost),
            Just(Event::Time),
            Just(Event::Shutdown),
        ]
    }

    proptest! {
        /// Whatever comes in whatever order: one start, one last word, nothing said after hanging up, no signal after the end.
        #[test]
        fn no_order_of_events_breaks_the_rules(events in proptest::collection::vec((events(), 0u64..9_000), 0..40)) {
            let (mut session, mut now) = (Session::new(0), 0);
            let (mut enqueued, mut last_words, mut hangups) = (0, 0, 0);
            for (event, later) in events {
                now += later;
                let was_over = session.is_over();
                for action in session.on(event, now) {
                    prop_assert!(!was_over, "{action:?} after the end");
                    match action {
                        Action::Enqueue => enqueued += 1,
                        Action::ExitedReply(_) | Action::Refuse(_) => { last_words += 1; prop_assert_eq!(hangups, 0); }
                        Action::Hangup => hangups += 1,
                        Action::Accepted | Action::StartedReply | Action::StoppedReply(_) | Action::ContinuedReply => {
                            prop_assert_eq!((last_words, hangups), (0, 0));
                        }
                        Action::SignalGroup(_) | Action::KillChild => prop_assert_eq!(enqueued, 1),
                        _ => {}
                    }
                }
                prop_assert!(enqueued <= 1 && last_words <= 1 && hangups <= 1);
                if session.is_over() {
                    prop_assert_eq!(session.deadline(), None);
                }
            }
        }
    }
}
