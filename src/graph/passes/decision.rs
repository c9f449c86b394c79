//! The log of what passes did and did not do.

use crate::graph::NodeId;
use std::fmt;

/// What a pass decided at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The pass.
    pub pass: &'static str,
    /// The node.
    pub node: NodeId,
    /// The node as messages call it.
    pub site: String,
    /// What was decided.
    pub outcome: Outcome,
}

/// Applied, or refused with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The graph was changed.
    Applied {
        /// Bytes of memory traffic saved at the graph's bounds.
        bytes_saved: u64,
        /// Steps saved.
        launches_saved: u32,
    },
    /// The site nearly matched.
    Refused {
        /// Why it was left alone.
        reason: String,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Applied { bytes_saved, launches_saved } => {
                write!(
                    f,
                    "{} applied at {}: saves {bytes_saved} bytes, {launches_saved} launches",
                    self.pass, self.site
                )
            }
            Outcome::Refused { reason } => write!(f, "{} refused at {}: {reason}", self.pass, self.site),
        }
    }
}
