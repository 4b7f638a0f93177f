//! Steps that fail, for tests: in the thread that asked for them.

use std::cell::{Cell, RefCell};

use crate::backward::{Outcome, Step};

thread_local! {
    static ROOM: Cell<usize> = const { Cell::new(usize::MAX) };
    static FROM: Cell<usize> = const { Cell::new(0) };
    static SPOILT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// From a step on, passes of more inputs than `room` find no memory.
pub(super) fn room_for(room: usize, from: usize) {
    ROOM.set(room);
    FROM.set(from);
}

/// The gradients of these steps are no numbers.
pub(super) fn spoilt(steps: &[usize]) {
    SPOILT.set(steps.to_vec());
}

/// Fails as cubecl does.
pub(super) fn allocate(step: &Step, number: usize) {
    let inputs = step.passes.iter().map(Vec::len).max().unwrap_or(0);
    if number >= FROM.get() && inputs > ROOM.get() {
        panic!(
            "Error while reading data: WithContext {{ reason: \"out of device memory allocating {} \
             bytes\" }}",
            inputs << 20
        );
    }
}

pub(super) fn spoil(outcome: Outcome, number: usize) -> Outcome {
    if !SPOILT.with_borrow(|steps| steps.contains(&number)) {
        return outcome;
    }
    Outcome {
        gradient: outcome.gradient.mul_scalar(f32::NAN),
        ..outcome
    }
}
