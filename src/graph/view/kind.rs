//! [`Kind`]: families of ops, for colours.

use crate::ops::Op;

/// A family of ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Inputs and constants.
    Input,
    /// Weights.
    Weight,
    /// KV caches and what appends to them.
    State,
    /// Matrix products.
    Matmul,
    /// Attention and its parts.
    Attention,
    /// Normalisations.
    Norm,
    /// Position embeddings.
    Rope,
    /// Conversions between element types.
    Convert,
    /// Row selections.
    Rows,
    /// Views, copies and joins.
    Layout,
    /// Element by element.
    Elementwise,
    /// Ops of the user.
    Custom,
    /// Layers that are not shown.
    Fold,
    /// Outputs.
    Output,
}

/// The first part of an op's name that is in this table decides. So a fused op has the colour of its heaviest part.
const NAMES: &[(&str, Kind)] = &[
    ("matmul", Kind::Matmul),
    ("attention", Kind::Attention),
    ("soft_max", Kind::Attention),
    ("kv_mask", Kind::Attention),
    ("norm", Kind::Norm),
    ("kv_append", Kind::State),
    ("state", Kind::State),
    ("rope", Kind::Rope),
    ("quantize", Kind::Convert),
    ("get_rows", Kind::Rows),
    ("weight", Kind::Weight),
    ("input", Kind::Input),
    ("constant", Kind::Input),
    ("reshape", Kind::Layout),
    ("permute", Kind::Layout),
    ("slice", Kind::Layout),
    ("cont", Kind::Layout),
    ("concat", Kind::Layout),
];

impl Kind {
    /// All families, in the order of a legend.
    pub const ALL: [Kind; 14] = [
        Kind::Input,
        Kind::Weight,
        Kind::State,
        Kind::Matmul,
        Kind::Attention,
        Kind::Norm,
        Kind::Rope,
        Kind::Elementwise,
        Kind::Convert,
        Kind::Rows,
        Kind::Layout,
        Kind::Custom,
        Kind::Fold,
        Kind::Output,
    ];

    /// The family of an op.
    pub fn of(op: &Op) -> Kind {
        if matches!(op, Op::Custom(_)) {
            return Kind::Custom;
        }
        NAMES.iter().find(|(part, _)| op.name().contains(part)).map_or(Kind::Elementwise, |(_, kind)| *kind)
    }

    /// Whether its nodes are steps of a program.
    pub fn takes_time(self) -> bool {
        !matches!(self, Kind::Input | Kind::Weight | Kind::State | Kind::Fold | Kind::Output | Kind::Layout)
    }

    /// Its name in JSON, in the page's style sheet and in legends.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Weight => "weight",
            Kind::State => "state",
            Kind::Matmul => "matmul",
            Kind::Attention => "attention",
            Kind::Norm => "norm",
            Kind::Rope => "rope",
            Kind::Convert => "convert",
            Kind::Rows => "rows",
            Kind::Layout => "layout",
            Kind::Elementwise => "elementwise",
            Kind::Custom => "custom",
            Kind::Fold => "fold",
            Kind::Output => "output",
        }
    }

    /// Fill and stroke in pictures that stand alone.
    pub fn colours(self) -> (&'static str, &'static str) {
        match self {
            Kind::Input => ("#eceff3", "#8a94a3"),
            Kind::Weight => ("#f4f4f0", "#a3a08a"),
            Kind::State => ("#d8f0ec", "#2f8f80"),
            Kind::Matmul => ("#dbe7ff", "#3b6fd4"),
            Kind::Attention => ("#eadcfb", "#8149c9"),
            Kind::Norm => ("#fdeecb", "#c0871a"),
            Kind::Rope => ("#fbdfe9", "#c4487d"),
            Kind::Convert => ("#ffe2d1", "#d06a2c"),
            Kind::Rows => ("#dff1d5", "#5b9633"),
            Kind::Layout => ("#f3f3f3", "#9a9a9a"),
            Kind::Elementwise => ("#e4f3fa", "#3f94b8"),
            Kind::Custom => ("#ffd9d9", "#c23b3b"),
            Kind::Fold => ("#ffffff", "#7a8391"),
            Kind::Output => ("#39424f", "#39424f"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_ops_have_the_colour_of_their_heaviest_part() {
        let kind = |name: &str| NAMES.iter().find(|(part, _)| name.contains(part)).map(|k| k.1);
        assert_eq!(kind("qmatmul_group"), Some(Kind::Matmul));
        assert_eq!(kind("rope_kv_append"), Some(Kind::State));
        assert_eq!(kind("glu"), None);
        // A family whose name nobody has lost its op.
        let all: Vec<&str> = Op::NAMES.to_vec();
        for (part, _) in NAMES {
            assert!(all.iter().any(|name| name.contains(part)), "no op is called like {part}");
        }
    }
}
