//! qpext
#![forbid(unsafe_code)]
pub mod aggregate;
pub mod budget;
pub mod config;
pub mod exposition;
pub mod scrape;
pub mod server;
