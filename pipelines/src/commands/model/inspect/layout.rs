//! A layered layout of a directed graph, after Sugiyama, Tagawa and Toda (1981): ranks by longest path, orders
//! within ranks by barycentres, then positions that pull nodes towards their neighbours.

/// Width and height of a node.
pub const NODE: (f64, f64) = (196.0, 44.0);
/// Space between nodes of one rank, and between ranks.
const GAP: (f64, f64) = (28.0, 34.0);
/// Width that a passing edge takes.
const PASSING: f64 = 14.0;
/// Edges are led around nodes while there are no more places for that than this.
const MAX_PASSING: usize = 20_000;
/// Sweeps over the ranks; more change little.
const SWEEPS: usize = 12;

/// A drawn edge: from node, to node, and the points between them from top to bottom.
pub type Edge = (usize, usize, Vec<Point>);

/// Left to right, and top to bottom.
pub type Point = (f64, f64);

/// Where nodes and edges are.
#[derive(Debug, Clone, Default)]
pub struct Placed {
    /// Centre of each node.
    pub nodes: Vec<Point>,
    /// The edges.
    pub edges: Vec<Edge>,
    /// Width of all.
    pub width: f64,
    /// Height of all.
    pub height: f64,
}

/// A place in a rank: a node, or an edge that passes.
struct Slot {
    width: f64,
    rank: usize,
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

/// Lays out a graph in which every node reads nodes of lower index; others are ignored.
pub fn layered(inputs: &[Vec<usize>]) -> Placed {
    let ranks = ranks(inputs);
    let mut slots: Vec<Slot> = ranks
        .iter()
        .map(|&rank| Slot {
            width: NODE.0 + GAP.0,
            rank,
            above: Vec::new(),
            below: Vec::new(),
            x: 0.0,
        })
        .collect();
    let spans: usize = edges(inputs)
        .map(|(from, to)| (ranks[to] - ranks[from]).saturating_sub(1))
        .sum();
    let lead = spans <= MAX_PASSING;
    let mut ways: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    for (from, to) in edges(inputs) {
        let mut way = vec![from];
        for rank in (ranks[from] + 1..ranks[to]).filter(|_| lead) {
            way.push(slots.len());
            slots.push(Slot {
                width: PASSING,
                rank,
                above: Vec::new(),
                below: Vec::new(),
                x: 0.0,
            });
        }
        way.push(to);
        for pair in way.windows(2) {
            slots[pair[0]].below.push(pair[1]);
            slots[pair[1]].above.push(pair[0]);
        }
        ways.push((from, to, way));
    }
    let count = ranks.iter().max().map_or(0, |m| m + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (i, slot) in slots.iter().enumerate() {
        rows[slot.rank].push(i);
    }
    for row in &rows {
        spread(&mut slots, row);
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let order: Vec<usize> = if down {
            (0..count).collect()
        } else {
            (0..count).rev().collect()
        };
        for rank in order {
            settle(&mut slots, &mut rows[rank], down, sweep < SWEEPS / 2);
        }
    }
    let left = slots
        .iter()
        .map(|s| s.x - s.width / 2.0)
        .fold(f64::INFINITY, f64::min);
    let right = slots
        .iter()
        .map(|s| s.x + s.width / 2.0)
        .fold(f64::NEG_INFINITY, f64::max);
    if slots.is_empty() {
        return Placed::default();
    }
    let y = |rank: usize| rank as f64 * (NODE.1 + GAP.1) + NODE.1 / 2.0 + GAP.1;
    let at = |slot: usize| (slots[slot].x - left, y(slots[slot].rank));
    Placed {
        nodes: (0..inputs.len()).map(at).collect(),
        edges: ways
            .into_iter()
            .map(|(from, to, way)| (from, to, way.into_iter().map(at).collect()))
            .collect(),
        width: right - left,
        height: y(count) - NODE.1 / 2.0,
    }
}

fn edges(inputs: &[Vec<usize>]) -> impl Iterator<Item = (usize, usize)> {
    inputs
        .iter()
        .enumerate()
        .flat_map(|(to, from)| from.iter().filter(move |f| **f < to).map(move |&f| (f, to)))
}

/// The longest way from a source; sources stand right above their first reader.
fn ranks(inputs: &[Vec<usize>]) -> Vec<usize> {
    let mut ranks = vec![0; inputs.len()];
    for (from, to) in edges(inputs) {
        ranks[to] = ranks[to].max(ranks[from] + 1);
    }
    let mut first_reader = vec![usize::MAX; inputs.len()];
    for (from, to) in edges(inputs) {
        first_reader[from] = first_reader[from].min(ranks[to]);
    }
    for (i, rank) in ranks.iter_mut().enumerate() {
        if inputs[i].is_empty() && first_reader[i] != usize::MAX {
            *rank = first_reader[i].saturating_sub(1);
        }
    }
    ranks
}

/// Side by side around 0.
fn spread(slots: &mut [Slot], row: &[usize]) {
    let total: f64 = row.iter().map(|&s| slots[s].width).sum();
    let mut x = -total / 2.0;
    for &s in row {
        slots[s].x = x + slots[s].width / 2.0;
        x += slots[s].width;
    }
}

/// Moves the slots of a rank towards their neighbours in the ranks above or below, without overlaps.
fn settle(slots: &mut [Slot], row: &mut [usize], down: bool, reorder: bool) {
    let wish: Vec<(usize, f64)> = row
        .iter()
        .map(|&s| {
            let slot = &slots[s];
            let near = match (down, slot.above.is_empty(), slot.below.is_empty()) {
                (true, false, _) | (false, false, true) => &slot.above,
                _ => &slot.below,
            };
            let wish = match near.len() {
                0 => slot.x,
                // By width, so that the mean of neighbours side by side is their middle.
                _ => {
                    let weight: f64 = near.iter().map(|&o| slots[o].width).sum();
                    near.iter().map(|&o| slots[o].x * slots[o].width).sum::<f64>() / weight
                }
            };
            (s, wish)
        })
        .collect();
    let mut wish = wish;
    if reorder {
        wish.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
    for (place, (s, _)) in row.iter_mut().zip(&wish) {
        *place = *s;
    }
    let widths: Vec<f64> = wish.iter().map(|w| slots[w.0].width).collect();
    let wishes: Vec<f64> = wish.iter().map(|w| w.1).collect();
    for ((s, _), x) in wish.iter().zip(apart(&wishes, &widths)) {
        slots[*s].x = x;
    }
}

/// The places next to the wished ones, by least squares weighted by width, at which nothing overlaps: pool adjacent
/// violators (Barlow et al., 1972) on the distances from where the slots would stand side by side.
fn apart(wishes: &[f64], widths: &[f64]) -> Vec<f64> {
    // Groups of slots side by side: weight, mean of what is wished for the first one's left edge, number of slots.
    let mut groups: Vec<(f64, f64, usize)> = Vec::with_capacity(wishes.len());
    let mut before = 0.0;
    for (wish, width) in wishes.iter().zip(widths) {
        let mut group = (*width, wish - width / 2.0 - before, 1);
        before += width;
        while let Some(last) = groups.pop_if(|last| last.1 > group.1) {
            let weight = last.0 + group.0;
            let mean = (last.0 * last.1 + group.0 * group.1) / weight;
            group = (weight, mean, last.2 + group.2);
        }
        groups.push(group);
    }
    let mut before = 0.0;
    let edges = groups.iter().flat_map(|g| std::iter::repeat_n(g.1, g.2));
    edges
        .zip(widths)
        .map(|(edge, width)| {
            let x = edge + before + width / 2.0;
            before += width;
            x
        })
        .collect()
}

/// The way of an edge as a smooth path of SVG.
pub fn path(points: &[Point]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let half = NODE.1 / 2.0;
    for (i, pair) in points.windows(2).enumerate() {
        let (a, b) = (pair[0], pair[1]);
        let top = a.1 + if i == 0 { half } else { 0.0 };
        let bottom = b.1 - if i + 2 == points.len() { half } else { 0.0 };
        let middle = (top + bottom) / 2.0;
        if i == 0 {
            let _ = write!(text, "M{:.0},{top:.0}", a.0);
        }
        let _ = write!(
            text,
            "C{:.0},{middle:.0} {:.0},{middle:.0} {:.0},{bottom:.0}",
            a.0, b.0, b.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(placed: &Placed) -> usize {
        let mut count = 0;
        for (i, a) in placed.nodes.iter().enumerate() {
            for b in &placed.nodes[i + 1..] {
                count += usize::from((a.0 - b.0).abs() < NODE.0 && (a.1 - b.1).abs() < NODE.1);
            }
        }
        count
    }

    #[test]
    fn a_chain_is_one_straight_line() {
        let inputs: Vec<Vec<usize>> = (0..500usize)
            .map(|i| i.checked_sub(1).into_iter().collect())
            .collect();
        let placed = layered(&inputs);
        assert!(
            placed
                .nodes
                .iter()
                .all(|n| (n.0 - placed.nodes[0].0).abs() < 1e-6)
        );
        assert!(placed.nodes.windows(2).all(|p| p[0].1 < p[1].1));
    }

    #[test]
    fn branches_stand_side_by_side_and_nothing_overlaps() {
        // Blocks of a split into four, one of which is skipped over, and a join.
        let mut inputs: Vec<Vec<usize>> = vec![vec![]];
        for _ in 0..100 {
            let top = inputs.len() - 1;
            for _ in 0..4 {
                inputs.push(vec![top]);
            }
            let n = inputs.len();
            inputs.push(vec![n - 1, n - 2, n - 3, n - 4, top]);
        }
        let placed = layered(&inputs);
        assert_eq!(overlaps(&placed), 0);
        assert!(placed.width < 6.0 * (NODE.0 + GAP.0), "{}", placed.width);
        assert!(
            placed
                .nodes
                .iter()
                .all(|n| n.0 >= 0.0 && n.0 <= placed.width && n.1 <= placed.height)
        );
    }

    #[test]
    fn every_edge_goes_down_and_long_ones_have_a_point_per_rank() {
        let placed = layered(&[vec![], vec![0], vec![1], vec![2, 0]]);
        let long = placed.edges.iter().find(|e| (e.0, e.1) == (0, 3)).unwrap();
        assert_eq!(long.2.len(), 4);
        assert!(
            placed
                .edges
                .iter()
                .all(|e| e.2.windows(2).all(|p| p[0].1 < p[1].1))
        );
        assert!(path(&long.2).starts_with('M'));
        assert_eq!(layered(&[]).nodes.len(), 0);
    }
}
