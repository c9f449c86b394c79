//! The textual form of a graph: [`print()`] and [`parse()`].
//!
//! ```text
//! graph "mlp" (T <= 512, S <= 4096, R <= 512) {
//!   n0 "x" = input : f32[64, T]
//!   n1 "w" = weight : q8_0[64, 128]
//!   n2 = dequantize(n1) : f32[64, 128]
//!   n3 "up" = matmul(n2, n0) : f32[128, T]
//!   n4 = unary(n3) {kind=silu} : f32[128, T]
//!   output "y" = n4
//! }
//! ```
//!
//! A statement defines a node: its id, an optional label, the op, its operands, its attributes, its result types. `n3.1` is the
//! second result of `n3`. Sources (`input`, `weight`, `state`) need their type; elsewhere a type is optional and checked against
//! the inferred one. Statements may stand in any order. `#` starts a comment. Ids are renumbered in order of definition when
//! a text is read.

mod lex;
mod parse;
mod print;

pub use parse::{ParseError, parse, parse_with};
pub use print::{print, print_node};

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
