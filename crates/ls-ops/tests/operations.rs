//! Every operation against its plain form in burn's own operations: values and gradients, odd
//! sizes, one row, one head, masks that leave one key, f32 and bf16; and against finite
//! differences. On any device (`LS_TEST_DEVICE`).
//!
//! Over 700 lines because every operation has its plain form here.

// Figures beside the verdict, for whoever asks for them.
#![allow(clippy::print_stdout)]
// clippy.toml allows it in the tests themselves only, not in what they share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use burn::tensor::activation::{gelu_approximate, silu, softmax};
use burn::tensor::{Bool, DType, Device, Gradients, Tensor, TensorData};
use ls_ops::device::{of_tests, tolerance_of_tests};
use ls_ops::{
    Activation, AdamStep, AttentionPlan, NormScale, RotaryTable, Segment, adam_moments,
    adam_values, add_low_rank, attention, glu, joined_glu, linear, linear_graph, pull_back,
    rms_norm,
};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let plain = if tensor.is_autodiff() {
        tensor.inner()
    } else {
        tensor
    };
    plain.cast(DType::F32).into_data().try_into_vec().unwrap()
}

/// Numbers of both signs without a pattern that sums could hide.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
        .collect()
}

fn leaf<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
    constant(shape, seed).autodiff().require_grad()
}

fn constant<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
    let data = TensorData::new(numbers(shape.iter().product(), seed), shape);
    Tensor::from_data(data, (&of_tests(), DType::F32))
}

/// A loss in which every output weighs differently.
fn backward(y: Tensor<2>) -> Gradients {
    let weights = constant(y.dims(), 77);
    (y * weights).sum().backward()
}

/// Of the largest of the expected values, or of one.
#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let tolerance = tolerance_of_tests(tolerance);
    let size = expected.iter().fold(1.0f32, |max, v| max.max(v.abs()));
    let mut worst = 0.0f32;
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / size;
        assert!(
            difference <= tolerance,
            "{what}: at {at} {found}, expected {expected}"
        );
        worst = worst.max(difference);
    }
    println!("error {worst:e} limit {tolerance:e} {what}");
}

/// The same bits on the CPU. Elsewhere the kernels of two ways to one result may add up in another
/// order.
#[track_caller]
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    if ls_ops::is_host(&of_tests()) {
        assert_eq!(found, expected, "{what}");
    } else {
        assert_near(found, expected, 2e-6, what);
    }
}

/// WGSL has no bf16.
fn has(dtype: DType) -> bool {
    let has = of_tests().supports_dtype(dtype);
    if !has {
        println!("left out: the device has no {dtype:?}");
    }
    has
}

/// Value and gradients of two forms of one function, from the same leaves.
#[track_caller]
fn compare(
    leaves: &[Tensor<2>],
    fused: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    plain: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    what: &str,
) {
    let (y, expected) = (fused(leaves), plain(leaves));
    assert_near(&values(y.clone()), &values(expected.clone()), 2e-6, what);
    // Off the graph the same.
    let inner: Vec<Tensor<2>> = leaves.iter().map(|leaf| leaf.clone().inner()).collect();
    assert_same(
        &values(fused(&inner)),
        &values(y.clone()),
        &format!("{what}, off the graph"),
    );
    let (found, expected) = (backward(y), backward(expected));
    for (at, leaf) in leaves.iter().enumerate() {
        let (found, expected) = (leaf.grad(&found), leaf.grad(&expected));
        let what = format!("{what}, gradient {at}");
        assert_near(
            &values(found.unwrap()),
            &values(expected.unwrap()),
            5e-6,
            &what,
        );
    }
}

/// The gradients of a fused function against differences of its own values.
fn against_differences(leaves: &[Tensor<2>], fused: impl Fn(&[Tensor<2>]) -> Tensor<2>) {
    let gradients = backward(fused(leaves));
    let loss = |leaves: &[Tensor<2>]| -> f64 {
        let y = values(fused(leaves));
        let weights = numbers(y.len(), 77);
        let products = y
            .iter()
            .zip(weights)
            .map(|(y, w)| f64::from(*y) * f64::from(w));
        products.sum()
    };
    for (at, leaf) in leaves.iter().enumerate() {
        let found = values(leaf.grad(&gradients).unwrap());
        let base = values(leaf.clone());
        for element in (0..base.len()).step_by(base.len().div_ceil(7)) {
            let moved = |by: f32| {
                let mut moved = base.clone();
                moved[element] += by;
                let data = TensorData::new(moved, leaf.dims());
                let mut leaves: Vec<Tensor<2>> =
                    leaves.iter().map(|leaf| leaf.clone().inner()).collect();
                leaves[at] = Tensor::from_data(data, (&of_tests(), DType::F32));
                loss(&leaves)
            };
            let step = 5e-3;
            let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            let difference = (f64::from(found[element]) - expected).abs();
            assert!(
                difference < 3e-3 * expected.abs().max(1.0),
                "leaf {at}, element {element}: {} against {expected}",
                found[element]
            );
        }
    }
}

/// A function of bf16 against the same of f32, from values that both have: what it gives and the
/// gradients are bf16, and near.
#[track_caller]
fn half_is_near(shapes: &[[usize; 2]], fused: impl Fn(&[Tensor<2>]) -> Tensor<2>, what: &str) {
    let of = |dtype| {
        let leaves: Vec<Tensor<2>> = shapes
            .iter()
            .enumerate()
            .map(|(at, &shape)| {
                let rounded = constant(shape, at + 1).cast(DType::BF16);
                rounded.cast(dtype).autodiff().require_grad()
            })
            .collect();
        let y = fused(&leaves);
        assert_eq!(y.dtype(), dtype, "{what}");
        let weights = constant(y.dims(), 77).cast(DType::BF16).cast(dtype);
        let gradients = (y.clone() * weights).sum().backward();
        let mut all = vec![values(y)];
        for leaf in leaves {
            let gradient = leaf.grad(&gradients).unwrap();
            assert_eq!(gradient.dtype(), dtype, "{what}");
            all.push(values(gradient));
        }
        all
    };
    for (found, expected) in of(DType::BF16).iter().zip(of(DType::F32)) {
        assert_near(found, &expected, 1e-2, what);
    }
}

#[test]
fn every_operation_takes_bf16() {
    if !has(DType::BF16) {
        return;
    }
    for [tokens, d_in, d_out] in [[1, 1, 1], [5, 33, 17]] {
        let what = format!("{tokens} {d_in} {d_out}");
        half_is_near(
            &[[tokens, d_in], [d_in, d_out]],
            |x| linear(x[0].clone(), x[1].clone()),
            &format!("linear {what}"),
        );
        for scale in SCALES {
            half_is_near(
                &[[tokens, d_in], [1, d_in]],
                |x| rms_norm(x[0].clone(), x[1].clone().squeeze_dim(0), scale, 1e-5),
                &format!("norm {scale:?} {what}"),
            );
        }
        for activation in ACTIVATIONS {
            half_is_near(
                &[[tokens, d_in], [tokens, d_in]],
                |x| glu(x[0].clone(), x[1].clone(), activation),
                &format!("glu {activation:?} {what}"),
            );
        }
    }
    for visibility in [(false, None), (true, None), (false, Some(1))] {
        let plan = plan(&[4, 1, 2], [2, 1, 6], visibility, None);
        for plan in [&plan, &capped(&plan)] {
            half_is_near(
                &[[7, 12], [7, 6], [7, 6]],
                |x| attention(x[0].clone(), x[1].clone(), x[2].clone(), plan),
                &format!("attention {visibility:?} {:?}", plan.soft_cap),
            );
        }
    }
}

#[test]
fn linear_is_the_product_and_its_gradient() {
    for [tokens, d_in, d_out] in [[1, 1, 1], [1, 7, 3], [5, 33, 17], [70, 65, 130]] {
        let weight = constant([d_in, d_out], 3);
        let x = [leaf([tokens, d_in], 1)];
        compare(
            &x,
            |x| linear(x[0].clone(), weight.clone()),
            |x| x[0].clone().matmul(weight.clone()),
            &format!("{tokens} {d_in} {d_out}"),
        );
        // A transposed view of a weight.
        let turned = constant([d_out, d_in], 4).transpose();
        compare(
            &x,
            |x| linear(x[0].clone(), turned.clone()),
            |x| x[0].clone().matmul(turned.clone()),
            "a view",
        );
    }
    let weight = constant([5, 4], 3);
    against_differences(&[leaf([3, 5], 1)], |x| linear(x[0].clone(), weight.clone()));
}

#[test]
fn the_graph_of_a_product_gives_the_gradients_of_the_product() {
    for [tokens, d_in, d_out] in [[1, 1, 1], [5, 33, 17]] {
        for dtype in [DType::F32, DType::BF16] {
            if !has(dtype) {
                continue;
            }
            let weight = constant([d_in, d_out], 3).cast(dtype);
            let dy = constant([tokens, d_out], 4);
            let gradient = |form: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                // Not a leaf, so that what comes before the product is gone through as well.
                let x = leaf([tokens, d_in], 1);
                let y = form(x.clone().square(), weight.clone());
                assert_eq!(y.dims(), [tokens, d_out]);
                x.grad(&pull_back(y, dy.clone())).unwrap()
            };
            let (found, expected) = (gradient(linear_graph), gradient(linear));
            assert_same(&values(found), &values(expected), "the graph of a product");
        }
    }
}

#[test]
fn pulling_back_is_the_backward_pass_of_the_weighted_sum() {
    for [tokens, d_in, d_out] in [[1, 1, 1], [5, 33, 17]] {
        let leaves = [leaf([tokens, d_in], 1), leaf([d_in, d_out], 2)];
        let y = || leaves[0].clone().square().matmul(leaves[1].clone());
        let dy = constant([tokens, d_out], 5);
        let found = pull_back(y(), dy.clone());
        let expected = (y() * dy).sum().backward();
        for leaf in &leaves {
            let (found, expected) = (leaf.grad(&found), leaf.grad(&expected));
            let (found, expected) = (values(found.unwrap()), values(expected.unwrap()));
            assert_same(&found, &expected, "pulled back");
        }
    }
}

#[test]
fn a_half_weight_multiplies_as_its_values_do() {
    // The last is past what is widened at a time, in both directions.
    for [tokens, d_in, d_out] in [[1, 1, 1], [3, 70, 19], [4, 1300, 1700]] {
        for dtype in [DType::BF16, DType::F16] {
            if !has(dtype) {
                continue;
            }
            let weight = constant([d_in, d_out], 3).cast(dtype);
            let wide = weight.clone().cast(DType::F32);
            compare(
                &[leaf([tokens, d_in], 1)],
                |x| linear(x[0].clone(), weight.clone()),
                |x| x[0].clone().matmul(wide.clone()),
                &format!("{tokens} {d_in} {d_out} {dtype:?}"),
            );
        }
    }
    if !has(DType::BF16) {
        return;
    }
    // A half input gives a half output.
    let x = constant([2, 8], 1).cast(DType::BF16);
    let y = linear(x, constant([8, 3], 3).cast(DType::BF16));
    assert_eq!((y.dtype(), y.dims()), (DType::BF16, [2, 3]));
}

#[test]
fn no_tokens_give_no_rows() {
    let x = Tensor::<2>::zeros([0, 6], &of_tests());
    assert_eq!(linear(x.clone(), constant([6, 4], 1)).dims(), [0, 4]);
    let silu = Activation::Silu;
    assert_eq!(glu(x.clone(), x.clone(), silu).dims(), [0, 6]);
    assert_eq!(joined_glu(x.clone(), silu).dims(), [0, 3]);
    let weight = constant([6], 1);
    assert_eq!(rms_norm(x, weight, NormScale::Weight, 1e-5).dims(), [0, 6]);
    // The gate's gradients.
    let empty =
        |width: usize| Tensor::<2>::zeros([0, width], &of_tests().autodiff()).require_grad();
    let (gate, up) = (empty(6), empty(6));
    let gradients = glu(gate.clone(), up.clone(), silu).sum().backward();
    for x in [gate, up] {
        assert_eq!(x.grad(&gradients).unwrap().dims(), [0, 6]);
    }
    let (q, k, v) = (empty(8), empty(4), empty(4));
    let y = attention(
        q.clone(),
        k.clone(),
        v.clone(),
        &plan(&[], [4, 2, 2], (false, None), None),
    );
    assert_eq!(y.dims(), [0, 8]);
    let gradients = y.sum().backward();
    for (x, width) in [(q, 8), (k, 4), (v, 4)] {
        assert_eq!(x.grad(&gradients).unwrap().dims(), [0, width]);
    }
    if of_tests().supports_dtype(DType::BF16) {
        // More than is widened at a time, in both directions.
        let half = constant([1300, 1700], 1).cast(DType::BF16);
        let x = empty(1300);
        let y = linear(x.clone(), half);
        assert_eq!(y.dims(), [0, 1700]);
        assert_eq!(x.grad(&y.sum().backward()).unwrap().dims(), [0, 1300]);
    }
}

const ACTIVATIONS: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

#[test]
fn glu_is_the_gated_product_and_its_gradients() {
    for activation in ACTIVATIONS {
        let plain = |x: Tensor<2>| match activation {
            Activation::Silu => silu(x),
            Activation::GeluTanh => gelu_approximate(x),
        };
        for shape in [[1, 1], [3, 17], [9, 2000]] {
            compare(
                &[leaf(shape, 1), leaf(shape, 2)],
                |x| glu(x[0].clone().mul_scalar(6.0), x[1].clone(), activation),
                |x| plain(x[0].clone().mul_scalar(6.0)) * x[1].clone(),
                &format!("{activation:?} {shape:?}"),
            );
            let [tokens, width] = shape;
            compare(
                &[leaf([tokens, 2 * width], 3)],
                |x| joined_glu(x[0].clone().mul_scalar(6.0), activation),
                |x| {
                    let half = |at| x[0].clone().narrow(1, at * width, width).mul_scalar(6.0);
                    plain(half(0)) * half(1)
                },
                &format!("joined {activation:?} {shape:?}"),
            );
        }
        against_differences(&[leaf([2, 9], 1), leaf([2, 9], 2)], |x| {
            glu(x[0].clone(), x[1].clone(), activation)
        });
        // What overflows an exponential is no NaN.
        let far = Tensor::<2>::from_data([[-1e30, 1e30, -100.0]], &of_tests());
        let y = values(glu(far.clone(), far.ones_like(), activation));
        assert!(
            y[0].abs() < 1e-3 && y[1] == 1e30 && y[2].abs() < 1e-3,
            "{activation:?}: {y:?}"
        );
    }
}

const SCALES: [NormScale; 3] = [
    NormScale::Weight,
    NormScale::WeightInF32,
    NormScale::OnePlusWeight,
];

fn plain_norm(x: Tensor<2>, weight: Tensor<1>, scale: NormScale, eps: f64) -> Tensor<2> {
    let mean = x.clone().square().mean_dim(1);
    let factors = match scale {
        NormScale::Weight | NormScale::WeightInF32 => weight,
        NormScale::OnePlusWeight => weight.add_scalar(1.0),
    };
    x / mean.add_scalar(eps).sqrt() * factors.unsqueeze()
}

#[test]
fn rms_norm_is_the_plain_form_and_its_gradient() {
    for scale in SCALES {
        for shape in [[1, 1], [1, 40], [37, 17], [50, 576]] {
            let weight = constant([shape[1]], 5);
            compare(
                &[leaf(shape, 1)],
                |x| rms_norm(x[0].clone(), weight.clone(), scale, 1e-5),
                |x| plain_norm(x[0].clone(), weight.clone(), scale, 1e-5),
                &format!("{scale:?} {shape:?}"),
            );
        }
        let weight = constant([9], 5);
        against_differences(&[leaf([3, 9], 1)], |x| {
            rms_norm(x[0].clone(), weight.clone(), scale, 1e-5)
        });
    }
    if !has(DType::BF16) {
        return;
    }
    // In bf16 as transformers does it: normalised in f32; rounded and scaled, or the other way
    // round.
    let x = constant([4, 33], 1).cast(DType::BF16);
    let weight = constant([33], 5).cast(DType::BF16);
    let wide = x.clone().cast(DType::F32);
    for scale in SCALES {
        let y = rms_norm(x.clone(), weight.clone(), scale, 1e-5);
        let expected = if scale == NormScale::Weight {
            let one = Tensor::ones([33], (&of_tests(), DType::F32));
            let normal = plain_norm(wide.clone(), one, scale, 1e-5).cast(DType::BF16);
            normal * weight.clone().unsqueeze()
        } else {
            let weight = weight.clone().cast(DType::F32);
            plain_norm(wide.clone(), weight, scale, 1e-5).cast(DType::BF16)
        };
        assert_eq!(values(y), values(expected), "{scale:?}");
    }
}

#[test]
fn a_weight_that_trains_gets_its_gradient() {
    let scale = NormScale::OnePlusWeight;
    let norm = |x: &[Tensor<2>]| rms_norm(x[0].clone(), x[1].clone().squeeze_dim(0), scale, 1e-5);
    for [tokens, d_in, d_out] in [[1, 1, 1], [5, 33, 17], [70, 65, 130]] {
        let what = format!("{tokens} {d_in} {d_out}");
        compare(
            &[leaf([tokens, d_in], 1), leaf([d_in, d_out], 2)],
            |x| linear(x[0].clone(), x[1].clone()),
            |x| x[0].clone().matmul(x[1].clone()),
            &format!("linear {what}"),
        );
        compare(
            &[leaf([tokens, d_in], 1), leaf([1, d_in], 2)],
            norm,
            |x| plain_norm(x[0].clone(), x[1].clone().squeeze_dim(0), scale, 1e-5),
            &format!("norm {what}"),
        );
    }
    against_differences(&[leaf([3, 5], 1), leaf([5, 4], 2)], |x| {
        linear(x[0].clone(), x[1].clone())
    });
    against_differences(&[leaf([3, 5], 1), leaf([1, 5], 2)], norm);

    if !has(DType::BF16) {
        return;
    }
    // Of an input that is off the graph; in the weight's own dtype.
    let (x, weight) = (constant([3, 5], 1), constant([5, 4], 2));
    let half = weight.cast(DType::BF16).autodiff().require_grad();
    let gradient = half.grad(&backward(linear(x.clone(), half.clone())));
    let gradient = gradient.unwrap();
    assert_eq!(gradient.dtype(), DType::BF16);
    let expected = x.transpose().matmul(constant([3, 4], 77));
    assert_eq!(values(gradient), values(expected.cast(DType::BF16)));
}

#[test]
fn the_low_rank_product_is_added_with_its_gradients() {
    for [tokens, d_in, d_out, rank] in [[1, 1, 1, 1], [5, 33, 17, 3], [70, 65, 130, 12]] {
        let leaves = [
            leaf([tokens, d_out], 1),
            leaf([tokens, d_in], 2),
            leaf([d_in, rank], 3),
            leaf([rank, d_out], 4),
        ];
        compare(
            &leaves,
            |x| {
                let [y, x, a, b] = [0, 1, 2, 3].map(|at: usize| x[at].clone());
                add_low_rank(y, x, a, b, 0.3, None)
            },
            |x| {
                let [y, x, a, b] = [0, 1, 2, 3].map(|at: usize| x[at].clone());
                y + x.matmul(a).matmul(b).mul_scalar(0.3)
            },
            &format!("{tokens} {d_in} {d_out} {rank}"),
        );
        // Only the factors are tracked, as in a model's first layer.
        let (y, x) = (leaves[0].clone().inner(), leaves[1].clone().inner());
        let (a, b) = (&leaves[2], &leaves[3]);
        let found = backward(add_low_rank(
            y.clone(),
            x.clone(),
            a.clone(),
            b.clone(),
            2.0,
            None,
        ));
        let expected = backward(y + x.matmul(a.clone()).matmul(b.clone()).mul_scalar(2.0));
        for factor in [a, b] {
            let (found, expected) = (
                factor.grad(&found).unwrap(),
                factor.grad(&expected).unwrap(),
            );
            assert_near(&values(found), &values(expected), 5e-6, "factors alone");
        }
    }
}

#[test]
fn the_low_rank_product_agrees_with_finite_differences() {
    let leaves = [
        leaf([4, 5], 1),
        leaf([4, 6], 2),
        leaf([6, 2], 3),
        leaf([2, 5], 4),
    ];
    for dropout in [None, Some(ls_ops::Dropout::draw(0.4))] {
        against_differences(&leaves, |x| {
            let [y, x, a, b] = [0, 1, 2, 3].map(|at: usize| x[at].clone());
            add_low_rank(y, x, a, b, 0.7, dropout)
        });
    }
}

#[test]
fn what_the_low_rank_product_is_added_to_stays_as_it_was() {
    let [x, a, b] =
        [([5, 9], 2), ([9, 3], 3), ([3, 7], 4)].map(|(shape, seed)| constant(shape, seed));
    let add = |y| add_low_rank(y, x.clone(), a.clone(), b.clone(), 0.3, None);
    let (alone, shared) = (constant([5, 7], 1), constant([5, 7], 1));
    let before = values(shared.clone());
    // Nobody else has the first: it may be added to in place.
    assert_same(&values(add(alone)), &values(add(shared.clone())), "alone");
    assert_eq!(values(shared.clone()), before);
    let expected = shared
        + x.clone()
            .matmul(a.clone())
            .matmul(b.clone())
            .mul_scalar(0.3);
    assert_near(
        &values(add(constant([5, 7], 1))),
        &values(expected),
        2e-6,
        "in place",
    );
    // A view of a part of something larger.
    let whole = constant([9, 7], 1);
    let part = add(whole.clone().narrow(0, 2, 5));
    assert_eq!(values(whole), values(constant([9, 7], 1)));
    let expected = add(Tensor::from_data(
        constant([9, 7], 1).narrow(0, 2, 5).into_data(),
        &of_tests(),
    ));
    assert_same(&values(part), &values(expected), "a part");
}

#[test]
fn a_half_input_of_the_low_rank_product_counts_as_its_values() {
    if !has(DType::BF16) {
        return;
    }
    let [y, a, b] = [leaf([5, 7], 1), leaf([9, 3], 3), leaf([3, 7], 4)];
    let results = [DType::BF16, DType::F32].map(|dtype| {
        let x = constant([5, 9], 2).cast(DType::BF16).cast(dtype);
        let x = x.autodiff().require_grad();
        let out = add_low_rank(y.clone(), x.clone(), a.clone(), b.clone(), 0.3, None);
        assert_eq!(out.dtype(), DType::F32);
        let gradients = backward(out.clone());
        let dx = x.grad(&gradients).unwrap();
        assert_eq!(dx.dtype(), dtype);
        let [dy, da, db] = [&y, &a, &b].map(|leaf| values(leaf.grad(&gradients).unwrap()));
        [values(out), dy, da, db, values(dx.cast(DType::BF16))]
    });
    assert_eq!(results[0], results[1]);
}

#[test]
fn the_mask_of_a_dropout_is_the_same_in_both_passes() {
    let device = of_tests();
    let (tokens, d_in, rank, d_out) = (300, 90, 4, 7);
    let leaves = [
        leaf([tokens, d_out], 1),
        leaf([tokens, d_in], 2),
        leaf([d_in, rank], 3),
        leaf([rank, d_out], 4),
    ];
    let dropout = ls_ops::Dropout::draw(0.25);
    // The mask itself, by an identity for A and B.
    let square = Tensor::<2>::eye(d_in, &device);
    let ones = Tensor::<2>::ones([tokens, d_in], &device);
    let zeros = ones.zeros_like();
    let mask = add_low_rank(zeros, ones, square.clone(), square, 1.0, Some(dropout));
    let kept = values(mask.clone());
    assert!(
        kept.iter()
            .all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6)
    );
    let share = kept.iter().filter(|v| **v == 0.0).count() as f64 / kept.len() as f64;
    assert!((share - 0.25).abs() < 0.02, "{share}");
    compare(
        &leaves,
        |x| {
            let [y, x, a, b] = [0, 1, 2, 3].map(|at: usize| x[at].clone());
            add_low_rank(y, x, a, b, 0.3, Some(dropout))
        },
        |x| {
            let [y, x, a, b] = [0, 1, 2, 3].map(|at: usize| x[at].clone());
            y + (x * mask.clone()).matmul(a).matmul(b).mul_scalar(0.3)
        },
        "dropout",
    );
    let other = ls_ops::Dropout::draw(0.25);
    assert_ne!(dropout, other);
}

#[test]
fn a_seed_drops_the_same_elements_on_every_device() {
    let dropped = |device: &Device| {
        ls_ops::seed_dropout(5);
        values(ls_ops::dropout(Tensor::<2>::ones([70, 33], device), 0.3))
    };
    assert_eq!(dropped(&of_tests()), dropped(&Device::flex()));
}

/// A batch of rows for [`attention`]; `only` keeps one query of each row, the one at that place
/// from its end.
fn plan(
    lengths: &[usize],
    [heads, kv_heads, head_dim]: [usize; 3],
    (bidirectional, window): (bool, Option<usize>),
    only: Option<usize>,
) -> Arc<AttentionPlan> {
    let mut segments = Vec::new();
    let (mut queries, mut keys) = (0, 0);
    let mut query_places = Vec::new();
    for &length in lengths {
        let (first, count) = match only {
            Some(from_end) => (length - 1 - from_end.min(length - 1), 1),
            None => (0, length),
        };
        segments.push(Segment {
            queries: queries..queries + count,
            keys: keys..keys + length,
            first,
        });
        query_places.extend(first..first + count);
        queries += count;
        keys += length;
    }
    let table = |places: &[usize]| {
        let half = head_dim / 2;
        let angles: Vec<f64> = places
            .iter()
            .flat_map(|&place| (0..half).map(move |i| place as f64 * 0.7f64.powi(i as i32)))
            .collect();
        Arc::new(RotaryTable {
            pairs: half,
            cos: angles.iter().map(|angle| angle.cos() as f32).collect(),
            sin: angles.iter().map(|angle| angle.sin() as f32).collect(),
        })
    };
    let key_places: Vec<usize> = lengths.iter().flat_map(|&length| 0..length).collect();
    Arc::new(AttentionPlan {
        segments,
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        soft_cap: None,
        bidirectional,
        window,
        query_rotation: table(&query_places),
        key_rotation: table(&key_places),
        placed: Default::default(),
    })
}

/// The same with another scale of the scores, and a cap that most of them are near.
fn capped(plan: &AttentionPlan) -> Arc<AttentionPlan> {
    Arc::new(AttentionPlan {
        scale: 0.7,
        soft_cap: Some(1.3),
        ..plan.clone()
    })
}

/// The same, but only the first pairs of channels turn, and are stretched besides.
fn partly_turned(plan: &AttentionPlan, pairs: usize) -> Arc<AttentionPlan> {
    let of = |table: &RotaryTable| {
        let kept = |values: &[f32]| -> Vec<f32> {
            let kept = values.chunks(table.pairs).flat_map(|token| &token[..pairs]);
            kept.map(|value| 1.3 * value).collect()
        };
        Arc::new(RotaryTable {
            pairs,
            cos: kept(&table.cos),
            sin: kept(&table.sin),
        })
    };
    Arc::new(AttentionPlan {
        query_rotation: of(&plan.query_rotation),
        key_rotation: of(&plan.key_rotation),
        ..plan.clone()
    })
}

/// One head of one row at a time, with every score in memory.
fn plain_attention(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>, plan: &AttentionPlan) -> Tensor<2> {
    let (dim, pairs) = (plan.head_dim, plan.key_rotation.pairs);
    let device = of_tests();
    let rotated = |x: Tensor<2>, table: &RotaryTable, start: usize| {
        if pairs == 0 {
            return x;
        }
        let [rows, _] = x.dims();
        let angles = |values: &[f32]| {
            let values = values[start * pairs..(start + rows) * pairs].to_vec();
            Tensor::<2>::from_data(TensorData::new(values, [rows, pairs]), &device)
        };
        let (cos, sin) = (angles(&table.cos), angles(&table.sin));
        let first = x.clone().slice([0..rows, 0..pairs]);
        let second = x.clone().slice([0..rows, pairs..2 * pairs]);
        let mut turned = vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ];
        if 2 * pairs < dim {
            turned.push(x.slice([0..rows, 2 * pairs..dim]));
        }
        Tensor::cat(turned, 1)
    };
    let rows = plan.segments.iter().map(|segment| {
        let (queries, keys) = (segment.queries.clone(), segment.keys.clone());
        let heads = (0..plan.heads).map(|head| {
            let kv = head / (plan.heads / plan.kv_heads);
            let of = |x: &Tensor<2>, rows: std::ops::Range<usize>, head: usize| {
                x.clone().slice([rows, head * dim..(head + 1) * dim])
            };
            let q = rotated(
                of(q, queries.clone(), head),
                &plan.query_rotation,
                queries.start,
            );
            let k = rotated(of(k, keys.clone(), kv), &plan.key_rotation, keys.start);
            let scores = q.matmul(k.transpose()).mul_scalar(plan.scale);
            let scores = match plan.soft_cap {
                None => scores,
                Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
            };
            let blocked: Vec<bool> = (0..queries.len())
                .flat_map(|query| (0..keys.len()).map(move |key| (segment.first + query, key)))
                .map(|(query, key)| match (plan.bidirectional, plan.window) {
                    (true, None) => false,
                    (true, Some(window)) => query.abs_diff(key) > window,
                    (false, window) => {
                        key > query || window.is_some_and(|window| query >= key + window)
                    }
                })
                .collect();
            let shape = [queries.len(), keys.len()];
            let blocked: Tensor<2, Bool> =
                Tensor::from_data(TensorData::new(blocked, shape), &device);
            softmax(scores.mask_fill(blocked, -1e9), 1).matmul(of(v, keys.clone(), kv))
        });
        Tensor::cat(heads.collect(), 1)
    });
    Tensor::cat(rows.collect(), 0)
}

fn check_attention(
    lengths: &[usize],
    shape: [usize; 3],
    visibility: (bool, Option<usize>),
    only: Option<usize>,
) {
    let plan = plan(lengths, shape, visibility, only);
    check_plan(
        &plan,
        &format!("{lengths:?} {shape:?} {visibility:?} {only:?}"),
    );
}

fn check_plan(plan: &Arc<AttentionPlan>, what: &str) {
    let [heads, kv, dim] = [plan.heads, plan.kv_heads, plan.head_dim];
    let last = plan.segments.last().unwrap();
    let (queries, keys) = (last.queries.end, last.keys.end);
    // Large scores, so that the softmax is far from even.
    let leaves = [
        leaf([queries, heads * dim], 1),
        leaf([keys, kv * dim], 2),
        leaf([keys, kv * dim], 3),
    ];
    let sharp = |q: &Tensor<2>| q.clone().mul_scalar(4.0);
    for plan in [plan, &capped(plan)] {
        let cap = plan.soft_cap;
        compare(
            &leaves,
            |x| attention(sharp(&x[0]), x[1].clone(), x[2].clone(), plan),
            |x| plain_attention(&sharp(&x[0]), &x[1], &x[2], plan),
            &format!("{what} {cap:?}"),
        );
    }
}

const VISIBILITIES: [(bool, Option<usize>); 6] = [
    (false, None),
    (true, None),
    (false, Some(1)),
    (false, Some(3)),
    (true, Some(0)),
    (true, Some(2)),
];

#[test]
fn attention_is_the_plain_form_over_ragged_rows() {
    for visibility in VISIBILITIES {
        for shape in [[1, 1, 2], [4, 2, 6], [3, 1, 8], [2, 2, 10]] {
            check_attention(&[5, 1, 9], shape, visibility, None);
        }
        check_attention(&[1], [2, 1, 4], visibility, None);
    }
}

#[test]
fn channels_behind_the_turned_ones_stay_as_they_are() {
    for visibility in VISIBILITIES {
        for (shape, pairs) in [([4, 2, 6], 0), ([4, 2, 6], 2), ([3, 1, 10], 3)] {
            for only in [None, Some(1)] {
                let whole = plan(&[5, 1, 9], shape, visibility, only);
                let what = format!("{pairs} pairs of {shape:?} {visibility:?} {only:?}");
                check_plan(&partly_turned(&whole, pairs), &what);
            }
        }
    }
}

#[test]
fn attention_over_more_than_a_tile() {
    for visibility in [
        (false, None),
        (true, None),
        (false, Some(70)),
        (true, Some(300)),
    ] {
        check_attention(&[65, 3, 600], [2, 1, 4], visibility, None);
    }
}

#[test]
fn attention_of_one_query_of_each_row() {
    for visibility in VISIBILITIES {
        check_attention(&[5, 1, 9], [4, 2, 6], visibility, Some(0));
        check_attention(&[5, 1, 300], [4, 2, 6], visibility, Some(2));
    }
}

#[test]
fn attention_agrees_with_finite_differences() {
    let plan = plan(&[4, 2], [2, 1, 4], (false, None), None);
    let leaves = [leaf([6, 8], 1), leaf([6, 4], 2), leaf([6, 4], 3)];
    for plan in [&plan, &capped(&plan)] {
        against_differences(&leaves, |x| {
            attention(x[0].clone(), x[1].clone(), x[2].clone(), plan)
        });
    }
}

#[test]
#[should_panic(expected = "pairs")]
fn a_head_of_odd_width_has_no_pairs() {
    let plan = plan(&[2], [1, 1, 3], (false, None), None);
    let [q, k, v] = [1, 2, 3].map(|seed| constant([2, 3], seed));
    let _ = attention(q, k, v, &plan);
}

#[test]
fn a_row_does_not_know_its_neighbours() {
    let [heads, kv, dim] = [4, 2, 6];
    let together = plan(&[7, 40], [heads, kv, dim], (false, None), None);
    let alone = plan(&[7], [heads, kv, dim], (false, None), None);
    let (q, k, v) = (
        constant([47, heads * dim], 1),
        constant([47, kv * dim], 2),
        constant([47, kv * dim], 3),
    );
    let first = |x: &Tensor<2>| x.clone().narrow(0, 0, 7);
    let expected = values(attention(first(&q), first(&k), first(&v), &alone));
    let found = values(first(&attention(q, k, v, &together)));
    // In any case a product may be in another order for another shape.
    let tolerance = if ls_ops::is_host(&of_tests()) {
        0.0
    } else {
        2e-6
    };
    assert_near(&found, &expected, tolerance, "a row beside another");
}

/// By its formula in f64; more values than one task takes, factors of all and of each.
#[test]
fn a_step_of_adam_is_its_formula() {
    for (len, each) in [
        (1, false),
        (7, true),
        (16_384 * 2 + 5, true),
        (40_000, false),
    ] {
        let column = |seed: usize, scale: f32| {
            let numbers = numbers(len, seed).into_iter();
            numbers.map(|x| x * scale).collect::<Vec<f32>>()
        };
        let factors = |seed: usize| {
            if each {
                column(seed, 1.0).iter().map(|x| x.abs()).collect()
            } else {
                vec![0.5f32]
            }
        };
        let [x, g, m] = [(1, 2.0), (2, 3.0), (3, 0.5)].map(|(seed, scale)| column(seed, scale));
        let v: Vec<f32> = column(4, 1.0).iter().map(|v| v * v).collect();
        let (rate, decay, clip) = (factors(5), factors(6), 0.25f32);
        let place = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [values.len()]);
            Tensor::<1>::from_data(data, (&of_tests(), DType::F32))
        };
        let step = AdamStep {
            corrections: [0.3, 0.2],
            epsilon: 1e-3,
            learning_rate: 0.1,
        };
        let moments = [place(&m), place(&v)];
        let moments = adam_moments(place(&g), place(&[clip]), moments, [0.9, 0.99]);
        let found = adam_values(
            place(&x),
            moments.clone(),
            place(&rate),
            place(&decay),
            step,
        );

        let of = |factors: &[f32], at: usize| f64::from(factors[if each { at } else { 0 }]);
        let (mut first, mut second, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..len {
            let g = f64::from(g[at]) * f64::from(clip);
            let m = 0.9 * f64::from(m[at]) + 0.1 * g;
            let v = 0.99 * f64::from(v[at]) + 0.01 * g * g;
            let change = (m / 0.3) / ((v / 0.2).sqrt() + 1e-3);
            let x = f64::from(x[at]);
            let x = x - 0.1 * of(&decay, at) * x - 0.1 * of(&rate, at) * change;
            first.push(m as f32);
            second.push(v as f32);
            moved.push(x as f32);
        }
        let [found_first, found_second] = moments.map(values);
        assert_near(
            &found_first,
            &first,
            1e-6,
            &format!("first moment of {len}"),
        );
        assert_near(
            &found_second,
            &second,
            1e-6,
            &format!("second moment of {len}"),
        );
        assert_near(&values(found), &moved, 3e-6, &format!("values of {len}"));
    }
}
