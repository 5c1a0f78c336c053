//! Both ends for real: TAPs, UDP sockets, io_uring, namespaces, emulated links. Needs root.
//!
//! One program, since there is one lab on a machine and its tests take turns.

mod adaptive;
mod attacks;
mod budget;
mod chaos;
mod control;
mod doctor;
mod floods;
mod hostile;
mod lab;
mod lifecycle;
mod offload;
mod path_mtu;
mod privileges;
mod recipes;
mod sealed;
mod streams;
mod trace;
mod uplinks;
mod wire;
