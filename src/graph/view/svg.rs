//! Pictures as SVG: the graph, and the lifetimes of buffers.
//!
//! Colours stand in attributes, so that a picture looks right in every viewer; elements also have classes (`k-matmul`) and
//! `data-` attributes, by which the page restyles them and finds what was clicked.

use super::layout::{self, Layout, Point};
use super::measured::{self, Heats};
use super::picture::{Item, Picture};
use super::{Fold, Kind, units};
use crate::graph::Graph;
use crate::graph::plan::Plan;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Text that may stand between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

const FONT: &str = "ui-sans-serif, system-ui, 'DejaVu Sans', sans-serif";
const MONO: &str = "ui-monospace, 'DejaVu Sans Mono', monospace";
const MARGIN: f64 = 28.0;

/// An SVG element with its size, to stand alone or in another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    /// What stands between `<svg>` and `</svg>`.
    pub body: String,
    /// Its size.
    pub width: f64,
    /// Its size.
    pub height: f64,
}

impl Drawing {
    /// A whole SVG file.
    pub fn file(&self) -> String {
        let (w, h) = (self.width.ceil(), self.height.ceil());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n\
             <rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }

    /// This drawing with another one below it, each with a title.
    pub fn above(self, title: &str, other: Drawing, other_title: &str) -> Drawing {
        let head = 44.0;
        let heading = |y: f64, text: &str| {
            let text = escape(text);
            format!(
                "<text x=\"{MARGIN}\" y=\"{y:.0}\" font-family=\"{FONT}\" font-size=\"16\" font-weight=\"600\" fill=\"#1c2430\">{text}</text>\n"
            )
        };
        let second = head + self.height;
        let body = format!(
            "{}<g transform=\"translate(0 {head})\">{}</g>\n{}<g transform=\"translate(0 {:.1})\">{}</g>\n",
            heading(28.0, title),
            self.body,
            heading(second + 28.0, other_title),
            second + head,
            other.body
        );
        Drawing { body, width: self.width.max(other.width), height: second + head + other.height }
    }
}

fn size(item: &Item) -> Point {
    let chars = |text: &String| text.chars().count() as f64;
    if item.kind == Kind::Output {
        return (chars(&item.title) * 7.4 + 28.0, 26.0);
    }
    let lines = item.lines.iter().map(chars).fold(0.0, f64::max);
    ((chars(&item.title) * 7.3).max(lines * 6.1) + 22.0, 25.0 + 13.5 * item.lines.len() as f64)
}

/// The drawing of a graph; with heats the boxes have the colour of their time, and say it.
pub fn graph(graph: &Graph, fold: &Fold, heats: Option<&Heats>) -> Drawing {
    let mut picture = Picture::new(graph, fold);
    if let Some(heats) = heats {
        for item in &mut picture.items {
            item.warmth = item.kind.takes_time().then_some(0.0);
            if let Some(heat) = heats.get(&item.key) {
                item.lines.push(heat.line.clone());
                item.warmth = heat.warmth;
            }
        }
    }
    let sizes: Vec<Point> = picture.items.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = picture.arrows.iter().map(|a| (a.from, a.to)).collect();
    let layout = layout::layered(&sizes, &edges);
    let mut body = String::new();
    let _ = writeln!(body, "<g transform=\"translate({MARGIN} {MARGIN})\" font-family=\"{FONT}\">");
    groups(&mut body, &picture, &layout, &sizes);
    for (arrow, line) in picture.arrows.iter().zip(&layout.lines) {
        let keys = (&picture.items[arrow.from].key, &picture.items[arrow.to].key);
        edge(&mut body, line, keys);
    }
    for (arrow, line) in picture.arrows.iter().zip(&layout.lines) {
        let (Some(label), [start, rest @ .., end]) = (&arrow.label, &line[..]) else { continue };
        let labelled = picture.arrows.iter().filter(|other| other.from == arrow.from && other.label.is_some()).count();
        if labelled > 1 {
            // Several values leave the box at one place: each is named where it arrives.
            edge_label(&mut body, label, (end.0, end.1 - 19.0), None);
        } else {
            edge_label(&mut body, label, *start, Some(*rest.first().unwrap_or(end)));
        }
    }
    for ((item, at), size) in picture.items.iter().zip(&layout.boxes).zip(&sizes) {
        draw_box(&mut body, item, *at, *size);
    }
    body.push_str("</g>\n");
    Drawing { body, width: layout.width + 2.0 * MARGIN, height: layout.height + 2.0 * MARGIN }
}

/// A frame around the boxes of each layer.
fn groups(body: &mut String, picture: &Picture, layout: &Layout, sizes: &[Point]) {
    let mut frames: BTreeMap<usize, [f64; 4]> = BTreeMap::new();
    for ((item, at), size) in picture.items.iter().zip(&layout.boxes).zip(sizes) {
        let Some(layer) = item.layer else { continue };
        let f = frames.entry(layer).or_insert([f64::INFINITY, f64::INFINITY, 0.0, 0.0]);
        *f = [f[0].min(at.0), f[1].min(at.1), f[2].max(at.0 + size.0), f[3].max(at.1 + size.1)];
    }
    // Lines to the boxes of a layer pass inside of its frame.
    for (arrow, line) in picture.arrows.iter().zip(&layout.lines) {
        let Some(f) = picture.items[arrow.to].layer.and_then(|layer| frames.get_mut(&layer)) else { continue };
        let height = f[1]..f[3];
        for &(x, _) in line.iter().filter(|(_, y)| height.contains(y)) {
            (f[0], f[2]) = (f[0].min(x), f[2].max(x));
        }
    }
    for (layer, [x0, y0, x1, y1]) in frames {
        let _ = writeln!(
            body,
            "<rect class=\"layer\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"10\" fill=\"#f7f8fa\" stroke=\"#dfe3e8\"/>\
             <text class=\"layer-name\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"#8a94a3\">layer {layer}</text>",
            x0 - 14.0,
            y0 - 18.0,
            x1 - x0 + 28.0,
            y1 - y0 + 30.0,
            x0 - 8.0,
            y0 - 6.0
        );
    }
}

fn edge(body: &mut String, line: &[Point], keys: (&String, &String)) {
    let [first, rest @ ..] = line else { return };
    let mut path = format!("M{:.1} {:.1}", first.0, first.1);
    let mut at = *first;
    for &(x, y) in rest {
        if (x - at.0).abs() < 0.5 {
            let _ = write!(path, "L{x:.1} {y:.1}");
        } else {
            let middle = (at.1 + y) / 2.0;
            let _ = write!(path, "C{:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}", at.0);
        }
        at = (x, y);
    }
    let (x, y) = at;
    let _ = writeln!(
        body,
        "<path class=\"edge\" data-from=\"{}\" data-to=\"{}\" d=\"{path}\" fill=\"none\" stroke=\"#9aa4b2\" stroke-width=\"1.2\"/>\
         <path class=\"head\" data-from=\"{}\" data-to=\"{}\" d=\"M{x:.1} {y:.1}l-3.2 -6.5h6.4z\" fill=\"#9aa4b2\"/>",
        keys.0, keys.1, keys.0, keys.1
    );
}

/// The type of a value, beside the line that leaves its box, on the side that the line does not turn to.
fn edge_label(body: &mut String, label: &str, start: Point, next: Option<Point>) {
    let left = next.is_some_and(|n| n.0 > start.0 + 1.0);
    let (x, anchor) = if left { (start.0 - 5.0, "end") } else { (start.0 + 5.0, "start") };
    let label = escape(label.strip_prefix("f32").unwrap_or(label));
    let _ = writeln!(
        body,
        "<text class=\"edge-label\" x=\"{x:.1}\" y=\"{:.1}\" font-family=\"{MONO}\" font-size=\"9\" fill=\"#667180\" stroke=\"#ffffff\" stroke-width=\"2.5\" stroke-opacity=\"0.85\" paint-order=\"stroke\" text-anchor=\"{anchor}\">{label}</text>",
        start.1 + 11.0
    );
}

fn draw_box(body: &mut String, item: &Item, at: Point, size: Point) {
    let (fill, stroke) = item.kind.colours();
    let heat = item.warmth.map(measured::colour);
    let fill = heat.as_deref().unwrap_or(fill);
    let nodes: Vec<String> = match item.kind {
        Kind::Fold => Vec::new(),
        _ => item.nodes.iter().map(|n| n.to_string()).collect(),
    };
    let dash = if item.kind == Kind::Fold { " stroke-dasharray=\"5 4\"" } else { "" };
    let radius =
        if matches!(item.kind, Kind::Output | Kind::Input | Kind::State) { size.1.min(26.0) / 2.0 } else { 5.0 };
    let _ = writeln!(
        body,
        "<g class=\"node k-{}\" data-key=\"{}\" data-nodes=\"{}\" transform=\"translate({:.1} {:.1})\">\
         <rect width=\"{:.1}\" height=\"{:.1}\" rx=\"{radius:.1}\" fill=\"{fill}\" stroke=\"{stroke}\"{dash}/>",
        item.kind.name(),
        item.key,
        nodes.join(" "),
        at.0,
        at.1,
        size.0,
        size.1
    );
    let ink = if item.kind == Kind::Output { "#ffffff" } else { "#1c2430" };
    let middle = size.0 / 2.0;
    let _ = write!(
        body,
        "<text class=\"title\" x=\"{middle:.1}\" y=\"17\" font-size=\"12\" font-weight=\"600\" fill=\"{ink}\" text-anchor=\"middle\">{}</text>",
        escape(&item.title)
    );
    for (i, line) in item.lines.iter().enumerate() {
        let _ = write!(
            body,
            "<text class=\"line\" x=\"{middle:.1}\" y=\"{:.1}\" font-family=\"{MONO}\" font-size=\"10\" fill=\"#3c4655\" text-anchor=\"middle\">{}</text>",
            31.0 + 13.5 * i as f64,
            escape(line)
        );
    }
    body.push_str("</g>\n");
}

/// The buffers of a plan: steps across, arena offsets up. `size` is that of the plot without its axes.
pub fn lifetimes(plan: &Plan, kind_of: &dyn Fn(crate::graph::NodeId) -> Kind, size: Point) -> Drawing {
    let steps = plan.steps.len().max(1);
    let (left, top, bottom) = (64.0, 8.0, 40.0);
    let (width, height) = size;
    let dx = width / (steps + 1) as f64;
    let dy = height / plan.arena.bytes.max(1) as f64;
    let mut body = format!(
        "<g class=\"lifetimes\" font-family=\"{FONT}\" transform=\"translate({MARGIN} {top})\">\n\
         <rect class=\"plot\" x=\"{left}\" y=\"0\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#f7f8fa\" stroke=\"#dfe3e8\"/>\n"
    );
    axes(&mut body, plan, (left, width, height, dx));
    for (i, b) in plan.buffers.iter().enumerate() {
        let kind = kind_of(b.value.node);
        let (fill, stroke) = kind.colours();
        let last = b.last.min(steps);
        let (x, w) = (left + b.first as f64 * dx, (last + 1 - b.first) as f64 * dx);
        let h = (b.bytes as f64 * dy).max(0.6);
        let y = height - b.offset as f64 * dy - h;
        let about = format!(
            "b{i} for {}: {} at offset {}, steps {} to {}",
            b.value,
            units::bytes(b.bytes as u64),
            b.offset,
            b.first,
            b.last
        );
        let _ = writeln!(
            body,
            "<g class=\"buffer k-{}\" data-buffer=\"b{i}\" data-node=\"{}\"><rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"0.7\"/><title>{}</title></g>",
            kind.name(),
            b.value.node,
            escape(&about)
        );
        let name = escape(&b.value.node.to_string());
        if w > 8.0 * name.len() as f64 && h > 12.0 {
            let _ = writeln!(
                body,
                "<text class=\"line\" x=\"{:.1}\" y=\"{:.1}\" font-family=\"{MONO}\" font-size=\"9\" fill=\"#3c4655\" text-anchor=\"middle\" pointer-events=\"none\">{name}</text>",
                x + w / 2.0,
                y + h / 2.0 + 3.0
            );
        }
    }
    body.push_str("</g>\n");
    Drawing { body, width: left + width + 2.0 * MARGIN, height: top + height + bottom }
}

fn axes(body: &mut String, plan: &Plan, (left, width, height, dx): (f64, f64, f64, f64)) {
    let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
        let _ = writeln!(
            body,
            "<text class=\"axis\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"10\" fill=\"#667180\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    };
    for i in 0..=4 {
        let offset = plan.arena.bytes as f64 * f64::from(i) / 4.0;
        text(left - 8.0, height - height * f64::from(i) / 4.0 + 3.0, "end", &units::bytes(offset as u64));
    }
    let stride = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
        .into_iter()
        .find(|s| plan.steps.len() / s <= 16)
        .unwrap_or(10000);
    for step in (0..=plan.steps.len()).step_by(stride) {
        text(left + (step as f64 + 0.5) * dx, height + 14.0, "middle", &step.to_string());
    }
    let bound = plan.arena.lower_bound;
    let about = format!(
        "steps →     arena {}, lower bound {}",
        units::bytes(plan.arena.bytes as u64),
        units::bytes(bound as u64)
    );
    text(left + width / 2.0, height + 32.0, "middle", &about);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::text::parse;
    use crate::graph::view::Layers;

    #[test]
    fn texts_cannot_break_out() {
        assert_eq!(escape("<a b=\"c\">&\u{1}"), "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}");
        let g = parse(
            r#"graph "g" (T <= 4, S <= 8, R <= 1) {
                 n0 "<script>" = input : f32[32, T]
                 n1 = unary(n0) {kind=silu}
                 output "</svg>" = n1
               }"#,
        )
        .unwrap();
        let svg = graph(&g, &Fold::new(&g, &Layers::Folded), None).file();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"));
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert_eq!(svg.matches("class=\"node").count(), 3);
        assert_eq!(svg.matches("class=\"edge\"").count(), 2);
    }
}
