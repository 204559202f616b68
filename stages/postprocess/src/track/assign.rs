//! Which box belongs to which track: the pairs that cost least together.

/// Most rows or columns that are solved exactly; more are paired greedily, so that time stays bounded.
const MAX_EXACT: usize = 128;

/// Pairs rows with columns of which `cost` gives a number below `limit`, so that the sum over all pairs of what they cost
/// less than `limit` is largest. Gives the column of each row.
///
/// Groups of rows and columns that no possible pair joins are solved by themselves, since boxes far apart do not compete.
pub(crate) fn assign(
    rows: usize,
    columns: usize,
    limit: f64,
    cost: impl Fn(usize, usize) -> Option<f64>,
) -> Vec<Option<usize>> {
    let mut pairs = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            if let Some(cost) = cost(row, column).filter(|&cost| cost < limit) {
                pairs.push((row, column, cost - limit));
            }
        }
    }
    let mut found = vec![None; rows];
    for group in groups(rows, columns, &pairs) {
        let mut rows: Vec<usize> = group.iter().map(|p| p.0).collect();
        let mut columns: Vec<usize> = group.iter().map(|p| p.1).collect();
        for list in [&mut rows, &mut columns] {
            list.sort_unstable();
            list.dedup();
        }
        if rows.len().max(columns.len()) > MAX_EXACT {
            greedy(group, &mut found);
            continue;
        }
        // Beside its columns each row has one of its own that costs nothing: it stays alone.
        let width = columns.len() + rows.len();
        let mut costs = vec![0.0; rows.len() * width];
        for (row, column, gain) in group {
            if let (Ok(r), Ok(c)) = (rows.binary_search(&row), columns.binary_search(&column)) {
                costs[r * width + c] = gain;
            }
        }
        let possible = |r: usize, c: usize| costs[r * width + c] < 0.0;
        for (r, c) in cheapest(rows.len(), width, &costs).into_iter().enumerate() {
            if c < columns.len() && possible(r, c) {
                found[rows[r]] = Some(columns[c]);
            }
        }
    }
    found
}

type Pair = (usize, usize, f64);

/// Pairs by the connected parts of the graph they make.
fn groups(rows: usize, columns: usize, pairs: &[Pair]) -> Vec<Vec<Pair>> {
    let mut parent: Vec<usize> = (0..rows + columns).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for &(row, column, _) in pairs {
        let (a, b) = (root(&mut parent, row), root(&mut parent, rows + column));
        parent[a.max(b)] = a.min(b);
    }
    let mut keyed: Vec<(usize, Pair)> = pairs.iter().map(|&p| (root(&mut parent, p.0), p)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed
        .chunk_by(|a, b| a.0 == b.0)
        .map(|group| group.iter().map(|(_, pair)| *pair).collect())
        .collect()
}

/// The best pair first, then the best of what is left.
fn greedy(mut pairs: Vec<Pair>, found: &mut [Option<usize>]) {
    pairs.sort_by(|a, b| a.2.total_cmp(&b.2).then((a.0, a.1).cmp(&(b.0, b.1))));
    let mut taken = std::collections::HashSet::new();
    for (row, column, _) in pairs {
        if found[row].is_none() && taken.insert(column) {
            found[row] = Some(column);
        }
    }
}

/// The column of each row so that the sum of costs is least; `width >= rows`. The Hungarian method with potentials
/// (Kuhn 1955, Munkres 1957), in `rows * rows * width` steps.
fn cheapest(rows: usize, width: usize, costs: &[f64]) -> Vec<usize> {
    // Rows and columns count from 1; 0 is the place where a path begins.
    let (mut of_row, mut of_column) = (vec![0.0; rows + 1], vec![0.0; width + 1]);
    let mut row_at = vec![0; width + 1];
    for row in 1..=rows {
        row_at[0] = row;
        let mut column = 0;
        let mut least = vec![f64::INFINITY; width + 1];
        let mut back = vec![0; width + 1];
        let mut seen = vec![false; width + 1];
        loop {
            seen[column] = true;
            let from = row_at[column];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for c in 1..=width {
                if seen[c] {
                    continue;
                }
                let reduced = costs[(from - 1) * width + c - 1] - of_row[from] - of_column[c];
                if reduced < least[c] {
                    (least[c], back[c]) = (reduced, column);
                }
                if least[c] < step {
                    (step, next) = (least[c], c);
                }
            }
            for c in 0..=width {
                if seen[c] {
                    of_row[row_at[c]] += step;
                    of_column[c] -= step;
                } else {
                    least[c] -= step;
                }
            }
            column = next;
            if row_at[column] == 0 {
                break;
            }
        }
        while column != 0 {
            row_at[column] = row_at[back[column]];
            column = back[column];
        }
    }
    let mut found = vec![0; rows];
    for (column, &row) in row_at.iter().enumerate().skip(1) {
        if row > 0 {
            found[row - 1] = column - 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pair_gives_way_where_two_are_better() {
        // Row 0 would like column 0 best, but row 1 has no other.
        let costs = [[0.1, 0.2], [0.15, 0.9]];
        let found = assign(2, 2, 0.8, |r, c| Some(costs[r][c]));
        assert_eq!(found, [Some(1), Some(0)]);
    }

    #[test]
    fn what_costs_too_much_stays_alone() {
        assert_eq!(assign(1, 1, 0.5, |_, _| Some(0.5)), [None]);
        assert_eq!(assign(1, 1, 0.5, |_, _| None), [None]);
        assert_eq!(assign(0, 3, 0.5, |_, _| Some(0.0)), []);
        assert_eq!(assign(2, 0, 0.5, |_, _| Some(0.0)), [None, None]);
    }

    #[test]
    fn crowds_are_paired_too() {
        let found = assign(200, 200, 0.5, |r, c| Some(if r == c { 0.0 } else { 0.4 }));
        assert!(found.iter().enumerate().all(|(r, c)| *c == Some(r)));
    }

    /// The largest sum that any choice of pairs reaches.
    fn best(costs: &[Vec<Option<f64>>], limit: f64, row: usize, taken: u32) -> f64 {
        let Some(line) = costs.get(row) else {
            return 0.0;
        };
        let alone = best(costs, limit, row + 1, taken);
        let pairs = line.iter().enumerate().filter_map(|(c, cost)| {
            let gain = limit - (*cost)?;
            (gain > 0.0 && taken & (1 << c) == 0)
                .then(|| gain + best(costs, limit, row + 1, taken | (1 << c)))
        });
        pairs.fold(alone, f64::max)
    }

    proptest! {
        #[test]
        fn no_other_choice_is_better(
            costs in (0usize..6, 0usize..6).prop_flat_map(|(r, c)| proptest::collection::vec(
                proptest::collection::vec(proptest::option::of((0u8..10).prop_map(|v| f64::from(v) / 10.0)), c), r)),
        ) {
            let columns = costs.first().map_or(0, Vec::len);
            let found = assign(costs.len(), columns, 0.75, |r, c| costs[r][c]);
            let mut sum = 0.0;
            let mut taken = Vec::new();
            for (r, c) in found.iter().enumerate().filter_map(|(r, c)| Some((r, (*c)?))) {
                prop_assert!(!taken.contains(&c));
                taken.push(c);
                let cost = costs[r][c].expect("only possible pairs");
                prop_assert!(cost < 0.75);
                sum += 0.75 - cost;
            }
            prop_assert!((sum - best(&costs, 0.75, 0, 0)).abs() < 1e-9);
        }
    }
}
