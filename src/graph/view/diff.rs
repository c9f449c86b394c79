//! What a pass changed, as a diff of statements.

use super::{Fold, Layers, Stage, units};
use crate::graph::text;
use std::fmt::Write;

/// Lines around a change.
const CONTEXT: usize = 2;

/// A unified diff of the statements before and after; layers that are hidden in both are left out.
pub fn diff(before: &Stage, after: &Stage, layers: &Layers) -> String {
    let folds = [Fold::new(&before.graph, layers), Fold::new(&after.graph, layers)];
    // A layer that either stage shows is shown in both.
    let hidden = |layer: Option<usize>| layer.is_some_and(|layer| folds.iter().all(|fold| !fold.shows(layer)));
    let statements = |stage: &Stage, fold: &Fold| -> Vec<String> {
        let ids = stage.graph.topological().into_iter().filter(|&id| !hidden(fold.layer(id)));
        let mut list: Vec<String> = ids.map(|id| text::print_node(&stage.graph, id)).collect();
        list.extend(stage.graph.outputs().iter().map(|(name, value)| format!("output \"{name}\" = {value}")));
        list
    };
    let (old, new) = (statements(before, &folds[0]), statements(after, &folds[1]));
    let edits = edits(&old, &new);
    let changes = edits.iter().filter(|e| e.0 != ' ').count();
    let mut out = format!("--- {}\n+++ {}\n", before.name(), after.name());
    if changes == 0 {
        out.push_str("  (no statement of the shown layers changed)\n");
    }
    let near = |i: usize| {
        let window = &edits[i.saturating_sub(CONTEXT)..(i + CONTEXT + 1).min(edits.len())];
        window.iter().any(|e| e.0 != ' ')
    };
    let mut skipped = false;
    for (i, (sign, line)) in edits.iter().enumerate() {
        if near(i) {
            if skipped {
                out.push_str("@@\n");
            }
            let _ = writeln!(out, "{sign} {line}");
        }
        skipped = !near(i);
    }
    let left_out: Vec<usize> = (0..folds[0].count().max(folds[1].count())).filter(|&l| hidden(Some(l))).collect();
    if !left_out.is_empty() {
        let which = if left_out.len() == 1 { "layer" } else { "layers" };
        let _ = writeln!(out, "# {which} {} left out; --layers all shows them", units::ranges(left_out));
    }
    out
}

/// Above this product of line counts a diff is not minimal, so that its table stays small.
const MOST_CELLS: usize = 1 << 25;

/// The lines of both texts with ` `, `-` or `+`, by a longest common subsequence.
fn edits<'a>(old: &'a [String], new: &'a [String]) -> Vec<(char, &'a str)> {
    let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let suffix = old[prefix..].iter().rev().zip(new[prefix..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[prefix..old.len() - suffix], &new[prefix..new.len() - suffix]);
    if a.len().saturating_mul(b.len()) > MOST_CELLS {
        let plain = |sign: char, lines: &'a [String]| lines.iter().map(move |l| (sign, l.as_str()));
        let tail = plain(' ', &old[old.len() - suffix..]);
        return plain(' ', &old[..prefix]).chain(plain('-', a)).chain(plain('+', b)).chain(tail).collect();
    }
    let width = b.len() + 1;
    let mut longest = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = match a[i] == b[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let mut out: Vec<(char, &str)> = old[..prefix].iter().map(|l| (' ', l.as_str())).collect();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push((' ', &a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
            out.push(('-', &a[i]));
            i += 1;
        } else {
            out.push(('+', &b[j]));
            j += 1;
        }
    }
    out.extend(old[old.len() - suffix..].iter().map(|l| (' ', l.as_str())));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_script_gives_both_texts() {
        let text = |s: &str| s.chars().map(|c| c.to_string()).collect::<Vec<_>>();
        for (a, b) in [("abcde", "axcye"), ("", "ab"), ("ab", ""), ("abab", "baba"), ("abc", "abc")] {
            let (a, b) = (text(a), text(b));
            let edits = edits(&a, &b);
            let side = |skip: char| edits.iter().filter(|e| e.0 != skip).map(|e| e.1.to_string()).collect::<Vec<_>>();
            assert_eq!(side('+'), a);
            assert_eq!(side('-'), b);
        }
        let (a, b) = (text("abcde"), text("axcye"));
        assert_eq!(edits(&a, &b).iter().filter(|e| e.0 == ' ').count(), 3);
    }
}
