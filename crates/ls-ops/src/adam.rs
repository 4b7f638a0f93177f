//! [`adam_moments`] and [`adam_values`]: a step of AdamW over one buffer of parameters.

#[cfg(feature = "flex")]
use burn::backend::tensor::FloatTensor;
#[cfg(feature = "flex")]
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

/// Adam's means of a gradient and of its square, one step on: `beta1 m + (1 - beta1) g` and
/// `beta2 v + (1 - beta2) g²`, where `g` is the gradient times `clip`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let of = |values: [f32; 2]| Tensor::<1>::from_data(values, &Device::flex());
/// let clip = Tensor::<1>::from_data([0.5], &Device::flex());
/// let [first, second] =
///     ls_ops::adam_moments(of([4.0, -2.0]), clip, [of([1.0, 0.0]), of([0.0, 8.0])], [0.5, 0.75]);
/// assert_eq!(first.into_data().try_into_vec::<f32>().ok(), Some(vec![1.5, -0.5]));
/// assert_eq!(second.into_data().try_into_vec::<f32>().ok(), Some(vec![1.0, 6.25]));
/// ```
///
/// # Shapes
///
/// - `gradient`, `moments` and the result: `[values]`, f32, off the graph; `clip`: `[1]`
///
/// # Panics
///
/// If the shapes differ.
#[must_use]
pub fn adam_moments(
    gradient: Tensor<1>,
    clip: Tensor<1>,
    moments: [Tensor<1>; 2],
    betas: [f64; 2],
) -> [Tensor<1>; 2] {
    for moment in &moments {
        assert_eq!(moment.dims(), gradient.dims(), "one buffer");
    }
    let [first, second] = moments;
    #[cfg(feature = "flex")]
    if crate::is_host(&gradient.device()) {
        let (first, second) = <Dispatch as AdamOps>::moments(
            gradient.into_dispatch(),
            clip.into_dispatch(),
            first.into_dispatch(),
            second.into_dispatch(),
            betas,
        );
        return [Tensor::from_dispatch(first), Tensor::from_dispatch(second)];
    }
    let [beta1, beta2] = betas;
    let gradient = gradient * clip;
    let new = gradient.clone().mul_scalar(1.0 - beta1);
    let new_square = gradient.square().mul_scalar(1.0 - beta2);
    [
        first.mul_scalar(beta1) + new,
        second.mul_scalar(beta2) + new_square,
    ]
}

/// How the values of a buffer follow their moments in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// What the moments are divided by, since they began at zero: `1 - beta^steps`.
    pub corrections: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// The learning rate; a value moves by `rate` times its factor.
    pub learning_rate: f64,
}

/// The values one step on: `x - lr d x - lr r (m / c1) / (sqrt(v / c2) + epsilon)`, with moments
/// `m` and `v`, a factor `r` of the rate and a factor `d` of the decay.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_ops::AdamStep;
///
/// let of = |value: f32| Tensor::<1>::from_data([value], &Device::flex());
/// let step = AdamStep { corrections: [0.5, 0.25], epsilon: 0.0, learning_rate: 0.25 };
/// // The mean gradient is 3 and its root mean square 6.
/// let x = ls_ops::adam_values(of(8.0), [of(1.5), of(9.0)], of(2.0), of(0.5), step);
/// assert_eq!(x.into_data().try_into_vec::<f32>().ok(), Some(vec![8.0 - 1.0 - 0.25]));
/// ```
///
/// # Shapes
///
/// - `values`, `moments` and the result: `[values]`, f32, off the graph
/// - `rate` and `decay`: `[values]`, or `[1]` for one factor of all
///
/// # Panics
///
/// If the shapes differ.
#[must_use]
pub fn adam_values(
    values: Tensor<1>,
    moments: [Tensor<1>; 2],
    rate: Tensor<1>,
    decay: Tensor<1>,
    step: AdamStep,
) -> Tensor<1> {
    let shape = values.dims();
    for moment in &moments {
        assert_eq!(moment.dims(), shape, "one buffer");
    }
    for factor in [&rate, &decay] {
        assert!(factor.dims() == shape || factor.dims() == [1], "one factor");
    }
    let [first, second] = moments;
    #[cfg(feature = "flex")]
    if crate::is_host(&values.device()) {
        return Tensor::from_dispatch(<Dispatch as AdamOps>::values(
            values.into_dispatch(),
            first.into_dispatch(),
            second.into_dispatch(),
            rate.into_dispatch(),
            decay.into_dispatch(),
            step,
        ));
    }
    let [first_correction, second_correction] = step.corrections;
    let first = first.div_scalar(first_correction);
    let second = second.div_scalar(second_correction);
    let change = first / second.sqrt().add_scalar(step.epsilon);
    let decayed = values.clone() - values * decay.mul_scalar(step.learning_rate);
    decayed - change * rate.mul_scalar(step.learning_rate)
}

/// The two on the CPU, where burn would take a pass over memory for each operation.
#[cfg(feature = "flex")]
#[backend_extension(Flex: cfg(feature = "flex"))]
pub(crate) trait AdamOps: Backend {
    /// The moments one step on.
    fn moments(
        gradient: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        betas: [f64; 2],
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The values one step on.
    fn values(
        values: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        rate: FloatTensor<Self>,
        decay: FloatTensor<Self>,
        step: AdamStep,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl AdamOps for Flex {
    fn moments(
        gradient: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        betas: [f64; 2],
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        use crate::host::{Values, filled_pair, tensor};

        let [gradient, clip, first, second] = [gradient, clip, first, second].map(Values::of);
        let (gradient, clip) = (gradient.as_slice(), clip.as_slice()[0]);
        let (first, second) = (first.as_slice(), second.as_slice());
        let [beta1, beta2] = betas.map(|beta| beta as f32);
        let [new1, new2] = betas.map(|beta| (1.0 - beta) as f32);
        let len = gradient.len();
        let moments = filled_pair(
            len,
            #[inline(always)]
            |part| {
                let gradient = &gradient[part.clone()];
                let (first, second) = (&first[part.clone()], &second[part]);
                #[inline(always)]
                move |i| {
                    let g = gradient[i] * clip;
                    (
                        first[i] * beta1 + g * new1,
                        second[i] * beta2 + g * g * new2,
                    )
                }
            },
        );
        (tensor(moments.0, [len]), tensor(moments.1, [len]))
    }

    fn values(
        values: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        rate: FloatTensor<Self>,
        decay: FloatTensor<Self>,
        step: AdamStep,
    ) -> FloatTensor<Self> {
        use crate::host::{CHUNK, Values, tensor, vectorised};
        use crate::uninit::filled;

        let [values, first, second, rate, decay] =
            [values, first, second, rate, decay].map(Values::of);
        let (values, first, second) = (values.as_slice(), first.as_slice(), second.as_slice());
        let [c1, c2] = step.corrections.map(|correction| correction as f32);
        let (epsilon, lr) = (step.epsilon as f32, step.learning_rate as f32);
        let len = values.len();
        let (rate, decay) = (Factors::of(rate.as_slice()), Factors::of(decay.as_slice()));
        let moved = filled(len, CHUNK, |at, out| {
            let part = at * CHUNK..(at * CHUNK + CHUNK).min(len);
            let (rate, decay) = (rate.of_part(&part), decay.of_part(&part));
            let values = &values[part.clone()];
            let (first, second) = (&first[part.clone()], &second[part]);
            vectorised(
                #[inline(always)]
                || {
                    out.write(
                        values.len(),
                        #[inline(always)]
                        |i| {
                            let change = first[i] / c1 / ((second[i] / c2).sqrt() + epsilon);
                            let decayed = values[i] - values[i] * (decay[i] * lr);
                            decayed - change * (rate[i] * lr)
                        },
                    );
                },
            );
        });
        tensor(moved, [len])
    }
}

/// The factors of values, of which a part is read at a time.
#[cfg(feature = "flex")]
enum Factors<'a> {
    /// One for each value.
    Each(&'a [f32]),
    /// The same for all, as often as there are values in a part.
    One(Vec<f32>),
}

#[cfg(feature = "flex")]
impl<'a> Factors<'a> {
    fn of(factors: &'a [f32]) -> Self {
        match factors {
            [one] => Self::One(vec![*one; crate::host::CHUNK]),
            each => Self::Each(each),
        }
    }

    fn of_part(&self, part: &std::ops::Range<usize>) -> &[f32] {
        match self {
            Self::Each(each) => &each[part.clone()],
            Self::One(same) => &same[..part.len()],
        }
    }
}
