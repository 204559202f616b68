//! Products of inputs with each other.

use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::Op;
use flow_model::{ElementType, Graph, Node, OutputInfo, Value};

use crate::error::QuantizeError;
use crate::run::in_parallel;

/// From so many columns on the engine's matrix product is the faster way.
const LARGE: usize = 64;
/// Columns that are computed at a time, whatever the number of threads.
const BLOCK: usize = 256;

/// Takes the mean from each of `n` columns.
pub(super) fn centre(rows: &mut [f32], n: usize) {
    let count = (rows.len() / n.max(1)).max(1) as f64;
    let mut means = vec![0f64; n];
    for row in rows.chunks_exact(n.max(1)) {
        means
            .iter_mut()
            .zip(row)
            .for_each(|(m, x)| *m += f64::from(*x) / count);
    }
    for row in rows.chunks_exact_mut(n.max(1)) {
        row.iter_mut().zip(&means).for_each(|(x, m)| *x -= *m as f32);
    }
}

/// The mean over the rows of the products of each two of `n` columns, `[n, n]`.
pub(super) fn gram(rows: &[f32], n: usize, threads: usize) -> Result<Vec<f32>, QuantizeError> {
    let count = rows.len() / n.max(1);
    let mut gram = vec![0f32; n * n];
    if n < LARGE {
        for row in rows.chunks_exact(n.max(1)) {
            for (of_row, &a) in gram.chunks_exact_mut(n).zip(row) {
                of_row.iter_mut().zip(row).for_each(|(g, b)| *g += a * b);
            }
        }
    } else {
        let blocks: Vec<usize> = (0..n).step_by(BLOCK).collect();
        let products = in_parallel(blocks.len(), threads, |at| {
            let columns = blocks[at]..n.min(blocks[at] + BLOCK);
            let mut turned = Vec::with_capacity(columns.len() * count);
            for c in columns {
                turned.extend(rows.chunks_exact(n).map(|row| row[c]));
            }
            product(&turned, rows, count, n)
        });
        for (&first, part) in blocks.iter().zip(products) {
            let part = part?;
            gram[first * n..first * n + part.len()].copy_from_slice(&part);
        }
    }
    gram.iter_mut().for_each(|g| *g /= count.max(1) as f32);
    Ok(gram)
}

/// `[m, count]` times `[count, n]`.
fn product(a: &[f32], b: &[f32], count: usize, n: usize) -> Result<Vec<f32>, QuantizeError> {
    let mut graph = Graph::default();
    let node = |name: &str, op, inputs, outputs| Node {
        name: name.into(),
        line: 0,
        op,
        inputs,
        outputs,
    };
    for (name, shape) in [("a", [a.len() / count.max(1), count]), ("b", [count, n])] {
        let output = OutputInfo::fixed(ElementType::F32, &shape);
        let id = graph.push(node(name, Op::Parameter, Vec::new(), vec![output]));
        graph.parameters.push(id);
    }
    let inputs = graph.parameters.iter().map(|&id| Value::of(id)).collect();
    let op = Op::MatMul {
        transpose_a: false,
        transpose_b: false,
    };
    let id = graph.push(node("product", op, inputs, Vec::new()));
    let id = graph.push(node("result", Op::Result, vec![Value::of(id)], Vec::new()));
    graph.results.push(id);
    graph.infer_shapes()?;
    let program = compile(&graph, &CompileOptions::default())?;
    let mut request = program.request();
    let inputs = [a, b].map(|values| Input::Values(bytemuck::cast_slice(values)));
    request.run(&inputs).map_err(|source| QuantizeError::Run {
        index: 0,
        name: "inputs of a layer".to_owned(),
        source,
    })?;
    let bytes = request.output(0).chunks_exact(4);
    Ok(bytes
        .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_products_of_columns() {
        for n in [5, 70, 300] {
            let mut rows: Vec<f32> = (0..40 * n)
                .map(|i| ((i * 37 + i / 7) % 23) as f32 / 23.0)
                .collect();
            centre(&mut rows, n);
            let found = gram(&rows, n, 2).unwrap();
            for (i, j) in [(0, 0), (0, n - 1), (n - 1, 0), (n / 2, n / 3)] {
                let wanted: f32 = rows.chunks(n).map(|row| row[i] * row[j]).sum::<f32>() / 40.0;
                assert!((found[i * n + j] - wanted).abs() < 1e-5, "{n}: {i} {j}");
            }
            assert_eq!(found, gram(&rows, n, 1).unwrap());
        }
    }
}
