//! How an executor is built, and the two ways for a task to give way.
//!
//! *Owns*: the executor's settings and the reasons for them. *Never*: spawns work of its own.
//! *Runs on*: every core.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

/// Direct I/O buffers of one executor that the kernel has registered, so that a write does not pin its pages each
/// time. What does not fit is allocated aligned, one by one.
pub const IO_MEMORY_BYTES: usize = 32 << 20;

/// Entries of each of the executor's three rings. Deeper than what is usually in flight: when the completion queue
/// fills up to the ring's depth, glommio interrupts the running tasks. And as deep as makes the kernel's table of what
/// waits as large as it gets (256 rows): each time an executor goes to sleep, the kernel looks for something in a row,
/// and each idle connection waits there (tuning.md).
const RING_DEPTH: usize = 4096;

/// When glommio's preemption timer fires just before the task queue is entered, the executor parks with tasks
/// ready to run and sleeps until something else happens. So the timer never fires, and tasks bound their own work.
const PREEMPT_TIMER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a task may read before it gives way to completions and to the other connections.
pub const READ_BYTES_PER_TURN: usize = 1 << 20;

/// What a core may send before it gives way to completions: the kernel copies it while everything else waits.
pub const SEND_BYTES_PER_TURN: usize = 4 << 20;

/// The same on a core that writes: somebody waits for its completions. Giving way so often costs a third of the
/// sending speed.
pub const SEND_BYTES_PER_TURN_BESIDE_WRITES: usize = 256 << 10;

/// An executor pinned to a processor. It sleeps when it has nothing to do: an idle broker costs nothing.
pub fn builder(name: &str, cpu: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        // The thread for blocking calls is not pinned: on this executor's processor it would run instead of it.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
}

/// Gives way until the executor has looked for completions. With a single task queue, glommio's own yields come back
/// before it has, so that tasks which always find work would starve every disk write; a timer does not.
pub async fn next_turn() {
    Timer::new(Duration::from_micros(1)).await;
}

/// Wakes one waiting task of this executor. A signal given while nobody waits is kept, once.
#[derive(Debug, Default)]
pub struct Signal {
    given: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn give(&self) {
        if !self.given.replace(true)
            && let Some(waker) = self.waiter.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Takes a signal that was given before, if any.
    pub fn clear(&self) {
        self.given.set(false);
    }

    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.given.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
