//! Parses and dispatches.

fn main() {}
