//! The plan of the house, bottom floor first. A file imports only from floors below its own and from files of its own
//! room, without circles; `tests/house.rs` holds us to it. To read along one request, start at `main.rs`.

// Floor 0: words.
pub mod error;
pub mod exit;
pub mod invocation;
pub mod opid;
pub mod quoted;

// Floor 1: system calls, and the only `unsafe`.
pub mod sys;

// Floor 2: tools.
pub mod checks;
pub mod container;
pub mod document;
pub mod event;
pub mod handed;
pub mod logging;
pub mod paths;
pub mod policy;
pub mod process;
pub mod proto;

// Floor 3: roles. No role knows another.
pub mod server;
pub mod service;

pub mod client;
pub mod desktop;
pub mod doctor;
pub mod guest;
pub mod shims;

// Floor 4: names.
pub mod applet;
