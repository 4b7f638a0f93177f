//! The kernel of [`join`](crate::join()).

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{by_unit, contiguous, empty};

/// A piece's elements, and where it begins in the output.
#[derive(CubeLaunch, CubeType)]
struct Place {
    start: u32,
    len: u32,
}

/// The element of a piece at a place of the output, or `otherwise` outside of the piece.
#[cube]
fn element_at(piece: &Tensor<f32>, place: &Place, at: u32, otherwise: f32) -> f32 {
    let mut value = otherwise;
    if at >= place.start && at - place.start < place.len {
        value = piece[(at - place.start) as usize];
    }
    value
}

/// A unit for each element of the output.
#[cube(launch)]
fn join_kernel(
    p0: &Tensor<f32>,
    p1: &Tensor<f32>,
    p2: &Tensor<f32>,
    p3: &Tensor<f32>,
    p4: &Tensor<f32>,
    p5: &Tensor<f32>,
    p6: &Tensor<f32>,
    p7: &Tensor<f32>,
    out: &mut Tensor<f32>,
    at0: Place,
    at1: Place,
    at2: Place,
    at3: Place,
    at4: Place,
    at5: Place,
    at6: Place,
    at7: Place,
    len: u32,
) {
    let at = ABSOLUTE_POS as u32;
    if at >= len {
        terminate!();
    }
    let value = element_at(p0, &at0, at, 0.0f32);
    let value = element_at(p1, &at1, at, value);
    let value = element_at(p2, &at2, at, value);
    let value = element_at(p3, &at3, at, value);
    let value = element_at(p4, &at4, at, value);
    let value = element_at(p5, &at5, at, value);
    let value = element_at(p6, &at6, at, value);
    let value = element_at(p7, &at7, at, value);
    out[at as usize] = value;
}

pub(crate) fn join_some(pieces: [CubeTensor; 8], lengths: [usize; 8]) -> CubeTensor {
    let len: usize = lengths.iter().sum();
    let pieces = pieces.map(contiguous);
    let out = empty(&pieces[0], [len], DType::F32);
    if len == 0 {
        return out;
    }
    let (count, dim) = by_unit(&out, len);
    let mut start = 0;
    let mut places = pieces.iter().zip(lengths).map(|(piece, length)| {
        let elements = piece.meta.num_elements().min(length);
        start += length;
        PlaceLaunch::new((start - length) as u32, elements as u32)
    });
    let places: [PlaceLaunch; 8] =
        std::array::from_fn(|_| places.next().unwrap_or_else(|| PlaceLaunch::new(0, 0)));
    let [p0, p1, p2, p3, p4, p5, p6, p7] = pieces.map(CubeTensor::into_tensor_arg);
    let [at0, at1, at2, at3, at4, at5, at6, at7] = places;
    join_kernel::launch(
        &out.client,
        count,
        dim,
        p0,
        p1,
        p2,
        p3,
        p4,
        p5,
        p6,
        p7,
        out.clone().into_tensor_arg(),
        at0,
        at1,
        at2,
        at3,
        at4,
        at5,
        at6,
        at7,
        len as u32,
    );
    out
}
