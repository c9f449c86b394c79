//! Layered layout of a directed acyclic graph: ranks from top to bottom, few crossings, straight long edges.
//!
//! After Sugiyama, Tagawa and Toda (1981): ranks by longest path, dummy vertices where an edge passes a rank, orders by medians,
//! then x coordinates that minimise the distance to neighbours, rank by rank, by isotonic regression (pool adjacent violators).
//! The edges of one vertex share their dummies, so that a value that many use is one line that branches.

/// A point.
pub type Point = (f64, f64);

/// Space between neighbours of a rank.
const GAP_X: f64 = 22.0;
/// Space beside a line that passes a rank.
const GAP_LINE: f64 = 12.0;
/// Space between ranks.
const GAP_Y: f64 = 44.0;
/// Sweeps that seek an order.
const ORDER_SWEEPS: usize = 24;
/// Sweeps that seek x coordinates.
const PLACE_SWEEPS: usize = 120;

/// Where everything goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// The top left corner of each box.
    pub boxes: Vec<Point>,
    /// For each edge the points that its line goes through, from the bottom of a box to the top of another.
    pub lines: Vec<Vec<Point>>,
    /// The size of all.
    pub width: f64,
    /// The size of all.
    pub height: f64,
}

/// Lays out boxes of given sizes with edges from one to another. Edges that close a cycle are ignored.
pub fn layered(sizes: &[Point], edges: &[(usize, usize)]) -> Layout {
    let ranks = ranks(sizes.len(), edges);
    let mut grid = Grid::new(sizes, edges, &ranks);
    grid.order();
    grid.place();
    grid.finish(sizes, edges)
}

/// The rank of each vertex: one below its lowest operand, and then as far down as shortens its edges.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let (mut ins, mut outs) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for &(from, to) in edges.iter().filter(|e| e.0 != e.1) {
        ins[to].push(from);
        outs[from].push(to);
    }
    let mut waiting: Vec<usize> = ins.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..count).filter(|&v| waiting[v] == 0).collect();
    let mut rank = vec![0usize; count];
    let mut next = 0;
    while let Some(&v) = order.get(next) {
        next += 1;
        for &to in &outs[v] {
            rank[to] = rank[to].max(rank[v] + 1);
            waiting[to] -= 1;
            if waiting[to] == 0 {
                order.push(to);
            }
        }
    }
    for &v in order.iter().rev() {
        if outs[v].len() > ins[v].len()
            && let Some(lowest) = outs[v].iter().map(|&to| rank[to]).min()
        {
            rank[v] = rank[v].max(lowest.saturating_sub(1));
        }
    }
    rank
}

/// A vertex of a rank: a box, or a place where a line passes.
#[derive(Clone, Copy, Debug)]
struct Vertex {
    /// The box, or none for a dummy.
    of: Option<usize>,
    rank: usize,
    width: f64,
    /// Its centre.
    x: f64,
}

struct Grid {
    vertices: Vec<Vertex>,
    /// Vertices of each rank from left to right.
    rows: Vec<Vec<usize>>,
    up: Vec<Vec<usize>>,
    down: Vec<Vec<usize>>,
    /// For each edge its vertices from top to bottom.
    chains: Vec<Vec<usize>>,
}

impl Grid {
    fn new(sizes: &[Point], edges: &[(usize, usize)], ranks: &[usize]) -> Grid {
        let vertices: Vec<Vertex> = sizes
            .iter()
            .enumerate()
            .map(|(i, size)| Vertex { of: Some(i), rank: ranks[i], width: size.0, x: 0.0 })
            .collect();
        let empty = vec![Vec::new(); vertices.len()];
        let mut grid = Grid { vertices, rows: Vec::new(), up: empty.clone(), down: empty, chains: Vec::new() };
        // Dummies of each box by rank, shared by its edges.
        let mut passing: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
        for &(from, to) in edges {
            if ranks[from] >= ranks[to] {
                grid.chains.push(Vec::new());
                continue;
            }
            let mut chain = vec![from];
            for step in 0..ranks[to] - ranks[from] - 1 {
                if passing[from].len() == step {
                    let above = *chain.last().expect("it begins with a box");
                    let dummy = grid.vertices.len();
                    grid.vertices.push(Vertex { of: None, rank: ranks[from] + 1 + step, width: 2.0, x: 0.0 });
                    grid.up.push(Vec::new());
                    grid.down.push(Vec::new());
                    grid.link(above, dummy);
                    passing[from].push(dummy);
                }
                chain.push(passing[from][step]);
            }
            let above = *chain.last().expect("it begins with a box");
            grid.link(above, to);
            chain.push(to);
            grid.chains.push(chain);
        }
        grid
    }

    fn link(&mut self, above: usize, below: usize) {
        self.down[above].push(below);
        self.up[below].push(above);
    }

    /// Orders the rows for few crossings.
    fn order(&mut self) {
        let count = self.vertices.iter().map(|v| v.rank + 1).max().unwrap_or(0);
        self.rows = vec![Vec::new(); count];
        // Depth first from the top, so that what belongs together starts together.
        let mut seen = vec![false; self.vertices.len()];
        let mut roots: Vec<usize> = (0..self.vertices.len()).collect();
        roots.sort_by_key(|&v| self.vertices[v].rank);
        for root in roots {
            let mut stack = vec![root];
            while let Some(v) = stack.pop() {
                if !std::mem::replace(&mut seen[v], true) {
                    self.rows[self.vertices[v].rank].push(v);
                    stack.extend(self.down[v].iter().rev().filter(|&&d| !seen[d]));
                }
            }
        }
        let mut best = (self.crossings(), self.rows.clone());
        for sweep in 0..ORDER_SWEEPS {
            if best.0 == 0 {
                break;
            }
            let position = self.positions();
            self.sweep(sweep % 2 == 0, position);
            self.transpose();
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.rows.clone());
            }
        }
        self.rows = best.1;
    }

    fn positions(&self) -> Vec<usize> {
        let mut position = vec![0; self.vertices.len()];
        for row in &self.rows {
            for (i, &v) in row.iter().enumerate() {
                position[v] = i;
            }
        }
        position
    }

    /// Sorts each row by the mean position of the neighbours above (or below).
    fn sweep(&mut self, downward: bool, mut position: Vec<usize>) {
        let rows: Vec<usize> =
            if downward { (1..self.rows.len()).collect() } else { (0..self.rows.len()).rev().collect() };
        for r in rows {
            let neighbours = if downward { &self.up } else { &self.down };
            let key = |v: usize| {
                let n = &neighbours[v];
                match n.len() {
                    0 => position[v] as f64,
                    len => n.iter().map(|&u| position[u] as f64).sum::<f64>() / len as f64,
                }
            };
            let mut keyed: Vec<(f64, usize)> = self.rows[r].iter().map(|&v| (key(v), v)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            self.rows[r] = keyed.into_iter().map(|k| k.1).collect();
            for (i, &v) in self.rows[r].iter().enumerate() {
                position[v] = i;
            }
        }
    }

    /// Exchanges neighbours of a row where that saves crossings.
    fn transpose(&mut self) {
        let position = self.positions();
        for r in 0..self.rows.len() {
            for i in 1..self.rows[r].len() {
                let (a, b) = (self.rows[r][i - 1], self.rows[r][i]);
                let cost = |left: usize, right: usize| -> usize {
                    let between = |l: &[usize], r: &[usize]| {
                        l.iter().map(|&x| r.iter().filter(|&&y| position[y] < position[x]).count()).sum::<usize>()
                    };
                    between(&self.up[left], &self.up[right]) + between(&self.down[left], &self.down[right])
                };
                if cost(b, a) < cost(a, b) {
                    self.rows[r].swap(i - 1, i);
                }
            }
        }
    }

    fn crossings(&self) -> usize {
        let position = self.positions();
        let mut crossings = 0;
        for row in &self.rows {
            // The ends of the edges from this row in order of their starts.
            let mut ends: Vec<usize> = Vec::new();
            for &v in row {
                let mut of: Vec<usize> = self.down[v].iter().map(|&d| position[d]).collect();
                crossings += of.iter().map(|&p| ends.iter().filter(|&&e| e > p).count()).sum::<usize>();
                ends.append(&mut of);
            }
        }
        crossings
    }

    /// Sets the x coordinates.
    fn place(&mut self) {
        for row in &self.rows {
            let mut x = 0.0;
            for (i, &v) in row.iter().enumerate() {
                x += if i > 0 { self.distance(row[i - 1], v) } else { 0.0 };
                self.vertices[v].x = x;
            }
        }
        for sweep in 0..PLACE_SWEEPS {
            let downward = sweep % 2 == 0;
            let rows: Vec<usize> =
                if downward { (0..self.rows.len()).collect() } else { (0..self.rows.len()).rev().collect() };
            // Most sweeps look both ways.
            let both = sweep >= 8;
            for r in rows {
                self.settle(r, downward || both, !downward || both);
            }
        }
        let left = self.vertices.iter().map(|v| v.x - v.width / 2.0).fold(f64::INFINITY, f64::min);
        self.vertices.iter_mut().for_each(|v| v.x -= left);
    }

    /// The least distance of the centres of neighbours.
    fn distance(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (&self.vertices[a], &self.vertices[b]);
        let gap = if a.of.is_some() && b.of.is_some() { GAP_X } else { GAP_LINE };
        a.width / 2.0 + b.width / 2.0 + gap
    }

    /// Moves the vertices of a row as near to their neighbours as its order and the distances allow.
    fn settle(&mut self, r: usize, above: bool, below: bool) {
        let row = &self.rows[r];
        let mut offsets = Vec::with_capacity(row.len());
        let mut offset = 0.0;
        for (i, &v) in row.iter().enumerate() {
            offset += if i > 0 { self.distance(row[i - 1], v) } else { 0.0 };
            offsets.push(offset);
        }
        // Blocks of vertices that touch: weighted mean, weight, count.
        let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
        for (i, &v) in row.iter().enumerate() {
            let (wish, weight) = self.wish(v, above, below);
            let mut block = (wish - offsets[i], weight, 1);
            while let Some(last) = blocks.last().copied().filter(|last| last.0 > block.0) {
                blocks.pop();
                let weight = last.1 + block.1;
                block = ((last.0 * last.1 + block.0 * block.1) / weight, weight, last.2 + block.2);
            }
            blocks.push(block);
        }
        let bases = blocks.iter().flat_map(|b| std::iter::repeat_n(b.0, b.2));
        let moved: Vec<f64> = bases.zip(&offsets).map(|(base, offset)| base + offset).collect();
        for (&v, x) in self.rows[r].iter().zip(moved) {
            self.vertices[v].x = x;
        }
    }

    /// Where a vertex wants to be, and how much. Long lines insist on being straight.
    fn wish(&self, v: usize, above: bool, below: bool) -> (f64, f64) {
        let (mut sum, mut weight) = (0.0, 0.0);
        let sides = [(above, &self.up[v]), (below, &self.down[v])];
        for &u in sides.iter().filter(|s| s.0).flat_map(|s| s.1) {
            let w = match (self.vertices[v].of, self.vertices[u].of) {
                (None, None) => 8.0,
                (Some(_), Some(_)) => 2.0,
                _ => 0.2,
            };
            sum += w * self.vertices[u].x;
            weight += w;
        }
        if weight == 0.0 { (self.vertices[v].x, 0.1) } else { (sum / weight, weight) }
    }

    fn finish(&self, sizes: &[Point], edges: &[(usize, usize)]) -> Layout {
        let heights: Vec<f64> = self
            .rows
            .iter()
            .map(|row| row.iter().filter_map(|&v| self.vertices[v].of).map(|b| sizes[b].1).fold(0.0, f64::max))
            .collect();
        let mut tops = Vec::with_capacity(heights.len());
        let mut y = 0.0;
        for height in &heights {
            tops.push(y);
            y += height + GAP_Y;
        }
        let boxes: Vec<Point> = sizes
            .iter()
            .enumerate()
            .map(|(b, size)| {
                let v = &self.vertices[b];
                (v.x - size.0 / 2.0, tops[v.rank] + (heights[v.rank] - size.1) / 2.0)
            })
            .collect();
        let lines = self.lines(sizes, edges, &boxes, &tops, &heights);
        let right = self.vertices.iter().map(|v| v.x + v.width / 2.0).fold(0.0, f64::max);
        Layout { boxes, lines, width: right, height: (y - GAP_Y).max(0.0) }
    }

    fn lines(
        &self,
        sizes: &[Point],
        edges: &[(usize, usize)],
        boxes: &[Point],
        tops: &[f64],
        heights: &[f64],
    ) -> Vec<Vec<Point>> {
        // Lines enter a box side by side, in the order in which they come.
        let mut entering: Vec<Vec<(f64, usize)>> = vec![Vec::new(); sizes.len()];
        for (e, chain) in self.chains.iter().enumerate() {
            if let [.., before, _] = chain[..] {
                entering[edges[e].1].push((self.vertices[before].x, e));
            }
        }
        let mut entry = vec![0.0; edges.len()];
        for (b, list) in entering.iter_mut().enumerate() {
            list.sort_by(|a, b| a.0.total_cmp(&b.0));
            let n = list.len() as f64;
            let spread = (sizes[b].0 * 0.7).min(60.0 * (n - 1.0));
            for (i, &(_, e)) in list.iter().enumerate() {
                let at = if n > 1.0 { i as f64 / (n - 1.0) - 0.5 } else { 0.0 };
                entry[e] = self.vertices[b].x + at * spread;
            }
        }
        let line = |(e, chain): (usize, &Vec<usize>)| {
            let (from, to) = edges[e];
            let mut points = Vec::new();
            if chain.is_empty() {
                return points;
            }
            points.push((self.vertices[from].x, boxes[from].1 + sizes[from].1));
            for &dummy in &chain[1..chain.len() - 1] {
                let v = &self.vertices[dummy];
                points.push((v.x, tops[v.rank]));
                points.push((v.x, tops[v.rank] + heights[v.rank]));
            }
            points.push((entry[e], boxes[to].1));
            points
        };
        self.chains.iter().enumerate().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(layout: &Layout, sizes: &[Point]) -> bool {
        let inside = |a: usize, b: usize| {
            let ((ax, ay), (bx, by)) = (layout.boxes[a], layout.boxes[b]);
            ax < bx + sizes[b].0 && bx < ax + sizes[a].0 && ay < by + sizes[b].1 && by < ay + sizes[a].1
        };
        (0..sizes.len()).any(|a| (0..a).any(|b| inside(a, b)))
    }

    #[test]
    fn boxes_do_not_overlap_and_edges_go_down() {
        // Random graphs by a small generator.
        let mut state = 1u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..40 {
            let n = 2 + random(40);
            let sizes: Vec<Point> = (0..n).map(|_| (20.0 + random(200) as f64, 20.0 + random(50) as f64)).collect();
            let edges: Vec<(usize, usize)> = (0..n + random(n))
                .filter_map(|_| {
                    let (a, b) = (random(n), random(n));
                    (a != b).then_some((a.min(b), a.max(b)))
                })
                .collect();
            let layout = layered(&sizes, &edges);
            assert!(!overlap(&layout, &sizes));
            for (e, &(from, to)) in edges.iter().enumerate() {
                let line = &layout.lines[e];
                assert!(layout.boxes[from].1 + sizes[from].1 < layout.boxes[to].1);
                assert!(line.windows(2).all(|p| p[0].1 <= p[1].1), "lines go down");
            }
            assert!(layout.boxes.iter().zip(&sizes).all(|(b, s)| b.0 >= -1e-6 && b.0 + s.0 <= layout.width + 1e-6));
        }
    }

    #[test]
    fn a_chain_with_a_shortcut_stays_straight() {
        let sizes = vec![(100.0, 30.0); 4];
        let layout = layered(&sizes, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        let shortcut = &layout.lines[3];
        assert_eq!(shortcut.len(), 6);
        assert!((shortcut[1].0 - shortcut[4].0).abs() < 1e-6, "{shortcut:?}");
    }

    #[test]
    fn nothing_and_cycles_are_no_trouble() {
        assert_eq!(layered(&[], &[]), Layout::default());
        let layout = layered(&[(10.0, 10.0); 2], &[(0, 1), (1, 0), (0, 0)]);
        assert_eq!(layout.boxes.len(), 2);
    }
}
