//! The PyO3 module behind the Python package `ragstore`. The facade in `python/ragstore` has the names, types and
//! documentation that users see; here arguments become requests and outcomes become plain Python values.
//!
//! Whatever may block runs detached from the interpreter, and no panic passes an entry point.

mod array;
mod convert;
mod documents;
mod errors;
mod events;
mod export;
mod forget;
mod hit;
mod module;
mod open;
mod options;
mod rows;
mod state;
mod store;
mod sync;
mod turns;
mod watch;
mod write;
