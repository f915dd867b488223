//! The filter language: a Mongo-style object becomes a typed tree, which a backend turns into its own terms.

mod ast;
mod parse;
mod time;
mod values;

pub use ast::{Column, Comparison, Field, Filter, Literal, Test};
pub use time::{format_time, parse_time};
pub use values::{Scalar, Values, passes};
