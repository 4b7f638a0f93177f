//! Matrix products over slices, by rten-gemm.

use rten_gemm::{
    GemmExecutor, GemmInputA, GemmInputB, GemmOptions, GemmUninitOptions, PackedBMatrix,
};
use rten_tensor::NdTensorView;

use crate::uninit::written;

thread_local! {
    /// The kernel for this machine, found once in each thread.
    static EXECUTOR: GemmExecutor<f32> = GemmExecutor::new();
}

/// A matrix in memory, by strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows end to end.
    pub(crate) fn new(values: &'a [f32], shape: [usize; 2]) -> Self {
        Self::strided(values, shape, shape[1])
    }

    /// Rows that begin `stride` elements apart.
    pub(crate) fn strided(values: &'a [f32], shape: [usize; 2], stride: usize) -> Self {
        Self {
            values,
            shape,
            strides: [stride, 1],
        }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            values: self.values,
            shape: [self.shape[1], self.shape[0]],
            strides: [self.strides[1], self.strides[0]],
        }
    }

    fn view(self) -> NdTensorView<'a, f32, 2> {
        // The shape is that of the slice it was made with.
        NdTensorView::from_slice_with_strides(self.shape, self.values, self.strides)
            .expect("a matrix lies within its slice")
    }

    fn is_empty(self) -> bool {
        self.shape.contains(&0)
    }

    /// A single row as two equal ones. Products of one row have a kernel of their own, which sums
    /// in another order: what a model answers to a text alone would differ in its last digits from
    /// what it answers among others.
    fn doubled(self) -> Option<Self> {
        let [rows, columns] = self.shape;
        (rows == 1).then_some(Self {
            shape: [2, columns],
            strides: [0, self.strides[1]],
            ..self
        })
    }
}

/// The right side of a product, cut into the tiles that the kernel reads.
pub(crate) struct Tiles(PackedBMatrix<f32>);

impl Tiles {
    /// None of an empty matrix, or of one whose places 32 bits cannot count.
    pub(crate) fn of(b: Matrix<'_>) -> Option<Self> {
        let cut = || Self(EXECUTOR.with(|executor| executor.prepack_b(b.view())));
        (!b.is_empty() && b.values.len() < u32::MAX as usize).then(cut)
    }

    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.0.rows(), self.0.cols()]
    }

    /// The matrix again, rows end to end. The order of the tiles is the kernel's own affair, so a
    /// matrix of places is cut as well, and says which value went where.
    pub(crate) fn values(&self) -> Vec<f32> {
        let len = self.shape().iter().product();
        let places = {
            let places: Vec<f32> = (1..=len as u32).map(f32::from_bits).collect();
            let places = Self::of(Matrix::new(&places, self.shape()));
            places.map(|places| places.0.into_vec()).unwrap_or_default()
        };
        let mut values = vec![0.0; len];
        for (place, value) in places.into_iter().zip(self.0.clone().into_vec()) {
            // Zero is what fills the last tiles up.
            if let Some(at) = (place as usize).checked_sub(1) {
                values[at] = f32::from_bits(value);
            }
        }
        values
    }
}

/// The right side of a product.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Cut into tiles for this product.
    Matrix(Matrix<'a>),
    /// Cut before.
    Tiles(&'a Tiles),
}

impl<'a> Right<'a> {
    fn shape(self) -> [usize; 2] {
        match self {
            Self::Matrix(matrix) => matrix.shape,
            Self::Tiles(tiles) => tiles.shape(),
        }
    }

    fn input(self) -> GemmInputB<'a, f32> {
        match self {
            Self::Matrix(matrix) => GemmInputB::Unpacked(matrix.view()),
            Self::Tiles(tiles) => GemmInputB::Packed(&tiles.0),
        }
    }
}

impl<'a> From<Matrix<'a>> for Right<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Matrix(matrix)
    }
}

impl<'a> From<&'a Tiles> for Right<'a> {
    fn from(tiles: &'a Tiles) -> Self {
        Self::Tiles(tiles)
    }
}

/// `a b`.
pub(crate) fn product<'b>(a: Matrix<'_>, b: impl Into<Right<'b>>) -> Vec<f32> {
    let b = b.into();
    let [inner, columns] = b.shape();
    let len = a.shape[0] * columns;
    if a.is_empty() || inner * columns == 0 {
        return vec![0.0; len];
    }
    if let Some(doubled) = a.doubled() {
        let mut rows = product(doubled, b);
        rows.truncate(len);
        return rows;
    }
    written(len, |out| {
        EXECUTOR.with(|executor| {
            let a = GemmInputA::Unpacked(a.view());
            executor.gemm_uninit(out, a, b.input(), GemmUninitOptions::default())
        })
    })
    .expect("shapes fit each other")
}

/// `out = alpha * a b + beta * out`.
pub(crate) fn accumulate(out: &mut [f32], alpha: f32, a: Matrix<'_>, b: Matrix<'_>, beta: f32) {
    if a.is_empty() || b.is_empty() {
        for value in out {
            *value = if beta == 0.0 { 0.0 } else { *value * beta };
        }
        return;
    }
    if let Some(doubled) = a.doubled() {
        let mut rows = [&*out, &*out].concat();
        accumulate(&mut rows, alpha, doubled, b, beta);
        out.copy_from_slice(&rows[..out.len()]);
        return;
    }
    let options = GemmOptions {
        alpha,
        beta,
        ..GemmOptions::default()
    };
    EXECUTOR
        .with(|executor| {
            let (a, b) = (a.view(), b.view());
            executor.gemm(
                out,
                GemmInputA::Unpacked(a),
                GemmInputB::Unpacked(b),
                options,
            )
        })
        .expect("shapes fit each other");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 37 + seed) % 19) as f32 - 9.0)
            .collect()
    }

    #[test]
    fn a_row_has_the_same_product_alone_and_among_others() {
        let (k, n) = if cfg!(miri) { (9, 5) } else { (301, 67) };
        let thirds = |len, seed| {
            values(len, seed)
                .iter()
                .map(|v| v / 3.0)
                .collect::<Vec<_>>()
        };
        let (a, b) = (thirds(5 * k, 1), thirds(k * n, 5));
        let b = Matrix::new(&b, [k, n]);
        let all = product(Matrix::new(&a, [5, k]), b);
        for (row, expected) in a.chunks(k).zip(all.chunks(n)) {
            let row = Matrix::new(row, [1, k]);
            assert_eq!(product(row, b), expected);
            let mut out = vec![0.0; n];
            accumulate(&mut out, 1.0, row, b, 0.0);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn tiles_give_the_same_products_to_the_bit_and_the_matrix_again() {
        let shapes = [[1, 1], [5, 2], [70, 33], [300, 67], [257, 130], [9, 1100]];
        for [k, n] in shapes {
            if cfg!(miri) && k * n > 2_500 {
                continue;
            }
            let thirds =
                |len, seed| -> Vec<f32> { values(len, seed).iter().map(|v| v / 3.0).collect() };
            let (a, mut b) = (thirds(70 * k, 1), thirds(k * n, 5));
            for (at, odd) in [-0.0, f32::MIN_POSITIVE / 3.0, f32::MAX]
                .into_iter()
                .enumerate()
            {
                if let Some(value) = b.get_mut(3 * at + 1) {
                    *value = odd;
                }
            }
            let b = Matrix::new(&b, [k, n]);
            // In another thread than the one that multiplies.
            let tiles = std::thread::scope(|scope| scope.spawn(|| Tiles::of(b)).join());
            let tiles = tiles.unwrap().unwrap();
            assert_eq!(tiles.shape(), [k, n]);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&tiles.values()), bits(b.values), "{k} {n}");
            for m in [0, 1, 2, 9, 70] {
                let a = Matrix::new(&a[..m * k], [m, k]);
                assert_eq!(
                    bits(&product(a, &tiles)),
                    bits(&product(a, b)),
                    "{m} {k} {n}"
                );
            }
        }
    }

    #[test]
    fn every_orientation_and_odd_size_gives_the_products_of_a_loop() {
        for [m, k, n] in [
            [1, 1, 1],
            [3, 5, 2],
            [7, 1, 33],
            [1, 70, 33],
            [17, 40, 9],
            [65, 130, 70],
            [2, 0, 3],
        ] {
            // Miri takes minutes for the larger ones.
            if cfg!(miri) && m * k * n > 300 {
                continue;
            }
            let (a, b) = (values(m * k, 1), values(k * n, 5));
            let transpose = |values: &[f32], [rows, columns]: [usize; 2]| -> Vec<f32> {
                (0..rows * columns)
                    .map(|i| values[i % rows * columns + i / rows])
                    .collect()
            };
            // Whole numbers: sums are exact in any order.
            let expected: Vec<f32> = (0..m * n)
                .map(|i| (0..k).map(|at| a[i / n * k + at] * b[at * n + i % n]).sum())
                .collect();
            let (a_t, b_t) = (transpose(&a, [m, k]), transpose(&b, [k, n]));
            let lefts = [Matrix::new(&a, [m, k]), Matrix::new(&a_t, [k, m]).t()];
            let rights = [Matrix::new(&b, [k, n]), Matrix::new(&b_t, [n, k]).t()];
            for left in lefts {
                for right in rights {
                    assert_eq!(product(left, right), expected, "{m} {k} {n}");
                    let mut out = vec![1.0; m * n];
                    accumulate(&mut out, 2.0, left, right, 3.0);
                    let expected: Vec<f32> = expected.iter().map(|v| 2.0 * v + 3.0).collect();
                    assert_eq!(out, expected, "{m} {k} {n}");
                }
            }
        }
    }
}
