//! `neap`.
fn main() {}
