//! The lab: network namespaces, emulated links, numbered traffic and a report, to watch a tunnel do its job.
//!
//! A library only so that its parsers can be fuzzed; the program is one call to [`command_line::main`].

mod action;
mod addresses;
mod bench;
mod chaos;
mod clock;
pub mod command_line;
mod course;
mod daemon;
mod demo;
mod emulator;
mod end;
mod flow;
pub mod fuzzing;
mod lab;
mod live;
mod namespaces;
mod orders;
mod plot;
mod program;
mod protection;
mod report;
mod run;
mod say;
mod scenario;
mod simulate;
mod stop;
mod stream;
mod tcp;
mod traffic;
mod tunnel;
mod video;
