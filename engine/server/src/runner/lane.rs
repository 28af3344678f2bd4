//! Where the device's side runs: on a thread of its own, one job ahead of the host, or on the caller's.
//!
//! Ahead, the device always has the next job when it ends one, and the host makes text of the last tokens meanwhile.
//! On the caller's thread nothing has to be handed over, which is better where a step is computed by all cores anyway.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::device::Device;
use super::job::{Job, Outcome};

/// Something to be done between two jobs.
pub(super) type Errand = Box<dyn FnOnce(&mut Device) + Send>;

pub(super) enum Order {
    Compute(Job),
    Do(Errand),
}

/// The device's side.
pub(super) enum Lane {
    /// On the caller's thread, with what came of the last job.
    Inline(Box<Device>, Option<Vec<Outcome>>),
    Ahead {
        orders: Sender<Order>,
        outcomes: Receiver<Vec<Outcome>>,
        thread: Option<JoinHandle<()>>,
    },
}

/// The device's side has ended; a new process is needed.
#[derive(Debug)]
pub(super) struct LaneEnded;

impl Lane {
    pub(super) fn inline(device: Device) -> Self {
        Self::Inline(Box::new(device), None)
    }

    /// On a thread of its own.
    pub(super) fn ahead(device: Device) -> Self {
        let (orders, received) = mpsc::channel::<Order>();
        let (sender, outcomes) = mpsc::channel();
        #[expect(
            clippy::expect_used,
            reason = "a process that cannot start a thread cannot serve"
        )]
        let thread = thread::Builder::new()
            .name("device".to_owned())
            .spawn(move || work(device, &received, &sender))
            .expect("a thread for the device");
        Self::Ahead {
            orders,
            outcomes,
            thread: Some(thread),
        }
    }

    /// Whether jobs may be submitted before the last one has been waited for.
    pub(super) const fn is_ahead(&self) -> bool {
        matches!(self, Self::Ahead { .. })
    }

    pub(super) fn submit(&mut self, job: Job) -> Result<(), LaneEnded> {
        match self {
            Self::Inline(device, outcomes) => {
                *outcomes = Some(device.compute(job));
                Ok(())
            }
            Self::Ahead { orders, .. } => orders.send(Order::Compute(job)).map_err(|_| LaneEnded),
        }
    }

    /// Waits for what came of the oldest job that has not been waited for.
    pub(super) fn wait(&mut self) -> Result<Vec<Outcome>, LaneEnded> {
        match self {
            Self::Inline(_, outcomes) => outcomes.take().ok_or(LaneEnded),
            Self::Ahead { outcomes, .. } => outcomes.recv().map_err(|_| LaneEnded),
        }
    }

    /// Does something on the device's side behind all jobs, and waits for it.
    pub(super) fn perform<T: Send + 'static>(
        &mut self,
        errand: impl FnOnce(&mut Device) -> T + Send + 'static,
    ) -> Result<T, LaneEnded> {
        match self {
            Self::Inline(device, _) => Ok(errand(device)),
            Self::Ahead { orders, .. } => {
                let (sender, receiver) = mpsc::channel();
                let errand: Errand = Box::new(move |device| {
                    let _ = sender.send(errand(device));
                });
                orders.send(Order::Do(errand)).map_err(|_| LaneEnded)?;
                receiver.recv().map_err(|_| LaneEnded)
            }
        }
    }
}

fn work(mut device: Device, orders: &Receiver<Order>, outcomes: &Sender<Vec<Outcome>>) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Compute(job) => {
                if outcomes.send(device.compute(job)).is_err() {
                    return;
                }
            }
            Order::Do(errand) => errand(&mut device),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Self::Ahead { orders, thread, .. } = self {
            // Without orders the thread ends; the model's memory goes with it.
            *orders = mpsc::channel().0;
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}
