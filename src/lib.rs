//! qpext
#![forbid(unsafe_code)]
pub mod exposition;
