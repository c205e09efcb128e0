//! One agent's stream: let in, spoken with, and taken in.

mod opening;
mod samples;
mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(super) use opening::Opening;
