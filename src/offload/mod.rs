//! Super-frames: how one read or write of a TAP carries many frames.
//!
//! A TAP with a vnet header (IFF_VNET_HDR) hands over what the kernel has not cut up yet, and takes what it need not
//! have cut up: up to 64 KiB of one flow behind a single header, which says how to cut. Checksums may be left to the
//! other side. braid does both jobs itself, for what travels between its ends are ordinary Ethernet frames.
//!
//! ```text
//!  from the TAP                                    between the ends                       to the TAP
//!  ┌──────┬──────────────────┬────────────────┐    ┌───────────┬─────┐
//!  │ vnet │ Ethernet IP TCP  │ payload        │ ─▶ │ headers 0 │ pay │ ─┐    ┌──────┬──────────────────┬──────────┐
//!  └──────┴──────────────────┴────────────────┘    ├───────────┼─────┤  ├──▶ │ vnet │ Ethernet IP TCP  │ payload  │
//!                                [`split`]         │ headers 1 │ loa │ ─┤    └──────┴──────────────────┴──────────┘
//!                                                  ├───────────┼─────┤  │       [`coalesce`]
//!                                                  │ headers 2 │ d   │ ─┘
//!                                                  └───────────┴─────┘
//! ```
//!
//! [`split`] makes of a super-frame exactly what the kernel's software segmentation would make of it. [`coalesce`] merges
//! frames only if the kernel, cutting the result, would give back exactly those frames. So an observer behind the TAP
//! can tell neither from an Ethernet link; only the time it takes is another.
//!
//! Payload is never touched: both sides speak of it as ranges, and write headers to be gathered beside it. Nothing here
//! does I/O, reads a clock, or allocates, and no input makes it panic.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod coalesce;
mod headers;
pub mod split;
pub mod vnet_header;
