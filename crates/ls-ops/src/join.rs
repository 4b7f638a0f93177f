//! [`join`]: many small tensors as one buffer, for operations on all of them at once.

#[cfg(feature = "cube")]
use burn::backend::tensor::FloatTensor;
#[cfg(feature = "cube")]
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};

/// Pieces that one kernel takes: with its output and its numbers no more buffers than any GPU has.
#[cfg(feature = "cube")]
const PIECES: usize = 8;

/// Tensors laid end to end, each followed by zeros up to its length: `[sum of lengths]`. Of pieces
/// on the graph the result is off it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let pieces = [Tensor::<1>::from_data([1.0, 2.0], &device), Tensor::from_data([3.0], &device)];
/// let joined = ls_ops::join(pieces.to_vec(), &[4, 1]);
/// let expected = vec![1.0, 2.0, 0.0, 0.0, 3.0];
/// assert_eq!(joined.into_data().try_into_vec::<f32>().ok(), Some(expected));
/// ```
///
/// # Shapes
///
/// - `pieces`: `[n]` each, f32, one device; `lengths`: one for each piece, at least its `n`
///
/// # Panics
///
/// If there is no piece, or a length is too small.
#[must_use]
pub fn join(pieces: Vec<Tensor<1>>, lengths: &[usize]) -> Tensor<1> {
    assert_eq!(pieces.len(), lengths.len(), "a length for each piece");
    let plain = |piece: Tensor<1>| {
        if piece.is_autodiff() {
            piece.inner()
        } else {
            piece
        }
    };
    let pieces: Vec<Tensor<1>> = pieces.into_iter().map(plain).collect();
    for (piece, &length) in pieces.iter().zip(lengths) {
        assert_eq!(piece.dtype(), DType::F32, "pieces are f32");
        assert!(
            piece.dims()[0] <= length,
            "a piece is longer than its length"
        );
    }
    let device = pieces[0].device();
    #[cfg(feature = "cube")]
    if crate::is_supported(&device) && !crate::is_host(&device) {
        return by_kernels(pieces, lengths.to_vec());
    }
    let all = pieces.into_iter().zip(lengths).flat_map(|(piece, length)| {
        let gap = length - piece.dims()[0];
        let zeros = (gap > 0).then(|| Tensor::zeros([gap], (&device, DType::F32)));
        std::iter::once(piece).chain(zeros)
    });
    Tensor::cat(all.collect(), 0)
}

/// Some pieces at a time, then the results of that.
#[cfg(feature = "cube")]
fn by_kernels(mut pieces: Vec<Tensor<1>>, mut lengths: Vec<usize>) -> Tensor<1> {
    loop {
        let (mut joined, mut sums) = (Vec::new(), Vec::new());
        for (pieces, lengths) in pieces.chunks(PIECES).zip(lengths.chunks(PIECES)) {
            let of = |at: usize| pieces.get(at).unwrap_or(&pieces[0]).clone().into_dispatch();
            let lengths = std::array::from_fn(|at| lengths.get(at).copied().unwrap_or(0));
            joined.push(Tensor::from_dispatch(<Dispatch as JoinOps>::join_some(
                of(0),
                of(1),
                of(2),
                of(3),
                of(4),
                of(5),
                of(6),
                of(7),
                lengths,
            )));
            sums.push(lengths.iter().sum());
        }
        if joined.len() == 1 {
            return joined.remove(0);
        }
        (pieces, lengths) = (joined, sums);
    }
}

/// The kernel's operation.
#[cfg(feature = "cube")]
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait JoinOps: Backend {
    /// The pieces end to end, each with zeros up to its length; a piece of length 0 is not read.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |_0, _1, _2, _3, _4, _5, _6, _7, lengths: &[usize; PIECES]| {
        burn::backend::fusion::custom::TensorSpec::new(
            burn::tensor::Shape::new([lengths.iter().sum()]),
            DType::F32,
        )
    })]
    fn join_some(
        p0: FloatTensor<Self>,
        p1: FloatTensor<Self>,
        p2: FloatTensor<Self>,
        p3: FloatTensor<Self>,
        p4: FloatTensor<Self>,
        p5: FloatTensor<Self>,
        p6: FloatTensor<Self>,
        p7: FloatTensor<Self>,
        lengths: [usize; PIECES],
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "cube")]
impl JoinOps for crate::cube::CubeBackend {
    fn join_some(
        p0: FloatTensor<Self>,
        p1: FloatTensor<Self>,
        p2: FloatTensor<Self>,
        p3: FloatTensor<Self>,
        p4: FloatTensor<Self>,
        p5: FloatTensor<Self>,
        p6: FloatTensor<Self>,
        p7: FloatTensor<Self>,
        lengths: [usize; PIECES],
    ) -> FloatTensor<Self> {
        crate::cube::join::join_some([p0, p1, p2, p3, p4, p5, p6, p7], lengths)
    }
}
