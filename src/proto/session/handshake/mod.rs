//! How two ends come to have keys: the messages ([`message`]), the exchange behind them ([`noise`]), and what keeps the
//! exchange from being had with everybody ([`mac`]).

pub mod mac;
pub mod message;
pub mod noise;
