//! Products of many vectors with a matrix of 32-bit floats.
//!
//! Each sum has one order, whatever is computed beside it.
#![expect(
    unsafe_code,
    reason = "calling a function compiled for wider instructions"
)]

/// Outputs that are computed together: two vectors of AVX2.
const PANEL: usize = 16;
/// Inputs that share the reading of a panel.
const INPUTS: usize = 4;

/// A matrix and what is added to its product, arranged for reading in order.
#[derive(Debug)]
pub(super) struct Dense {
    /// For each group of outputs, for each column: the weights of the group.
    panels: Vec<[f32; PANEL]>,
    bias: Vec<f32>,
    columns: usize,
}

impl Dense {
    /// Takes a matrix, a row for each output.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>, columns: usize) -> Self {
        let rows = bias.len();
        let mut panels = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * columns];
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            let start = row / PANEL * columns;
            for (panel, weight) in panels[start..start + columns].iter_mut().zip(weights) {
                panel[row % PANEL] = *weight;
            }
        }
        Self {
            panels,
            bias,
            columns,
        }
    }

    /// The products of some vectors, one behind the other.
    pub(super) fn apply(&self, input: &[f32]) -> Vec<f32> {
        let count = input.len() / self.columns;
        let mut output = vec![0.0; count * self.bias.len()];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { apply_avx2(self, input, &mut output) };
            return output;
        }
        apply_body(self, input, &mut output);
        output
    }
}

/// As [`apply_body`], compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn apply_avx2(dense: &Dense, input: &[f32], output: &mut [f32]) {
    apply_body(dense, input, output);
}

#[inline(always)]
fn apply_body(dense: &Dense, input: &[f32], output: &mut [f32]) {
    let (columns, rows) = (dense.columns, dense.bias.len());
    let count = input.len() / columns;
    for (group, panel) in dense.panels.chunks_exact(columns).enumerate() {
        let first = group * PANEL;
        let width = PANEL.min(rows - first);
        let bias = &dense.bias[first..first + width];
        for start in (0..count).step_by(INPUTS) {
            // Surplus inputs repeat the last one, and their sums are dropped.
            let inputs: [&[f32]; INPUTS] = std::array::from_fn(|index| {
                let vector = (start + index).min(count - 1);
                &input[vector * columns..(vector + 1) * columns]
            });
            let sums = sums(panel, inputs);
            for (index, sums) in sums.iter().enumerate().take(count - start) {
                let place = (start + index) * rows + first;
                let out = &mut output[place..place + width];
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                    *out = sum + bias;
                }
            }
        }
    }
}

#[inline(always)]
fn sums(panel: &[[f32; PANEL]], inputs: [&[f32]; INPUTS]) -> [[f32; PANEL]; INPUTS] {
    let mut sums = [[0.0; PANEL]; INPUTS];
    let [first, second, third, fourth] = inputs;
    let columns = first.iter().zip(second).zip(third).zip(fourth);
    for (weights, (((first, second), third), fourth)) in panel.iter().zip(columns) {
        for (sums, value) in sums.iter_mut().zip([*first, *second, *third, *fourth]) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += weight * value;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::Dense;

    #[track_caller]
    fn check(rows: usize, columns: usize, count: usize) {
        let number = |index: usize| ((index * 37 + 11) % 23) as f32 - 11.0;
        let weights: Vec<_> = (0..rows * columns).map(number).collect();
        let bias: Vec<_> = (0..rows).map(|row| number(row + 5)).collect();
        let input: Vec<_> = (0..columns * count)
            .map(|index| number(index + 3))
            .collect();
        let got = Dense::new(&weights, bias.clone(), columns).apply(&input);
        assert_eq!(got.len(), rows * count);
        for (place, got) in got.iter().enumerate() {
            let (vector, row) = (place / rows, place % rows);
            let dot: f32 = (0..columns)
                .map(|column| weights[row * columns + column] * input[vector * columns + column])
                .sum();
            assert_eq!(*got, dot + bias[row], "row {row} of vector {vector}");
        }
    }

    #[test]
    fn products_of_any_shape_are_exact_on_small_numbers() {
        for (rows, columns, count) in [(1, 1, 1), (16, 8, 4), (17, 5, 3), (40, 33, 9), (3, 2, 0)] {
            check(rows, columns, count);
        }
    }
}
