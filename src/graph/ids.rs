//! Ids that print as they read.

use std::fmt;

/// A node of a graph, printed `n12`. Ids stay valid when other nodes are removed and are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The number in `n12`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A result of a node, printed `n12`, or `n12.1` for a result after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub out: u8,
}

impl Value {
    /// The first result of a node.
    pub fn first(node: NodeId) -> Value {
        Value { node, out: 0 }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.out {
            0 => write!(f, "{}", self.node),
            out => write!(f, "{}.{out}", self.node),
        }
    }
}
