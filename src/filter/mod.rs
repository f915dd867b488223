//! The filter language: a Mongo-style object becomes a typed tree, which a backend turns into its own terms.

mod ast;
mod parse;

pub use ast::{Column, Comparison, Field, Filter, Literal};
