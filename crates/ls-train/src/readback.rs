//! [`Readback`]: values on their way from the device while the next work is queued.
//!
//! A read waits until the device has done everything that was queued before it. So it happens on a
//! thread of its own: on CUDA and wgpu, burn copies when the values are first looked at, and there
//! a copy asked for by another thread waits for what is queued at that moment, not for what the
//! training thread queues meanwhile.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};

use crate::out_of_memory::{OutOfMemory, caught};

/// Reads small f32 tensors one after the other.
pub(crate) struct Readback {
    /// `None` while it ends.
    requests: Option<Sender<TensorData>>,
    arrivals: Receiver<Arrival>,
    thread: Option<JoinHandle<()>>,
}

/// The values, and when they came; or why they cannot be read.
type Arrival = Result<(Vec<f32>, Instant), Fault>;

/// The device has no memory left, or the read panicked for another reason.
enum Fault {
    Full(OutOfMemory),
    Other(Box<dyn Any + Send>),
}

impl Readback {
    pub(crate) fn new() -> Self {
        let (requests, asked) = channel::<TensorData>();
        let (arrived, arrivals) = channel();
        let thread = thread::spawn(move || {
            for data in asked {
                let read = || caught(|| data.iter::<f32>().collect());
                let arrival = match catch_unwind(AssertUnwindSafe(read)) {
                    Ok(Ok(values)) => Ok((values, Instant::now())),
                    Ok(Err(full)) => Err(Fault::Full(full)),
                    Err(panic) => Err(Fault::Other(panic)),
                };
                if arrived.send(arrival).is_err() {
                    return;
                }
            }
        });
        Self {
            requests: Some(requests),
            arrivals,
            thread: Some(thread),
        }
    }

    /// Begins to read, without waiting for the device: everything queued so far, lazy operations
    /// included, is handed to it.
    pub(crate) fn begin(&self, tensor: Tensor<1>) {
        // Off the CPU these are bytes that are still there, to be fetched by the thread.
        let data = tensor.into_data();
        let requests = self.requests.as_ref().expect("it does not end yet");
        requests.send(data).expect("the thread runs");
    }

    /// Waits for the next values in the order of [`Readback::begin`], and says when they came.
    ///
    /// # Errors
    ///
    /// If the device had no memory left for what they were computed from.
    ///
    /// # Panics
    ///
    /// If the device failed otherwise, as every read does; if no read was begun.
    pub(crate) fn finish(&self) -> Result<(Vec<f32>, Instant), OutOfMemory> {
        match self.arrivals.recv().expect("a read was begun") {
            Ok(values) => Ok(values),
            Err(Fault::Full(full)) => Err(full),
            Err(Fault::Other(panic)) => resume_unwind(panic),
        }
    }
}

/// A program that ended in the middle of a read could crash within the device's driver.
impl Drop for Readback {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // What a read panicked with has been sent.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn values_come_in_order_and_with_their_times() {
        let reads = Readback::new();
        let device = Device::flex();
        let begun = Instant::now();
        for value in 0..3 {
            reads.begin(Tensor::full([2], value, &device));
        }
        let mut last = begun;
        for value in 0..3 {
            let (values, at) = reads.finish().unwrap();
            assert_eq!(values, [value as f32; 2]);
            assert!(at >= last);
            last = at;
        }
    }
}
